"""A server and commands at one file, in any order: each sees all that was committed before.

At every step all of them must answer as the model does, which has one view only.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from pullstatus.records import Kind
from pullstatus.store import Append, Discard, Mailbox, Outcome, Pull
from pullstatus.store.sqlite.log import Log
from pullstatus.store.sqlite.opening import open_log
from pullstatus.store.verbs.state import slot
from tests.store.build import NOW_MS, records
from tests.store.model import Model

MAILBOXES = [Mailbox(sdkappid, kind) for sdkappid in (1, 2) for kind in Kind]
STEPS = 400


@pytest.mark.parametrize("seed", range(4))
def test_each_sees_what_the_others_did(file: Path, seed: int) -> None:
    rng = Random(seed)
    file.touch()
    logs = [open_log(file, server=number == 0) for number in range(3)]
    model = Model()
    for step in range(STEPS):
        who = rng.choice((0, 0, 0, 1, 2))
        if who and rng.random() < 0.05:
            logs[who].close()
            logs[who] = open_log(file, server=False)
        do(logs[who], model, rng, NOW_MS + step)
        if rng.random() < 0.3:
            check(logs[0], model)
    check(logs[0], model)
    for log in logs:
        log.close()


def do(log: Log, model: Model, rng: Random, at_ms: int) -> None:
    """One or two operations in a commit, answered as the model answers them."""
    mailboxes = rng.sample(MAILBOXES, rng.choice((1, 1, 2)))
    kind = rng.random()
    if kind < 0.45:
        appends = [Append(box, records(rng.randrange(1, 4)), at_ms) for box in mailboxes]
        assert log.commit(appends) == [model.append(operation) for operation in appends]
    elif kind < 0.9:
        key = rng.choice((None, "k", f"{at_ms}"))
        pulls = [Pull(box, rng.randrange(1, 4), at_ms, key=key) for box in mailboxes[:1]]
        [answer], [expected] = log.commit(pulls), [model.pull(operation) for operation in pulls]
        assert answer == expected or type(answer) is expected
    else:
        discards = [Discard(box, Outcome.ERASED, at_ms) for box in mailboxes]
        assert log.commit(discards) == [model.discard(operation) for operation in discards]


def check(server: Log, model: Model) -> None:
    """The server knows, without an operation, what waits in every mailbox."""
    server.notice_others()
    for mailbox in model.boxes:
        assert server.states.waiting.get(slot(mailbox), 0) == model.waiting(mailbox)
