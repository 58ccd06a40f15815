"""Bits flip and ends go missing in the files of a store at rest.

Every damage is harmless, or refused at the start by a sentence that names the file, or reported: by
the audit, by a refusal to go on, or by entries that are set aside and counted. Nothing that was
not accepted is ever handed out, nothing twice, nothing to another mailbox.

Two limits, which no check can lift, are stated by the tests that know of them. Damage within the
last commit of the write-ahead log looks like a commit that a power cut tore, and is taken for one.
And nothing outside the log knows how long it was: cut off between two commits, it is as good as it
was when the first of them had been written.

`PULLSTATUS_FLIPS=20000 PULLSTATUS_SEED=7` asks for a longer run, or for another one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random

import apsw
import msgspec
import pytest
from click.testing import CliRunner

from pullstatus import apps
from pullstatus.apps import Operator, Registry
from pullstatus.cli import main
from pullstatus.errors import PullstatusError, StoreCorrupt, StoreRefused, StoreUnavailable
from pullstatus.records import Kind
from pullstatus.store import Append, Mailbox, Page, Pull, Store, audit_store, open_store
from pullstatus.store.sqlite.schema import PAGE_BYTES
from tests.faults.load import doomed
from tests.harness import Program, reply, status, statuses
from tests.sealing import keyring_of, masters_of

FLIPS = int(os.environ.get("PULLSTATUS_FLIPS", "320"))
SEED = os.environ.get("PULLSTATUS_SEED", "1")
SHARDS = 4
NAME = "mailboxes.db"
AT_MS = 1_767_000_000_000
WAL_HEADER_BYTES = 32
FRAME_BYTES = 24 + PAGE_BYTES
# One bit apart, so that a flip can make one of the other.
SDKAPPIDS = (1_400_000_001, 1_400_000_003)
MAILBOXES = [Mailbox(sdkappid, kind) for sdkappid in SDKAPPIDS for kind in Kind]

Files = dict[str, bytes]
Stand = dict[Mailbox, tuple[int, int]]  # tail and cursor of each


@dataclasses.dataclass
class Original:
    """A store before it is damaged.

    Attributes:
        files: its content by the end of the file's name.
        records: every entry of each mailbox, in order.
        pages: each keyed pull and what it got.
        stands: how the mailboxes stood before the log began, and after each commit in it.
        ends: where each of these commits ends in the log.
    """

    files: Files
    records: dict[Mailbox, list[bytes]]
    pages: list[tuple[Pull, Page]]
    stands: list[Stand]
    ends: list[int]


class _Maker:
    """Fills a store, one commit an operation."""

    def __init__(self, store: Store, rng: Random) -> None:
        self.store = store
        self.rng = rng
        self.records: defaultdict[Mailbox, list[bytes]] = defaultdict(list)
        self.cursors: Counter[Mailbox] = Counter()
        self.pages: list[tuple[Pull, Page]] = []
        self.number = 0

    def stand(self) -> Stand:
        return {m: (len(self.records[m]), self.cursors[m]) for m in MAILBOXES}

    async def append(self) -> None:
        mailbox = self.rng.choice(MAILBOXES)
        make = status if mailbox.kind is Kind.DELIVERY_STATUS else reply
        entries = []
        for _ in range(self.rng.randint(1, 40)):
            self.number += 1
            entries.append(msgspec.json.encode(make(self.number)))
        await self.store.append(Append(mailbox, entries, AT_MS + self.number))
        self.records[mailbox] += entries

    async def pull(self) -> None:
        mailbox = max(MAILBOXES, key=lambda m: len(self.records[m]) - self.cursors[m])
        key = f"page-{len(self.pages)}"
        operation = Pull(mailbox, self.rng.randint(1, 30), AT_MS, "127.0.0.1", key, "7")
        page = await self.store.pull(operation)
        assert page.count
        self.cursors[mailbox] += page.count
        self.pages.append((operation, page))


async def make(folder: Path, *, log_ends_with: str | None) -> Original:
    """A store of a few pages; folded into one file, or with a log that ends with such a commit."""
    path = folder / NAME
    url = f"sqlite:///{path}"
    store = await open_store(url)
    maker = _Maker(store, Random(SEED))
    keyring = await keyring_of(store)
    for sdkappid in SDKAPPIDS:
        by = Operator("me", AT_MS, _hex)
        await apps.create_application(store, sdkappid, by=by, keyring=keyring)
    for _ in range(15):
        await maker.append()
        await maker.append()
        await maker.pull()
    await store.close()
    stands = [maker.stand()]
    ends: list[int] = []
    if log_ends_with is None:
        files = {"": path.read_bytes()}
    else:
        maker.store = store = await open_store(url)
        verbs = ["append", "pull"] * 5
        for verb in [*verbs, log_ends_with]:
            await (maker.append() if verb == "append" else maker.pull())
            stands.append(maker.stand())
        files = {suffix: (folder / f"{NAME}{suffix}").read_bytes() for suffix in ("", "-wal")}
        paired, *ends = commit_ends(files["-wal"])
        assert paired < ends[0]
        assert len(ends) == len(stands) - 1
        await store.close()
    return Original(files, dict(maker.records), maker.pages, stands, ends)


def _hex(size: int) -> str:
    return "5f" * size


def commit_ends(log: bytes) -> list[int]:
    """Where commits end in a log: one that pairs it with its file, then those of records."""
    return [
        start + FRAME_BYTES
        for start in range(WAL_HEADER_BYTES, len(log), FRAME_BYTES)
        if log[start + 4 : start + 8] != bytes(4)
    ]


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return asyncio.run(make(tmp_path_factory.mktemp("folded"), log_ends_with=None))


@pytest.fixture(scope="module", params=["append", "pull"])
def logged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Original:
    return asyncio.run(make(tmp_path_factory.mktemp("logged"), log_ends_with=request.param))


# --- the judgement --------------------------------------------------------------------------------


def judge(folder: Path, original: Original, files: Files, allowed: Sequence[int] = (-1,)) -> str:
    """Open damaged files as a server does, take all there is, and say what became of it.

    Args:
        allowed: places in `original.stands`: how the mailboxes may stand.

    Returns:
        "harmless", "refused" or "reported".
    """
    path = folder / NAME
    for suffix in ("", "-wal", "-shm"):
        path.with_name(NAME + suffix).unlink(missing_ok=True)
    for suffix, content in files.items():
        path.with_name(NAME + suffix).write_bytes(content)
    verdict = asyncio.run(_judge(path, original, allowed))
    if verdict == "refused":
        for suffix, content in files.items():
            assert path.with_name(NAME + suffix).read_bytes() == content, "touched what it refused"
    return verdict


async def _judge(path: Path, original: Original, allowed: Sequence[int]) -> str:
    url = f"sqlite:///{path}?commits=thread"
    try:
        store = await open_store(url, server=True)
    except StoreRefused as error:
        refusal = str(error)
        assert str(path) in refusal
        return "refused"
    try:
        registry = Registry(store, masters_of(store))
        try:
            await registry.refresh()
        except StoreCorrupt:
            return "reported"  # the server says of which file, and does not serve
        for sdkappid, live in registry.applications.items():
            assert {mailbox.sdkappid for mailbox in live.mailboxes} == {sdkappid}
        found = (await audit_store(url, lambda _done, _total: None)).findings
        out: dict[Mailbox, list[bytes]] = {mailbox: [] for mailbox in MAILBOXES}
        troubles = [finding.problem for finding in found]
        for operation, page in original.pages:
            troubles += await _ask_again(store, operation, page, out[operation.mailbox])
        for mailbox in MAILBOXES:
            troubles += await _drain(store, mailbox, out[mailbox])
        aside = {row.mailbox: row.quarantined for row in await store.backlog()}
    finally:
        await store.close()
    assert any(
        _accounts(original, original.stands[place], out, aside, reported=bool(troubles))
        for place in allowed
    ), f"{[len(records) for records in out.values()]} came out, {aside}, reported: {troubles}"
    return "reported" if troubles or any(aside.values()) else "harmless"


async def _ask_again(store: Store, operation: Pull, page: Page, out: list[bytes]) -> list[str]:
    """A key brings its page, or nothing, or what nobody has had: never part of another page."""
    try:
        again = await store.pull(operation)
    except PullstatusError as error:
        return [str(error)]
    if again.repeated:
        assert (again.first_seq, again.data) == (page.first_seq, page.data), "a page has changed"
    else:
        out += _records(again)
    return []


async def _drain(store: Store, mailbox: Mailbox, out: list[bytes]) -> list[str]:
    try:
        while (page := await store.pull(Pull(mailbox, 100, AT_MS, proof="8"))).count:
            out += _records(page)
    except PullstatusError as error:
        return [str(error)]
    return []


def _records(page: Page) -> list[bytes]:
    records = msgspec.json.decode(b"[%b]" % page.data, type=list[msgspec.Raw])
    assert len(records) == page.count
    return [bytes(record) for record in records]


def _accounts(
    original: Original,
    stand: Stand,
    out: dict[Mailbox, list[bytes]],
    aside: dict[Mailbox, int],
    *,
    reported: bool,
) -> bool:
    """Whether exactly what waited came out, in order, but for what is set aside or reported."""
    for mailbox, (tail, cursor) in stand.items():
        expected = original.records[mailbox][cursor:tail]
        left = iter(expected)
        if not all(record in left for record in out[mailbox]):
            return False
        missing = len(expected) - len(out[mailbox])
        if missing != aside.get(mailbox, 0) and not reported:
            return False
    return True


def flipped(content: bytes, at: int, bit: int) -> bytes:
    """The same with one bit changed."""
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


def any_byte(rng: Random, content: bytes, start: int, stop: int) -> int:
    """A place between two; mostly one where something is written."""
    at = rng.randrange(start, stop)
    while not content[at] and rng.random() < 0.8:
        at = rng.randrange(start, stop)
    return at


# --- at random ------------------------------------------------------------------------------------


def rounds(part: float, shard: int) -> range:
    """This shard's share of all flips."""
    count = max(int(FLIPS * part), SHARDS)
    return range(shard, count, SHARDS)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_flip_anywhere_in_the_file(tmp_path: Path, folded: Original, shard: int) -> None:
    content = folded.files[""]
    for number in rounds(0.25, shard):
        rng = Random(f"{SEED}/file/{number}")
        at = any_byte(rng, content, 0, len(content))
        judge(tmp_path, folded, {"": flipped(content, at, rng.randrange(8))})


