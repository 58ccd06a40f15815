"""Bounds of each token under number 0: what is damaged, and what is read for them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pullstatus import limits
from pullstatus.mailbox import parking
from pullstatus.mailbox.bounds import Bounds
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.request import Request
from pullstatus.records import Kind
from pullstatus.store import Store, audit_store, open_store
from tests.store.places import beside_in_file

pytestmark = pytest.mark.anyio

NOW_MS = 1_800_000_000_000


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    store = await open_store(url)
    yield store
    await store.close()


async def park(store: Store, token: str, *raws: str) -> None:
    unread = tuple(Unread(raw.encode(), "is nobody's") for raw in raws)
    await parking.park(
        store,
        parking.NOBODYS,
        Receipts(Kind.REPLY, [], unread=unread),
        form="native",
        request=Request("POST", b"", "", b"", NOW_MS // 1000),
        address="192.0.2.1",
        sender=token,
        now_ms=NOW_MS,
        ticket=secrets.token_bytes(16),
    )


async def left(store: Store) -> list[str]:
    found = await parking.parked(store, 0)
    return [each.item.raw.decode() for each in found if each.item]


async def test_a_damaged_item_is_nobodys_and_set_aside_where_others_behind_it_leave(
    tmp_path: Path, store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PARKED_ITEMS_MAX", 1)
    for token, raw in (("one", "a"), ("other", "b"), ("one", "c"), ("one", "d")):
        await park(store, token, raw)
    with beside_in_file(url) as connection:
        connection.execute("UPDATE chunk SET body = zeroblob(length(body)) WHERE key & 255 = 1")
    assert await Bounds(store, secrets.token_hex).keep(NOW_MS) == 1
    assert await left(store) == ["d", "b"]
    [row] = [row for row in await store.backlog() if row.mailbox.parked]
    assert (row.quarantined, row.expired, row.put_back) == (1, 1, 1)
    assert (await audit_store(url, lambda _done, _total: None)).findings == []


async def test_each_item_is_read_once_and_none_where_nothing_came(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    read: list[int] = []
    entries = store.entries

    async def counted(*args: Any) -> AsyncIterator[Any]:  # noqa: ANN401
        nonlocal asked
        asked += 1
        async for entry in entries(*args):
            read.append(entry.seq)
            yield entry

    monkeypatch.setattr(store, "entries", counted)
    bounds = Bounds(store, secrets.token_hex)
    for raws in ("ab", "c", "", "de"):
        await park(store, "one", *raws)
        await bounds.keep(NOW_MS)
        await bounds.keep(NOW_MS)
    assert (asked, read) == (3, [1, 2, 3, 4, 5])
