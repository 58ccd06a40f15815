"""The v5 signature: one plain SHA-256, not an HMAC, in hex.

    sig = hex(sha256("appkey=" + APPKEY + "&random=" + RANDOM + "&time=" + TIME))

Two things follow from its shape. TIME ends the text, so whoever lets anything but digits pass as a
time invites hash length extension (`read_time` doesn't). And the rest of the body is not signed.

Source: Tencent Cloud SMS, "Pull SMS Status" (382/5810); its worked example is a test.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

__all__ = ["fitting", "sign"]

_DUMMY_APPKEYS: Final = ("0" * 32,)


def sign(appkey: str, random: str, time: str | int) -> str:
    """Return the signature in lower-case hex.

    Args:
        random: the query's `random`, percent-decoded, character for character: "012345" and
            "12345" sign differently.
        time: the body's `time`; as text, exactly its digits.
    """
    return sha256(_signed_text(appkey, random, time)).hexdigest()


def fitting(sig: str, appkeys: Iterable[str], random: str, time: str | int) -> int | None:
    """The place of the appkey that `sig`, in hex of either case, fits; None if it fits none.

    Every key is tried and compared in constant time. Without any key (an unknown application) the
    same work is done for nothing, so the time it takes tells nobody which applications exist.
    """
    try:
        given = bytes.fromhex(sig)
    except ValueError:
        return None
    # fromhex skips white space; with any in 64 characters there are too few bytes.
    if len(sig) != 64 or len(given) != 32:
        return None
    live = tuple(appkeys)
    fits = -1
    for place, appkey in enumerate(live or _DUMMY_APPKEYS):
        due = sha256(_signed_text(appkey, random, time)).digest()
        fits = place if hmac.compare_digest(due, given) else fits
    return fits if live and fits >= 0 else None


def _signed_text(appkey: str, random: str, time: str | int) -> bytes:
    return f"appkey={appkey}&random={random}&time={time}".encode()
