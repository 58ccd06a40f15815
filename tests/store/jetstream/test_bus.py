"""What a cluster of three real nodes does for the engine, one question or write at a time."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from pullstatus.errors import StoreFull, StoreUnavailable
from pullstatus.store.jetstream import reading, wire, writing
from pullstatus.store.jetstream.bus import Bus
from pullstatus.store.jetstream.location import Login, parse_url
from pullstatus.store.jetstream.wire import Put, Stale
from tests.store.jetstream.conftest import ANSWER_S, STREAM, alike, copied, op

BUS: type[wire.Bus] = Bus  # a type checker says whether it is one


def put(bus: Bus, *subjects: str, last: int | None = 0, stream: str = STREAM) -> int:
    """Write a message on each, of which the last one has a condition."""
    mine = op()
    puts = [Put(subject, mine + subject.encode()) for subject in subjects]
    return bus.write(stream, [*puts[:-1], puts[-1]._replace(last=last)], mine)


def texts(bus: Bus, pattern: str) -> list[str]:
    """What lies on a subject: all that the leader has, and of what it removed what others have."""
    found = bus.following(STREAM, pattern, 0, count=2000, leader=True)
    return [message.data[16:].decode() for message in found]


def test_a_condition_is_the_last_message_of_its_subject(bus: Bus, app: str) -> None:
    first = put(bus, f"{app}.c")
    for wrong in (0, first - 1, first + 1):
        with pytest.raises(Stale):
            put(bus, f"{app}.c", last=wrong)
    second = put(bus, f"{app}.c", last=first)
    assert second > first
    assert texts(bus, f"{app}.c") == [f"{app}.c"] * 2


def test_a_write_of_several_is_stored_as_a_whole(bus: Bus, app: str) -> None:
    last = put(bus, *[f"{app}.log"] * 999, f"{app}.c")
    copied(last)
    found = bus.following(STREAM, f"{app}.>", 0, count=1000)
    assert [message.subject for message in found] == [f"{app}.log"] * 999 + [f"{app}.c"]
    assert [message.sequence for message in found] == list(range(last - 999, last + 1))


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_a_write_of_several_is_refused_as_a_whole(bus: Bus, app: str, wrong: int) -> None:
    mine = op()
    puts = [Put(f"{app}.{name}.c", mine, 0) for name in "abc"]
    puts[wrong] = puts[wrong]._replace(last=7)
    with pytest.raises(Stale):
        bus.write(STREAM, [Put(f"{app}.log", mine), *puts], mine)
    assert texts(bus, f"{app}.>") == []


def test_nothing_lies_between_the_messages_of_a_write(bus: Bus, app: str) -> None:
    def many(name: str) -> None:
        last = 0
        for _ in range(5):
            last = put(bus, *[f"{app}.{name}.log"] * 30, f"{app}.{name}.c", last=last)

        copied(last)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(many, "abcd"))
    found = bus.following(STREAM, f"{app}.>", 0, count=1000)
    assert len(found) == 4 * 5 * 31
    for one, other in pairwise(found):
        assert one.data[:16] == other.data[:16] or one.subject.endswith(".c")


def test_of_two_that_write_at_once_one_is_stored(bus: Bus, app: str) -> None:
    def one(_: int) -> bool:
        try:
            put(bus, f"{app}.log", f"{app}.c")
        except Stale:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(one, range(4))) == 1
    assert len(texts(bus, f"{app}.>")) == 2


@pytest.mark.parametrize("leader", [False, True])
def test_the_last_message_of_a_subject(bus: Bus, app: str, leader: bool) -> None:
    assert bus.last(STREAM, f"{app}.c", leader=leader) is None
    first = put(bus, f"{app}.c")
    second = put(bus, f"{app}.c", last=first)
    copied(second)
    found = bus.last(STREAM, f"{app}.c", leader=leader)
    assert found is not None
    assert found[:2] == (f"{app}.c", second)
    assert found.data[16:].decode() == f"{app}.c"


def test_last_messages_are_of_one_moment(bus: Bus, app: str) -> None:
    names = [f"{app}.{number}" for number in range(1000)]
    copied(put(bus, *names))
    found = bus.lasts(STREAM, [*names[:500], f"{app}.none"])
    assert sorted(found) == sorted(names[:500])
    assert {message.subject for message in found.values()} == set(names[:500])
    assert bus.lasts(STREAM, []) == {}
    assert bus.lasts(STREAM, [f"{app}.none"]) == {}
    assert len(bus.lasts(STREAM, [f"{app}.>"])) == 1000


def test_too_many_last_messages_are_none(bus: Bus, app: str) -> None:
    with pytest.raises(ValueError, match="too many"):
        bus.lasts(STREAM, [f"{app}.{number}" for number in range(1001)])
    for part in range(2):
        last = put(bus, *[f"{app}.{part}.{number}" for number in range(600)])
        copied(last)
    with pytest.raises(ValueError, match="too many"):
        bus.lasts(STREAM, [f"{app}.>"])


@pytest.mark.parametrize("leader", [False, True])
def test_messages_from_a_sequence_on(bus: Bus, app: str, leader: bool) -> None:
    last = put(bus, *[f"{app}.log"] * 9, f"{app}.c")
    others = put(bus, f"{app}.other.c")
    copied(others)

    def sequences(subject: str, sequence: int, count: int) -> list[int]:
        found = bus.following(STREAM, subject, sequence, count=count, leader=leader)
        return [message.sequence for message in found]

    assert sequences(f"{app}.log", 0, 3) == [last - 9, last - 8, last - 7]
    assert sequences(f"{app}.log", last - 2, 100) == [last - 2, last - 1]
    assert sequences(f"{app}.>", last - 1, 100) == [last - 1, last, others]
    assert sequences(f"{app}.log", last, 100) == []
    assert sequences(f"{app}.none", 0, 100) == []


@pytest.mark.parametrize("leader", [False, True])
def test_messages_from_a_sequence_on_have_a_bound(bus: Bus, app: str, leader: bool) -> None:
    mine = op()
    puts = [Put(f"{app}.log", mine + bytes(50_000)) for _ in range(9)]
    copied(bus.write(STREAM, [*puts, Put(f"{app}.c", mine, 0)], mine))
    for bytes_max, fewest, most in ((1, 1, 1), (120_000, 2, 3), (1 << 20, 9, 9)):
        found = bus.following(
            STREAM, f"{app}.log", 0, count=100, bytes_max=bytes_max, leader=leader
        )
        assert fewest <= len(found) <= most


@pytest.mark.usefixtures("unhurried")
def test_messages_below_a_sequence_are_removed(bus: Bus, app: str) -> None:
    last = put(bus, *[f"{app}.log"] * 9, f"{app}.c")
    assert bus.purge(STREAM, f"{app}.log", below=0) == 0
    assert bus.purge(STREAM, f"{app}.log", below=last - 2) == 7
    assert bus.purge(STREAM, f"{app}.log", below=last - 2) == 0
    assert bus.purge(STREAM, f"{app}.>", below=last) == 2
    alike()
    assert texts(bus, f"{app}.>") == [f"{app}.c"]


def test_messages_of_many_subjects_are_removed_at_once(bus: Bus, app: str) -> None:
    """As one below a sequence, where subjects have their tokens in the middle, too; or of each."""
    names = [f"{app}.{number % 3}.key.{number}" for number in range(150)]
    first = put(bus, *names, f"{app}.0.log.1", f"{app}.c") - 151
    assert bus.purge(STREAM, f"{app}.*.key.*", below=first + 100) == 100
    alike()
    assert texts(bus, f"{app}.>") == [*names[100:], f"{app}.0.log.1", f"{app}.c"]
    bus.purge_each(STREAM, [(names[-1], first + 150), (names[-2], first + 148), (names[0], 1)])
    alike()
    assert texts(bus, f"{app}.>") == [*names[100:-1], f"{app}.0.log.1", f"{app}.c"]


def subjects_of(bus: Bus) -> int:
    """How many the stream has."""
    [led] = bus.cluster([STREAM]).streams
    assert led is not None
    return led.subjects


def test_subjects_are_counted(bus: Bus, app: str) -> None:
    before = subjects_of(bus)
    last = put(bus, f"{app}.key.1", f"{app}.key.2", f"{app}.key.2", f"{app}.c")
    assert subjects_of(bus) == before + 3
    bus.purge(STREAM, f"{app}.key.*", below=last)
    assert subjects_of(bus) == before + 1


def test_a_message_is_removed(bus: Bus, app: str) -> None:
    last = put(bus, f"{app}.log", f"{app}.c")
    for _ in range(2):
        bus.delete(STREAM, last - 1)
    alike()
    assert texts(bus, f"{app}.>") == [f"{app}.c"]
    assert put(bus, f"{app}.c", last=last) > last


def test_a_condition_of_none_holds_again_once_all_are_removed(bus: Bus, app: str) -> None:
    """So the newest message of a chain is never to be removed."""
    bus.delete(STREAM, put(bus, f"{app}.c"))
    assert put(bus, f"{app}.c")


def test_mistakes_of_ours_reach_no_node(bus: Bus, app: str) -> None:
    mine = op()
    good = Put(f"{app}.c", mine, 0)
    for wrong in (
        [],
        [good._replace(last=None)],
        [good._replace(data=op())],
        [good, good],
        [Put(f"{app}.log", mine)] * 1000 + [good],
        [good._replace(data=mine + bytes(65 << 20))],
        [good._replace(data=mine + bytes(1 << 20))],
        [good._replace(data=mine + bytes((1 << 20) - 1024))],
    ):
        with pytest.raises(ValueError):  # noqa: PT011 any of them
            bus.write(STREAM, wrong, mine)
    assert texts(bus, f"{app}.>") == []


def test_the_largest_message_is_taken(bus: Bus, app: str) -> None:
    mine = op()
    large = Put(f"{app}.{'c' * 200}", mine + bytes(writing.MESSAGE_BYTES_MAX - 16), 0)
    bus.write(STREAM, [large._replace(subject=f"{app}.log"), large], mine)
    found = bus.following(STREAM, f"{app}.>", 0, count=9, bytes_max=8 << 20, leader=True)
    assert [message.data for message in found] == [large.data] * 2


@pytest.mark.usefixtures("unhurried")
def test_a_full_stream_takes_no_more_and_says_so(bus: Bus) -> None:
    config = {"name": "full", "subjects": ["full.>"], "max_bytes": 200_000, "discard": "new"}
    made = bus._api.create("full", config | {"allow_atomic": True, "num_replicas": 3})
    bus.begin(made).result()
    mine = op()
    last = bus.write("full", [Put("full.c", mine + bytes(150_000), 0)], mine)
    space = bus.space("full")
    assert space is not None
    assert (space.limit, space.left < 50_000) == (200_000, True)
    for puts in (
        [Put("full.c", mine + bytes(100_000), last)],
        [Put("full.log", mine + bytes(100_000)), Put("full.c", mine, last)],
    ):
        with pytest.raises(StoreFull, match="maximum bytes"):
            bus.write("full", puts, mine)


def test_what_a_node_has_left_bounds_a_stream_that_has_no_bound(bus: Bus) -> None:
    space = bus.space(STREAM)
    assert space is not None
    assert 0 < space.used < space.limit


def test_questions_at_once(bus: Bus, app: str) -> None:
    last = put(bus, f"{app}.c")
    with ThreadPoolExecutor(20) as pool:
        asked = [
            pool.submit(bus.following, STREAM, f"{app}.c", 0, count=1, leader=True)
            for _ in range(100)
        ]
        assert {message.sequence for one in asked for message in one.result()} == {last}


def test_a_stream_says_how_far_it_is_and_what_it_holds(bus: Bus, app: str) -> None:
    size = bus.size(STREAM)
    last = put(bus, f"{app}.log", f"{app}.c")
    assert bus.newest(STREAM) >= last
    assert bus.size(STREAM) > size
    assert sorted(bus.subjects(STREAM, f"{app}.>")) == [f"{app}.c", f"{app}.log"]
    assert list(bus.subjects(STREAM, f"{app}.none.>")) == []


def test_what_replicas_that_are_behind_say_is_not_taken(bus: Bus, app: str) -> None:
    last = 0
    for _ in range(50):
        last = put(bus, f"{app}.c", last=last)
        [found] = bus.lasts(STREAM, [f"{app}.c"], at_least=last).values()
        assert found.sequence == last
    assert bus.lasts(STREAM, [f"{app}.none"], at_least=last) == {}
    assert list(bus.lasts(STREAM, ["bus.0.*.none", f"{app}.>"], at_least=last)) == [f"{app}.c"]


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("a.b.c", True),
        ("a.*.c", True),
        ("a.>", True),
        (">", True),
        ("*.*.*", True),
        ("a.b", False),
        ("a.b.c.>", False),
        ("a.*", False),
        ("a.b.d", False),
        ("*.*.*.*", False),
    ],
)
def test_patterns(pattern: str, fits: bool) -> None:
    assert reading._fits("a.b.c", pattern) is fits


@pytest.mark.usefixtures("unhurried")
def test_a_stream_that_is_not_there(bus: Bus, app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "GIVE_UP_S", 0.5)
    monkeypatch.setattr(writing, "RESOLVE_S", 0.5)
    send = writing.Writing._send  # the last try has as long as any
    monkeypatch.setattr(writing.Writing, "_send", lambda one, puts, _s: send(one, puts, ANSWER_S))
    with pytest.raises(StoreUnavailable, match="no node leads"):
        put(bus, "nowhere.c", stream="nowhere")
    with pytest.raises(StoreUnavailable):
        bus.last("nowhere", "nowhere.c")
    with pytest.raises(StoreUnavailable):
        bus.last_of_each("nowhere", ["nowhere.c", "nowhere.d"])
    with pytest.raises(StoreUnavailable):
        bus.following_each("nowhere", [("nowhere.c", 1), ("nowhere.d", 1)], count=1, bytes_max=1)


def test_what_is_asked_of_a_bus_that_closes_has_no_answer(made: str, app: str) -> None:
    bus = Bus(parse_url(made), Login())
    put(bus, f"{app}.c")
    bus.close()
    bus.close()
    with pytest.raises(StoreUnavailable):
        bus.last(STREAM, f"{app}.c")


def test_a_bus_closes_whatever_it_is_at(made: str) -> None:
    """A cancellation that comes with what was waited for may be lost."""
    for number in range(20):
        bus = Bus(parse_url(made), Login())
        time.sleep(number / 2000)
        bus.close()
