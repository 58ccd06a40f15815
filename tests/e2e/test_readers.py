"""A consumer that sends the headers of a reader and remembers nothing: what it can lose is nothing.

Its answers are cut at every byte, its requests arrive late, its server is killed. It does what the
protocol tells whoever writes a client: pull again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.harness import (
    PATIENCE_S,
    PLAIN,
    Answer,
    App,
    Program,
    answer_of,
    status,
    statuses,
)
from tests.proxy import CuttingProxy

NAME = "billing"


class Reader:
    """Pulls by a name; `done` are the records of the pages that it was handed whole, in order."""

    def __init__(self, address: str, app: App, name: str = NAME) -> None:
        self._app, self._name = app, name
        self._http = httpx.Client(
            base_url=address, verify=PLAIN, trust_env=False, timeout=PATIENCE_S
        )
        self.ack: str | None = None
        self.done: dict[str, list[Any]] = {}

    def pull(self, count_max: int = 3, **headers: str) -> Answer:
        """One attempt.

        Raises:
            httpx.TransportError: no answer came, or not all of it.
        """
        target, body = self._app.request(max=count_max)
        sent = {"Pullstatus-Reader": self._name}
        if self.ack is not None:
            sent["Pullstatus-Ack"] = self.ack
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = answer_of(self._http.post(target, content=body, headers=sent))
        assert answer.result == 0, answer
        name = answer.header("pullstatus-pull-id")
        if name is not None:
            assert self.done.setdefault(name, answer.data) == answer.data
            self.ack = name
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.close()

    def start_anew(self) -> None:
        """Forget what a killed program forgets."""
        self.ack = None

    @property
    def sids(self) -> list[str]:
        return [record["sid"] for page in self.done.values() for record in page]


@pytest.fixture
def proxy(shared: Program) -> Iterator[CuttingProxy]:
    with CuttingProxy(shared.host, shared.port) as running:
        yield running


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as entered:
        yield entered


def test_an_answer_cut_at_any_byte_comes_again_whole(
    shared: Program, app: App, proxy: CuttingProxy, stack: ExitStack
) -> None:
    """Each time with the acknowledgement of the page before, and as a program that starts anew."""
    reader = stack.enter_context(Reader(proxy.address, app))
    shared.feed(app, statuses(9))
    whole = reader.pull(1)
    size = len(whole.content) + 400  # at least the head, too
    for place in range(size):
        proxy.cut(place)
        if place % 2:
            reader.start_anew()
        try:
            reader.pull(1)
        except httpx.TransportError:
            continue
        assert place > len(whole.content)
        proxy.cut_no_more()
        break
    assert proxy.cuts > len(whole.content)
    while reader.pull(2).data:
        pass
    assert reader.sids == [record["sid"] for record in statuses(9)]
    assert shared.waiting(app) == 0


def test_requests_that_arrive_late_take_nothing_away(
    shared: Program, app: App, proxy: CuttingProxy, stack: ExitStack
) -> None:
    """The first attempt of each page is held up until the last page is done."""
    reader = stack.enter_context(Reader(proxy.address, app))
    shared.feed(app, statuses(10))
    held = 0
    while True:
        proxy.hold()
        held += 1
        with pytest.raises(httpx.TransportError):
            reader.pull()
        if not reader.pull().data:
            break
    shared.feed(app, statuses(5, first=11))
    assert len(proxy.held) == held
    proxy.release()
    reader.start_anew()
    while reader.pull().data:
        pass
    assert sorted(reader.sids) == sorted(record["sid"] for record in statuses(15))


def test_a_killed_server_has_the_page_in_hand_when_it_is_back(tmp_path: Path) -> None:
    with Program(tmp_path) as program:
        app = program.create_app()
        program.feed(app, statuses(7))
        with Reader(f"http://{program.host}:{program.port}", app) as reader:
            first = reader.pull()
        program.kill()
        program.start()
        with Reader(f"http://{program.host}:{program.port}", app) as reader:
            again = reader.pull()
            assert again.content == first.content
            assert again.header("pullstatus-given") == "2"
            assert reader.pull().data != first.data


def test_an_operator_sees_what_is_in_hand_and_takes_it_away(
    shared: Program, app: App, stack: ExitStack
) -> None:
    address, number = f"http://{shared.host}:{shared.port}", str(app.sdkappid)
    shared.feed(app, [status(1), status(2), status(3)])
    dead = stack.enter_context(Reader(address, app, "dead"))
    held = dead.pull(2)
    dead.pull(2, Pullstatus_Ack=str(dead.ack), Pullstatus_Take="0")
    page = dead.pull(2)
    dead.start_anew()
    assert dead.pull(2).content == page.content
    [row] = shared.cli("readers", "list", "--sdkappid", number, "--json")
    assert (row["reader"], row["records"], row["given"], row["kept"]) == ("dead", 1, 2, False)
    shown = shared.cli("pulls", "show", str(held.header("pullstatus-pull-id")), "--json")
    assert (shown["reader"], shown["given"]) == ("dead", 1)
    assert shown["acknowledged"] is not None
    found = shared.cli("redeliver", "--pull", row["pull_id"], "--dry-run", "--json")
    assert [run["state"] for run in found] == ["in hand"]
    done = shared.cli(
        *("readers", "release", "dead", "--sdkappid", number),
        *("--type", "delivery-status", "--reason", "it died"),
    )
    assert done == {"released": row["pull_id"], "records": 1, "kept": False}
    assert shared.cli("readers", "list", "--sdkappid", number, "--json") == []
    [idle] = shared.cli("readers", "list", "--sdkappid", number, "--idle", "--json")
    assert idle["pull_id"] is None
    shown = shared.cli("pulls", "show", row["pull_id"], "--json")
    assert (shown["acknowledged"], shown["released"] is None) == (None, False)
    act = shared.cli("acts", "list", "--sdkappid", number, "--json")[0]
    assert (act["action"], act["reason"]) == ("readers release", "it died")
    copied = shared.cli("redeliver", "--pull", row["pull_id"], "--reason", "it died")
    assert copied["redelivered"] == 1
    assert shared.until(lambda: shared.pull(app).data) == page.data
