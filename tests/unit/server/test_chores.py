"""What a server does beside answering, and what its log says where that cannot be done."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from pullstatus.errors import StoreUnavailable
from pullstatus.server import serve
from pullstatus.server.serve import ServeOptions, Server


def put_off(reasons: Sequence[str]) -> list[str]:
    """What the log says of a chore that cannot be done for these, one after the other."""
    left = iter(reasons)

    async def chore() -> None:
        if reason := next(left, None):
            raise StoreUnavailable(reason)
        if reason is None:
            raise asyncio.CancelledError

    server = Server(ServeOptions("sqlite:////nonexistent/a.db"))
    with capture_logs() as lines, pytest.raises(asyncio.CancelledError):
        asyncio.run(server._regularly("a", 0, chore))
    return [line["reason"] for line in lines if line["event"] == "chore put off"]


def test_a_chore_that_is_put_off_again_and_again_is_told_once() -> None:
    """But for another reason, or once it was done."""
    assert put_off(["no right"] * 9) == ["no right"]
    assert put_off(["no right", "", "no right"]) == ["no right"] * 2
    assert put_off(["no right", "no room", "no right"]) == ["no right", "no room", "no right"]


def test_a_chore_that_is_put_off_for_long_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "PUT_OFF_S", 0)
    assert put_off(["no right"] * 3) == ["no right"] * 3
