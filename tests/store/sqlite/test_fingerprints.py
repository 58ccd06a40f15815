"""What is remembered of records: as little as tells two of them apart, whoever made them."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from pullstatus import limits
from pullstatus.errors import StoreCorrupt, StoreFull
from pullstatus.records import Kind
from pullstatus.store import Append, Fingerprints, Mailbox
from pullstatus.store.gathering.operations import Forget, Removed
from pullstatus.store.sqlite import fingerprints
from pullstatus.store.sqlite.connection import open_writer
from pullstatus.store.sqlite.fingerprints import STEP_KEYS_MAX, keys_of
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
    before = sum(log.states.waiting.values())
    log.commit([appended])
    return sum(log.states.waiting.values()) - before


def forgotten(log: Log, before_ms: int) -> int:
    """How much is dropped of what was accepted before."""
    [removed] = log.commit([Forget(before_ms, 0, 500, 60)])
    assert isinstance(removed, Removed)
    assert not removed.more
    return removed.count


def steps_of(log: Log) -> list[tuple[int, int]]:
    """When what a row remembers was accepted, and how much that is."""
    rows = log._connection.execute("SELECT accepted_ms, keys FROM fingerprint_step ORDER BY id")
    return [(at_ms, len(keys_of(keys))) for at_ms, keys in rows]


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
        kept.append(set(log._connection.execute("SELECT slot, short FROM fingerprint")))
    assert not kept[0] & kept[1]


@pytest.mark.parametrize("record_s", [-62_135_596_800, -1, 0, RECORD_S, 253_402_300_799])
def test_a_key_begins_with_the_record_s_own_time(record_s: int) -> None:
    """From the first year to the last that a record can tell; so what comes together lies so."""
    factor = fingerprints.factor_of(bytes(32), "a")
    found = {fingerprints.key(factor, record_s, bytes((n,)) * 16) for n in range(256)}
    assert {slot >> 16 for slot, _ in found} == {record_s}
    assert len(found) == 256
    assert all(-(1 << 63) <= half < 1 << 63 for key in found for half in key)


def test_a_batch_of_new_records_is_one_statement(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INGEST_REPEAT_S", None)  # the other way needs it
    numbers = list(range(100))
    assert stored(log, fingerprinted(STATUSES, records(100), numbers)) == 100
    assert steps_of(log) == [(NOW_MS, 100)]


def test_what_is_known_among_what_is_new(log: Log) -> None:
    """Twice in one batch, or from before, wherever it stands: the others come in, in order."""
    log.commit([fingerprinted(STATUSES, [b"{2}", b"{5}"], [2, 5])])
    numbers = [1, 2, 3, 3, 4, 5, 1, 6]
    entries = [b"{%d}" % number for number in numbers]
    assert log.commit([fingerprinted(STATUSES, entries, numbers)]) == [8]
    [page] = log.commit([pull(STATUSES)])
    assert page.data == b"{2},{5},{1},{3},{4},{6}"  # type: ignore[union-attr]
    assert steps_of(log) == [(NOW_MS, 2), (NOW_MS, 4)]


def test_a_commit_puts_all_that_it_remembers_into_one_row(log: Log) -> None:
    log.commit(
        [
            fingerprinted(STATUSES, records(2), [1, 2], NOW_MS + 5),
            fingerprinted(OTHERS, records(1), [1], NOW_MS, scope="b"),
        ]
    )
    assert steps_of(log) == [(NOW_MS + 5, 3)]
    numbers = list(range(10, 10 + STEP_KEYS_MAX + 1))
    log.commit([fingerprinted(STATUSES, records(len(numbers)), numbers)])
    assert steps_of(log)[1:] == [(NOW_MS, STEP_KEYS_MAX), (NOW_MS, 1)]


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


def test_a_record_takes_little_room_and_work(log: Log) -> None:
    """Both tables together, at ten batches a commit: 91 bytes, before there were keys."""
    connection = log._connection
    numbers = list(range(20_000))
    with counted(connection) as steps:
        for start in range(0, len(numbers), 100):
            part = numbers[start : start + 100]
            items = [(RECORD_S + start // 1000, b"%016d" % n) for n in part]
            prints = Fingerprints("gateway/1400006666/delivery-statuses", items)
            log.commit([Append(STATUSES, records(100), NOW_MS, fingerprints=prints)])
    assert steps.count < 30 * len(numbers)
    taken = connection.execute("SELECT sum(pgsize) FROM dbstat WHERE name LIKE 'fingerprint%'").get
    assert taken < 55 * len(numbers)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM fingerprint_secret",
        "UPDATE fingerprint_secret SET value = x'00'",
    ],
)
def test_a_store_without_its_secret_is_refused(tmp_path: Path, damage: str) -> None:
    """With another one it would know no repeat any more."""
    connection = open_writer(tmp_path / "store.db")
    connection.execute(damage)
    with pytest.raises(StoreCorrupt, match=r"repeated records.*restore a backup"):
        Log(connection)


def test_a_damaged_row_of_the_order_holds_nothing_up(log: Log) -> None:
    log.commit([fingerprinted(STATUSES, records(2), [1, 2])])
    log._connection.execute("UPDATE fingerprint_step SET keys = substr(keys, 1, 20)")
    assert forgotten(log, NOW_MS + 1) == 1
    assert steps_of(log) == []