TABLES = (
    "mailbox",
    "sqlite_autoindex_mailbox_1",
    "journal",
    "journal_by_pull_key",
    "setting",
    "chunk",
)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_flip_in_the_rows_that_decide(tmp_path: Path, folded: Original, shard: int) -> None:
    """Counts, cursors, the journal, its index, applications: each flip hits a written byte."""
    content = folded.files[""]
    pages = _roots(tmp_path, content)
    for number in rounds(0.25, shard):
        rng = Random(f"{SEED}/rows/{number}")
        start = (pages[TABLES[number % len(TABLES)]] - 1) * PAGE_BYTES
        at = rng.choice([at for at in range(start, start + PAGE_BYTES) if content[at]])
        judge(tmp_path, folded, {"": flipped(content, at, rng.randrange(8))})


def _roots(folder: Path, content: bytes) -> dict[str, int]:
    """The first page of each table and index: of small ones the only one."""
    path = folder / "whole.db"
    path.write_bytes(content)
    connection = apsw.Connection(str(path))
    found = {
        name: connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).get
        for name in TABLES
    }
    connection.close()
    return found


@pytest.mark.parametrize("shard", range(SHARDS))
def test_flip_anywhere_in_the_log(tmp_path: Path, logged: Original, shard: int) -> None:
    """In the last commit it is taken for torn; in any other one the server refuses to start."""
    log = logged.files["-wal"]
    for number in rounds(0.125, shard):
        rng = Random(f"{SEED}/log/{number}")
        at = any_byte(rng, log, 0, len(log))
        damaged = logged.files | {"-wal": flipped(log, at, rng.randrange(8))}
        if at >= logged.ends[-2]:
            judge(tmp_path, logged, damaged, (-1, -2))
        else:
            assert judge(tmp_path, logged, damaged) == "refused" or at < WAL_HEADER_BYTES


