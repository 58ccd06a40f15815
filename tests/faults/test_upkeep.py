"""What operators do, and what happens by itself: redelivery, retention, audit, backup, deletion.

Each must keep the promises while others work on the same store, and say plainly what it refuses.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, TypeVar

import apsw
import msgspec
import pytest
from click.testing import CliRunner

from pullstatus import limits
from pullstatus.apps import Registry
from pullstatus.cli import main
from pullstatus.cli.output import moment
from pullstatus.mailbox.upkeep import clean_up
from pullstatus.records import Kind
from pullstatus.records.hours import DAY_MS
from pullstatus.store import (
    NO_TICKET,
    Act,
    Append,
    Backlog,
    Discard,
    Entry,
    Fingerprints,
    JournalRow,
    Mailbox,
    Once,
    Outcome,
    Page,
    Pull,
    RepeatKey,
    Store,
    backup_store,
    chunk,
    open_store,
)
from pullstatus.store.gathering.operations import Removed
from pullstatus.store.sqlite import copies, schema
from pullstatus.store.verbs import removal
from tests.faults.load import Load, Mix, app_mailbox, doomed
from tests.harness import (
    COMMAND,
    PATIENCE_S,
    REPLY,
    STATUS,
    App,
    Program,
    Record,
    replies,
    reply,
    status,
    statuses,
)
from tests.sealing import masters_of
from tests.store.build import derive_all

T = TypeVar("T")
NOW_MS = 1_767_000_000_000
MINUTE_MS = 60_000
STEP_ENTRIES_MAX = 4000  # removed in one commit, which takes some milliseconds
ONE = Mailbox(1_400_000_001, Kind.DELIVERY_STATUS)
OTHER = Mailbox(1_400_000_002, Kind.DELIVERY_STATUS)


# --- doors to a store -----------------------------------------------------------------------------


def on_store(program: Program, work: Callable[[Store], Awaitable[T]]) -> T:
    """Do `work` on the program's store, opened for that."""

    async def run() -> T:
        store = await open_store(program.store)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def encoded(records: Sequence[Record]) -> list[bytes]:
    """Records as they are stored."""
    return [json.dumps(record, separators=(",", ":")).encode() for record in records]


def feed(
    program: Program, mailbox: Mailbox, records: Sequence[Record], at_ms: int = NOW_MS
) -> None:
    on_store(program, lambda store: store.append(Append(mailbox, encoded(records), at_ms)))


def take(
    program: Program, mailbox: Mailbox, count: int, at_ms: int = NOW_MS, key: str | None = None
) -> Page:
    pull = Pull(mailbox, count, at_ms, "192.0.2.1", key, f"random=72262 time={at_ms // 1000}")
    return on_store(program, lambda store: store.pull(pull))


async def listed(found: AsyncIterator[T]) -> list[T]:
    return [one async for one in found]


def entries_of(program: Program, mailbox: Mailbox) -> list[Entry]:
    return on_store(program, lambda store: listed(store.entries(mailbox)))


def journal_of(program: Program, mailbox: Mailbox) -> list[JournalRow]:
    return on_store(program, lambda store: listed(store.journal(mailbox)))


def backlog(program: Program) -> list[Backlog]:
    return on_store(program, lambda store: store.backlog())


def contents(program: Program) -> dict[str, list[Any]]:
    """Every row of every table."""
    connection = apsw.Connection(str(file_of(program)), flags=apsw.SQLITE_OPEN_READONLY)
    names = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    ]
    found = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}
    connection.close()
    return found


def file_of(program: Program) -> Path:
    return Path(program.store.removeprefix("sqlite:///"))


def change_file(file: Path, *statements: str) -> None:
    """Change a store behind its back."""
    connection = apsw.Connection(str(file))
    connection.set_busy_timeout(5000)
    for statement in statements:
        connection.execute(statement)
        assert connection.changes(), statement
    connection.close()


def refused(program: Program, *arguments: str, exit_status: int = 1) -> str:
    """Run a command that must fail; returns what it says."""
    done = CliRunner().invoke(main, [*arguments, "--store", program.store])
    assert done.exit_code == exit_status, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.output


def sound(program: Program) -> dict[str, dict[str, Any]]:
    """Audit, which must be content; returns its rows by mailbox."""
    found = program.cli("audit", "--json")
    assert found["sound"]
    return {row["mailbox"]: row for row in found["mailboxes"]}


