"""Whatever a receiver answers, the emulator goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from pullstatus import limits
from pullstatus.emulator.receivers import UNREACHABLE, call_receiver

URL = "http://sms.example.com/in"


def called(
    answer: httpx.Response | Callable[[httpx.Request], httpx.Response], timeout_s: float = 60
) -> tuple[int, str, str]:
    async def call() -> tuple[int, str, str]:
        transport = httpx.MockTransport(answer if callable(answer) else lambda _: answer)
        async with httpx.AsyncClient(transport=transport, timeout=timeout_s) as http:
            return await call_receiver(http, "POST", URL, {}, b"[]")

    return asyncio.run(call())


class Body(httpx.AsyncByteStream):
    """An endless one, fast or not at all."""

    def __init__(self, part: bytes) -> None:
        self._part = part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            if not self._part:
                await asyncio.Event().wait()
            yield self._part


@pytest.mark.parametrize(
    "charset", ["base64", "hex", "undefined", "idna", "rot13", "utf-16", "X-SMS", "\u00fc"]
)
def test_what_an_answer_says_of_its_text_is_not_believed(charset: str) -> None:
    headers = [(b"content-type", f"text/plain; charset={charset}".encode())]
    answer = httpx.Response(200, headers=headers, stream=Body(b"ok" * limits.RECEIVER_BYTES_MAX))
    status, text, fault = called(answer)
    assert (status, fault) == (200, "")
    assert text == "ok" * (limits.RECEIVER_BYTES_MAX // 2)


def test_an_answer_that_never_ends_is_none() -> None:
    answer = httpx.Response(200, stream=Body(b""))
    assert called(answer, timeout_s=0.01) == (UNREACHABLE, "", "TimeoutError")


@pytest.mark.parametrize(
    "error", [httpx.ReadError("cut"), httpx.InvalidURL("odd"), UnicodeError("idna"), LookupError()]
)
def test_whatever_keeps_an_answer_from_coming_is_told(error: Exception) -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        raise error

    assert called(answer) == (UNREACHABLE, "", type(error).__name__)


@pytest.mark.parametrize(
    "headers",
    [
        {"Location": "http://xn--a/"},
        {"Location": "http://[::1"},
        {"Set-Cookie": "a=b; Max-Age=x"},
        {"Content-Encoding": "gzip"},
    ],
)
def test_odd_headers_end_nothing(headers: dict[str, str]) -> None:
    answer = httpx.Response(302, headers=headers, stream=Body(b"x" * limits.RECEIVER_BYTES_MAX))
    assert called(answer)[0] in (302, UNREACHABLE)
