"""Readers in the file: the audit proves them, and what the disk damages is never handed out."""

import contextlib
from pathlib import Path

import apsw
import pytest

from pullstatus.errors import StoreUnavailable
from pullstatus.store import Pull, Reader, Release, audit_store, open_store
from tests.store.build import NOW_MS, STATUSES, append, new_act, pull, purge, records

pytestmark = pytest.mark.anyio


def read(name: str = "r", ack: int | None = None) -> Pull:
    return Pull(STATUSES, 2, NOW_MS, reader=Reader(name, ack))


async def made(folder: Path, *, kept: bool = False) -> str:
    """A store: entries 1 and 2 acknowledged by r, 3 and 4 in its hand, 5 and 6 in that of s."""
    url = f"sqlite:///{folder}/store.db"
    store = await open_store(url)
    await store.append(append(STATUSES, records(9)))
    await store.pull(read())
    await store.pull(read(ack=1))
    await store.pull(read("s"))
    await store.pull(pull(STATUSES, 1))
    if kept:
        await purge(store, left_before_ms=NOW_MS + 1)
    await store.close()
    return url


def tamper(folder: Path, statement: str) -> None:
    with contextlib.closing(apsw.Connection(f"{folder}/store.db")) as connection:
        connection.execute(statement)


async def problems(url: str) -> list[str]:
    return [found.problem for found in (await audit_store(url, lambda _a, _b: None)).findings]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM reader WHERE name = 's'", "entry 5 is in the hand of a reader"),
        ("UPDATE reader SET first_seq = 5 WHERE name = 'r'", "reader r has entry 5 in hand"),
        ("UPDATE reader SET count = 3 WHERE name = 's'", "reader s has entry 5 in hand"),
        ("UPDATE reader SET acked_seq = 7 WHERE name = 'r'", "acknowledged what lies behind"),
        ("UPDATE journal SET acked_ms = 1 WHERE key & 0xff = 5", "reader s has entry 5 in hand"),
        ("UPDATE journal SET acked_ms = NULL WHERE key & 0xff = 1", "entry 1 is in the hand"),
        ("UPDATE journal SET reader = 'x' WHERE key & 0xff = 5", "reader s has entry 5 in hand"),
    ],
)
async def test_an_audit_finds_hands_that_the_journal_does_not_know(
    tmp_path: Path, statement: str, told: str
) -> None:
    url = await made(tmp_path)
    assert await problems(url) == []
    tamper(tmp_path, statement)
    assert any(told in problem for problem in await problems(url))


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE reader SET page = x'00' WHERE name = 's'", "reader s at entry 5 is damaged"),
        ("UPDATE reader SET page = substr(page, 1, 9)", "at entry 3 is damaged"),
        ("UPDATE reader SET first_seq = 3 WHERE name = 's'", "overlaps another at entry 3"),
        ("UPDATE reader SET count = 9 WHERE name = 's'", "is in the journal, too"),
    ],
)
async def test_an_audit_finds_kept_pages_that_are_wrong(
    tmp_path: Path, statement: str, told: str
) -> None:
    url = await made(tmp_path, kept=True)
    assert await problems(url) == []
    tamper(tmp_path, statement)
    assert any(told in problem for problem in await problems(url))


@pytest.mark.parametrize("kept", [False, True])
async def test_a_damaged_page_in_hand_is_not_handed_out_and_can_be_let_go(
    tmp_path: Path, kept: bool
) -> None:
    url = await made(tmp_path, kept=kept)
    where = "reader SET page = CAST(page || 'x' AS BLOB)" if kept else "chunk SET body = x'3030'"
    tamper(tmp_path, f"UPDATE {where}")
    store = await open_store(url)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="readers release"):
            await store.pull(read())
    assert await store.release(Release(STATUSES, "r", 3, NOW_MS, new_act("readers release"))) == 2
    assert (await store.totals()).in_hand.pages == 1
    assert not (await store.pull(read(ack=3))).repeated
    await store.close()


async def test_what_is_damaged_in_a_hand_is_kept_when_the_rest_is_removed(tmp_path: Path) -> None:
    url = await made(tmp_path)
    tamper(tmp_path, "UPDATE chunk SET body = CAST(replace(body, 'n', 'm') AS BLOB)")
    store = await open_store(url)
    assert await purge(store, left_before_ms=NOW_MS + 1) == 7
    with pytest.raises(StoreUnavailable, match="readers release"):
        await store.pull(read())
    await store.close()
    with contextlib.closing(apsw.Connection(f"{tmp_path}/store.db")) as connection:
        assert connection.execute("SELECT count(*) FROM quarantine").get == 1