@pytest.mark.parametrize("shard", range(SHARDS))
def test_flip_in_the_file_under_a_log(tmp_path: Path, logged: Original, shard: int) -> None:
    content = logged.files[""]
    for number in rounds(0.125, shard):
        rng = Random(f"{SEED}/under/{number}")
        at = any_byte(rng, content, 0, len(content))
        judge(tmp_path, logged, logged.files | {"": flipped(content, at, rng.randrange(8))})


@pytest.mark.parametrize("shard", range(SHARDS))
def test_file_cut_short(tmp_path: Path, folded: Original, shard: int) -> None:
    content = folded.files[""]
    for number in rounds(0.0625, shard):
        rng = Random(f"{SEED}/short/{number}")
        size = rng.choice((rng.randrange(1, len(content)), rng.randrange(1, 30) * PAGE_BYTES))
        if size < len(content):
            assert judge(tmp_path, folded, {"": content[:size]}) != "harmless"


@pytest.mark.parametrize("shard", range(SHARDS))
def test_log_cut_short(tmp_path: Path, logged: Original, shard: int) -> None:
    """Every commit that is still there whole counts, and not a part of the next one."""
    log = logged.files["-wal"]
    for number in rounds(0.0625, shard):
        rng = Random(f"{SEED}/cut/{number}")
        size = rng.choice((rng.randrange(len(log)), rng.choice(logged.ends)))
        whole = sum(end <= size for end in logged.ends)
        judge(tmp_path, logged, logged.files | {"-wal": log[:size]}, (whole,))


