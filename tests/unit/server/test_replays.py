"""Pulls that are signed as one before are counted, and told by application."""

from __future__ import annotations

import asyncio

from pullstatus import limits
from pullstatus.server.replays import Replays
from tests.unit.server.asgi import APP, Served

FIGURE = "pullstatus_pulls_signed_again_total"


def test_the_newest_are_known_and_no_more() -> None:
    replays = Replays(3)
    for signature in ("a", "b", "c", "a", "d", "a"):
        replays.note(7, signature)
    assert replays.total == 1  # of the first two "a"; by the third it was forgotten
    replays.note(8, "d")
    replays.note(8, "d")
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
    assert len(replays._seen) == limits.REPLAYS_KNOWN
