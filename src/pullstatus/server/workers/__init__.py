"""Several processes that are one server: they share its address, its store and its bounds.

    parent    starts and keeps the workers; upkeep, figures, record of acts, `--admin`
    worker 1  accepts connections, answers requests  -- operations -->  the store's one process,
    worker 2  likewise                               -- operations -->  where the engine needs one
              <-- what waits in which mailbox: a table in shared memory --

| what | where |
|---|---|
| the address | the parent binds it and listens; each worker accepts from it, one at a time |
| the store's lock | the parent and the store's process have it, which ends with the parent |
| what waits | in the table, which is written after a commit and before the first answer to it |
| connections, bytes in hand, held pulls | in a *ledger* in shared memory: rows, and their sum |
| an application's rate | in the ledger, under a lock that the kernel takes back from who dies |
| signatures that came again | in the ledger |
| room before the store, answers held back, lines of the log | divided: each worker has its part |
| looks at the store for what is not known | of each worker: they cost nobody else anything |
| failed tries | the parent counts them, and is asked |
| figures | the parent asks all workers and sums; what a dead one told last stays in the sum |
| pulls that wait | each worker has lines; the store's process tells whose first came first |

Deaths: a worker that dies is started anew, after a pause that grows while it dies soon. Its row is
cleared, its connections are cut, and the outcome of what it had asked the store is unknown; nobody
else notices. One whose event loop stands still is killed, and so dies, too (`pulse`). A failure of
the store that any of them is told of ends all of them. So does the end of the parent: the kernel
sees to that.

`control` is how parent and workers speak, `parent` and `worker` are the two kinds of server,
`fleet` starts workers and keeps them, `ledger` is the shared memory and `parts` counts with it.
"""
