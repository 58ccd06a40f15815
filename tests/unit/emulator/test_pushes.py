"""What the emulator pushes, and when it does no more."""

from __future__ import annotations

import asyncio
import random

import httpx
import pytest

from pullstatus import limits
from pullstatus.emulator import pushes
from pullstatus.emulator.faults import Faults
from pullstatus.emulator.pushes import TRIES, Pushes
from pullstatus.records import Kind

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


@pytest.mark.parametrize("bound", ["PUSHES_MAX", "PUSHES_BYTES_MAX"])
def test_pushes_that_wait_are_bounded_in_number_and_in_bytes(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """The oldest go first, and what was pushed or forgotten makes room."""
    body = b'{"sid":"%d"}'
    room = 3 if bound == "PUSHES_MAX" else 3 * len(body % 0)
    monkeypatch.setattr(limits, bound, room)
    made = Pushes(URL)

    def add(*numbers: int) -> list[bytes]:
        made.add(Kind.REPLY, [body % number for number in numbers])
        return list(made._waiting)

    assert add(0, 1, 2) == [body % number for number in (0, 1, 2)]
    assert add(3) == [body % number for number in (1, 2, 3)]
    assert made._next() == body % 1
    assert add(4) == [body % number for number in (2, 3, 4)]
    made.begin(Faults(random.Random(7)), random.Random(7))
    assert add(5, 6, 7) == [body % number for number in (5, 6, 7)]
