"""The engine over a cluster of NATS JetStream: being built, and not to be opened by a URL yet.

    messages    what lies there, and on which subjects (`subjects`, `messages`)
    lane        commits groups of operations of a partition, two trips each (`log`, `tables`);
                `settings` is the one of what is of no application
    snapshots   rows with the commit that they are of, and what lies at a number
    engine      `JetStreamStore`: a lane for each partition behind one writer (`lanes`), and what is
                listed (`lists`); `audit` is the proof
    bus         says to nodes what `wire` asks, and proves nodes and streams

A condition on the newest commit of each application guards all that a group has read of it.
"""
