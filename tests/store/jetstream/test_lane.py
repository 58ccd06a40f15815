"""A lane against replicas that are behind, answers that get lost, and others that are faster.

Each of these tests was seen to fail with the rule broken that it is about.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Sequence

import msgspec
import pytest

from pullstatus.errors import (
    AcknowledgementRefused,
    ReplayRefused,
    SettingChanged,
    StoreUnavailable,
)
from pullstatus.store import Append, Discard, Once, Outcome, Page, Pull, Reader, Release, While
from pullstatus.store.gathering.committer import Committer
from pullstatus.store.gathering.log import Undone
from pullstatus.store.gathering.operations import Forget, Operation, Removed
from pullstatus.store.jetstream import forgetting, settings
from pullstatus.store.jetstream import log as lane
from pullstatus.store.jetstream.ages import AGE_S
from pullstatus.store.jetstream.messages import RepeatMessage, SettingMessage, opened
from tests.store.build import (
    EMPTY,
    NOW_MS,
    OTHERS,
    REPLIES,
    STATUSES,
    append,
    fingerprinted,
    incompressible,
    new_act,
    once,
    page,
    pull,
    records,
    repeat_key,
)
from tests.store.jetstream.lanes import COMMON, LAYOUT, PARTITION, Clock, Process, cluster
from tests.store.jetstream.memory import MemoryBus

PLACE = LAYOUT.application(STATUSES.sdkappid)
SETTING = f"application/{STATUSES.sdkappid}"


@pytest.fixture
def bus() -> MemoryBus:
    return cluster()


@pytest.fixture
def one(bus: MemoryBus) -> Process:
    return Process(bus)


@pytest.fixture
def other(bus: MemoryBus) -> Process:
    return Process(bus)


def behind(bus: MemoryBus, messages: int = 1000) -> None:
    """Every replica lacks so much of the partition."""
    bus.lag = lambda stream: messages if stream == PARTITION else 0


def first_time(stream: str, do: Callable[[], object]) -> Callable[[str], None]:
    """For `overtake`: does this before the next write to a stream."""
    left = [do]

    def overtake(written: str) -> None:
        if written == stream and left:
            left.pop()()

    return overtake


# --- what it costs --------------------------------------------------------------------------------


def test_an_append_to_a_known_mailbox_is_one_write(bus: MemoryBus, one: Process) -> None:
    one.do(append(STATUSES, records(1)))
    bus.asked.clear()
    assert one.do(append(STATUSES, records(250))) == 250
    assert one.do(append(REPLIES, records(1))) == 1
    assert bus.asked == ["write", "write"]


def test_a_pull_of_what_was_just_stored_is_one_write(bus: MemoryBus, one: Process) -> None:
    one.do(append(STATUSES, entries := records(300)))
    bus.asked.clear()
    for start in (0, 100, 200):
        assert one.pull(pull(STATUSES)).data == b",".join(entries[start : start + 100])
    assert bus.asked == ["write"] * 3


def test_a_group_of_many_mailboxes_is_one_write(bus: MemoryBus, one: Process) -> None:
    group = [append(box, records(2)) for box in (STATUSES, OTHERS, REPLIES)]
    assert one.log.commit(group) == [2, 2, 2]
    assert bus.asked.count("write") == 1
    assert bus.asked.count("lasts") == 1
    bus.asked.clear()
    one.log.commit([pull(box) for box in (STATUSES, OTHERS, REPLIES)])
    assert bus.asked == ["write"]


def test_a_group_asks_for_the_heads_of_many_mailboxes_at_once(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    boxes = [STATUSES, OTHERS, REPLIES]
    one.log.commit([append(box, records(2)) for box in boxes])
    bus.asked.clear()
    other.log.commit([pull(box) for box in boxes])
    assert [what for what in bus.asked if "each" in what] == ["following each"]
    assert "following" not in bus.asked
    bus.asked.clear()
    assert other.log.commit([pull(box) for box in boxes]) == [EMPTY, EMPTY, EMPTY]
    assert bus.asked == ["last of each"]


def test_fingerprints_of_a_known_hour_are_asked_for_once(bus: MemoryBus, one: Process) -> None:
    one.do(fingerprinted(STATUSES, records(2), [1, 2]))
    bus.asked.clear()
    one.do(fingerprinted(STATUSES, records(2), [2, 3]))
    assert bus.asked == ["write"]
    assert one.standing(STATUSES) == (3, 0)


def test_fingerprints_are_forgotten_beside_those_that_come(bus: MemoryBus, one: Process) -> None:
    forgets = Forget(NOW_MS - 1, NOW_MS, 100, 1.0, 0)
    for count, came in ((2, [1, 2]), (1, [2, 3]), (0, [1, 3])):
        group: list[Operation] = [fingerprinted(STATUSES, records(2), came), forgets]
        assert one.log.commit(group) == [count, Removed(0, more=False)]


# --- forgetting -----------------------------------------------------------------------------------


def batches(one: Process, ages_ms: Sequence[int]) -> None:
    """Batches with keys, each accepted so long before now."""
    one.quiet.look()
    for number, age_ms in enumerate(ages_ms):
        one.do(append(STATUSES, records(1), NOW_MS - age_ms, key=repeat_key(f"{number}")))


def known(bus: MemoryBus) -> list[int]:
    """How long before now the batches came whose keys are known."""
    rows = bus.following(PARTITION, PLACE.remembered[1], 1, count=1000, leader=True)
    return [NOW_MS - opened(row, RepeatMessage).at_ms for row in rows]


def test_what_is_old_goes_as_one(bus: MemoryBus, one: Process) -> None:
    """A purge of each would hold the lane up for as long as all of them take."""
    count = 2 * forgetting._SLICE + 10
    batches(one, [1] * count + [0, 0])
    one.do(fingerprinted(STATUSES, records(2), [1, 2], NOW_MS - 1))
    bus.asked.clear()
    assert one.do(Forget(NOW_MS, NOW_MS, 10_000, 1.0)) == Removed(count + 2, more=False)
    assert bus.asked.count("purge") == 2 + 1
    assert bus.asked.count("purge each") == 1  # beside what is young
    assert known(bus) == [0, 0]
    assert not bus.subjects(PARTITION, PLACE.remembered[2])


@pytest.mark.parametrize("place", [0, 30, forgetting._SLICE + 5])
def test_what_is_young_between_what_is_old_stays(bus: MemoryBus, one: Process, place: int) -> None:
    """The clocks of servers differ."""
    ages_ms = [1] * (2 * forgetting._SLICE)
    ages_ms[place] = 0
    batches(one, ages_ms)
    bus.asked.clear()
    assert one.do(Forget(NOW_MS, NOW_MS, 10_000, 1.0)) == Removed(len(ages_ms) - 1, more=False)
    assert known(bus) == [0]
    assert len([each for each in bus.asked if each.startswith("purge")]) == 2


def test_what_a_sender_says_is_good_for_longer_stays(bus: MemoryBus, one: Process) -> None:
    """Also if a replica has lost it, before what is old: nobody takes it for as old as that."""
    times = [NOW_MS - 2, NOW_MS + 5, NOW_MS - 1]
    for number, until_ms in enumerate(times):
        operation = pull(STATUSES, 1, NOW_MS - 10)
        one.do(msgspec.structs.replace(operation, once=Once(f"{number}", until_ms)))
    pattern = PLACE.remembered[3]
    messages = bus.following(PARTITION, pattern, 1, count=10, leader=True)
    assert len(messages) == 3
    bus.has = lambda _stream, message, _leader: None if message == messages[1] else message
    one.do(Forget(NOW_MS - 100, NOW_MS, 10_000, 1.0))
    bus.has = lambda _stream, message, _leader: message
    assert bus.following(PARTITION, pattern, 1, count=10, leader=True) == [messages[1]]


def test_a_setting_of_its_own_is_asked_for_once(bus: MemoryBus, one: Process) -> None:
    revision = one.change(SETTING, b"1")
    operation = msgspec.structs.replace(
        append(STATUSES, records(1)), while_set=While(SETTING, revision)
    )
    assert one.do(operation) == 1
    bus.asked.clear()
    assert one.do(operation) == 1
    assert bus.asked == ["write"]


# --- others are faster ----------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
def test_who_is_overtaken_by_an_append_takes_the_numbers_behind(
    bus: MemoryBus, one: Process, other: Process, known: bool
) -> None:
    if known:
        one.do(append(STATUSES, records(1)))
    theirs = append(STATUSES, records(3))
    bus.overtake = first_time(PARTITION, lambda: other.do(theirs))
    mine = append(STATUSES, records(2))
    assert one.do(mine) == 2
    assert one.numbers(STATUSES) == list(range(1, 6 + known))
    assert [chunk.row.size for chunk in one.chunks(STATUSES)] == [1] * known + [3, 2]


def test_who_is_overtaken_by_a_pull_takes_the_next_page(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    entries = records(5)
    one.do(append(STATUSES, entries))
    taken: list[Page] = []
    bus.overtake = first_time(PARTITION, lambda: taken.append(other.pull(pull(STATUSES, 3))))
    assert one.pull(pull(STATUSES, 3)) == page(4, entries[3:], 0)
    assert taken == [page(1, entries[:3], 2)]


def test_twins_with_a_key_through_two_doors_share_a_page(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    entries = records(5)
    one.do(append(STATUSES, entries))
    keyed = pull(STATUSES, 3, key="k")
    taken: list[Page] = []
    bus.overtake = first_time(PARTITION, lambda: taken.append(other.pull(keyed)))
    assert one.pull(keyed) == page(1, entries[:3], 2, repeated=True)
    assert taken == [page(1, entries[:3], 2)]


def test_a_batch_of_which_another_door_was_faster_is_stored_once(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    for operation in (
        append(STATUSES, records(3), key=repeat_key("k")),
        fingerprinted(STATUSES, records(3), [1, 2, 3]),
    ):
        before = len(one.numbers(STATUSES))
        bus.overtake = first_time(PARTITION, lambda each=operation: other.do(each))  # type: ignore[misc]
        assert one.do(operation) == 0
        assert len(one.numbers(STATUSES)) == before + 3


def test_what_another_door_has_forgotten_is_not_rested_on(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    """No commit tells of it."""
    one.do(fingerprinted(STATUSES, records(1), [1]))
    other.do(Forget(NOW_MS + 1, NOW_MS + 1, 100, 1.0))
    assert one.do(fingerprinted(STATUSES, records(2), [2, 3])) == 2
    assert one.standing(STATUSES) == (3, 0)


def test_a_record_of_a_write_that_was_refused_is_not_known_by_it(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    one.do(fingerprinted(STATUSES, records(1), [1]))
    bus.overtake = first_time(PARTITION, lambda: other.do(append(STATUSES, records(1))))
    assert one.do(fingerprinted(STATUSES, records(2), [2, 3])) == 2
    assert one.standing(STATUSES) == (4, 0)
    assert one.do(fingerprinted(STATUSES, records(2), [3, 4])) == 1
    assert one.standing(STATUSES) == (5, 0)


def test_of_a_group_only_who_was_overtaken_knows_it(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    """Applications that share a write are told as if each had its own."""
    bus.overtake = first_time(PARTITION, lambda: other.do(append(OTHERS, records(4))))
    assert one.log.commit([append(STATUSES, records(2)), append(OTHERS, records(3))]) == [2, 3]
    assert one.numbers(STATUSES) == [1, 2]
    assert one.numbers(OTHERS) == list(range(1, 8))


def test_who_is_overtaken_again_and_again_is_told_to_come_back(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    writing = [False]

    def overtake(stream: str) -> None:
        if stream == PARTITION and not writing[0]:
            writing[0] = True
            other.do(append(STATUSES, records(1)))
            writing[0] = False

    bus.overtake = overtake
    with pytest.raises(Undone) as undone:
        one.do(append(STATUSES, records(1)))
    assert isinstance(undone.value.error, StoreUnavailable)
    assert len(one.numbers(STATUSES)) == lane.COLLISIONS_MAX + 1
    bus.overtake = lambda _stream: None
    assert one.do(append(STATUSES, records(1))) == 1


def test_what_is_missing_as_of_an_old_state_is_no_damage(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    """It was removed since; what is missing as of the newest one is damage."""
    for _ in range(3):
        one.do(append(STATUSES, records(1)))
    other.do(append(STATUSES, records(1)))
    assert one.pull(pull(STATUSES)).count == 4
    one.purge(STATUSES)
    one.do(append(STATUSES, entries := records(2)))
    assert other.pull(pull(STATUSES, 1)) == page(5, entries[:1], 1)
    bus.purge(PARTITION, "s.0.*.0.log", below=bus.newest(PARTITION))
    third = Process(bus)
    assert third.pull(pull(STATUSES)) == EMPTY
    assert third._box(STATUSES)[0].quarantined == 1


# --- replicas that are behind ---------------------------------------------------------------------


def test_nothing_waits_is_said_only_of_the_newest_state(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    assert one.pull(pull(STATUSES)) == EMPTY
    entries = records(2)
    other.do(append(STATUSES, entries))
    assert one.pull(pull(STATUSES)) == page(1, entries, 0)  # its state is old
    other.do(append(STATUSES, entries))
    behind(bus)
    assert Process(bus).pull(pull(STATUSES)) == page(3, entries, 0)  # its replica is


def test_a_key_is_known_however_far_replicas_are_behind(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    """Whether a page waits, so that something would be written, or nothing does."""
    entries = records(4)
    one.do(append(STATUSES, entries))
    keyed = pull(STATUSES, 2, key="k")
    first = one.pull(keyed)
    for waiting in (2, 0):
        for lag in (1, 2, 3, 4, 1000):
            behind(bus, lag)
            for process in (other, Process(bus)):
                again = process.pull(keyed)
                assert (again.first_seq, again.data, again.repeated) == (1, first.data, True)
                assert again.waiting == waiting
        behind(bus, 0)
        other.do(Discard(STATUSES, Outcome.ERASED, NOW_MS))


def test_what_must_not_come_twice_does_not_however_far_replicas_are_behind(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    one.do(append(STATUSES, records(4)))
    assert one.pull(once(STATUSES, "n")).count == 1
    for lag in (1, 2, 3, 1000):
        behind(bus, lag)
        for process in (other, Process(bus)):
            assert isinstance(process.do(once(STATUSES, "n")), ReplayRefused)
            assert isinstance(process.do(once(REPLIES, "n")), ReplayRefused)


def test_repeats_are_known_however_far_replicas_are_behind(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    keyed = append(STATUSES, records(3), key=repeat_key("k"))
    printed = fingerprinted(STATUSES, records(3), [1, 2, 3])
    one.log.commit([keyed, printed])
    for lag in (1, 2, 3, 4, 1000):
        behind(bus, lag)
        for process in (other, Process(bus)):
            assert process.do(keyed) == 0
            assert process.do(printed) == 0
    behind(bus, 0)
    assert one.numbers(STATUSES) == [1, 2, 3, 4, 5, 6]


def test_an_acknowledgement_is_refused_only_by_the_newest_hand(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    one.do(append(STATUSES, records(4)))

    def read(process: Process, ack: int | None) -> object:
        return process.do(Pull(STATUSES, 2, NOW_MS, reader=Reader("r", ack)))

    first = read(one, None)
    assert isinstance(first, Page)
    assert isinstance(read(other, 1), Page)
    for lag in (1, 2, 3, 1000):
        behind(bus, lag)
        again = read(Process(bus), None)
        assert isinstance(again, Page)
        assert (again.first_seq, again.repeated) == (3, True)
        assert isinstance(read(Process(bus), 2), AcknowledgementRefused)
    assert isinstance(read(Process(bus), 3), Page)


def test_a_page_is_taken_from_a_hand_however_far_replicas_are_behind(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    one.do(append(STATUSES, records(4)))
    other.pull(pull(STATUSES, 0))
    one.pull(Pull(STATUSES, 2, NOW_MS, reader=Reader("r")))
    behind(bus)
    due = Release(STATUSES, "r", 1, NOW_MS, new_act("release"))
    assert other.do(due) == 2
    assert other.do(due) == 0


def test_chunks_that_a_replica_lacks_are_read_from_the_leader(
    bus: MemoryBus, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several messages, too."""
    monkeypatch.setattr("pullstatus.store.jetstream.messages.PART_BYTES_MAX", 1000)
    large = [incompressible(3000, number) for number in (1, 2)]
    for entry in large:
        one.do(append(STATUSES, [entry]))
    for lag in (1, 2, 5, 7, 1000):
        behind(bus, lag)
        process = Process(bus)
        keyed = pull(STATUSES, 2, key="k")
        assert process.pull(keyed).data == b",".join(large)


