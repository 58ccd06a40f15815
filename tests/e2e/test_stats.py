"""`pullstatus stats`: what was counted of an application, by the hour and by the day."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from pullstatus.json import ascii_json
from pullstatus.records import Kind
from pullstatus.store import Append, Mailbox, open_store
from tests.e2e.test_cli import bad, good, on_a_terminal, run
from tests.harness import Record, reply, status

STATUSES, REPLIES = Mailbox(7, Kind.DELIVERY_STATUS), Mailbox(7, Kind.REPLY)
MIDNIGHT_MS = 1_767_283_200_000  # 2026-01-02 00:00 in UTC+8
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a store in which an application was sent something in three hours of two days."""
    folder = tmp_path_factory.mktemp("stats")
    good(folder, "app", "create", "7")

    async def fill() -> None:
        store = await open_store(f"sqlite:///{folder}/pullstatus.db?commits=thread")

        async def put(mailbox: Mailbox, at_ms: int, *records: Record) -> None:
            entries = [ascii_json(json.dumps(record).encode()) for record in records]
            await store.append(Append(mailbox, entries, at_ms))

        failed = status(2, report_status="FAIL", errmsg="MK:0001")
        await put(STATUSES, MIDNIGHT_MS - 1, status(1))
        await put(STATUSES, MIDNIGHT_MS, status(1), failed, failed)
        await put(REPLIES, MIDNIGHT_MS + 2 * HOUR_MS, reply(1))
        await store.close()

    asyncio.run(fill())
    return folder


PERIOD = ("--from", "2026-01-01T15:30+00:00", "--to", "2026-01-01T18:00:00.001+00:00")


def test_each_hour_in_which_anything_came_has_a_row(folder: Path) -> None:
    told = good(folder, "stats", "7", *PERIOD)
    assert (told["first_hour"], told["last_hour"]) == (2026010123, 2026010202)
    columns = ("hour", "receipts", "success", "fail_1", "replies")
    assert [[row[name] for name in columns] for row in told["hours"]] == [
        [2026010123, 1, 1, 0, 0],
        [2026010200, 3, 1, 2, 0],
        [2026010202, 0, 0, 0, 1],
    ]
    assert told["all"] == {
        "receipts": 4,
        "success": 2,
        "replies": 1,
        "unreadable": 0,
        **{f"fail_{failure}": 2 * (failure == 1) for failure in range(5)},
        "requests": None,
        "accepted": None,
        "billed": None,
    }
    table = on_a_terminal(folder, f"stats 7 {' '.join(PERIOD)}", columns=160).partition("No room")[
        0
    ]
    assert [line.split()[0] for line in table.splitlines()[2:]] == [
        *("2026010123", "2026010200", "2026010202"),
        "all",
    ]


def test_hours_of_a_day_are_one_row_with_it(folder: Path) -> None:
    told = good(folder, "stats", "7", *PERIOD, "--by", "day")
    assert [(row["day"], row["receipts"], row["replies"]) for row in told["days"]] == [
        (20260101, 1, 0),
        (20260102, 3, 1),
    ]


def test_whole_hours_are_counted_until_before_the_end(folder: Path) -> None:
    def receipts(*period: str) -> int:
        return int(good(folder, "stats", "7", *period)["all"]["receipts"])

    assert receipts("--to", "2026-01-01T16:00+00:00", "--from", "2026-01-01T15:00+00:00") == 1
    assert receipts("--from", "2026-01-01T16:59+00:00") == 3
    assert receipts("--from", "0001-01-01", "--to", "9999-12-31T23:59:59+00:00") == 4
    assert receipts() == 0  # of the last day
    assert receipts("--to", "2026-01-01T16:00+00:00") == 1  # of the day before


def test_what_is_asked_wrongly_is_said(folder: Path) -> None:
    assert "does not exist" in bad(folder, "stats", "8")
    done = run(folder, "stats", "7", "--from", "2026-01-02", "--to", "2026-01-01")
    assert done.exit_status == 2
    assert "--from is not before --to" in done.stderr