def time_of(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()


def redeliver(program: Program, *arguments: str) -> list[tuple[int, int, int, int]]:
    """Redeliver after a dry run that changes nothing and shows the same; returns the ranges."""
    before = contents(program)
    shown = program.cli("redeliver", *arguments, "--reason", "lost", "--dry-run", "--json")
    after = contents(program)
    if {"--sid", "--number"} & {*arguments}:
        assert len(after["act"]) == len(before["act"]) + 1  # somebody has looked
        before["act"] = after["act"]
    assert after == before
    done = program.cli("redeliver", *arguments, "--reason", "lost")
    due = [
        (row["sdkappid"], row["type"], row["first"], row["records"])
        for row in shown
        if row["state"] == "handed out"
        and row.get("copy_of") is None
        and not row.get("former_owner")
    ]
    ranges = [
        (row["sdkappid"], row["type"], row["first"], row["records"]) for row in done["ranges"]
    ]
    assert sorted(entries(ranges)) == sorted(entries(due))
    assert done["redelivered"] == sum(count for *_, count in ranges)
    return ranges


async def is_followed(store: Store) -> bool:
    """Whether a server that follows what comes has nothing left to write of it."""
    return all(
        row.followed.through == row.followed.tallied == row.accepted
        for row in await store.backlog()
        if not row.mailbox.aside
    )


def acts(program: Program, action: str) -> list[Act]:
    """What is on record of one kind of act, oldest first."""

    async def read(store: Store) -> list[Act]:
        return [row.act async for row in store.acts() if row.act.action == action]

    return on_store(program, read)


def entries(ranges: Sequence[tuple[int, int, int, int]]) -> list[tuple[int, int, int]]:
    """Ranges as single entries."""
    return [
        (sdkappid, kind, at)
        for sdkappid, kind, first, count in ranges
        for at in range(first, first + count)
    ]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Not started: a store, and the commands."""
    return Program(tmp_path)


def copy_of(program: Program, folder: Path) -> Program:
    """The same over a copy of its store, which has no applications."""
    shutil.copy(file_of(program), folder)
    return Program(folder, token=program.token)


# --- redelivery -----------------------------------------------------------------------------------


def test_redelivered_records_look_on_the_wire_as_they_did(tmp_path: Path) -> None:
    """To the byte, unknown members too; only `pulls show` tells, and the original is as it was."""
    with Program(tmp_path) as program:
        app = program.create_app()
        program.feed(app, [status(1, text="é", mine=[1, None]), *statuses(2, 2)])
        first = program.pull(app)
        name = first.header("pullstatus-pull-id")
        assert name is not None
        before = program.cli("pulls", "show", name)
        assert before["again"] == []
        program.until(lambda: on_store(program, is_followed))
        assert redeliver(program, "--pull", name) == [(app.sdkappid, 0, 1, 3)]
        again = program.pull(app, key="see-what-a-command-did")
        assert again.content == first.content
        name_again = again.header("pullstatus-pull-id")
        assert name_again not in (None, name)
        assert program.pull(app).data == []
        assert program.cli("pulls", "show", name) == before
        shown = program.cli("pulls", "show", str(name_again), "--records")
        [mark] = shown["again"]
        assert (mark["first"], mark["last"], mark["copied_from"]) == (4, 6, 1)
        assert (mark["by"], mark["reason"]) == ("redeliver", "lost")
        assert mark["actor"] == getpass.getuser()
        assert shown["data"] == first.data
        assert sound(program)[str(app_mailbox(app, STATUS))]["handed_out"] == 6


@pytest.fixture(scope="module")
def numbered_once(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Records of two numbers in two applications' mailboxes, part of them handed out."""
    program = Program(tmp_path_factory.mktemp("numbered"))
    records = [
        status(1, mobile="13800000001", sid="a"),
        status(2, mobile="13800000002", sid="b"),
        status(3, mobile="13800000001", sid="c"),
        status(4, mobile="13800000001", sid="a"),
        status(5, mobile="13800000001", sid="a"),  # waits
    ]
    feed(program, ONE, records)
    take(program, ONE, 2, NOW_MS)
    take(program, ONE, 2, NOW_MS + MINUTE_MS)
    feed(program, OTHER, [status(1, mobile="8613800000001", sid="ab", nationcode="1")])
    feed(program, OTHER, [status(2, mobile="13800000001", sid="a")])
    take(program, OTHER, 2, NOW_MS + 2 * MINUTE_MS)
    answers = Mailbox(ONE.sdkappid, Kind.REPLY)
    feed(program, answers, [reply(1, mobile="13800000001", text="13800000002")])
    take(program, answers, 1, NOW_MS + 3 * MINUTE_MS)
    return program


@pytest.fixture
def numbered(numbered_once: Program, tmp_path: Path) -> Program:
    """The same, of this test's own."""
    return copy_of(numbered_once, tmp_path)


A, B = ONE.sdkappid, OTHER.sdkappid


@pytest.mark.parametrize(
    ("how", "ranges"),
    [
        (["--pull", f"{A}-0-3"], [(A, 0, 3, 2)]),
        (["--sid", "a"], [(A, 0, 1, 1), (A, 0, 4, 1), (B, 0, 2, 1)]),
        (["--sid", "a", "--sdkappid", str(A)], [(A, 0, 1, 1), (A, 0, 4, 1)]),
        (["--sid", "c"], [(A, 0, 3, 1)]),
        (["--number", "13800000002"], [(A, 0, 2, 1)]),
        (["--number", "+8613800000002"], [(A, 0, 2, 1)]),
        (
            ["--number", "8613800000001"],
            [(A, 0, 1, 1), (A, 0, 3, 2), (A, 1, 1, 1), (B, 0, 1, 2)],
        ),
        (["--number", "13800000001", "--sdkappid", str(B)], [(B, 0, 2, 1)]),
        (
            ["--from", time_of(NOW_MS), "--to", time_of(NOW_MS + 2 * MINUTE_MS)],
            [(A, 0, 1, 4)],
        ),
        (
            ["--from", time_of(NOW_MS + 1), "--to", time_of(NOW_MS + 3 * MINUTE_MS + 1)],
            [(A, 0, 3, 2), (A, 1, 1, 1), (B, 0, 1, 2)],
        ),
    ],
)
def test_redelivery_finds_what_is_meant(
    numbered: Program, how: list[str], ranges: list[tuple[int, int, int, int]]
) -> None:
    """What was handed out and matches, all in one commit; a dry run shows it, changing nothing."""
    before = {row.mailbox: row.waiting for row in backlog(numbered)}
    copied = entries(redeliver(numbered, *how))
    assert sorted(copied) == sorted(entries(ranges))
    for row in backlog(numbered):
        place = (row.mailbox.sdkappid, int(row.mailbox.kind))
        seqs = [seq for *of, seq in copied if tuple(of) == place]
        assert row.waiting == before[row.mailbox] + len(seqs)
        data = {entry.seq: entry.data for entry in entries_of(numbered, row.mailbox)}
        tail = range(row.accepted - len(seqs) + 1, row.accepted + 1)
        assert [data[seq] for seq in tail] == [data[seq] for seq in seqs]
    sound(numbered)


def test_redelivery_leaves_an_audit_row_without_personal_data(numbered: Program) -> None:
    """Who, when, why, how and how many; not the number that was looked for."""
    redeliver(numbered, "--number", "13800000002")
    [act] = acts(numbered, "redeliver")
    assert (act.actor, act.action, act.reason) == (getpass.getuser(), "redeliver", "lost")
    assert abs(act.at_ms - datetime.now(UTC).timestamp() * 1000) < 60_000
    detail = json.loads(act.detail)
    assert NOW_MS <= detail.pop("newest_ms") < NOW_MS + DAY_MS  # when it was handed out
    assert detail == {"by": "number", "count": 1, "mailboxes": [str(ONE)]}


def test_redelivery_tells_what_is_damaged_and_copies_the_rest(program: Program) -> None:
    records = [status(number, sid=f"<{number}>") for number in range(1, 4)]
    feed(program, ONE, records)
    take(program, ONE, 3)
    body = "CAST(replace(CAST(body AS TEXT), '<2>', '<#>') AS BLOB)"
    change_file(file_of(program), f"UPDATE chunk SET body = {body}")
    told = refused(program, "redeliver", "--pull", f"{A}-0-1", "--reason", "lost")
    done, _, error = told.partition("Error")
    assert "was not copied" in error
    shown = json.loads(done)
    assert shown["redelivered"] == 2
    assert shown["damaged"] == [{"sdkappid": A, "type": 0, "first": 2, "records": 1}]
    assert take(program, ONE, 100).data == b",".join(encoded([records[0], records[2]]))


@pytest.mark.parametrize(
    "how",
    [
        ["--sid", "c"],
        ["--number", "13800000001", "--sdkappid", str(A)],
        ["--from", time_of(NOW_MS), "--to", "0s"],
    ],
)
def test_copies_are_not_copied(numbered: Program, how: list[str]) -> None:
    """A second redelivery of the same finds the originals alone, also once copies are out."""
    once = redeliver(numbered, *how)
    for mailbox in (ONE, OTHER, Mailbox(A, Kind.REPLY)):
        while take(numbered, mailbox, 100, NOW_MS + DAY_MS).count:
            pass
    originals = set(entries(once))
    again = set(entries(redeliver(numbered, *how)))
    waited = {(A, 0, 5)}  # by then it has been handed out, for the first time
    assert originals <= again <= originals | waited
    sound(numbered)


KILLED = """
import os, signal, sys
from pullstatus import limits
from pullstatus.cli import main
from pullstatus.store.sqlite import SqliteStore
left = int(sys.argv.pop(1))
redeliver = SqliteStore.redeliver
async def killed(self, operation):
    global left
    copied = await redeliver(self, operation)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return copied
SqliteStore.redeliver = killed
limits.REDELIVER_COUNT_MAX = 4
main()
"""


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_redelivery_killed_between_two_steps_is_finished(program: Program, steps: int) -> None:
    """By the same command with the number of the act; each record has one copy then."""
    for mailbox in (ONE, OTHER):
        feed(program, mailbox, statuses(10))
        take(program, mailbox, 10)
    period = ["--from", time_of(NOW_MS), "--to", time_of(NOW_MS + 1)]
    command = ["redeliver", *period, "--reason", "lost", "--store", program.store]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(steps), *command], check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    copied = sum(row.waiting for row in backlog(program))
    assert copied == [4, 8, 10, 14][steps - 1]
    [row] = program.cli("acts", "list", "--sdkappid", str(A), "--limit", "1")
    assert (row["action"], row["reason"], row["detail"]["count"]) == ("redeliver", "lost", 20)
    number = str(row["act"])
    assert "not by sid" in refused(program, "redeliver", "--sid", "8:1", "--resume", number)
    done_later = program.cli("redeliver", *period, "--resume", number)
    assert (done_later["redelivered"], done_later["act"]) == (20 - copied, row["act"])
    assert program.cli("redeliver", *period, "--resume", number)["redelivered"] == 0
    for mailbox in (ONE, OTHER):
        data = [entry.data for entry in entries_of(program, mailbox)]
        assert data[10:] == data[:10]
    assert len(acts(program, "redeliver")) == 1
    sound(program)


