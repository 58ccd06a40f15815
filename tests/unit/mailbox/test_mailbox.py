"""What a request means for a mailbox: the one operation of the store that it becomes."""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from typing import Any, cast

import pytest

from pullstatus import limits, mailbox
from pullstatus.apps import AppKey, Application, LiveApplication
from pullstatus.errors import KeyReused, SettingChanged
from pullstatus.mailbox.repeats import Repeat
from pullstatus.mailbox.senders import marked
from pullstatus.mailbox.upkeep import clean_up
from pullstatus.receipts import Receipts
from pullstatus.records import Kind
from pullstatus.records.hours import DAY_MS
from pullstatus.store import (
    Append,
    Discard,
    Fingerprints,
    InHand,
    Mailbox,
    Noted,
    Once,
    Outcome,
    Page,
    Pull,
    RepeatKey,
    Store,
    Totals,
    While,
)
from tests.store.build import sums_of

NUMBER, REVISION = 7, 42
NOW_MS = 1_800_000_000_123
TICKET = b"t" * 16
STATUSES, REPLIES = (Mailbox(NUMBER, kind) for kind in Kind)
PAGE = Page(1, 1, b"{}", 0)
AS_KNOWN = While(f"application/{NUMBER}", REVISION)


class Recorder:
    """Answers what it is told to, and keeps what it was asked."""

    def __init__(self, *answers: object) -> None:
        self.asked: list[object] = []
        self._answers = list(answers)

    async def append(self, operation: Append, _gone: object = None) -> int:
        return cast("int", self._next(operation))

    async def pull(self, operation: Pull, _gone: object = None) -> Page:
        return cast("Page", self._next(operation))

    async def discard(self, operation: Discard) -> int:
        self.asked.append(operation)
        return 0

    async def totals(self) -> Totals:
        return Totals(sums_of([]), InHand(0, None))  # so nothing is parked

    async def purge(self, **bounds: int) -> int:
        self.asked.append(("purge", bounds))
        return 0

    async def mark(self, times: dict[str, Noted]) -> None:
        self.asked.append(("mark", times))

    async def forget(self, **bounds: int) -> int:
        self.asked.append(("forget", bounds))
        return 0

    def _next(self, operation: object) -> object:
        self.asked.append(operation)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def application(**more: Any) -> Application:  # noqa: ANN401 - any of its members
    return Application(NUMBER, (AppKey("1" * 32, 0),), 0, **more)


def live(**more: Any) -> LiveApplication:  # noqa: ANN401 - any of its members
    return LiveApplication(application(**more), REVISION)


def append(recorder: Recorder, receipts: Receipts, known: LiveApplication, **more: Any) -> int:  # noqa: ANN401
    return asyncio.run(
        mailbox.append(
            cast("Store", recorder),
            known,
            receipts,
            sender="gateway",
            now_ms=NOW_MS,
            ticket=TICKET,
            **more,
        )
    )


def pull(recorder: Recorder, known: LiveApplication, **more: Any) -> Page:  # noqa: ANN401
    asked: dict[str, Any] = {"address": "192.0.2.1", "proof": "p", "once": None}
    return asyncio.run(
        mailbox.pull(
            cast("Store", recorder),
            known,
            Kind.REPLY,
            30,
            now_ms=NOW_MS,
            ticket=TICKET,
            **asked | more,
        )
    )


def test_a_batch_is_one_append() -> None:
    recorder = Recorder(2)
    receipts = Receipts(Kind.REPLY, [b"1", b"2"])
    assert append(recorder, receipts, live()) == 2
    assert recorder.asked == [
        Append(REPLIES, [b"1", b"2"], NOW_MS, None, None, AS_KNOWN, marked(TICKET, "gateway")),
    ]


@pytest.mark.parametrize(
    ("owner", "scope"), [("", "gateway/7/replies"), ("o", "gateway/7/replies/o")]
)
def test_repeats_are_known_by_sender_mailbox_and_owner(owner: str, scope: str) -> None:
    recorder = Recorder(1)
    receipts = Receipts(Kind.REPLY, [b"1"], [(5, b"f" * 16)])
    append(recorder, receipts, live(owner=owner), key="k", body=b"[1]")
    digest = blake2b(b"[1]", digest_size=16).digest()
    [asked] = recorder.asked
    assert isinstance(asked, Append)
    assert asked.repeat_key == RepeatKey(scope, "k", digest)
    assert asked.fingerprints == Fingerprints(scope, [(5, b"f" * 16)])


def test_a_pull_takes_from_its_mailbox() -> None:
    recorder = Recorder(PAGE)
    assert pull(recorder, live(former=(3, 4)), repeat=Repeat("k")) is PAGE
    assert recorder.asked == [
        Pull(REPLIES, 30, NOW_MS, "192.0.2.1", "k", "p", None, AS_KNOWN, (3, 4), TICKET)
    ]


@pytest.mark.parametrize("strict", [False, True])
def test_what_must_not_come_twice_is_so_for_a_strict_application(strict: bool) -> None:
    recorder = Recorder(PAGE)
    once = Once("n", NOW_MS)
    pull(recorder, live(strict=strict), once=once)
    [asked] = recorder.asked
    assert isinstance(asked, Pull)
    assert asked.once == (once if strict else None)


def test_errors_of_the_store_are_the_callers() -> None:
    with pytest.raises(KeyReused):
        pull(Recorder(KeyReused("again")), live())
    with pytest.raises(KeyReused):
        append(Recorder(KeyReused("again")), Receipts(Kind.REPLY, []), live())


def test_upkeep_expires_nothing_by_a_limit_that_was_changed_meanwhile() -> None:
    """As when it is raised, or the number given to another owner; the others have their turn."""

    class Changed(Recorder):
        async def discard(self, operation: Discard) -> int:
            if operation.while_set == AS_KNOWN:
                raise SettingChanged("changed")
            return await super().discard(operation)

    recorder = Changed()
    other = LiveApplication(application(waiting_days_max=3), REVISION + 1)
    known = [live(waiting_days_max=2), other]
    asyncio.run(clean_up(cast("Store", recorder), known, now_ms=NOW_MS, retention_days=1))
    before_ms = NOW_MS - 3 * DAY_MS
    assert recorder.asked[:2] == [
        Discard(box, Outcome.EXPIRED, NOW_MS, before_ms, other.while_set)
        for box in (STATUSES, REPLIES)
    ]
    assert len(recorder.asked) == 5


def test_upkeep_expires_removes_and_forgets_by_the_time_of_its_caller() -> None:
    """Only an application that asks for it loses anything that waits."""
    recorder = Recorder()
    applications = [live(), live(waiting_days_max=2)]
    asyncio.run(clean_up(cast("Store", recorder), applications, now_ms=NOW_MS, retention_days=1.5))
    before_ms = NOW_MS - 2 * DAY_MS
    assert recorder.asked == [
        Discard(STATUSES, Outcome.EXPIRED, NOW_MS, before_ms, AS_KNOWN),
        Discard(REPLIES, Outcome.EXPIRED, NOW_MS, before_ms, AS_KNOWN),
        ("purge", {"left_before_ms": NOW_MS - DAY_MS * 3 // 2}),
        ("mark", {"tallies": Noted((NOW_MS // DAY_MS - 400) * DAY_MS)}),
        (
            "forget",
            {
                "accepted_before_ms": NOW_MS - 1000 * limits.INGEST_REPEAT_S,
                "now_ms": NOW_MS,
                "hours_before": 2_025_121_108,  # of that day in UTC+8
            },
        ),
    ]
