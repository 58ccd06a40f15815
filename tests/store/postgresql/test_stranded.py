"""Transactions whose clients stand still are ended by who waits; those that only read are not."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import TupleRow

from pullstatus.records import Kind
from pullstatus.store import Change, Mailbox, open_store
from pullstatus.store.postgresql import log, statements
from pullstatus.store.postgresql.location import parse_url
from pullstatus.store.postgresql.refusals import Known
from pullstatus.store.postgresql.session import Session, open_session
from pullstatus.store.verbs.state import slot
from tests.store.build import STATUSES, append, records, until

pytestmark = pytest.mark.anyio

FLUSH = b"H" + struct.pack(">I", 4)
HALF = b"Q" + struct.pack(">I", 1000) + b"SELECT"
LARGE = b"SELECT repeat('x', 1000) FROM generate_series(1, 100000)\0"
NOT_READ = b"Q" + struct.pack(">I", 4 + len(LARGE)) + LARGE


@pytest.fixture
def standing(url: str) -> Iterator[list[Session]]:
    """Connections that stand still from now on."""
    sessions: list[Session] = []
    yield sessions
    for session in sessions:
        session.close()


def begin(url: str, sessions: list[Session], message: bytes, sql: str, *values: object) -> int:
    """A transaction that has asked something, and whose client then stands still."""
    session = open_session(parse_url(url), Known())
    sessions.append(session)
    connection = session.connection
    with connection.pipeline():
        connection.execute("BEGIN")
        connection.execute(sql, values)
    os.write(connection.fileno(), message)
    return connection.info.backend_pid


def lives(admin: psycopg.Connection[TupleRow], pid: int) -> bool:
    found = admin.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,))
    return found.fetchone() is not None


async def test_whoever_waits_ends_them(
    url: str, standing: list[Session], admin: psycopg.Connection[TupleRow]
) -> None:
    store = await open_store(url)
    mailboxes = [Mailbox(1400000001 + number, Kind.DELIVERY_STATUS) for number in range(4)]
    for mailbox in mailboxes:
        await store.append(append(mailbox, records(1)))
    ways = [b"", FLUSH, HALF, NOT_READ]
    held = [
        begin(url, standing, message, statements.LOCK, [slot(mailbox)])
        for mailbox, message in zip(mailboxes, ways, strict=True)
    ]
    held.append(begin(url, standing, FLUSH, statements.OWN_SETTINGS))
    reads = begin(url, standing, NOT_READ, "SELECT FROM pullstatus.chunk")
    answers = [store.append(append(mailbox, records(1))) for mailbox in mailboxes]
    changed = store.change(Change("a", b"1", None))
    assert await asyncio.gather(*answers, changed) == [1, 1, 1, 1, True]
    await until(lambda: not any(lives(admin, pid) for pid in held))
    assert lives(admin, reads)
    await store.close()


async def test_they_are_ended_where_nobody_waits(
    url: str,
    standing: list[Session],
    admin: psycopg.Connection[TupleRow],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that dead rows can be removed."""
    monkeypatch.setattr(log, "ALIVE_S", 0.1)
    store = await open_store(url)
    await store.append(append(STATUSES, records(1)))
    pid = begin(url, standing, FLUSH, statements.LOCK, [slot(STATUSES)])
    await until(lambda: not lives(admin, pid))
    await store.close()
