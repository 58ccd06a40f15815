"""Group commit, for any engine whose log has one writer: what waits shares the next commit.

    submit -> [gathered] -- channel --> committer -> log.commit(group): one transaction, one sync
    answer <- [unanswered] <- reports -- (thread or process)

`writer` is the event loop's end: it queues operations, bounds how many wait, and gives each its
answer. A *channel* carries them to a *committer*, in a `thread` of this process or in a `process`
of its own (`worker` is what that runs; the two say `messages` to each other, in `frames`). The
committer commits groups to a `log`, which is all that an engine brings; `operations` are what a
group holds.
"""
