"""For those who pull: a client that can't lose a page, blocking and with await.

    errors     what can go wrong, and what is known then
    records    what came out of a mailbox: typed and complete
    counts     what statistics tell
    pages      a page, and a batch that somebody has to acknowledge
    faces      how a service is spoken to, v5 or API 3.0: requests built, answers read. Pure
    loose      numbers as services write them
    reading    an answer -> what was asked for, or an error. Pure
    keys       the next page of each caller, and the key that stands for it until it has come
    outage     how long a page that can't be had is waited for, and who is told
    flow       when to ask, to wait, to ask again: generators without input or output
    questions  what is asked without taking anything out: one number's records, and counts
    readers    the same under a reader's name: the service keeps the page
    state      the same with its keys in a file; slots is that file
    opening    which face, and which of the three it is
    exchange   what a flow asks of its driver
    connections    what a driver asks through: of this process and event loop, never broken off
    interruptions  exceptions that come into a call from outside
    drivers    the two clients over httpx; they decide nothing
    feed       the other direction: batches of records into a mailbox

Sees `wire` and below only: whoever just pulls installs no server.
"""