def test_redelivery_of_a_period_between_two_seconds_is_finished_by_what_its_act_tells(
    program: Program,
) -> None:
    """Both its ends are of .700: what left before that, in the same second, is none of it."""
    feed(program, ONE, statuses(20))
    for at_ms in (0, 300, 900, 60_300, 60_900):
        take(program, ONE, 4, NOW_MS + at_ms)
    period = [time_of(NOW_MS + 700), time_of(NOW_MS + 60_700)]
    options = ["--from", period[0], "--to", period[1], "--reason", "lost"]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, "1", "redeliver", *options, "--store", program.store],
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    [row] = program.cli("acts", "list", "--sdkappid", str(A), "--limit", "1")
    _, _, told = row["detail"]["by"].partition("time from ")
    begin, end = told.split(" to ")
    resume = ["redeliver", "--from", begin, "--to", end, "--resume", str(row["act"])]
    assert program.cli(*resume)["redelivered"] == 4
    data = [entry.data for entry in entries_of(program, ONE)]
    assert data[20:] == data[8:16]
    whole = ["--from", begin[:19], "--to", end[:19], "--resume", str(row["act"])]
    assert "name the same again" in refused(program, "redeliver", *whole)


def test_redelivery_that_goes_on_says_how_much_of_it_is_there_no_more(program: Program) -> None:
    feed(program, ONE, statuses(8))
    for at_ms in (0, DAY_MS):
        take(program, ONE, 4, NOW_MS + at_ms)
    period = ["--from", time_of(NOW_MS), "--to", time_of(NOW_MS + 2 * DAY_MS)]
    done = program.cli("redeliver", *period, "--reason", "lost")
    arguments = ["redeliver", *period, "--resume", str(done["act"]), "--store", program.store]
    assert "not found" not in CliRunner().invoke(main, arguments).stderr
    keep_at(program, NOW_MS + 3 * DAY_MS // 2, days=1)
    told = CliRunner().invoke(main, arguments)
    assert told.exit_code == 0
    assert "was about and that are not found: 4." in told.stderr


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (["--pull", f"{A}-0-2"], "no pull has this id"),
        (["--pull", f"{A}-0-5"], "no pull has this id"),
        (["--pull", "x"], "no pull has this id"),
        (["--sid", "nobody"], "nothing that was handed out matches"),
        (["--sid", "b", "--sdkappid", str(B)], "nothing that was handed out matches"),
        (["--number", "13900000000"], "nothing that was handed out matches"),
        (["--number", "no number"], "a number is digits"),
        (["--from", "2001-01-01", "--to", "2002-01-01"], "nothing that was handed out matches"),
    ],
)
def test_redelivery_of_what_is_not_there_is_refused(
    numbered: Program, how: list[str], told: str
) -> None:
    before = contents(numbered)
    assert told in refused(numbered, "redeliver", *how, "--reason", "lost")
    assert contents(numbered) == before


@pytest.mark.parametrize(
    "how",
    [
        ["--reason", "lost"],
        ["--reason", "lost", "--sid", "a", "--number", "1"],
        ["--reason", "lost", "--sid", "a", "--from", "1h"],
        ["--reason", "lost", "--from", "1h"],
        ["--reason", "lost", "--from", "yesterday", "--to", "0s"],
        ["--sid", "a"],
    ],
)
def test_redelivery_must_be_told_one_thing_and_why(numbered: Program, how: list[str]) -> None:
    before = contents(numbered)
    refused(numbered, "redeliver", *how, exit_status=2)
    assert contents(numbered) == before


