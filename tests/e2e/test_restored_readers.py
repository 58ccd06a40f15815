"""A backup is restored under a reader: what it was handed since the backup comes again, renamed.

    page 1    acknowledged
    page 2    in hand               <- the backup
    page 3    acknowledged
    page 4    done with, which nobody has been told when the server dies
              ...                   <- the restored server: page 2 is in hand, 3 and 4 wait

A restored server gives the numbers that it gave before to whatever comes now. So the names of its
pages say that it is another: a consumer that passes over pages by their names passes over none of
them, and an acknowledgement from before is none of what is in hand now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from pullstatus import AsyncClient, Batch, Client, DeliveryStatus
from tests.harness import App, Program, statuses

COUNT = 10  # records of a page
READER = "billing"


class Consumer(Protocol):
    """A client of either colour that goes through a mailbox page by page."""

    def next(self) -> Batch[DeliveryStatus] | None:
        """The next page; None when nothing is left."""

    def close(self) -> None:
        """Acknowledge and go."""


class Blocking:
    def __init__(self, address: str, app: App) -> None:
        self._client = Client(
            address, app.sdkappid, app.appkey, reader=READER, retry_pause_s=(0.01, 0.1)
        )
        self._batches = self._client.delivery_statuses(max=COUNT, follow=False)

    def next(self) -> Batch[DeliveryStatus] | None:
        return next(self._batches, None)

    def close(self) -> None:
        self._client.close()


class Awaiting:
    def __init__(self, address: str, app: App) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(
            address, app.sdkappid, app.appkey, reader=READER, retry_pause_s=(0.01, 0.1)
        )
        self._batches = self._client.delivery_statuses(max=COUNT, follow=False)

    def next(self) -> Batch[DeliveryStatus] | None:
        async def step() -> Batch[DeliveryStatus] | None:
            return await anext(self._batches, None)

        return self._runner.run(step())

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with Program(tmp_path) as running:
        yield running


def sids(batch: Batch[DeliveryStatus]) -> list[str]:
    return [status.sid for status in batch]


def restore(program: Program, backup: Path) -> None:
    """Lose the server and its store, but not its master key, and have one from the backup there."""
    port = program.port
    program.kill()
    for file in program.folder.glob("mailboxes.db*"):
        if not file.name.endswith("-master-key"):
            file.unlink()
    assert program.cli("restore", str(backup))["epoch"] == 2
    program.flags = ("--port", str(port))
    program.start()


@pytest.mark.parametrize("colour", [Blocking, Awaiting])
def test_a_reader_loses_nothing_by_a_restore(
    program: Program, tmp_path: Path, colour: Callable[[str, App], Consumer]
) -> None:
    app = program.create_app()
    number = str(app.sdkappid)
    program.feed(app, statuses(6 * COUNT))
    consumer = colour(f"http://{program.host}:{program.port}", app)
    done: dict[str, list[str]] = {}

    def work() -> Batch[DeliveryStatus] | None:
        """Do one page, unless its name was seen before."""
        batch = consumer.next()
        if batch is not None:
            with batch:
                assert batch.pull_id is not None
                done.setdefault(batch.pull_id, sids(batch))
        return batch

    def in_hand() -> list[tuple[str, int]]:
        listed = program.cli("readers", "list", "--sdkappid", number, "--json")
        return [(row["pull_id"], row["given"]) for row in listed]

    work()
    second = consumer.next()
    assert second is not None
    backup = tmp_path / "backup.db"
    program.cli("backup", str(backup))
    with second:
        done[str(second.pull_id)] = sids(second)
    work()
    last = work()
    before = list(done)
    assert last is not None
    assert before == [f"{number}-0-{1 + COUNT * page}" for page in range(4)]

    restore(program, backup)
    assert in_hand() == [(f"{number}-0-{1 + COUNT}", 1)]
    program.feed(app, statuses(COUNT, first=1001))

    again = work()  # which acknowledges the fourth page, of which the restored server knows nothing
    assert again is not None
    assert (again.pull_id, again.page.given) == (f"{number}-0-{1 + COUNT}-2", 2)
    assert sids(again) == sids(second)

    work()
    fourth = consumer.next()  # the same numbers as what was acknowledged before
    assert fourth is not None
    assert fourth.pull_id == f"{last.pull_id}-2"
    held = in_hand()
    for further in ({}, {"Pullstatus-Take": "0"}):
        headers = {"Pullstatus-Reader": READER, "Pullstatus-Ack": str(last.pull_id)} | further
        assert program.post(*app.request(max=COUNT), headers).result == 1004
    assert in_hand() == held

    with fourth:
        done[str(fourth.pull_id)] = sids(fourth)
    while work():
        pass
    consumer.close()
    assert not set(before) & set(list(done)[len(before) :])
    seen = {sid for page in done.values() for sid in page}
    assert seen == {record["sid"] for record in [*statuses(6 * COUNT), *statuses(COUNT, 1001)]}
    assert program.waiting(app) == 0
    assert in_hand() == []
    marked = program.cli("pulls", "show", f"{number}-0-{1 + 2 * COUNT}")["again"]
    assert [(mark["first"], mark["by"]) for mark in marked] == [(1 + 2 * COUNT, "restore")]
    assert program.cli("audit", "--json")["sound"]


@pytest.mark.parametrize("colour", [Blocking, Awaiting])
def test_what_is_acknowledged_before_a_backup_does_not_come_again(
    program: Program, tmp_path: Path, colour: Callable[[str, App], Consumer]
) -> None:
    """A consumer that starts anew behind the restore, with only what it has stored."""
    app = program.create_app()
    program.feed(app, statuses(2 * COUNT))
    address = f"http://{program.host}:{program.port}"
    consumer = colour(address, app)
    first = consumer.next()
    assert first is not None
    first.ack()
    consumer.close()
    backup = tmp_path / "backup.db"
    program.cli("backup", str(backup))
    restore(program, backup)
    consumer = colour(address, app)
    found = []
    while batch := consumer.next():
        with batch:
            found += sids(batch)
    consumer.close()
    assert found == [record["sid"] for record in statuses(COUNT, first=1 + COUNT)]
