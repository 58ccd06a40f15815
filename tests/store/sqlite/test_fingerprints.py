"""What is remembered of records: as little as tells two of them apart, whoever made them."""

from __future__ import annotations

import sys
from pathlib import Path

import apsw
import pytest

from pullstatus import limits
from pullstatus.errors import StoreCorrupt, StoreFull
from pullstatus.records import Kind
from pullstatus.store import Append, Fingerprints, Mailbox
from pullstatus.store.fingerprints import (
    STEP_KEYS_MAX,
    factor_of,
    further_keys,
    halves_of,
    keys,
    keys_of,
)
from pullstatus.store.gathering.operations import Forget, PackedPage, Removed, packed
from pullstatus.store.sqlite import fingerprints
from pullstatus.store.sqlite.connection import open_writer
from pullstatus.store.sqlite.fingerprints import TOGETHER
from pullstatus.store.sqlite.log import Log
from tests.store.build import NOW_MS, STATUSES, fingerprinted, pull, records
from tests.store.sqlite.test_cost import counted

OTHERS = Mailbox(4711, Kind.DELIVERY_STATUS)
RECORD_S = NOW_MS // 1000


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(open_writer(tmp_path / "store.db"))


def batch(digests: list[bytes], scope: str = "a", record_s: int = RECORD_S) -> Append:
    prints = Fingerprints(scope, [(record_s, digest) for digest in digests])
    return Append(STATUSES, records(len(digests)), NOW_MS, fingerprints=prints)


def stored(log: Log, appended: Append) -> int:
    """How many of a batch were new."""
    before = accepted(log)
    log.commit([appended])
    return accepted(log) - before


def accepted(log: Log) -> int:
    return int(log._connection.execute("SELECT coalesce(sum(tail), 0) FROM mailbox").get)


def forgotten(log: Log, before_ms: int) -> int:
    """How much is dropped of what was accepted before."""
    [removed] = log.commit([Forget(before_ms, 0, 500, 60)])
    assert isinstance(removed, Removed)
    assert not removed.more
    return removed.count


def steps_of(log: Log) -> list[tuple[int, int]]:
    """When what a row remembers was accepted, and how much that is."""
    rows = log._connection.execute("SELECT accepted_ms, keys FROM fingerprint_step ORDER BY id")
    return [(at_ms, len(keys_of(row))) for at_ms, row in rows]


@pytest.mark.parametrize("place", range(16))
def test_no_bit_of_a_digest_is_dropped(log: Log, place: int) -> None:
    """Two that differ anywhere are two: none can be made that is taken for another's repeat.

    Were they cut short, whoever knows a record could make one that begins alike, and hide it.
    """
    like = bytearray(range(16))
    digests = [bytes(like)]
    for bit in range(8):
        like[place] ^= 1 << bit
        digests.append(bytes(like))
        like[place] ^= 1 << bit
    assert stored(log, batch(digests)) == len(digests)
    assert stored(log, batch(digests)) == 0


def test_each_store_has_a_secret_of_its_own(tmp_path: Path) -> None:
    """What collides in one, if anything does, collides in no other."""
    kept = []
    for name in ("a", "b"):
        log = Log(open_writer(tmp_path / name))
        log.commit([fingerprinted(STATUSES, records(3), [1, 2, 3])])
        kept.append(set(log._connection.execute("SELECT keys FROM fingerprint_step")))
    assert not kept[0] & kept[1]


@pytest.mark.parametrize("record_s", [-62_135_596_800, -1, 0, RECORD_S, 253_402_300_799])
def test_a_key_begins_with_the_record_s_own_time(record_s: int) -> None:
    """From the first year to the last that a record can tell; so what comes together lies so."""
    factor = factor_of(bytes(32), "a")
    items = [(record_s, bytes((n,)) * 16) for n in range(256)]
    found = set(halves_of(b"".join(keys(factor, items))))
    assert {slot >> 16 for slot, _ in found} == {record_s}
    assert len(found) == 256
    assert all(-(1 << 63) <= half < 1 << 63 for key in found for half in key)


