"""What the emulator pushes, and when it does no more."""

from __future__ import annotations

import asyncio
import random

import httpx
import pytest

from pullstatus.emulator import pushes
from pullstatus.emulator.faults import Faults
from pullstatus.emulator.pushes import TRIES, Pushes

URL = "https://sms.example.com/callback"


@pytest.mark.parametrize(("forgets", "tries"), [(False, TRIES), (True, 1)])
def test_a_push_that_is_refused_comes_again_until_all_is_begun_anew(
    monkeypatch: pytest.MonkeyPatch, *, forgets: bool, tries: int
) -> None:
    monkeypatch.setattr(pushes, "PAUSE_S", 0.0)
    chance = random.Random(7)
    made = Pushes(URL)
    came: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        came.append(request.content)
        if forgets:
            made.begin(Faults(chance), chance)
        return httpx.Response(503)

    async def play() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            await made._push(http, URL, b"[]")

    asyncio.run(play())
    assert len(came) == tries
