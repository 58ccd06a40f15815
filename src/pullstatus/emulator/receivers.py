"""Whoever is called by the emulator: a stranger, whose answer may be anything."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import httpx

from pullstatus import limits

__all__ = ["UNREACHABLE", "call_receiver"]

UNREACHABLE: Final = 0
"""Instead of an HTTP status, where none came."""


async def call_receiver(
    http: httpx.AsyncClient, method: str, url: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, str, str]:
    """Make one call; it takes no longer, as a whole, than one read may.

    Returns:
        The HTTP status, the text of the body as far as `limits.RECEIVER_BYTES_MAX`, and what kept
        it from coming, "" if nothing did.
    """
    headers = {"accept-encoding": "identity", **headers}
    try:
        async with (
            asyncio.timeout(http.timeout.read),
            http.stream(method, url, headers=headers, content=body) as answer,
        ):
            content = b""
            async for part in answer.aiter_raw():
                content += part
                if len(content) >= limits.RECEIVER_BYTES_MAX:
                    break
    except Exception as error:  # noqa: BLE001 - nothing that a receiver does ends the emulator
        return UNREACHABLE, "", type(error).__name__
    return answer.status_code, content[: limits.RECEIVER_BYTES_MAX].decode(errors="replace"), ""