def test_a_key_is_the_same_whatever_it_is_made_with() -> None:
    """All of a batch are multiplied at once; each is what it would be by itself."""
    factor = factor_of(b"s" * 32, "a")
    items = [
        (RECORD_S + n, digest)
        for n, digest in enumerate(
            [b"\xff" * 16, bytes(16), b"\x80" + bytes(15), bytes(15) + b"\x01", b"0123456789abcdef"]
        )
    ]
    assert keys(factor, []) == []
    for count in range(1, len(items) + 1):
        assert keys(factor, items[:count]) == [
            ((at_s << 80) | int.from_bytes(digest, "big") * factor % (1 << 128) >> 48).to_bytes(
                16, "big"
            )
            for at_s, digest in items[:count]
        ]


def test_a_batch_of_new_records_is_looked_at_as_one(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "REPEAT_MS", None)  # the other way needs it
    numbers = list(range(100))
    assert stored(log, fingerprinted(STATUSES, records(100), numbers)) == 100
    assert steps_of(log) == [(NOW_MS, 100)]


def test_what_stands_behind_a_digest_is_kept_and_forgotten_as_others_are(tmp_path: Path) -> None:
    """In the row of the commit, so a log that is opened anew knows it; in each place once."""
    a, b, c, d = (bytes([letter]) * 16 for letter in b"abcd")
    log = Log(open_writer(tmp_path / "store.db"))
    assert stored(log, batch([a + b + c, d + b])) == 2
    assert steps_of(log) == [(NOW_MS, 4)]
    anew = Log(open_writer(tmp_path / "store.db"))
    assert stored(anew, batch([b, c, b + a])) == 0
    assert steps_of(anew) == [(NOW_MS, 4)]
    anew.commit([Forget(NOW_MS + 1, 0, 500, 60)])
    assert steps_of(anew) == []
    assert stored(anew, batch([c, b, a])) == 3


def test_keys_of_digests_with_others_behind_them_are_their_own() -> None:
    factor = factor_of(b"s" * 32, "a")
    a, b, c = b"a" * 16, b"b" * 16, b"c" * 16
    mixed = [(RECORD_S, a), (RECORD_S, b + c + a), (0, c)]
    assert keys(factor, mixed) == keys(factor, [(RECORD_S, a), (RECORD_S, b), (0, c)])
    assert further_keys(factor, mixed) == {1: keys(factor, [(RECORD_S, c), (RECORD_S, a)])}


def test_what_is_known_among_what_is_new(log: Log) -> None:
    """Twice in one batch, or from before, wherever it stands: the others come in, in order."""
    log.commit([fingerprinted(STATUSES, [b"{2}", b"{5}"], [2, 5])])
    numbers = [1, 2, 3, 3, 4, 5, 1, 6]
    entries = [b"{%d}" % number for number in numbers]
    assert log.commit([fingerprinted(STATUSES, entries, numbers)]) == [4]
    [page] = log.commit([pull(STATUSES)])
    assert page.data == b"{2},{5},{1},{3},{4},{6}"  # type: ignore[union-attr]
    assert steps_of(log) == [(NOW_MS, 2), (NOW_MS, 4)]


def test_a_commit_remembers_in_a_row_for_each_moment(log: Log) -> None:
    """So that each record is known for three days to the millisecond."""
    log.commit(
        [
            fingerprinted(STATUSES, records(2), [1, 2], NOW_MS + 5),
            fingerprinted(OTHERS, records(1), [1], NOW_MS, scope="b"),
            fingerprinted(OTHERS, records(1), [1], NOW_MS + 5, scope="c"),
        ]
    )
    assert steps_of(log) == [(NOW_MS + 5, 3), (NOW_MS, 1)]
    numbers = list(range(10, 10 + STEP_KEYS_MAX + 1))
    log.commit([fingerprinted(STATUSES, records(len(numbers)), numbers)])
    assert steps_of(log)[2:] == [(NOW_MS, STEP_KEYS_MAX), (NOW_MS, 1)]


