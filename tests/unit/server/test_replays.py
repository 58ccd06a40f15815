"""Pulls that are signed as one before are counted, and told by application."""

from __future__ import annotations

import asyncio

from pullstatus import limits
from pullstatus.server.replays import Replays
from tests.unit.server.asgi import APP, Served

FIGURE = "pullstatus_pulls_signed_again_total"


def test_one_is_known_until_another_has_its_place() -> None:
    replays = Replays(1)
    for signature in ("a", "a", "b", "a"):
        replays.note(7, signature)
    assert replays.total == 1
    replays.note(8, "a")
    replays.note(8, "a")
    assert replays.take() == {8: 2, 7: 1}
    assert replays.take() == {}
    assert replays.total == 3


def test_a_pull_that_comes_again_is_a_figure_with_its_application() -> None:
    served = Served()

    async def pull_all() -> dict[str, float]:
        target, body = APP.request(random="1")
        assert (await served.figures())[FIGURE] == 0
        for _ in range(3):
            await served.post(target, body)
        await served.post(*APP.request(random="2"))
        await served.post(target.replace("random=1", "random=3"), body)  # is not let in
        return await served.figures()

    assert asyncio.run(pull_all())[FIGURE] == 2
    assert served.routes.figures.replays.take() == {APP.sdkappid: 2}


def test_what_is_known_has_a_bound() -> None:
    replays = Replays(limits.REPLAYS_KNOWN)
    for number in range(limits.REPLAYS_KNOWN * 2):
        replays.note(7, f"{number:064x}")
    assert len(replays._known) == limits.REPLAYS_KNOWN
