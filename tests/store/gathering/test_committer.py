"""What a committer makes of a log, whichever engine's: each error told to whom it concerns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pytest

from pullstatus.errors import OutcomeUnknown, StoreFull, StoreUnavailable
from pullstatus.store.gathering.committer import LOOK_LEAST_S, NOTICE_S, Committer, Report
from pullstatus.store.gathering.groups import GROUP_MAX, Groups, Sent
from pullstatus.store.gathering.log import Undone
from pullstatus.store.gathering.operations import Answer, Operation
from pullstatus.store.values import Outcome, Page, Park, Unpark
from tests.store.build import NOW_MS, PARKED, STATUSES, append, new_act, parked, pull, redeliver
from tests.store.gathering.memory import BOX, MemoryLog


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def committer(log: MemoryLog) -> Committer:
    return Committer(log)


def one(data: bytes = b"1") -> list[Sent]:
    return [[append(STATUSES, [data])]]


def groups(*received: Sequence[Sent]) -> Groups:
    """Each of these comes when there is time to wait for it, none without."""
    coming: Iterator[Sequence[Sent]] = iter(received)
    return Groups(lambda timeout_s: next(coming) if timeout_s else [])


def kinds(report: Report) -> list[type]:
    return [type(answer) for answer in report.answers]


def test_opening_tells_how_every_mailbox_stands(committer: Committer) -> None:
    report = committer.opening()
    assert (report.waiting, report.room, report.failure) == ({BOX: 0}, True, None)


def test_a_group_is_one_commit_with_an_answer_each(committer: Committer, log: MemoryLog) -> None:
    report = committer.commit([append(STATUSES, [b"1", b"2"]), pull(STATUSES)])
    assert report.answers == [2, Page(1, 2, b"1,2", 0)]
    assert report.waiting == {BOX: 0}
    assert report.figures.commits == len(log.groups) == 1


def test_an_error_is_told_to_the_whole_group_and_the_next_goes_on(
    committer: Committer, log: MemoryLog
) -> None:
    log.fails["commit"] = StoreUnavailable("busy")
    assert kinds(committer.commit([pull(STATUSES)] * 2)) == [StoreUnavailable] * 2
    del log.fails["commit"]
    report = committer.commit([append(STATUSES, [b"1"])])
    assert (report.answers, report.failure) == ([1], None)


def test_a_final_error_is_the_last_thing_asked_of_the_log(
    committer: Committer, log: MemoryLog
) -> None:
    log.fails["commit"] = OutcomeUnknown("who knows")
    report = committer.commit([pull(STATUSES)])
    assert kinds(report) == [OutcomeUnknown]
    assert report.failure is log.fails["commit"]
    asked = list(log.calls)
    assert kinds(committer.commit([pull(STATUSES)] * 2)) == [StoreUnavailable] * 2
    committer.tend()
    committer.watch()
    assert log.calls == asked
    committer.close()
    assert log.calls == [*asked, "close failed"]


@pytest.mark.parametrize("work", ["tend", "watch"])
def test_a_final_error_of_what_nobody_waits_for_is_told(log: MemoryLog, work: str) -> None:
    committer = Committer(log)
    committer.opening()
    log.fails[work] = OutcomeUnknown("who knows")
    report = getattr(committer, work)()
    assert report is not None
    assert report.failure is log.fails[work]


@pytest.mark.parametrize("work", ["tend", "watch"])
def test_another_error_of_it_changes_nothing(log: MemoryLog, work: str) -> None:
    committer = Committer(log)
    committer.opening()
    log.fails[work] = StoreUnavailable("busy")
    assert getattr(committer, work)() is None
    assert committer.commit([append(STATUSES, [b"1"])]).answers == [1]
    committer.close()
    assert log.calls[-1] == "close"


def test_pulls_are_tried_alone_when_there_is_no_room(committer: Committer, log: MemoryLog) -> None:
    log.fails["append"] = StoreFull("no space")
    report = committer.commit([pull(STATUSES), append(STATUSES, [b"1"]), pull(STATUSES)])
    assert kinds(report) == [Page, StoreFull, Page]
    assert kinds(committer.commit([append(STATUSES, [b"1"])])) == [StoreFull]
    assert len(log.groups) == 1


def test_all_that_adds_entries_stays_out_when_there_is_no_room(
    committer: Committer, log: MemoryLog
) -> None:
    """What lets parked items leave and adds none is tried, like a pull."""

    aside = parked(append(STATUSES, []), [b"bad"])

    def unpark(outcome: Outcome, *back: bytes, aside: tuple[Park, ...] = ()) -> Unpark:
        return Unpark(PARKED, 1, [outcome], [], list(back), NOW_MS, new_act(), aside=list(aside))

    adding: list[Operation] = [
        append(STATUSES, [b"1"]),
        aside,
        redeliver(STATUSES, (1, 1)),
        unpark(Outcome.PUT_BACK, b"bad"),
        unpark(Outcome.ROUTED, aside=(aside,)),
    ]
    log.fails["append"] = StoreFull("no space")
    report = committer.commit([*adding, pull(STATUSES), unpark(Outcome.ERASED)])
    assert kinds(report) == [StoreFull] * 5 + [Page, int]


UNTRIED = "the store did not get to it; try again"  # and no word of what another one brought


def refuses(log: MemoryLog, *culprits: bytes) -> list[int]:
    """Have the log refuse each group that brings one of these; the sizes of all that are tried."""
    real, tried = log.commit, []

    def commit(group: Sequence[Operation]) -> list[Answer]:
        tried.append(len(group))
        if any(entry in culprits for each in group for entry in getattr(each, "entries", ())):
            raise Undone(StoreUnavailable("not this"))
        return real(group)

    log.commit = commit  # type: ignore[method-assign]
    return tried


@pytest.mark.parametrize("culprits", [{0}, {1023}, {511, 512}, {3, 4, 5, 700}])
def test_what_is_refused_is_so_alone(
    committer: Committer, log: MemoryLog, culprits: set[int]
) -> None:
    entries = [b"%d" % place for place in range(1024)]
    tried = refuses(log, *[entries[place] for place in culprits])
    report = committer.commit([append(STATUSES, [entry]) for entry in entries])
    assert [
        place for place, answer in enumerate(report.answers) if isinstance(answer, StoreUnavailable)
    ] == sorted(culprits)
    assert log.entries == [
        entry for place, entry in enumerate(entries) if place not in culprits
    ]  # each once, in order
    assert report.answers.count(1) == 1024 - len(culprits)
    assert len(tried) <= 1 + 20 * len(culprits)
    assert report.failure is None


def test_a_group_of_which_all_is_refused_ends(committer: Committer, log: MemoryLog) -> None:
    tried = refuses(log, b"1")
    assert kinds(committer.commit([append(STATUSES, [b"1"])] * 7)) == [StoreUnavailable] * 7
    assert len(tried) == 13
    assert not log.entries


def test_it_is_not_looked_for_while_others_wait_too_long(log: MemoryLog) -> None:
    """What is left then was not tried."""
    times = iter(range(0, 1000, 4))
    committer = Committer(log, clock=lambda: next(times))
    tried = refuses(log, b"x")
    report = committer.commit([append(STATUSES, [entry]) for entry in (b"x", b"2", b"3", b"4")])
    assert [str(answer) for answer in report.answers] == [UNTRIED] * 4
    assert tried == [4, 2]
    assert not log.entries


def test_after_a_final_error_no_other_part_is_tried(committer: Committer, log: MemoryLog) -> None:
    unknown = OutcomeUnknown("who knows")
    answers: list[BaseException] = [Undone(StoreUnavailable("not this")), unknown]

    def commit(group: Sequence[Operation]) -> list[Answer]:
        raise answers.pop(0)

    log.commit = commit  # type: ignore[method-assign]
    report = committer.commit([append(STATUSES, [b"%d" % n]) for n in range(4)])
    assert report.answers[:2] == [unknown] * 2
    assert [str(answer) for answer in report.answers[2:]] == [UNTRIED] * 2
    assert report.failure is unknown


def test_pulls_of_a_part_are_tried_alone_when_there_is_no_room(
    committer: Committer, log: MemoryLog
) -> None:
    """Each pull once, whatever else the group is taken apart for."""
    log.others_add(b"1")
    log.fails["append"] = StoreFull("no space")
    refuses(log, b"x")
    adding, bad = append(STATUSES, [b"2"]), append(STATUSES, [b"x"])
    report = committer.commit([pull(STATUSES), adding, bad, pull(STATUSES)])
    assert kinds(report) == [Page, StoreFull, StoreUnavailable, Page]
    assert report.answers[0] == Page(1, 1, b"1", 0)


def test_what_others_did_and_room_are_news_once(committer: Committer, log: MemoryLog) -> None:
    committer.opening()
    assert committer.watch() is None
    log.others_add(b"1")
    report = committer.watch()
    assert report is not None
    assert (report.answers, report.waiting) == ([], {BOX: 1})
    log.room = False
    report = committer.tend()
    assert report is not None
    assert (report.waiting, report.room) == ({}, False)
    assert committer.tend() is None
    log.stamp = b"another door's"
    report = committer.watch()
    assert report is not None
    assert (report.waiting, report.as_of) == ({}, b"another door's")
    assert committer.watch() is None


def test_work_commits_what_has_come_and_ends_when_told(
    committer: Committer, log: MemoryLog
) -> None:
    reports: list[Report] = []
    committer.opening()
    committer.work(groups(one(), [], [*one(), *one(), None]), reports.append)
    assert [report.answers for report in reports] == [[1], [1, 1]]
    assert log.calls == ["commit", "tend", "watch", "commit", "tend"]


def test_a_group_is_no_larger_than_a_commit_may_be() -> None:
    """But for what was sent with its last; the rest is the next one."""
    found = groups([[pull(STATUSES)] * 3] * GROUP_MAX, [None])
    sizes = []
    while group := found.next(NOTICE_S):
        sizes.append(len(group))
    assert sum(sizes) == 3 * GROUP_MAX
    assert max(sizes) < GROUP_MAX + 3


def test_what_has_come_meanwhile_joins_the_group() -> None:
    coming: list[list[Sent]] = [one(), one(), [], one(), [None], [], []]
    found = Groups(lambda _timeout_s: coming.pop(0))
    assert [len(found.next(NOTICE_S) or ()) for _ in range(2)] == [2, 1]
    assert found.next(NOTICE_S) is None


def test_it_waits_as_long_as_the_log_may_and_no_longer(
    committer: Committer, log: MemoryLog
) -> None:
    """Briefly while something is due, but never not at all; else until others are looked at.

    Nor does it begin before it was quiet for as long.
    """
    dues_s = [0.0, 0.0, LOOK_LEAST_S / 2, 0.05, NOTICE_S * 2, math.inf, 0.0, 0.0, 0.0]
    comes: dict[int, list[Sent]] = {7: one(), 9: [None]}  # at so many waits
    left, waits = iter(dues_s), []
    log.due_s = next(left)

    def receive(timeout_s: float) -> Sequence[Sent]:
        if not timeout_s:
            return []
        waits.append(timeout_s)
        log.due_s = next(left, math.inf)
        return comes.get(len(waits), [])

    committer.work(Groups(receive), lambda _report: None)
    quiet = [LOOK_LEAST_S, LOOK_LEAST_S, 0.05, NOTICE_S, NOTICE_S, LOOK_LEAST_S]
    assert waits == [NOTICE_S, *quiet, NOTICE_S, LOOK_LEAST_S]
    assert log.calls == ["watch"] * 6 + ["commit", "tend", "watch"]


def test_nothing_is_due_once_it_has_failed(committer: Committer, log: MemoryLog) -> None:
    log.due_s = 0.0
    committer.watch()
    assert committer.patience_s() == LOOK_LEAST_S
    log.fails["watch"] = OutcomeUnknown("who knows")
    committer.watch()
    assert committer.patience_s() == NOTICE_S