def test_redelivery_of_much_is_done_in_steps(
    numbered: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is one commit, so there is a bound for it; the whole is one act."""
    monkeypatch.setattr(limits, "REDELIVER_COUNT_MAX", 3)
    done = redeliver(numbered, "--from", time_of(NOW_MS), "--to", "0s")
    assert sum(count for *_, count in done) == 7
    copied = Counter(
        entry.ticket
        for row in backlog(numbered)
        for entry in entries_of(numbered, row.mailbox)[-row.waiting :]
    )
    del copied[NO_TICKET]  # what was fed
    assert sorted(copied.values()) == [1, 1, 2, 3]
    assert len(acts(numbered, "redeliver")) == 1
    assert len(redeliver(numbered, "--sid", "a")) == 3


@pytest.mark.parametrize("outcome", [Outcome.ERASED, Outcome.EXPIRED])
@pytest.mark.parametrize(
    "how", [["--sid", "a"], ["--number", "13800000001"], ["--from", "2000-01-01", "--to", "0s"]]
)
def test_what_left_unpulled_is_not_redelivered(
    numbered: Program, outcome: Outcome, how: list[str]
) -> None:
    """Erased is erased, and expired was never handed out."""
    on_store(numbered, lambda store: store.discard(Discard(ONE, outcome, NOW_MS + DAY_MS)))
    assert (A, 0, 5) not in entries(redeliver(numbered, *how))


def test_redelivery_passes_over_what_retention_has_removed(program: Program) -> None:
    """Also where a chunk still holds it, beside what is younger."""
    feed(program, ONE, [status(1, sid="a"), *statuses(2), status(1, sid="a")])
    take(program, ONE, 2, NOW_MS)
    take(program, ONE, 2, NOW_MS + 1)
    keep_at(program, NOW_MS + 7 * DAY_MS + 1)
    for how in (["--sid", "a"], ["--number", "13800000001"]):
        assert (A, 0, 4) in entries(redeliver(program, *how))
    assert "nothing" in refused(program, "redeliver", "--sid", "8:1", "--reason", "lost")


def test_redelivery_finds_short_numbers(program: Program) -> None:
    """Of three digits, with and without the calling code, which is another member."""
    feed(program, ONE, [status(1, mobile="112", nationcode="49"), status(2)])
    take(program, ONE, 2)
    for number in ("112", "49112", "+49112"):
        assert redeliver(program, "--number", number) == [(A, 0, 1, 1)]
    assert "nothing" in refused(program, "redeliver", "--number", "12", "--reason", "lost")


@pytest.mark.parametrize(
    "number", ["13800000001", "8613800000001", "+8613800000001", "008613800000001"]
)
@pytest.mark.parametrize("mobile", ["13800000001", "+8613800000001"])
def test_redelivery_finds_a_number_however_it_is_written(
    program: Program, number: str, mobile: str
) -> None:
    others = ["13800000011", "+8613800000011", "+113800000001", "113800000001"]
    feed(program, ONE, [status(1, mobile=each, sid=each) for each in (mobile, *others)])
    take(program, ONE, 5)
    assert redeliver(program, "--number", number) == [(A, 0, 1, 1)]


def test_a_plus_is_followed_by_the_calling_code(program: Program) -> None:
    """Or somebody in North America would get what was sent to somebody in China."""
    feed(program, ONE, [status(1, mobile="13800000001")])
    take(program, ONE, 1)
    said = refused(program, "redeliver", "--number", "+13800000001", "--reason", "lost")
    assert "nothing" in said


# --- looking for records --------------------------------------------------------------------------


def look(program: Program, *how: str) -> Any:  # noqa: ANN401 - JSON
    return program.cli("redeliver", *how, "--dry-run", "--json")


def test_dry_run_tells_what_became_of_each_record(numbered: Program) -> None:
    """The report, when it came, in which pull it left, when and to whom; or that it waits."""
    one, two, three = look(numbered, "--sid", "a", "--sdkappid", str(A))
    assert one["record"] == status(1, mobile="13800000001", sid="a")
    assert (one["state"], one["pull_id"]) == ("handed out", f"{A}-0-1")
    assert one["at"] == moment(NOW_MS)
    assert one["accepted"]
    shown = numbered.cli("pulls", "show", one["pull_id"])
    assert (one["address"], one["key"]) == (shown["address"], shown["key"])
    assert (two["first"], two["pull_id"]) == (4, f"{A}-0-3")
    assert (three["first"], three["state"]) == (5, "waiting")
    assert "pull_id" not in three


def test_dry_run_tells_what_left_unpulled_and_what_is_a_copy(numbered: Program) -> None:
    numbered.cli("redeliver", "--sid", "c", "--reason", "lost")
    assert [(row["state"], row["copy_of"]) for row in look(numbered, "--sid", "c")] == [
        ("handed out", None),
        ("waiting", 3),
    ]
    on_store(numbered, lambda store: store.discard(Discard(ONE, Outcome.EXPIRED, NOW_MS + DAY_MS)))
    rows = look(numbered, "--number", "13800000001", "--sdkappid", str(A))
    states = {row["first"]: row["state"] for row in rows if row["type"] == 0}
    assert states == {
        1: "handed out",
        3: "handed out",
        4: "handed out",
        5: "expired",
        6: "expired",
    }


@pytest.mark.parametrize(
    "how", [["--sid", "nobody"], ["--number", "13900000000"], ["--from", "2h", "--to", "1h"]]
)
def test_dry_run_that_finds_nothing_ends_with_1_and_says_how_far_back_it_looked(
    numbered: Program, how: list[str]
) -> None:
    oldest = min(entry.accepted_ms for entry in entries_of(numbered, ONE))
    told = refused(numbered, "redeliver", *how, "--dry-run")
    assert f"nothing that is stored matches; what is goes back to {moment(oldest)}" in told
    assert json.loads(told.partition("Error")[0]) == []


def test_dry_run_in_an_empty_store(program: Program) -> None:
    told = refused(program, "redeliver", "--sid", "a", "--dry-run")
    assert "nothing that is stored matches; nothing is" in told


def test_dry_run_tells_what_was_a_former_owners(numbered: Program) -> None:
    numbered.cli("app", "create", str(A))
    numbered.cli("app", "delete", str(A), "--erase")
    numbered.cli("app", "create", str(A))
    rows = look(numbered, "--sid", "c")
    assert [(row["state"], row["former_owner"]) for row in rows] == [("handed out", True)]
    assert "nothing that was handed out" in refused(
        numbered, "redeliver", "--sid", "c", "--reason", "lost"
    )


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "pullstatus.cli.pulls.sys", SimpleNamespace(stdin=Terminal(), stdout=Terminal())
    )


class Terminal:
    def isatty(self) -> bool:
        return True


def test_redelivery_asks_with_all_that_one_should_know(
    numbered: Program, at_a_terminal: None
) -> None:
    """Whose records, of which kind, how many, since when; and whether a copy waits already."""

    def asked(answer: str) -> str:
        arguments = ["redeliver", "--number", "13800000001", "--reason", "x", "--sdkappid", str(A)]
        command = [*arguments, "--store", numbered.store]
        return CliRunner().invoke(main, command, input=answer).output

    whose = f"3 delivery statuses of {A} and 1 reply of {A}, first handed out at {moment(NOW_MS)}."
    before = contents(numbered)
    assert f"{whose} Append copies? [y/N]" in asked("n\n")
    assert contents(numbered) | {"act": before["act"]} == before
    assert '"redelivered": 4' in asked("y\n")
    assert f"{whose} Copies of 4 of them wait already. Append copies? [y/N]" in asked("n\n")
    take(numbered, ONE, 3, NOW_MS + DAY_MS)  # the record that waited, and two copies
    assert "Copies of 2 of them wait already." in asked("n\n")


# --- the journal ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def journaled(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Twelve pulls over three mailboxes, a minute apart, in turn; some with keys."""
    program = Program(tmp_path_factory.mktemp("journaled"))
    mailboxes = [ONE, OTHER, Mailbox(A, Kind.REPLY)]
    for mailbox in mailboxes:
        feed(program, mailbox, statuses(8) if mailbox.kind is STATUS else replies(8))
    for turn in range(12):
        key = "shared" if turn in (1, 3) else f"key-{turn}" if turn % 2 else None
        mailbox = mailboxes[turn % 3]
        count = 1 + turn // 3 % 2
        assert take(program, mailbox, count, NOW_MS + turn * MINUTE_MS, key).count == count
    return program


@pytest.mark.parametrize(
    ("filters", "turns"),
    [
        ([], range(12)),
        (["--sdkappid", str(A)], [0, 2, 3, 5, 6, 8, 9, 11]),
        (["--sdkappid", "1400009999"], []),
        (["--type", "reply"], [2, 5, 8, 11]),
        (["--type", "delivery-status", "--sdkappid", str(B)], [1, 4, 7, 10]),
        (["--key", "key-5"], [5]),
        (["--key", "shared"], [1, 3]),
        (["--key", "shared", "--sdkappid", str(A)], [3]),
        (["--key", "KEY-5"], []),
        (["--from", time_of(NOW_MS + 9 * MINUTE_MS)], [9, 10, 11]),
        (["--to", time_of(NOW_MS + 2 * MINUTE_MS)], [0, 1]),
        (
            ["--from", time_of(NOW_MS + 2 * MINUTE_MS), "--to", time_of(NOW_MS + 6 * MINUTE_MS)],
            [2, 3, 4, 5],
        ),
        (["--from", "1m"], []),
        (["--limit", "5"], [7, 8, 9, 10, 11]),
        (["--limit", "2", "--sdkappid", str(B)], [7, 10]),
        (["--limit", "1", "--to", time_of(NOW_MS + 4 * MINUTE_MS)], [3]),
        (["--limit", "1", "--key", "shared"], [3]),
    ],
)
def test_pulls_are_listed_newest_first_by_what_is_asked(
    journaled: Program, filters: list[str], turns: Sequence[int]
) -> None:
    rows = journaled.cli("pulls", "list", *filters)
    at = [time_of(NOW_MS + turn * MINUTE_MS) for turn in sorted(turns, reverse=True)]
    assert [row["at"] for row in rows] == at


def test_a_listed_pull_says_who_when_and_how_many(journaled: Program) -> None:
    [row] = journaled.cli("pulls", "list", "--key", "key-5")
    assert row == {
        "pull_id": f"{A}-1-2",
        "sdkappid": A,
        "type": 1,
        "at": time_of(NOW_MS + 5 * MINUTE_MS),
        "first": 2,
        "records": 2,
        "outcome": "pulled",
        "address": "192.0.2.1",
        "key": "key-5",
        "reader": None,
        "given": 1,
        "acknowledged": None,
        "released": None,
    }
    shown = journaled.cli("pulls", "show", row["pull_id"], "--records")
    assert shown["data"] == replies(2, 2)
    assert (shown["max"], shown["random"], shown["time"]) == (
        2,
        "72262",
        NOW_MS // 1000 + 5 * 60,
    )


def test_a_list_that_stops_at_its_limit_says_so(journaled: Program) -> None:
    command = ["pulls", "list", "--store", journaled.store]
    told = CliRunner().invoke(main, [*command, "--limit", "11"])
    assert "Only the newest 11 are shown" in told.stderr
    assert len(json.loads(told.stdout)) == 11
    assert CliRunner().invoke(main, [*command, "--limit", "12"]).stderr == ""


@pytest.mark.parametrize("limit", ["0", "-1", "x"])
def test_a_limit_is_a_number_of_pulls(journaled: Program, limit: str) -> None:
    refused(journaled, "pulls", "list", "--limit", limit, exit_status=2)


# --- retention ------------------------------------------------------------------------------------


def keep_at(program: Program, now_ms: int, days: float = limits.HANDED_OUT_RETENTION_DAYS) -> None:
    async def work(store: Store) -> None:
        registry = Registry(store, masters_of(store))
        await registry.refresh()
        live = registry.applications.values()
        await derive_all(store)
        await clean_up(store, live, now_ms=now_ms, retention_days=days)

    on_store(program, work)


def test_what_was_handed_out_is_removed_after_its_time(program: Program) -> None:
    """To the millisecond after the hand-out, however old; what waits stays for ever."""
    feed(program, ONE, statuses(9), NOW_MS - 9000 * DAY_MS)
    take(program, ONE, 3, NOW_MS, key="k")
    take(program, ONE, 3, NOW_MS + 1)
    keep_at(program, NOW_MS + 7 * DAY_MS)
    assert len(entries_of(program, ONE)) == 9
    keep_at(program, NOW_MS + 7 * DAY_MS + 1)
    assert [row.first_seq for row in journal_of(program, ONE)] == [4]
    assert "no pull has this id" in refused(program, "pulls", "show", f"{A}-0-1")
    assert "no pull" in refused(program, "redeliver", "--pull", f"{A}-0-1", "--reason", "lost")
    assert redeliver(program, "--sid", "8:4") == [(A, 0, 4, 1)]
    keep_at(program, NOW_MS + 9000 * DAY_MS)
    assert journal_of(program, ONE) == []
    row = sound(program)[str(ONE)]
    assert (row["accepted"], row["handed_out"], row["waiting"]) == (10, 6, 4)
    page = take(program, ONE, 100, NOW_MS + 9000 * DAY_MS)
    assert page.first_seq == 7
    assert page.data == b",".join(encoded([*statuses(3, 7), status(4)]))


def test_removal_goes_in_small_steps_beside_pulls(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step removes a bounded part, pulls come between them and get what they should."""
    count, old = 24_000, 201  # pages of 93, so that removal ends within a chunk
    purged: list[int] = []
    real = removal.purge

    def counted(*arguments: Any) -> Removed:  # noqa: ANN401 - passed on
        removed = real(*arguments)
        purged.append(removed.count)
        return removed

    monkeypatch.setattr(removal, "purge", counted)
    waits: list[range] = []  # for each pull, the steps that ended before it and by its answer
    expected = encoded(statuses(count))

    async def work(store: Store) -> None:
        for first in range(0, count, 1000):
            await store.append(Append(ONE, expected[first : first + 1000], NOW_MS - DAY_MS))
        await asyncio.gather(*(store.pull(Pull(ONE, 93, NOW_MS)) for _ in range(old)))
        await derive_all(store)
        removal = asyncio.create_task(
            clean_up(store, [], now_ms=NOW_MS + 8 * DAY_MS, retention_days=7)
        )
        at = old * 93
        while not removal.done():
            before = len(purged)
            page = await store.pull(Pull(ONE, 7, NOW_MS + 8 * DAY_MS, key=f"{at}"))
            assert page.data == b",".join(expected[at : at + 7])
            at += page.count
            waits.append(range(before, len(purged)))
            await store.append(Append(ONE, [b"{}"], NOW_MS + 8 * DAY_MS))
        await removal
        [row] = await store.backlog(ONE.sdkappid)
        assert row.waiting == count - at + len(waits)
        left = [entry.seq async for entry in store.entries(ONE)]
        assert left == list(range(left[0], count + len(waits) + 1))
        assert old * 93 - 100 < left[0] <= old * 93 + 1

    on_store(program, work)
    assert sum(purged) == old * 93
    assert max(purged) <= STEP_ENTRIES_MAX
    steps = sum(map(bool, purged))
    assert max(map(len, waits)) <= 2, "the one that was being done, and one that came before it"
    assert any(0 < each.stop < steps for each in waits), "between two steps"
    [row] = backlog(program)
    assert row.purged == old * 93
    sound(program)


def test_a_key_is_good_for_its_day_whatever_is_removed(program: Program) -> None:
    """With the shortest retention there is, a page may be asked for again to the last moment."""
    feed(program, ONE, statuses(5), NOW_MS - 9 * DAY_MS)
    page = take(program, ONE, 2, NOW_MS, "k")
    end_ms = NOW_MS + limits.PULL_KEY_S * 1000
    take(program, ONE, 1, end_ms)
    keep_at(program, end_ms, limits.RETENTION_DAYS_MIN)
    again = take(program, ONE, 2, end_ms, "k")
    assert (again.repeated, again.data) == (True, page.data)
    keep_at(program, end_ms + 1, limits.RETENTION_DAYS_MIN)
    assert take(program, ONE, 2, end_ms + 1, "k").data == b",".join(encoded(statuses(2, 4)))
    sound(program)


def test_what_is_remembered_is_forgotten_in_its_time(program: Program) -> None:
    """Batches and records three days after they came, signatures once they are too old to be used.

    The record's own time is no matter: one says that it is of the year 2096.
    """
    day4_ms = NOW_MS + 4 * DAY_MS
    marks = Fingerprints("s", [(NOW_MS // 1000 - 5, b"1" * 16), (4_000_000_000, b"2" * 16)])
    key = RepeatKey("s", "k", b"3" * 16)
    for at_ms in (NOW_MS, day4_ms):
        batch = Append(ONE, encoded(statuses(2)), at_ms, key, marks)
        on_store(program, lambda store, batch=batch: store.append(batch))  # type: ignore[misc]
        for nonce in ("1", "2"):
            until = Once(nonce, at_ms + 1000 * limits.SIGNATURE_KEPT_S)
            once = Pull(ONE, 1, at_ms, "192.0.2.1", once=until)
            on_store(program, lambda store, once=once: store.pull(once))  # type: ignore[misc]
        if at_ms == NOW_MS:
            end_ms = NOW_MS + 1000 * limits.SIGNATURE_KEPT_S
            assert kept_at(program, end_ms)["once"] == 2
            assert kept_at(program, end_ms + 1000)["once"] == 0
            end_ms = NOW_MS + 1000 * limits.INGEST_REPEAT_S
            before = kept_at(program, end_ms)
            assert (before["repeat_key"], before["fingerprint_step"]) == (1, 1)
            after = kept_at(program, end_ms + 1)
            assert (after["repeat_key"], after["fingerprint_step"]) == (0, 0)
            assert after["fingerprint"] == 0
    kept_ms = day4_ms - 1000 * limits.SIGNATURE_KEPT_S
    assert kept_at(program, kept_ms) == {
        "act": 1,
        "again": 0,
        "chunk": 2,
        "epoch": 1,
        "fingerprint": 0,
        "fingerprint_indexed": 1,
        "fingerprint_secret": 1,
        "fingerprint_step": 1,
        "journal": 4,
        "mailbox": 1,
        "mark": 1,
        "name": 0,
        "naming": 0,
        "once": 2,
        "quarantine": 0,
        "reader": 0,
        "repeat_key": 1,
        "segment": 1,
        "segment_block": 2,
        "setting": 2,
        "tally": 2,
        "transfer": 0,
    }
    day8_ms = day4_ms + 8 * DAY_MS
    assert {name for name, count in kept_at(program, day8_ms).items() if count} == {
        "act",
        "epoch",
        "fingerprint_indexed",
        "fingerprint_secret",
        "mailbox",
        "mark",
        "setting",
        "tally",
    }


def kept_at(program: Program, now_ms: int) -> dict[str, int]:
    """How many rows each table has after the upkeep of a moment."""
    keep_at(program, now_ms)
    return {name: len(rows) for name, rows in contents(program).items()}


def test_waiting_expires_only_where_it_is_asked_for(program: Program) -> None:
    """After the days that were named, from the head, counted; never handed out afterwards."""
    strict, easy = program.create_app(), program.create_app()
    program.cli("app", "set", str(strict.sdkappid), "--waiting-days", "2")
    for app in (strict, easy):
        for kind, make in ((STATUS, statuses), (REPLY, replies)):
            for days in range(4):
                feed(program, app_mailbox(app, kind), make(10, 10 * days), NOW_MS + days * DAY_MS)
        take(program, app_mailbox(app, STATUS), 5)
    for _ in range(2):
        keep_at(program, NOW_MS + 3 * DAY_MS, 9)
    rows = sound(program)
    for app, kind, expired in [
        (strict, STATUS, 5),
        (strict, REPLY, 10),
        (easy, STATUS, 0),
        (easy, REPLY, 0),
    ]:
        row = rows[str(app_mailbox(app, kind))]
        pulled = 5 if kind is STATUS else 0
        assert (row["expired"], row["waiting"]) == (expired, 40 - pulled - expired)
    assert [
        (row["outcome"], row["first"], row["records"])
        for row in program.cli("pulls", "list", "--sdkappid", str(strict.sdkappid))
    ] == [("expired", 6, 5), ("expired", 1, 10), ("pulled", 1, 5)]
    page = take(program, app_mailbox(strict, STATUS), 1, NOW_MS + 3 * DAY_MS)
    assert page.data == encoded(statuses(1, 10))[0]
    program.cli("app", "set", str(strict.sdkappid), "--waiting-days", "0")
    keep_at(program, NOW_MS + 900 * DAY_MS)
    assert sound(program)[str(app_mailbox(strict, REPLY))]["waiting"] == 30


def test_a_server_removes_and_expires_by_itself(program: Program) -> None:
    app = program.create_app()
    program.cli("app", "set", str(app.sdkappid), "--waiting-days", "1")
    mailbox = app_mailbox(app, STATUS)
    feed(program, mailbox, statuses(4))
    take(program, mailbox, 3)

    async def run() -> Backlog:
        async with program.inside(upkeep_every_s=0.01) as server, asyncio.timeout(PATIENCE_S):
            while True:
                [row] = await server.store.backlog()
                if row.purged == 3 and row.expired == 1:
                    return row
                await asyncio.sleep(0.01)

    assert asyncio.run(run()).waiting == 0
    sound(program)


# --- audit ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Two mailboxes: chunks of 30, pages of 40, 30 and 20 from the first, 60 left."""
    program = Program(tmp_path_factory.mktemp("audited"))
    for mailbox in (OTHER, ONE):
        for first in range(1, 151, 30):
            feed(program, mailbox, statuses(30, first))
        for turn, count in enumerate((40, 30, 20)):
            take(program, mailbox, count, NOW_MS + turn)
    sound(program)
    return program


KEY = f"((SELECT id FROM mailbox WHERE sdkappid = {A} AND kind = 0) << {schema.SEQ_BITS})"
MAILBOX = f"UPDATE mailbox SET %s WHERE sdkappid = {A}"
CHUNK = f"UPDATE chunk SET %s WHERE key = {KEY} + 31"
ROW = f"UPDATE journal SET %s WHERE key = {KEY} + %d"

DAMAGES = {
    "chunk gone": (f"DELETE FROM chunk WHERE key = {KEY} + 31", "entries are missing at 31"),
    "first chunk gone": (f"DELETE FROM chunk WHERE key = {KEY} + 1", "entries are missing at 1"),
    "last chunk gone": (f"DELETE FROM chunk WHERE key = {KEY} + 121", "stored entries end at 120"),
    "all chunks gone": (f"DELETE FROM chunk WHERE key > {KEY}", "stored entries end at 0"),
    "chunk moved": (CHUNK % "key = key - 1", "entries are stored twice at 30"),
    "journal row gone": (f"DELETE FROM journal WHERE key = {KEY} + 41", "have a hole at entry 41"),
    "first row gone": (f"DELETE FROM journal WHERE key = {KEY} + 1", "have a hole at entry 1"),
    "last row gone": (f"DELETE FROM journal WHERE key = {KEY} + 71", "journal ends at entry 70"),
    "all rows gone": (f"DELETE FROM journal WHERE key > {KEY}", "journal ends at entry 0"),
    "row too long": (ROW % ("count = 41", 1), "journal rows overlap at entry 41"),
    "row too short": (ROW % ("count = 39", 1), "have a hole at entry 40"),
    "row moved": (ROW % ("key = key - 5", 41), "journal rows overlap at entry 36"),
    "row with another outcome": (ROW % ("outcome = 2", 41), "90 entries are counted as PULLED"),
    "handed out more": (MAILBOX % "handed_out = 91", "accepted 150 is not waiting 60"),
    "handed out fewer": (MAILBOX % "handed_out = 89", "accepted 150 is not waiting 60"),
    "expired": (MAILBOX % "expired = 1", "accepted 150 is not waiting 60"),
    "erased": (MAILBOX % "erased = 1", "accepted 150 is not waiting 60"),
    "quarantined": (MAILBOX % "quarantined = 1", "accepted 150 is not waiting 60"),
    "put back": (MAILBOX % "put_back = 1", "accepted 150 is not waiting 60"),
    "routed": (MAILBOX % "routed = 1", "accepted 150 is not waiting 60"),
    "routed that cancel out": (MAILBOX % "handed_out = 89, routed = 1", "counted as ROUTED"),
    "two that cancel out": (MAILBOX % "handed_out = 89, erased = 1", "counted as ERASED"),
    "accepted more": (MAILBOX % "tail = 151", "stored entries end at 150, the tail stands at 151"),
    "accepted fewer": (MAILBOX % "tail = 149", "stored entries end at 150, the tail stands at 149"),
    "cursor forward": (MAILBOX % "cursor = 91", "journal ends at entry 90, the cursor"),
    "cursor back": (MAILBOX % "cursor = 89", "journal ends at entry 90, the cursor"),
    "cursor beyond": (MAILBOX % "cursor = 151", "accepted 150 is not waiting -1"),
    "purged": (MAILBOX % "purged = 40", "journal rows overlap at entry 1"),
    "an entry": (
        CHUNK % "body = CAST(substr(body, 1, 40) || 'x' || substr(body, 42) AS BLOB)",
        "30 stored entries are damaged, the first is 31",
    ),
    "a sum": (CHUNK % "bounds = zeroblob(240)", "30 stored entries are damaged, the first is 31"),
    "a cut body": (CHUNK % "body = substr(body, 2)", "30 stored entries are damaged"),
    "a chunk's count": (CHUNK % "count = 29", "stored entries are damaged, the first is 31"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_audit_finds_it_and_names_the_mailbox(
    audited: Program, tmp_path: Path, damage: str
) -> None:
    """On a copy: exit status 1, the mailbox, what is wrong, and no word against the other one."""
    statement, told = DAMAGES[damage]
    copy = copy_of(audited, tmp_path)
    change_file(file_of(copy), statement)
    assert_found(copy, told)


BLOCK = f"(SELECT first_block FROM segment WHERE key = {KEY} + 1)"
DERIVED = {
    "mark back": (MAILBOX % "followed = 100", "segments end at entry 150, the mark stands at 100"),
    "mark forward": (MAILBOX % "followed = 151", "followed to entry 151, the tail stands at 150"),
    "counted less": (MAILBOX % "tallied = 149", "its mark stands at 150"),
    "segment gone": (f"DELETE FROM segment WHERE key > {KEY}", "segments end at entry 0"),
    "a word": (
        f"UPDATE segment_block SET data = CAST(data || x'00' AS BLOB) WHERE id = {BLOCK}",
        "what finds the entries from 1 on is not what",
    ),
    "tally gone": (f"DELETE FROM tally WHERE sdkappid = {A} AND series = 0", "the tally of hour"),
    "tally bent": (
        f"UPDATE tally SET counts = x'96000000000001' WHERE sdkappid = {A} AND series = 0",
        "the tally of hour",
    ),
}


@pytest.mark.parametrize("damage", DERIVED)
def test_audit_finds_what_is_derived_otherwise(
    audited: Program, tmp_path: Path, damage: str
) -> None:
    """As a follower made it, it is sound; what a command reads only stays as it is."""
    statement, told = DERIVED[damage]
    copy = copy_of(audited, tmp_path)
    on_store(copy, derive_all)
    sound(copy)
    change_file(file_of(copy), statement)
    before = file_of(copy).read_bytes()
    assert_found(copy, told)
    assert file_of(copy).read_bytes() == before


def assert_found(program: Program, told: str) -> None:
    done = CliRunner().invoke(main, ["audit", "--json", "--store", program.store])
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert not found["sound"]
    assert {row["mailbox"] for row in found["problems"]} == {str(ONE)}
    assert any(told in row["problem"] for row in found["problems"]), found["problems"]
    assert done.stderr.splitlines() == [f"{ONE}: {row['problem']}" for row in found["problems"]]


@pytest.mark.parametrize(
    "damage",
    ["journal row gone", "row too long", "handed out fewer", "an entry", "last chunk gone"],
)
def test_audit_finds_it_behind_what_was_removed(
    audited: Program, tmp_path: Path, damage: str
) -> None:
    """After retention has removed the first page, and cut the chunk in which it ended."""
    statement, told = DAMAGES[damage]
    copy = copy_of(audited, tmp_path)
    keep_at(copy, NOW_MS + 7 * DAY_MS + 1)
    assert sound(copy)[str(ONE)]["handed_out"] == 90
    assert journal_of(copy, ONE)[0].first_seq == 41
    if damage == "an entry":
        statement, told = statement.replace(f"{KEY} + 31", f"{KEY} + 41"), "the first is 41"
    elif damage == "row too long":
        statement, told = ROW % ("count = 31", 41), "journal rows overlap at entry 71"
    change_file(file_of(copy), statement)
    assert_found(copy, told)


def test_audit_finds_rows_of_no_mailbox(audited: Program, tmp_path: Path) -> None:
    copy = copy_of(audited, tmp_path)
    change_file(file_of(copy), f"DELETE FROM mailbox WHERE sdkappid = {A}")
    told = refused(copy, "audit")
    assert "store: chunk rows belong to 1 mailboxes that do not exist" in told
    assert "store: journal rows belong to 1 mailboxes that do not exist" in told


def test_audit_of_a_live_store(tmp_path: Path) -> None:
    """Beside a server at work it sees one moment, which adds up, and it finds damage there too."""
    program = Program(tmp_path)
    app = program.create_app()
    load = Load(program, Random(1), Mix(feeders=4, pullers=3))
    audits: list[dict[str, Any]] = []

    async def audit_often() -> None:
        for _ in range(3):
            await load.answered(40)
            run = await asyncio.create_subprocess_exec(
                COMMAND, "audit", "--store", program.store, stdout=subprocess.PIPE
            )
            audits.append(json.loads((await run.communicate())[0]))
            assert run.returncode == 0

    with program:
        asyncio.run(load.live(audit_often))
        load.settle()
        accepted = [sum(row["accepted"] for row in one["mailboxes"]) for one in audits]
        assert accepted == sorted(set(accepted))
        program.feed(app, statuses(3))
        program.pull(app, max=2)
        mailbox = app_mailbox(app, STATUS)
        change_file(
            file_of(program),
            "UPDATE chunk SET body = CAST(replace(CAST(body AS TEXT), '8:2\"', '8:5\"') AS BLOB)"
            f" WHERE key >> {schema.SEQ_BITS} ="
            f" (SELECT id FROM mailbox WHERE sdkappid = {app.sdkappid})",
        )
        told = refused(program, "audit")
        assert f"{mailbox}: 1 stored entries are damaged, the first is 2" in told
        assert program.pull(app).data == statuses(1, 3)


def test_audit_of_what_is_no_store_says_so(tmp_path: Path) -> None:
    """Also where the file is one, but may not be opened here."""
    program = Program(tmp_path)
    file = file_of(program)
    file.with_name(f"{file.name}-wal").mkdir()
    assert "cannot be read" in refused(program, "audit")
    file.with_name(f"{file.name}-wal").rmdir()
    file.write_bytes(b"no database, but long enough to be looked at" * 40)
    assert "is no database" in refused(program, "audit")
    file.unlink()
    assert "there is no store at" in refused(program, "audit")


# --- backup and restore ---------------------------------------------------------------------------


def restored(backup: Path, folder: Path) -> tuple[Program, int]:
    """A program over what a backup holds, with its master key, and the epoch that it begins."""
    folder.mkdir()
    program = Program(folder)
    file_of(program).unlink()
    master = f"{file_of(program).name}-master-key"
    if (backup.parent / master).exists():
        shutil.copy(backup.parent / master, folder)
    return program, program.cli("restore", str(backup))["epoch"]


def test_backups_under_load_are_moments_of_the_store(tmp_path: Path) -> None:
    """Each is a beginning of what the store became: entries, journal and cursor fit together.

    Restored, it serves what waited then, marked in `pulls show` by the restore that brought it.
    """
    program = Program(tmp_path)
    load = Load(program, Random(2))
    backups = [tmp_path / f"backup-{turn}.db" for turn in range(3)]

    async def back_up() -> None:
        for backup in backups:
            await load.answered(150)
            run = await asyncio.create_subprocess_exec(
                COMMAND, "backup", str(backup), "--store", program.store, stdout=subprocess.PIPE
            )
            told = json.loads((await run.communicate())[0])
            assert run.returncode == 0
            assert told == {"backup": str(backup), "bytes": backup.stat().st_size}

    with doomed(program):
        asyncio.run(load.live(back_up))
    accepted = []
    for turn, backup in enumerate(backups):
        copy, epoch = restored(backup, tmp_path / f"restored-{turn}")
        assert epoch == 2
        rows = sound(copy)
        accepted.append(sum(row["accepted"] for row in rows.values()))
        assert_beginning(copy, program)
        if turn == len(backups) - 1:
            assert_served(copy, load.apps)
    assert accepted == sorted(set(accepted))
    with program:
        load.settle()


def assert_beginning(copy: Program, program: Program) -> None:
    """What a restored backup holds is what the store held first.

    But for what its reader has done since with a page that was in hand.
    """
    for row in backlog(copy):
        rows = journal_of(copy, row.mailbox)
        assert entries_of(copy, row.mailbox) == entries_of(program, row.mailbox)[: row.accepted]
        rows_later = journal_of(program, row.mailbox)[: len(rows)]
        for taken, later in zip(rows, rows_later, strict=True):
            given, acked_ms = (
                (later.given, later.acked_ms) if taken.in_hand else (taken.given, taken.acked_ms)
            )
            assert msgspec.structs.replace(taken, given=given, acked_ms=acked_ms) == later
            assert taken.given <= given
        assert sum(taken.count for taken in rows) == row.handed_out == row.accepted - row.waiting


def assert_served(copy: Program, apps: Sequence[App]) -> None:
    """All that waited comes out once and is marked; what had left before is not."""
    with copy:
        for app in apps:
            mailbox = app_mailbox(app, STATUS)
            stored, before = entries_of(copy, mailbox), journal_of(copy, mailbox)
            gone = sum(row.count for row in before)
            assert encoded(copy.drain(app)) == [entry.data for entry in stored[gone:]]
            assert copy.cli("pulls", "show", before[0].pull_id)["again"] == []
            for row in journal_of(copy, mailbox)[len(before) :]:
                [mark] = copy.cli("pulls", "show", row.pull_id)["again"]
                last = row.first_seq + row.count - 1
                assert (mark["first"], mark["last"]) == (row.first_seq, last)
                assert mark["copied_from"] == row.first_seq
                assert (mark["by"], mark["actor"]) == ("restore", getpass.getuser())


def test_a_backup_is_of_the_moment_it_begins(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed while it copies is not in it, and does not make it begin anew."""
    monkeypatch.setattr(copies, "COPY_PAGES", 1)
    feed(program, ONE, statuses(100))
    backup = tmp_path / "backup.db"
    done: list[int] = []

    async def work(store: Store) -> None:
        loop = asyncio.get_running_loop()

        def commit(pages: int, _of: int) -> None:
            done.append(pages)
            if len(done) <= 20:
                append = store.append(Append(ONE, encoded(statuses(50)), NOW_MS))
                asyncio.run_coroutine_threadsafe(append, loop).result(PATIENCE_S)

        await backup_store(program.store, backup, commit)

    on_store(program, work)
    assert done == list(range(1, len(done) + 1))
    copy, _ = restored(backup, tmp_path / "restored")
    assert [entry.data for entry in entries_of(copy, ONE)] == encoded(statuses(100))


def test_restored_marks_end_where_new_records_begin(tmp_path: Path, program: Program) -> None:
    """What is accepted later is new; a page of both says where. Epochs count restores."""
    feed(program, ONE, statuses(6))
    page = take(program, ONE, 2, key="k")
    backup = tmp_path / "backup.db"
    program.cli("backup", str(backup))
    copy, epoch = restored(backup, tmp_path / "restored")
    feed(copy, ONE, statuses(2, 7))
    take(copy, ONE, 1)
    assert take(copy, ONE, 2, key="k").data == page.data
    take(copy, ONE, 100)
    [mark] = copy.cli("pulls", "show", f"{A}-0-4")["again"]
    assert (mark["first"], mark["last"], mark["copied_from"], mark["by"]) == (4, 6, 4, "restore")
    assert redeliver(copy, "--pull", f"{A}-0-4") == [(A, 0, 4, 5)]
    assert redeliver(copy, "--sid", "8:4") == [(A, 0, 4, 1)]
    again = tmp_path / "again.db"
    copy.cli("backup", str(again))
    _, later = restored(again, tmp_path / "restored-again")
    assert (epoch, later) == (2, 3)
    [act] = acts(copy, "restore")
    assert json.loads(act.detail) == {"epoch": 2}


def test_a_backup_is_one_private_file_and_never_overwrites(
    tmp_path: Path, program: Program
) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    backup = folder / "backup.db"
    feed(program, ONE, statuses(3))
    program.cli("backup", str(backup))
    assert [file.name for file in folder.iterdir()] == ["backup.db"]
    assert backup.stat().st_mode & 0o777 == 0o600
    before = backup.read_bytes()
    feed(program, ONE, statuses(3, 4))
    assert "exists; name a new file" in refused(program, "backup", str(backup))
    assert "does not exist; make it" in refused(program, "backup", str(folder / "none" / "b.db"))
    assert [file.name for file in folder.iterdir()] == ["backup.db"]
    assert backup.read_bytes() == before


def test_restore_never_overwrites(tmp_path: Path, program: Program) -> None:
    """Nor does it leave anything behind where it refuses."""
    feed(program, ONE, statuses(3))
    backup = tmp_path / "backup.db"
    program.cli("backup", str(backup))
    before, files = contents(program), sorted(tmp_path.iterdir())
    assert "exists; name a new file" in refused(program, "restore", str(backup))
    assert contents(program) == before
    assert sorted(tmp_path.iterdir()) == files


@pytest.mark.parametrize("damage", ["an entry", "journal row gone", "handed out fewer", "no store"])
def test_what_is_not_sound_is_neither_backed_up_nor_restored(
    audited: Program, tmp_path: Path, damage: str
) -> None:
    """It says so, and makes no file."""
    source = tmp_path / "source.db"
    if damage == "no store":
        source.write_bytes(b"no database, but long enough to be looked at" * 400)
    else:
        shutil.copy(file_of(audited), source)
        change_file(source, DAMAGES[damage][0])
    target = tmp_path / "target.db"
    done = CliRunner().invoke(main, ["restore", str(source), "--store", f"sqlite:///{target}"])
    assert done.exit_code == 1
    assert "sound" in done.output
    if damage in ("an entry", "handed out fewer"):  # the others are no stores to begin with
        done = CliRunner().invoke(main, ["backup", str(target), "--store", f"sqlite:///{source}"])
        assert done.exit_code == 1
        assert "not sound" in done.output
    assert [file.name for file in tmp_path.iterdir() if not file.name.startswith("source")] == []


def test_restore_of_a_missing_backup_says_so(tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path / 'target.db'}"
    done = CliRunner().invoke(main, ["restore", str(tmp_path / "none.db"), "--store", target])
    assert done.exit_code == 1
    assert "does not exist" in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_backup_in_an_older_format_is_restored(tmp_path: Path) -> None:
    """Brought up to date on the way; the backup itself stays as it was."""
    backup = tmp_path / "old.db"
    key = 1 << schema.SEQ_BITS | 1
    connection = apsw.Connection(str(backup))
    connection.execute(schema.MIGRATIONS[0])
    connection.pragma("application_id", schema.APPLICATION_ID)
    connection.pragma("user_version", 1)
    connection.execute("INSERT INTO mailbox VALUES (1, ?, 0, 5, 2, 2)", (A,))
    connection.execute(
        "INSERT INTO chunk VALUES (?, 5, ?, ?, ?, ?)",
        (key, NOW_MS, *chunk.placed(key, chunk.plain(encoded(statuses(5))))),
    )
    connection.execute(
        "INSERT INTO journal VALUES (?, 2, 0, ?, '192.0.2.1', 'k', 2, '7', 7)", (key, NOW_MS)
    )
    connection.close()
    before = backup.read_bytes()
    program, epoch = restored(backup, tmp_path / "restored")
    assert backup.read_bytes() == before
    assert epoch == 2
    row = sound(program)[str(ONE)]
    assert (row["accepted"], row["handed_out"], row["waiting"]) == (5, 2, 3)
    assert take(program, ONE, 2, key="k").data == b",".join(encoded(statuses(2)))
    assert take(program, ONE, 100).data == b",".join(encoded(statuses(3, 3)))
    [mark] = program.cli("pulls", "show", f"{A}-0-3")["again"]
    assert (mark["first"], mark["last"], mark["by"]) == (3, 5, "restore")


# --- deletion -------------------------------------------------------------------------------------


def test_deleting_an_application_erases_on_record(tmp_path: Path) -> None:
    """What waited is counted as erased and never comes out, not even to a namesake."""
    with Program(tmp_path) as program:
        app, other = program.create_app(), program.create_app()
        number = str(app.sdkappid)
        for one in (app, other):
            program.feed(one, statuses(9))
            program.feed(one, replies(4))
            assert len(program.pull(one, max=3).data) == 3
        assert "10 records wait" in refused(program, "app", "delete", number)
        assert program.waiting(app) == 6
        done = program.cli("app", "delete", number, "--erase")
        assert done == {"deleted": app.sdkappid, "erased": 10}
        program.until(lambda: program.post(*app.request()).result == 1019)
        rows = sound(program)
        for kind, handed_out, erased in [(STATUS, 3, 6), (REPLY, 0, 4)]:
            row = rows[str(app_mailbox(app, kind))]
            assert (row["handed_out"], row["erased"], row["waiting"]) == (handed_out, erased, 0)
            assert rows[str(app_mailbox(other, kind))]["erased"] == 0
        listed = program.cli("pulls", "list", "--sdkappid", number)
        assert sorted((row["outcome"], row["records"]) for row in listed) == [
            ("erased", 4),
            ("erased", 6),
            ("pulled", 3),
        ]
        told = refused(program, "redeliver", "--sid", "8:9", "--sdkappid", number, "--reason", "x")
        assert "nothing that was handed out matches" in told
        made = program.cli("app", "create", number, "--appkey", app.appkey)
        assert made["sdkappid"] == app.sdkappid
        program.until(lambda: program.post(*app.request(max=0)).result != 1019)
        assert program.pull(app).data == program.pull(app, REPLY).data == []
        assert len(program.drain(other)) == 6
