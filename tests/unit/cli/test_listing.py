"""What commands list of several applications: in which order, and what they read for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from pullstatus.apps import Application, LiveApplication
from pullstatus.apps.values import application_setting
from pullstatus.cli import main
from pullstatus.cli.apps import _age
from pullstatus.mailbox import parking
from pullstatus.receipts.reading import read_records
from pullstatus.receipts.request import Request
from pullstatus.receipts.source import builtin
from pullstatus.records import Kind
from pullstatus.steps import done
from pullstatus.store import Append, Change, Mailbox, Pull, Store, open_store
from pullstatus.store.sqlite.engine import SqliteStore
from tests.harness import status

NUMBERS = (1_400_000_001, 1_400_000_002)
NOW_MS = 1_767_000_000_000


@pytest.mark.parametrize(
    ("ago_ms", "told"),
    [(-5000, "0s"), (0, "0s"), (999, "0s"), (1000, "1s"), (59_999, "59s"), (60_000, "1m")],
)
def test_an_age_is_told_from_the_first_moment_on(ago_ms: int, told: str) -> None:
    assert _age(NOW_MS - ago_ms, NOW_MS) == told


def on_store(url: str, work: Callable[[Store], Awaitable[None]]) -> None:
    async def run() -> None:
        store = await open_store(url)
        try:
            await work(store)
        finally:
            await store.close()

    asyncio.run(run())


def listed(url: str, *arguments: str) -> Any:  # noqa: ANN401 - any JSON
    done = CliRunner().invoke(main, [*arguments, "--store", url], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), done.stderr


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store.db?file-system=any&commits=thread"


async def park(store: Store, number: int, at_ms: int, form: str = "tencent") -> None:
    """One item."""
    setting = await store.setting(application_setting(number))
    assert setting is not None
    request = Request("POST", b"", "", b"null", at_ms // 1000)
    await parking.park(
        store,
        LiveApplication(Application(number, (), 0), setting.revision),
        done(read_records(request)),
        form=form,
        request=request,
        address="192.0.2.1",
        sender=f"carrier at {at_ms}",
        now_ms=at_ms,
        ticket=bytes(16),
    )


def test_names_of_no_source_are_listed_while_something_of_theirs_is_parked(url: str) -> None:
    async def work(store: Store) -> None:
        value = msgspec.json.encode(Application(NUMBERS[0], (), 0))
        await store.change(Change(application_setting(NUMBERS[0]), value, None))
        for form in ("gone", "kannel"):
            await park(store, NUMBERS[0], NOW_MS, form)

    on_store(url, work)
    found, _ = listed(url, "source", "list")
    assert [row["source"] for row in found] == [*builtin(), "gone"]
    assert {row["source"] for row in found if row["parked"]} == {"gone", "kannel"}
    assert found[-1]["title"] == "no source has this name"
    assert {frozenset(row) for row in found} == {frozenset(found[0])}


def test_what_is_parked_is_listed_oldest_first_whosever_it_is(url: str) -> None:
    times = [(NUMBERS[0], 2000), (NUMBERS[1], 1000), (NUMBERS[0], 4001), (NUMBERS[1], 4000)]

    async def work(store: Store) -> None:
        for number in NUMBERS:
            value = msgspec.json.encode(Application(number, (), 0))
            await store.change(Change(application_setting(number), value, None))
        for number, after_ms in times:
            await park(store, number, NOW_MS + after_ms)

    on_store(url, work)
    oldest = sorted(times, key=lambda one: one[1])
    for limit in (1, 2, 3, 4):
        found, said = listed(url, "parked", "list", "--limit", str(limit))
        assert [(row["sdkappid"], row["token"]) for row in found] == [
            (number, f"carrier at {NOW_MS + after_ms}") for number, after_ms in oldest[:limit]
        ]
        assert ("more are parked" in said) == (limit < 4)


def test_pulls_of_one_mailbox_are_listed_without_a_look_at_others(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailboxes = [Mailbox(number, kind) for number in NUMBERS for kind in Kind]

    async def work(store: Store) -> None:
        for mailbox in mailboxes:
            await store.append(Append(mailbox, [json.dumps(status(1)).encode()], NOW_MS))
            await store.pull(Pull(mailbox, 1, NOW_MS, "192.0.2.1", None, "random=1 time=1"))

    on_store(url, work)
    read: list[Mailbox] = []
    journal = SqliteStore.journal

    def noted(self: SqliteStore, mailbox: Mailbox, **options: Any) -> Any:  # noqa: ANN401
        read.append(mailbox)
        return journal(self, mailbox, **options)

    monkeypatch.setattr(SqliteStore, "journal", noted)
    reply = ["--type", "reply"]
    one, other = (["--sdkappid", str(number)] for number in NUMBERS)
    for arguments, expected in (
        ([], mailboxes),
        (other, mailboxes[2:]),
        (reply, mailboxes[1::2]),
        (one + reply, mailboxes[1:2]),
    ):
        read.clear()
        found, _ = listed(url, "pulls", "list", *arguments)
        assert sorted((row["sdkappid"], row["type"]) for row in found) == [
            (mailbox.sdkappid, mailbox.kind) for mailbox in expected
        ]
        assert sorted(read) == expected


AHEAD_MS = 86_400_000


async def pull_at(store: Store, mailbox: Mailbox, *times_ms: int) -> None:
    for at_ms in times_ms:
        await store.append(Append(mailbox, [json.dumps(status(1)).encode()], at_ms))
        await store.pull(Pull(mailbox, 1, at_ms, "192.0.2.1", None, "random=1"))


def times_of(rows: list[dict[str, Any]]) -> list[int]:
    return [round(datetime.fromisoformat(row["at"]).timestamp() * 1000) for row in rows]


def test_pulls_behind_those_of_a_clock_that_was_ahead_or_behind_are_listed(url: str) -> None:
    """Whichever period is asked for, and however many: none is left out for another one's time."""
    [first, second] = (Mailbox(number, Kind.REPLY) for number in NUMBERS)
    mine = [NOW_MS + step for step in (0, 2000, AHEAD_MS, 4000, -AHEAD_MS, 6000)]
    others = [NOW_MS + 3000, NOW_MS + 5000]

    async def work(store: Store) -> None:
        await pull_at(store, first, *mine)
        await pull_at(store, second, *others)

    on_store(url, work)
    for from_ms, to_ms in (
        (NOW_MS, NOW_MS + 10_000),
        (NOW_MS + 2000, NOW_MS + 4001),
        (NOW_MS - 2 * AHEAD_MS, NOW_MS - 1),
        (NOW_MS + 10_000, NOW_MS + 2 * AHEAD_MS),
    ):
        begin, end = (
            datetime.fromtimestamp(at_ms / 1000, UTC).isoformat() for at_ms in (from_ms, to_ms)
        )
        found, _ = listed(url, "pulls", "list", "--from", begin, "--to", end)
        within = [at_ms for at_ms in [*mine, *others] if from_ms <= at_ms < to_ms]
        assert sorted(times_of(found)) == sorted(within)
    everything, _ = listed(url, "pulls", "list")
    assert [at for at in times_of(everything) if at in mine] == mine[::-1]
    for limit in range(1, 8):
        found, said = listed(url, "pulls", "list", "--limit", str(limit))
        assert found == everything[:limit]
        assert "--limit shows more" in said
    one = ["--sdkappid", str(NUMBERS[0]), "--limit", "2"]
    assert times_of(listed(url, "pulls", "list", *one)[0]) == [mine[-1], mine[-2]]
