"""Questions to a store: how many at a time, whose are next, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from pullstatus import limits
from pullstatus.apps import Application, LiveApplication, LivePair, SecretPair
from pullstatus.apps.admission import Admission, Call
from pullstatus.apps.values import PAIRS
from pullstatus.errors import (
    Disabled,
    Overloaded,
    StoreUnavailable,
    UnknownSecret,
)
from pullstatus.server.asking import Asking
from pullstatus.server.budget import Budget
from pullstatus.server.http import PEER, Disconnected, Scope
from pullstatus.store import Setting, Store

T = TypeVar("T")

ONE, OTHER = 1_400_000_001, 1_400_000_002


class Asked:
    """A store whose answers come when a test says so."""

    def __init__(self, sharers: int = 1) -> None:
        self.revision = 1
        self.pair_revision = 1
        self.admitted: list[int] = []
        self.refused: Exception | None = None
        self.begun: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.budget = Budget()
        store = cast("Store", SimpleNamespace(setting=self._setting))
        admission = cast("Admission", SimpleNamespace(admit_anew=self._admit_anew))
        self.asking = Asking(store, admission, self.budget, sharers=sharers)

    async def _setting(self, name: str) -> Setting | None:
        pair = name.startswith(PAIRS)
        return Setting(name, b"", self.pair_revision if pair else self.revision)

    async def _admit_anew(self, call: Call) -> LiveApplication:
        self.admitted.append(call.sdkappid)
        if self.refused is not None:
            raise self.refused
        return live(call.sdkappid, self.revision, pair=self.pair_revision)

    def ask(self, name: str, sdkappid: int = ONE, *, gone: bool = False) -> asyncio.Task[str]:
        """A question of this name, which is answered by it once `let` says so."""
        gate = self.gates[name] = asyncio.Event()

        async def question(_live: LiveApplication) -> str:
            self.begun.append(name)
            await gate.wait()
            return name

        return self.put(question, sdkappid, gone=gone)

    def put(
        self,
        question: Callable[[LiveApplication], Awaitable[T]],
        sdkappid: int = ONE,
        *,
        gone: bool = False,
        pair: int = 0,
    ) -> asyncio.Task[T]:
        peer = SimpleNamespace(gone=lambda: gone, count_in=lambda _share: None)
        scope: Scope = {PEER: peer}
        call = Call(sdkappid, "", lambda _keys: 0, 0, 0, None)
        let_in = live(sdkappid, 1, pair=pair)
        return asyncio.create_task(self.asking.ask(scope, call, let_in, question))

    def let(self, name: str) -> None:
        self.gates[name].set()


def live(sdkappid: int, revision: int, *, pair: int = 0) -> LiveApplication:
    """An application; `pair`: as one of this revision lets calls in."""
    known = LiveApplication(Application(sdkappid, (), 0), revision)
    return known.by(LivePair(SecretPair("AKID", (), 0, ""), "", pair)) if pair else known


async def settled() -> None:
    """Everything has been done that can be done now."""
    for _ in range(10):
        await asyncio.sleep(0)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def test_some_are_asked_at_once_and_the_others_wait_applications_in_turn() -> None:
    async def scenario() -> None:
        asked = Asked()
        at_once = limits.QUESTIONS_AT_ONCE
        tasks = [asked.ask(f"one {number}") for number in range(at_once + 3)]
        await settled()
        tasks += [asked.ask(f"other {number}", OTHER) for number in range(2)]
        await settled()
        assert asked.begun == [f"one {number}" for number in range(at_once)]
        assert asked.asking.count == at_once + 5
        for number in range(4):
            asked.let(f"one {number}")
        await settled()
        assert asked.begun[at_once:] == [
            f"one {at_once}",
            "other 0",
            f"one {at_once + 1}",
            "other 1",
        ]
        for gate in asked.gates.values():
            gate.set()
        assert await asyncio.gather(*tasks) == list(asked.gates)
        assert asked.asking.count == 0
        assert asked.budget.of == {}

    run(scenario())


def test_an_application_has_a_quarter_of_what_there_may_be_and_all_have_no_more() -> None:
    async def scenario() -> None:
        asked = Asked()
        quarter = limits.QUESTIONS_MAX // limits.SHARE_OF_ONE
        tasks = [
            asked.ask(f"{number} {sdkappid}", sdkappid)
            for sdkappid in range(limits.SHARE_OF_ONE)
            for number in range(quarter - (sdkappid == 0))
        ]
        await settled()
        with pytest.raises(Overloaded, match="of this application"):
            await asked.ask("over", 1)
        tasks.append(asked.ask("last", 0))
        await settled()
        assert asked.asking.count == limits.QUESTIONS_MAX
        with pytest.raises(Overloaded, match="the server has too much"):
            await asked.ask("over", 99)
        assert asked.budget.refused == {"application": 1, "total": 1, "address": 0}
        for gate in asked.gates.values():
            gate.set()
        await asyncio.gather(*tasks)
        again = asked.ask("again", 99)
        asked.let("again")
        assert await again == "again"

    run(scenario())


def test_several_processes_share_what_there_may_be() -> None:
    async def scenario() -> None:
        asked = Asked(sharers=limits.QUESTIONS_AT_ONCE)
        tasks = [asked.ask("first"), asked.ask("second")]
        await settled()
        assert asked.begun == ["first"]
        asked.let("first")
        asked.let("second")
        await asyncio.gather(*tasks)

    run(scenario())


def test_a_question_is_given_up_in_time_and_its_place_is_free_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        asked = Asked()
        at_once = limits.QUESTIONS_AT_ONCE
        monkeypatch.setattr(limits, "QUESTION_S", 0.01)
        tasks = [asked.ask(str(number)) for number in range(at_once + 2)]  # two wait, in vain
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(ended, StoreUnavailable)
            assert "0.01 s" in str(ended)
        assert asked.asking.count == 0
        monkeypatch.setattr(limits, "QUESTION_S", 60)
        tasks = [asked.ask(f"again {number}") for number in range(at_once)]
        await settled()
        assert asked.begun[-at_once:] == [f"again {number}" for number in range(at_once)]
        for gate in asked.gates.values():
            gate.set()
        assert await asyncio.gather(*tasks) == [f"again {number}" for number in range(at_once)]

    run(scenario())


def test_nothing_is_asked_for_a_peer_that_has_gone() -> None:
    async def scenario() -> None:
        asked = Asked()
        with pytest.raises(Disconnected):
            await asked.ask("gone", gone=True)
        assert asked.begun == []
        assert asked.asking.count == 0

    run(scenario())


def test_an_answer_is_of_the_application_as_it_is() -> None:
    """It is asked again when it was changed meanwhile; and may be no more allowed then."""

    async def scenario() -> None:
        asked = Asked()

        async def question(live: LiveApplication) -> int:
            if live.while_set.revision == 1:
                asked.revision = 2  # somebody changes it
            return live.while_set.revision

        assert await asked.put(question) == 2
        assert asked.admitted == [ONE]
        asked.revision, asked.refused = 1, Disabled("")
        with pytest.raises(Disabled):
            await asked.put(question)

        async def overtaken(_live: LiveApplication) -> None:
            asked.revision += 1

        asked.refused = None
        with pytest.raises(StoreUnavailable, match="being changed"):
            await asked.put(overtaken)
        assert asked.asking.count == 0

    run(scenario())


def test_an_answer_is_for_the_pair_that_asks_as_it_is() -> None:
    """What is taken away from it while its question waits in line is not answered."""

    async def scenario() -> None:
        asked = Asked()

        async def question(live: LiveApplication) -> int:
            assert live.while_proven is not None
            return live.while_proven.revision

        before = [asked.ask(str(number)) for number in range(limits.QUESTIONS_AT_ONCE)]
        changed = asked.put(question, pair=1)
        await settled()
        asked.pair_revision = 2
        asked.let("0")
        assert await changed == 2
        revoked = asked.put(question, pair=1)
        asked.refused = UnknownSecret("revoked")
        with pytest.raises(UnknownSecret):
            await revoked
        for gate in asked.gates.values():
            gate.set()
        await asyncio.gather(*before)

    run(scenario())