def test_a_commit_that_came_to_nothing_remembers_nothing(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise apsw.FullError

    with monkeypatch.context() as patched:
        patched.setattr(log.states, "write", full)
        with pytest.raises(StoreFull):
            log.commit([fingerprinted(STATUSES, records(3), [1, 2, 3])])
    assert stored(log, fingerprinted(STATUSES, records(2), [3, 4])) == 2
    assert steps_of(log) == [(NOW_MS, 2)]


def test_what_is_accepted_anew_is_forgotten_in_its_own_time(log: Log) -> None:
    """Its former place in the order does not take it along."""
    later_ms = NOW_MS + 100 * 3_600_000
    log.commit([fingerprinted(STATUSES, records(2), [1, 2])])
    assert stored(log, fingerprinted(STATUSES, records(1), [1], later_ms)) == 1
    assert forgotten(log, NOW_MS + 1) == 1
    assert stored(log, fingerprinted(STATUSES, records(1), [1], later_ms)) == 0
    assert forgotten(log, later_ms + 1) == 1
    assert steps_of(log) == []


def test_a_clock_that_was_ahead_keeps_nothing_from_being_forgotten(log: Log) -> None:
    years_ahead_ms = NOW_MS + 10 * 365 * 86_400_000
    log.commit([fingerprinted(STATUSES, records(1), [1], years_ahead_ms)])
    log.commit([fingerprinted(STATUSES, records(1), [2], NOW_MS)])
    assert forgotten(log, NOW_MS + 1) == 1


def indexed(log: Log) -> int:
    """How much the index has."""
    return int(log._connection.execute("SELECT count(*) FROM fingerprint").get)


def in_memory(log: Log) -> int:
    return len(log._tables.remembered._recent)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many fingerprints may be in memory: as few as make the index take some all the time."""
    monkeypatch.setattr(limits, "FINGERPRINTS_RECENT_MAX", 40)
    monkeypatch.setattr(fingerprints, "INDEXED_KEYS", 15)
    return limits.FINGERPRINTS_RECENT_MAX


def test_a_commit_leaves_the_index_alone(log: Log) -> None:
    """Until memory is full: it writes one row, whatever it accepts."""
    assert stored(log, fingerprinted(STATUSES, records(1000), list(range(1000)))) == 1000
    assert (indexed(log), in_memory(log)) == (0, 1000)


def test_what_is_in_memory_has_a_bound(log: Log, few: int) -> None:
    """Beyond it the oldest go into the index, and all of them are known as before."""
    for first in range(0, 300, 10):
        log.commit([fingerprinted(STATUSES, records(10), list(range(first, first + 10)))])
        assert in_memory(log) <= few
        assert in_memory(log) + indexed(log) == first + 10
    assert stored(log, fingerprinted(STATUSES, records(300), list(range(300)))) == 0
    assert stored(log, fingerprinted(STATUSES, records(2), [299, 300])) == 1


def test_a_commit_beyond_all_bounds_goes_next_time(log: Log, few: int) -> None:
    assert stored(log, fingerprinted(STATUSES, records(100), list(range(100)))) == 100
    assert stored(log, fingerprinted(STATUSES, records(1), [100])) == 1
    assert in_memory(log) <= few
    assert stored(log, fingerprinted(STATUSES, records(101), list(range(101)))) == 0


def test_the_bound_of_memory_is_some_thirty_megabytes() -> None:
    """A fingerprint in memory takes what its limit says, or less."""
    count = 100_000
    factor = factor_of(bytes(32), "a")
    named = keys(factor, [(RECORD_S, b"%016d" % n) for n in range(count)])
    held = dict.fromkeys(named, NOW_MS)
    taken = sys.getsizeof(held) + sum(sys.getsizeof(key) + 15 for key in held)
    assert taken / count < 130


def test_upkeep_makes_room_for_a_burst(log: Log, few: int) -> None:
    """Until half of memory is free; what is left there is not worth a write."""
    log.commit([fingerprinted(STATUSES, records(few), list(range(few)))])
    assert (indexed(log), in_memory(log)) == (0, few)
    assert forgotten(log, NOW_MS) == 0
    assert in_memory(log) <= few // 2
    assert in_memory(log) + indexed(log) == few
    before = indexed(log)
    assert forgotten(log, NOW_MS) == 0
    assert indexed(log) == before


@pytest.mark.parametrize("count", [1, TOGETHER - 1, TOGETHER, TOGETHER + 1, 2 * TOGETHER + 7])
def test_the_index_takes_each_as_it_was(
    log: Log, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """However many a statement has: none is lost, and each has the time it was accepted."""
    half, numbers = count // 2, list(range(count))
    log.commit([fingerprinted(STATUSES, records(half), numbers[:half])])
    log.commit([fingerprinted(STATUSES, records(count - half), numbers[half:], NOW_MS + 1)])
    monkeypatch.setattr(limits, "FINGERPRINTS_RECENT_MAX", 0)
    assert forgotten(log, NOW_MS) == 0
    assert (indexed(log), in_memory(log)) == (count, 0)
    again = [fingerprinted(STATUSES, records(1), [number]) for number in numbers]
    assert log.commit(again) == [0] * count
    assert forgotten(log, NOW_MS + 1) == half
    assert stored(log, fingerprinted(STATUSES, records(count), numbers)) == half


def test_what_is_too_old_never_comes_into_the_index(log: Log, few: int) -> None:
    """It goes from memory and from the order."""
    log.commit([fingerprinted(STATUSES, records(few), list(range(few)))])
    log.commit([fingerprinted(STATUSES, records(few), list(range(few)), NOW_MS + 1)])
    with counted(log._connection) as steps:
        assert forgotten(log, NOW_MS + 1) == few
    assert steps.count < 10 * few
    assert (in_memory(log), indexed(log), steps_of(log)) == (0, 0, [])
    assert stored(log, fingerprinted(STATUSES, records(few), list(range(few)))) == few


@pytest.mark.parametrize("known", [[], [0], [5, 119], list(range(60)), list(range(120))])
def test_what_is_known_of_a_packed_batch_is_left_out(log: Log, known: list[int]) -> None:
    """The rest is stored as if it had not been packed, in order."""
    entries = [b'{"n":%d,"pad":"%b"}' % (n, b"x" * 50) for n in range(120)]
    log.commit([fingerprinted(OTHERS, [entries[n] for n in known], known)])
    sent = packed(fingerprinted(STATUSES, entries, list(range(120))))
    assert sent.packed
    assert sent.count == 120
    assert log.commit([sent]) == [120 - len(known)]
    new = [entry for n, entry in enumerate(entries) if n not in known]
    pages = [log.commit([pull(STATUSES)])[0] for _ in range(2)]
    opened = [page.opened() if isinstance(page, PackedPage) else page for page in pages]
    assert b",".join(page.data for page in opened if page.count) == b",".join(new)  # type: ignore[union-attr]
    assert stored(log, packed(fingerprinted(STATUSES, entries, list(range(120))))) == 0


def test_a_new_log_of_the_file_knows_all(tmp_path: Path, few: int) -> None:
    numbers = list(range(100))
    first = Log(open_writer(tmp_path / "store.db"))
    for start in range(0, 100, 10):
        first.commit([fingerprinted(STATUSES, records(10), numbers[start : start + 10])])
    assert indexed(first) > 50
    second = Log(open_writer(tmp_path / "store.db"))
    second.recall()
    assert in_memory(second) == in_memory(first) > 20
    assert stored(second, fingerprinted(STATUSES, records(100), numbers)) == 0


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_two_doors_know_what_the_other_remembered(tmp_path: Path, few: int, turn: int) -> None:
    """Whichever of them has had the index take it, or has let it go."""
    doors = [Log(open_writer(tmp_path / "store.db")) for _ in range(2)]
    known: list[int] = []
    for n in range(60):
        one, other = doors[n // turn % 2], doors[(n // turn + 1) % 2]
        new = [5 * n + k for k in range(5)]
        assert stored(one, fingerprinted(STATUSES, records(5), new, NOW_MS + n)) == 5
        known += new
        if n % 7 == 3:
            gone = n - 30  # of so many commits nothing is known from now on
            forgotten(one, NOW_MS + gone)
            known = [number for number in known if number >= 5 * gone]
            assert min(at for at, _ in steps_of(one)) >= NOW_MS + gone
        if n % 5 == 4:
            again = fingerprinted(STATUSES, records(len(known)), known, NOW_MS + n)
            assert stored(other, again) == 0
    forgotten(doors[0], NOW_MS + 1000)
    assert (steps_of(doors[1]), indexed(doors[1])) == ([], 0)
    for n, log in enumerate(doors * 2):  # a row's number is not used again
        assert stored(log, fingerprinted(STATUSES, records(1), [n], NOW_MS)) == 1
        assert stored(doors[n % 2 - 1], fingerprinted(STATUSES, records(1), [n], NOW_MS)) == 0


def test_what_came_to_nothing_leaves_memory_as_it_was(
    log: Log, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what the index had just taken."""

    def full() -> None:
        raise apsw.FullError

    numbers = list(range(few))
    log.commit([fingerprinted(STATUSES, records(few), numbers)])
    for group in (
        [fingerprinted(STATUSES, records(10), list(range(100, 110)))],
        [Forget(NOW_MS, 0, 500, 60)],
        [Forget(NOW_MS + 1, 0, 500, 60)],
    ):
        with monkeypatch.context() as patched:
            patched.setattr(log.states, "write", full)
            with pytest.raises(StoreFull):
                log.commit(group)
        assert indexed(log) == 0
        assert stored(log, fingerprinted(STATUSES, records(few), numbers)) == 0
    assert stored(log, fingerprinted(STATUSES, records(1), [100])) == 1
    assert in_memory(log) + indexed(log) == few + 1


def test_what_the_index_has_may_be_accepted_anew(log: Log, few: int) -> None:
    """In its time: three days later to the millisecond; and then it is known for three more."""
    log.commit([fingerprinted(STATUSES, records(few), list(range(few)))])
    forgotten(log, NOW_MS)
    assert indexed(log) >= few // 2
    old_ms = NOW_MS + limits.INGEST_REPEAT_S * 1000
    numbers = list(range(few))
    assert stored(log, fingerprinted(STATUSES, records(few), numbers, old_ms)) == 0
    assert stored(log, fingerprinted(STATUSES, records(few), numbers, old_ms + 1)) == few
    for first in range(1000, 1100, 10):  # the index takes them once more
        batch = fingerprinted(STATUSES, records(10), list(range(first, first + 10)), old_ms + 2)
        log.commit([batch])
    assert forgotten(log, old_ms) == 0
    assert stored(log, fingerprinted(STATUSES, records(few), numbers, old_ms + 2)) == 0
    assert forgotten(log, old_ms + 2) == few


@pytest.mark.parametrize("count", [1, 2, 10, 11, 100, 101, 250])
def test_all_that_the_index_has_of_a_batch_is_known(
    log: Log, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """However many are looked for at once, and whether they tell a time or none."""
    monkeypatch.setattr(limits, "FINGERPRINTS_RECENT_MAX", 0)
    digests = [b"%016d" % n for n in range(count)]
    for record_s in (RECORD_S, 0):
        log.commit([batch(digests, record_s=record_s)])
    forgotten(log, NOW_MS)
    assert (indexed(log), in_memory(log)) == (2 * count, 0)
    for record_s in (RECORD_S, 0):
        assert stored(log, batch([b"%016d" % count, *digests], record_s=record_s)) == 1


def test_a_slot_that_many_share_costs_no_more(tmp_path: Path) -> None:
    """As they do of records that tell no time: all of them are of one second."""
    steps = []
    for others in (1, 500):
        path = tmp_path / f"{others}.db"
        connection = open_writer(path)
        secret = connection.execute("SELECT value FROM fingerprint_secret").get
        sent = batch([b"%016d" % n for n in range(100)], record_s=0)
        assert sent.fingerprints is not None
        named = keys(factor_of(secret, sent.fingerprints.scope), sent.fingerprints.items)
        shared = [(slot, n) for slot, _ in halves_of(b"".join(named)) for n in range(others)]
        connection.executemany("INSERT INTO fingerprint VALUES (?, ?, 0)", shared)
        log = Log(open_writer(path))
        log.recall()
        with counted(log._connection) as taken:
            assert stored(log, sent) == 100
        steps.append(taken.count)
    assert steps[1] < 1.1 * steps[0]


def test_a_record_of_the_far_future_hides_no_other(log: Log, few: int) -> None:
    """The index is passed over beyond its newest time; one that lies does not make it wrong."""
    year_9999 = [b"%016d" % n for n in range(few)]
    log.commit([batch(year_9999, record_s=253_402_300_799)])
    log.commit([fingerprinted(STATUSES, records(few), list(range(few)))])
    forgotten(log, NOW_MS)
    assert stored(log, fingerprinted(STATUSES, records(few), list(range(few)))) == 0
    assert stored(log, batch(year_9999, record_s=253_402_300_799)) == 0


def test_a_record_takes_little_room_and_work(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """At one batch a commit: 20 bytes until the index has it, 50 then; 91 without keys."""
    connection = log._connection
    numbers = list(range(20_000))
    with counted(connection) as steps:
        for start in range(0, len(numbers), 100):
            part = numbers[start : start + 100]
            items = [(RECORD_S + start // 1000, b"%016d" % n) for n in part]
            prints = Fingerprints("gateway/1400006666/delivery-statuses", items)
            log.commit([Append(STATUSES, records(100), NOW_MS, fingerprints=prints)])
    taken = "SELECT sum(pgsize) FROM dbstat WHERE name LIKE 'fingerprint%'"
    assert steps.count < 2 * len(numbers)
    assert connection.execute(taken).get < 22 * len(numbers)
    with counted(connection) as steps:
        monkeypatch.setattr(limits, "FINGERPRINTS_RECENT_MAX", 0)
        forgotten(log, NOW_MS)
    assert indexed(log) == len(numbers)
    assert steps.count < 30 * len(numbers)
    assert connection.execute(taken).get < 55 * len(numbers)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM fingerprint_secret",
        "UPDATE fingerprint_secret SET value = x'00'",
        "DELETE FROM fingerprint_indexed",
    ],
)
def test_a_store_without_its_secret_is_refused(tmp_path: Path, damage: str) -> None:
    """With another one it would know no repeat any more."""
    connection = open_writer(tmp_path / "store.db")
    connection.execute(damage)
    with pytest.raises(StoreCorrupt, match=r"repeated records.*restore a backup"):
        Log(connection).recall()


def test_a_damaged_row_of_the_order_holds_nothing_up(log: Log) -> None:
    log.commit([fingerprinted(STATUSES, records(2), [1, 2])])
    log._connection.execute("UPDATE fingerprint_step SET keys = substr(keys, 1, 20)")
    assert forgotten(log, NOW_MS + 1) == 1
    assert steps_of(log) == []
