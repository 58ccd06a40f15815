"""What the server's signed v5 calls share: how one is read, who it says that it is from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pullstatus.apps.admission import Call
from pullstatus.apps.values import Purpose
from pullstatus.errors import Refused, SignatureWrong
from pullstatus.server.head import Header
from pullstatus.server.http import Receive, Scope, read_body
from pullstatus.server.words import ENCODING
from pullstatus.wire.v5.codes import Result
from pullstatus.wire.v5.signature import fitting
from pullstatus.wire.v5.signed import SignedRequest, check_time

SIGNATURE_WRONG: Final = (
    "sig is not the SHA-256 of appkey=...&random=...&time=... for this application"
)

TRIES: Final = {
    int(Result.SIG_MISMATCH): "signature",
    int(Result.UNKNOWN_SDKAPPID): "application",
}
"""Which refusals are failed tries, and what they have wrong."""


async def read_posted(scope: Scope, receive: Receive, bytes_max: int) -> bytes:
    """The body of a call, which is a POST (checks 2 and 3).

    Raises:
        Refused: it is another method, or the body is encoded.
        BodyTooLarge, Overloaded, Disconnected: as by `read_body`.
    """
    if scope["method"] != "POST":
        raise Refused(Result.BAD_HTTP, "this call is a POST with a JSON body")
    check_encoding(scope["headers"])
    return await read_body(scope, receive, bytes_max)


def check_encoding(headers: Iterable[Header]) -> None:
    """Refuse a body that is encoded; of a header that is there twice the first counts."""
    said = next((value for name, value in headers if name == ENCODING), b"identity")
    if said != b"identity":
        raise encoded()


def encoded() -> Refused:
    """A refusal of a body that is encoded."""
    return Refused(Result.BAD_HTTP, "send the body without Content-Encoding")


def call_of(request: SignedRequest, address: str, now_ms: int, purpose: Purpose) -> Call:
    """What admission wants to know of a request (checks 9 to 16)."""

    def proof(appkeys: Sequence[str]) -> int:
        place = fitting(request.sig, appkeys, request.random, request.time_text)
        if place is None:
            raise SignatureWrong(SIGNATURE_WRONG)
        check_time(request, now_ms // 1000)
        return place

    return Call(request.sdkappid, address, proof, request.time, now_ms, purpose)
