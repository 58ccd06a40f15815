"""Answers to calls for which there is no room are late, and hold little meanwhile."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

from pullstatus import limits
from pullstatus.server.pauses import Pauses
from tests.harness import Answer, status
from tests.unit.server.asgi import APP, SECRET, Served

Ask = Callable[[Served], Awaitable[Answer | None]]
CALLS: dict[str, tuple[Ask, str]] = {
    "pull": (Served.pull, "/v5/tlssmssvr/pullstatus"),
    "batch": (
        lambda served: served.ingest([status(1)]),
        f"/ingest/{APP.sdkappid}/delivery-statuses",
    ),
    "callback": (lambda served: served.callback([status(1)]), f"/callbacks/{SECRET}"),
}


@pytest.mark.parametrize(("ask", "path"), CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_call_for_which_there_is_no_room_is_answered_late(
    monkeypatch: pytest.MonkeyPatch, ask: Ask, path: str, *, at_once: bool
) -> None:
    """And the same as at once; its body is forgotten meanwhile."""
    waited: list[float] = []

    async def sleep(pause_s: float) -> None:
        assert served.let_go == [path]
        waited.append(pause_s)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    served = Served()
    served.at_once, served.store.empty = at_once, True
    served.routes.budget.take(limits.IN_HAND_BYTES_MAX, APP.sdkappid)
    answer = asyncio.run(_answered(ask, served))
    assert answer.http_status == 503 or answer.result == 1007
    assert b"too much of this application is in hand" in answer.content
    [pause_s] = waited
    assert limits.SHED_PAUSE_S <= pause_s <= 1.25 * limits.SHED_PAUSE_S


async def _answered(ask: Ask, served: Served) -> Answer:
    answer = await ask(served)
    assert answer is not None
    return answer


def test_what_came_together_is_not_answered_together(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(pause_s: float) -> None:
        waited.append(pause_s)

    monkeypatch.setattr(asyncio, "sleep", sleep)

    async def play() -> None:
        pauses = Pauses(256)
        await asyncio.gather(*(pauses.pause({}, 1.0) for _ in range(256)))

    asyncio.run(play())
    apart = sorted(waited)
    assert 1 <= apart[0] < apart[-1] <= 1.25
    assert max(b - a for a, b in itertools.pairwise(apart)) < 0.25 / 100


def test_no_more_are_held_back_than_there_may_be() -> None:
    async def play() -> None:
        pauses = Pauses(2)
        held = [asyncio.ensure_future(pauses.pause({}, 60)) for _ in range(3)]
        while not held[2].done():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        assert (pauses.count, pauses.free) == (2, False)
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        assert (pauses.count, pauses.free) == (0, True)

    asyncio.run(play())