def test_a_page_that_is_kept_may_be_larger_than_a_message(
    bus: MemoryBus, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of it stays once its reader has acknowledged it."""
    monkeypatch.setattr("pullstatus.store.jetstream.messages.PART_BYTES_MAX", 1000)
    large = [incompressible(3000, number) for number in (1, 2)]
    one.do(append(STATUSES, large))
    read = Pull(STATUSES, 2, NOW_MS, reader=Reader("r"))
    one.pull(read)
    for process in (one, Process(bus)):
        process.purge(STATUSES)
        again = process.pull(read)
        assert (again.data, again.repeated) == (b",".join(large), True)
    assert bus.subjects(PARTITION, "s.0.*.0.page.>")
    one.do(Pull(STATUSES, 0, NOW_MS, reader=Reader("r", 1)))
    assert not bus.subjects(PARTITION, "s.0.*.0.page.>")


def test_fingerprints_of_many_records_lie_in_several_messages(
    bus: MemoryBus, one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pullstatus.store.jetstream.messages.PRINTS_MAX", 3)
    numbers = list(range(10))
    for process, new in ((one, 10), (Process(bus), 0)):
        assert process.do(fingerprinted(STATUSES, records(10), numbers)) == new
    assert one.standing(STATUSES) == (10, 0)


# --- answers that get lost ------------------------------------------------------------------------


def test_what_is_too_much_for_one_answer_is_refused_alone(bus: MemoryBus, one: Process) -> None:
    """What others ask in the same group is done."""
    one.do(append(OTHERS, records(1)))
    hours = [3600 * number for number in range(1100)]
    told = Committer(Process(bus).log).commit(
        [pull(OTHERS, 1), fingerprinted(STATUSES, records(1100), hours), append(STATUSES, [b"x"])]
    )
    page, refusal, count = told.answers
    assert isinstance(page, Page)
    assert page.count == 1
    assert isinstance(refusal, StoreUnavailable)
    assert "send it in parts" in str(refusal)
    assert count == 1


def test_a_write_whose_answer_is_lost_is_done_once(bus: MemoryBus, one: Process) -> None:
    entries = records(4)
    lost = itertools.cycle([True, True, False])
    bus.loses = lambda _stream: next(lost)
    for entry in entries:
        assert one.do(append(STATUSES, [entry])) == 1
    for entry in entries:
        assert one.pull(pull(STATUSES, 1)).data == entry
    assert one.standing(STATUSES) == (4, 4)
    assert one.pull(pull(STATUSES)) == EMPTY


def test_a_write_whose_answer_is_lost_is_found_behind_others_and_their_removal(
    bus: MemoryBus, one: Process
) -> None:
    """A commit stays as long as somebody may look for it, whatever retention removes."""
    clock = Clock()
    other = Process(bus, clock)
    other.do(append(STATUSES, records(2)))
    other.pull(pull(STATUSES))
    once_lost = iter([True])

    def loses(_stream: str) -> bool:
        if not next(once_lost, False):
            return False
        other.do(append(STATUSES, records(1)))
        other.pull(pull(STATUSES))
        assert other.purge(STATUSES).count == 6
        return True

    bus.loses = loses
    assert one.do(append(STATUSES, records(3))) == 3
    assert one.standing(STATUSES) == (6, 6)
    bus.loses = lambda _stream: False
    commits = len(bus.following(PARTITION, "s.0.*.c", 1, count=100))
    assert commits == 7
    for pause_s in (AGE_S, AGE_S):
        clock.now_s += pause_s
        other.do(append(STATUSES, records(1)))
        other.pull(pull(STATUSES))
    other.purge(STATUSES)
    assert len(bus.following(PARTITION, "s.0.*.c", 1, count=100)) < commits


# --- settings that operations rest on -------------------------------------------------------------


def resting(revision: int) -> Append:
    """An append that rests on its application's setting."""
    return Append(STATUSES, records(1), NOW_MS, while_set=While(SETTING, revision))


def test_who_rests_on_a_setting_knows_of_its_change(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    revision = one.change(SETTING, b"1")
    assert one.do(resting(revision)) == 1
    assert isinstance(one.do(resting(revision - 1)), SettingChanged)
    assert one.do(resting(revision)) == 1
    changed = other.change(SETTING, b"2")
    assert isinstance(one.do(resting(revision)), SettingChanged)
    assert one.do(resting(changed)) == 1
    assert one.standing(STATUSES) == (3, 0)


def test_a_setting_that_is_changed_between_reading_and_committing_refuses(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    revision = one.change(SETTING, b"1")
    one.do(resting(revision))
    bus.overtake = first_time(PARTITION, lambda: other.change(SETTING, b"2"))
    assert isinstance(one.do(resting(revision)), SettingChanged)


def test_nothing_that_rests_on_a_former_setting_comes_behind_its_change(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    """Also of who has read state and setting in the middle of the change."""
    revision = one.change(SETTING, b"1")
    one.do(resting(revision))
    changed, ready = threading.Event(), threading.Event()
    answers: list[object] = []

    def rest() -> None:  # of a process that remembers no state from before
        answers.append(Process(bus).do(resting(revision)))

    worker = threading.Thread(target=rest)

    def overtake(stream: str) -> None:
        if threading.current_thread() is worker:
            ready.set()
            assert changed.wait(60)
        elif stream == COMMON:
            worker.start()
            assert ready.wait(60)

    bus.overtake = overtake
    other.change(SETTING, b"2")
    changed.set()
    worker.join(60)
    [answer] = answers
    assert isinstance(answer, SettingChanged)
    assert one.standing(STATUSES) == (1, 0)


def test_who_changes_a_setting_and_dies_leaves_nobody_with_the_former_one(
    bus: MemoryBus, one: Process, other: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed behind the change: everybody asks for the setting from then on."""
    revision = one.change(SETTING, b"1")
    assert one.do(resting(revision)) == 1
    fence, calls = other.settings._fence, itertools.count()

    def killed(sdkappid: int, revision: int) -> None:
        if next(calls):
            raise KeyboardInterrupt
        fence(sdkappid, revision)
        assert one.do(resting(before)) == 1  # in the middle it may rest on what is there

    before = revision
    monkeypatch.setattr(other.settings, "_fence", killed)
    with pytest.raises(KeyboardInterrupt):
        other.change(SETTING, b"2")
    assert isinstance(one.do(resting(revision)), SettingChanged)
    assert one.do(resting(one.revision(SETTING))) == 1


def values_of(bus: MemoryBus, name: str) -> list[bytes | None]:
    """All that the stream still holds of a setting."""
    rows = bus.following(COMMON, LAYOUT.common.setting(name), 1, count=9, leader=True)
    return [opened(row, SettingMessage).value for row in rows]


@pytest.mark.parametrize("broken", ["delete", "purge", "fence"])
@pytest.mark.parametrize("end", ["tend", "close"])
def test_what_fails_behind_a_change_is_no_refusal_of_it(
    bus: MemoryBus, one: Process, broken: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on record: the former value, which may be a secret, goes as soon as that can be."""
    revision = one.change(SETTING, b"1")
    fence, calls = one.settings._fence, itertools.count()

    def fails(*_args: object, **_kwargs: object) -> int:
        raise StoreUnavailable("no node leads the stream")

    def second_fails(sdkappid: int, revision: int) -> None:
        if next(calls) % 2:
            fails()
        fence(sdkappid, revision)

    with monkeypatch.context() as patch:
        if broken == "fence":
            patch.setattr(one.settings, "_fence", second_fails)
        else:
            patch.setattr(bus, broken, fails)
        for value in (b"2", b"3"):
            assert one.change(SETTING, value) > revision
    assert values_of(bus, SETTING)[-1] == b"3"
    assert isinstance(one.do(resting(revision)), SettingChanged)
    bus.asked.clear()
    if end == "tend":
        assert one.settings.due_in_s() <= settings.AGAIN_S
        one.clock.now_s += settings.AGAIN_S
        one.settings.tend()
    else:
        one.settings.close(failed=False)
    assert values_of(bus, SETTING) == [b"3"]
    assert bus.asked.count("delete") == 2  # written over, each of them
    assert one.settings.due_in_s() == math.inf


@pytest.mark.parametrize("name", ["a", f"application/{OTHERS.sdkappid}"])
def test_who_rests_on_a_setting_of_others_is_refused_alone(
    bus: MemoryBus, one: Process, name: str
) -> None:
    """Whoever changes that commits nothing to this application, so it might be done too late."""
    resting_on_others = msgspec.structs.replace(resting(0), while_set=While(name, 0))
    with pytest.raises(Undone) as undone:
        one.log.commit([resting_on_others, resting(0)])
    assert isinstance(undone.value.error, ValueError)
    assert one.do(resting(0)) == 1


# --- acts -----------------------------------------------------------------------------------------


def test_an_act_is_on_record_once_however_often_it_is_begun(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    one.do(append(STATUSES, records(3)))
    one.do(append(OTHERS, records(3)))
    act = new_act("discard")
    due = Discard(STATUSES, Outcome.ERASED, NOW_MS, act=act)
    bus.overtake = first_time(PARTITION, lambda: other.do(append(STATUSES, records(2))))
    assert one.do(due) == 5
    assert other.do(msgspec.structs.replace(due, mailbox=OTHERS)) == 3
    assert one.acts() == [act.ticket]


def test_who_finds_nothing_to_do_leaves_no_act(
    bus: MemoryBus, one: Process, other: Process
) -> None:
    """However old what it remembers is."""
    due = Discard(STATUSES, Outcome.ERASED, NOW_MS, act=new_act())
    one.do(append(STATUSES, records(3)))
    other.do(Discard(STATUSES, Outcome.ERASED, NOW_MS))
    assert one.do(due) == 0
    behind(bus)
    assert Process(bus).do(due) == 0
    assert one.acts() == []