# --- on purpose -----------------------------------------------------------------------------------


def test_damaged_entry_is_set_aside_alone(tmp_path: Path) -> None:
    """The audit names it; the server hands out all others, counts it, and keeps what is left."""
    records = statuses(5)
    program = Program(tmp_path)
    app = program.create_app()
    with program:
        program.feed(app, records)
    path = tmp_path / NAME
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"sid":"8:3"', b'"sid":"8:7"'))
    found = CliRunner().invoke(main, ["audit", "--store", program.store])
    assert found.exit_code == 1
    assert f"{app.sdkappid}/delivery-statuses: 1 stored entries are damaged, the first is 3" in (
        found.stderr
    )
    with program:
        assert program.drain(app) == [*records[:2], *records[3:]]
        assert program.metrics()["pullstatus_quarantined_total"] == 1
        assert program.cli("audit")["mailboxes"][0]["quarantined"] == 1


@pytest.mark.parametrize(
    ("whole", "damaged"),
    [
        (b'"sdkappid":1400000001', b'"sdkappid":1400000003'),
        (b'{"sdkappid":1400000001', b'?"sdkappid":1400000001'),
        (b"CREATE TABLE mailbox", b"CREATE TABLE nailbox"),
        (b"SQLite format 3", b"SQLite format 7"),
        (b"application/1400000001", b"application/1400000003"),
    ],
)
def test_server_refuses_and_names_the_file(tmp_path: Path, whole: bytes, damaged: bytes) -> None:
    program = Program(tmp_path)
    app = program.create_app()
    with program:
        program.feed(app, statuses(3))
        program.pull(app, max=1)
    path = tmp_path / NAME
    content = path.read_bytes()
    assert whole in content
    content = content.replace(whole, damaged)
    path.write_bytes(content)
    with pytest.raises(AssertionError, match="no ready line"):
        program.start()
    assert str(path) in program.log()
    assert "Traceback" not in program.log()
    if b"application" not in whole and b"sdkappid" not in whole:  # these are read last
        assert path.read_bytes() == content


def test_server_refuses_a_damaged_log_and_names_it(tmp_path: Path) -> None:
    """Acknowledged commits stand behind the damaged one: going on would lose them in silence."""
    program = Program(tmp_path)
    app = program.create_app()
    with doomed(program):
        for number in range(1, 4):
            program.feed(app, statuses(2, first=10 * number))
    log = tmp_path / f"{NAME}-wal"
    content = log.read_bytes()
    at = content.index(b'"sid":"8:10"')
    log.write_bytes(flipped(content, at, 0))
    with pytest.raises(AssertionError, match="no ready line"):
        program.start()
    assert str(log) in program.log()
    assert "Traceback" not in program.log()
    assert log.read_bytes() == flipped(content, at, 0)
    log.write_bytes(content)
    with program:
        assert len(program.drain(app)) == 6


def test_mailbox_is_not_given_to_another_application(tmp_path: Path, folded: Original) -> None:
    """Both exist, and one bit makes one of the other: the index knows better."""
    content = folded.files[""]
    start = (_roots(tmp_path, content)["mailbox"] - 1) * PAGE_BYTES
    page = content[start : start + PAGE_BYTES]
    places = [
        start + match.end() - 1 for match in re.finditer(SDKAPPIDS[0].to_bytes(4, "big"), page)
    ]
    verdicts = [judge(tmp_path, folded, {"": flipped(content, at, 1)}) for at in places]
    # A row that grew has left its old place as it was.
    assert Counter(verdicts)["refused"] == len(Kind)


@pytest.mark.parametrize("more", [1, -1, 1 << 32])
def test_key_does_not_bring_a_page_of_another_size(
    tmp_path: Path, folded: Original, more: int
) -> None:
    """A journal row has no checksum, but where the next one begins tells how long it is."""
    path = tmp_path / "longer.db"
    path.write_bytes(folded.files[""])
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE journal SET count = count + ? WHERE pull_key = 'page-0'", (more,))
    connection.close()

    async def ask_again() -> None:
        store = await open_store(f"sqlite:///{path}?commits=thread", server=True)
        operation, _ = folded.pages[0]
        with pytest.raises(StoreUnavailable, match="damaged"):
            await store.pull(operation)
        operation, page = folded.pages[1]
        assert (await store.pull(operation)).data == page.data
        await store.close()

    asyncio.run(ask_again())
    found = CliRunner().invoke(main, ["audit", "--store", f"sqlite:///{path}"])
    assert found.exit_code == 1
    assert f"{folded.pages[0][0].mailbox}: journal rows" in found.stderr
