"""Repeatable loads against the running program, each beside the ceiling of its own HTTP stack.

    scenarios, full   what is asked of a server, and what counts as the figure
    load, paced       who asks: wrk as fast as it can, or a generator of a constant rate
    server, ceiling   who answers: the product on a store of its own, or the same bytes from memory
    process           a server as a process: its address, its processor time, its memory
    results           what was measured; guard compares its ratios with those recorded
    report            a table, JSON and a plot
    machine           where it was measured
    peers             what people build instead, measured the same way

Absolute figures belong to a machine and a minute. What is compared over time are ratios of figures
of one run.
"""
