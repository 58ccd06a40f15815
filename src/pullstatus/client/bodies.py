"""The body of an answer, read within bounds of bytes and of time."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable
from typing import Final

import httpx

from pullstatus import limits
from pullstatus.client.deadline import due
from pullstatus.client.exchange import Answer, Look


def outcome_of(response: httpx.Response, content: bytes) -> Answer:
    """A response, and what was read of its body."""
    return Answer(response.status_code, _headers(response.headers), content)


def _headers(headers: httpx.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


class Whole:
    """The body of an answer. No answer of a service is endless, or slower than the slowest line.

    Raises:
        httpx.TransportError: what comes is; so no whole answer came.
    """

    def __init__(self, response: httpx.Response, timeout: httpx.Timeout) -> None:
        self._response = response
        self._unpack = _unpacking(response)
        self._patience_s = math.inf if timeout.read is None else timeout.read
        self._since_s = time.monotonic()
        self._came = 0
        self._content = bytearray()
        self._wait()

    def add(self, part: bytes) -> None:
        """What came next of it."""
        self._came += len(part)
        self._content += self._unpack(part, limits.ANSWER_BYTES_MAX + 1 - len(self._content))
        if max(self._came, len(self._content)) > limits.ANSWER_BYTES_MAX:
            raise httpx.ReadError(f"over {limits.ANSWER_BYTES_MAX >> 20} MiB came")
        self._wait()

    def _wait(self) -> None:
        """For more, for as long as what came has earned."""
        due_s = max(self._patience_s, self._came / limits.ANSWER_BYTES_PER_S_MIN)
        took_s = time.monotonic() - self._since_s
        if took_s > due_s:
            raise httpx.ReadTimeout(
                f"less than {limits.ANSWER_BYTES_PER_S_MIN} bytes a second came for {took_s:.0f} s"
            )
        due(self._response, self._since_s + due_s)

    def answer(self) -> Answer:
        """The answer, of which all came."""
        return outcome_of(self._response, bytes(self._content))


class Looked:
    """The body of what is only looked at: bounded in bytes and in time, however it trickles.

    Raises:
        httpx.TransportError: it is late, or packed, which was not asked for.
    """

    def __init__(self, response: httpx.Response, step: Look) -> None:
        if _encoding(response):
            raise httpx.ReadError(_NOT_ASKED_FOR)
        self._response = response
        self._bytes_max = step.bytes_max
        self._due_s = time.monotonic() + step.wait_s
        self._content = b""

    def ends_with(self, part: bytes) -> bool:
        """Whether that is as much as anybody looks at."""
        self._content += part
        if time.monotonic() > self._due_s:
            raise httpx.ReadTimeout("no whole answer came in time")
        return len(self._content) >= self._bytes_max

    def answer(self) -> Answer:
        """The answer, as far as it was looked at."""
        return outcome_of(self._response, self._content[: self._bytes_max])


_NOT_ASKED_FOR: Final = "it is packed in a way that was not asked for"
_PACKED: Final = ("gzip", "x-gzip", "deflate")
_GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32


def _encoding(response: httpx.Response) -> str:
    """What is to be unpacked; "": nothing is, or somebody did."""
    said: str = response.headers.get("Content-Encoding", "").strip().lower()
    return "" if said == "identity" or response.is_stream_consumed else said


def _unpacking(response: httpx.Response) -> Callable[[bytes, int], bytes]:
    """What makes of some bytes of a body those that were meant, at most so many.

    httpx does so without a bound, nor does it give word of bytes that unpack to nothing.

    Raises:
        httpx.ReadError: they are packed twice, or by what nobody asked for.
    """
    encoding = _encoding(response)
    if not encoding:
        return lambda part, _most: part
    if encoding not in _PACKED:
        raise httpx.ReadError(_NOT_ASKED_FOR)
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)

    def unpack(part: bytes, most: int) -> bytes:
        try:
            found = unpacker.decompress(part, most)
        except zlib.error as error:
            raise httpx.ReadError(f"it is no {encoding}") from error
        if unpacker.unused_data:
            raise httpx.ReadError(f"something comes behind its {encoding}")
        return found

    return unpack
