"""Repeatable loads against the running program, each beside the ceiling of its own event loop.

    scenarios, full   what is asked of a server, and what counts as the figure
    goals             what is to be reached, and the scenarios that only this needs
    growth            what must not grow with a store: by its mailboxes, by what is too old
    engines, workers  SQLite, PostgreSQL and SKIP LOCKED side by side; several processes
    overload          one quiet client beside a greedy one
    split, layers     where a request's processor time goes, by stacks that are sampled
    load, paced       who asks: wrk as fast as it can, or a generator of a constant rate
    records           what is posted and pulled
    server            who answers: the product on a store of its own, this one or another checkout
    databases         PostgreSQL servers of the bench's own, and what stands over them
    ceiling, floor    what it is compared to: the same bytes from memory; the same file, in C
    measure, drain    sides that take turns; drain: where what they take is laid ready first
    process           a server as a process: its address, its processor time, its memory
    results           what was measured; guard compares its ratios with those recorded
    report            tables, JSON and plots
    machine           where it was measured
    peers             what people build instead, measured the same way

`python -m bench --list all` names every scenario, and how long it takes. None goes on for ever, and
one that fails takes no other with it; `make figures` measures and records them all.

Absolute rates belong to a machine and a minute. What is compared over time are ratios of figures of
one run, taken in turns, and microseconds of processor for a request.
"""
