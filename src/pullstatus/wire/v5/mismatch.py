"""Why a signature does not fit: the known mistakes, tried one by one.

Each mistake signs some other text. If one of them gives the signature at hand, that was it. Source
of the mistakes: protocol.md sections 3 and 13, and what published clients do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import product
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.errors import Refused
from pullstatus.wire.v5.signed import read_body, read_query, read_sig, read_time, unquoted

__all__ = ["Mismatch", "explain", "explain_request", "signed_text"]

_NOTHING: Final = msgspec.Raw()


class Mismatch(msgspec.Struct, frozen=True):
    """What is wrong with a signature, or with its time.

    mistake  what was done
    fix      what to do instead
    """

    mistake: str
    fix: str


_APPKEYS: Final = (
    ("{} ", "a blank after the appkey", "cut it off: it was copied along"),
    (" {}", "a blank before the appkey", "cut it off: it was copied along"),
    ("{}\n", "a line end after the appkey", "cut it off: it comes from reading a file"),
    ("{}\r\n", "a line end after the appkey", "cut it off: it comes from reading a file"),
    ('"{}"', "quotes around the appkey", "cut them off: they come from a settings file"),
)
_CLOCK_UNITS: Final = ((1000, "milliseconds"), (1_000_000, "microseconds"))


def explain(
    sig: str,
    appkey: str,
    random: str,
    time: str,
    *,
    mobiles: Sequence[str] = (),
    sends: bool = False,
    now_s: int | None = None,
) -> list[Mismatch]:
    """Say why a request with this signature would be refused.

    Args:
        sig: the signature at hand.
        appkey: the right one.
        random: the query's `random`, as it was sent.
        time: the body's `time`, its digits as they were sent.
        mobiles: the numbers in the request's body, in their order.
        sends: the call is one that sends, which signs them; a pull doesn't.
        now_s: the server's clock in Unix seconds; None leaves the age of `time` out.

    Returns:
        Nothing if it would be accepted; otherwise what was found, at least that nothing known fits.
    """
    found = []
    if not _fits(sig, signed_text(appkey, random, time, mobiles if sends else ())):
        found.append(_why(sig, _Request(appkey, random, time, mobiles, sends)))
    found += _clock(time, now_s)
    return found


def explain_request(
    query: bytes,
    body: bytes,
    appkey: str,
    *,
    mobiles: Sequence[str] = (),
    sends: bool = False,
    now_s: int | None = None,
) -> list[Mismatch]:
    """Say why a request would be refused: it is read as the server reads it, then as by `explain`.

    Args:
        query: the query string as it came, without "?".
        body: as it came.
        mobiles: the numbers that count, if not those of the body.

    Returns:
        Nothing if it would be accepted, as far as its query, `sig` and `time` go.
    """
    try:
        _, random = read_query(query)
        members = read_body(body, _decode_body)
        sig = read_sig(bytes(members.sig))
        _, time = read_time(bytes(members.time))
    except Refused as error:
        unread = "the request cannot be read, so its signature is not looked at"
        return [Mismatch(f"{unread}: {int(error.result)}", error.errmsg)]
    numbers = mobiles or list(_numbers(members))
    return explain(sig, appkey, random, time, mobiles=numbers, sends=sends, now_s=now_s)


class _Body(msgspec.Struct):
    sig: msgspec.Raw = _NOTHING
    time: msgspec.Raw = _NOTHING
    mobile: msgspec.Raw = _NOTHING
    tel: msgspec.Raw = _NOTHING


_decode_body: Final = msgspec.json.Decoder(_Body).decode


class _Receiver(msgspec.Struct):
    mobile: msgspec.Raw = _NOTHING


_decode_receivers: Final = msgspec.json.Decoder(_Receiver | list[_Receiver]).decode


def _numbers(members: _Body) -> Iterator[str]:
    """The numbers of a question, or those to which a call sends; each a text or an integer."""
    try:
        found = _decode_receivers(members.tel) if bytes(members.tel) else []
    except msgspec.ValidationError:
        found = []  # Nothing else is a list of them; who sends is told so by the call.
    receivers = found if isinstance(found, list) else [found]
    for token in (members.mobile, *(receiver.mobile for receiver in receivers)):
        if bytes(token):
            yield unquoted(bytes(token)).decode()


def signed_text(appkey: str, random: str, time: str, mobiles: Sequence[str] = ()) -> str:
    """The text that is signed."""
    tail = f"&mobile={','.join(mobiles)}" if mobiles else ""
    return f"appkey={appkey}&random={random}&time={time}{tail}"


def _fits(sig: str, text: str) -> bool:
    return sig.lower() == sha256(text.encode()).hexdigest()


class _Request(msgspec.Struct, frozen=True):
    appkey: str
    random: str
    time: str
    mobiles: Sequence[str]
    sends: bool


def _why(sig: str, request: _Request) -> Mismatch:
    if len(sig) != 64 or set(sig.lower()) - set("0123456789abcdef"):
        return Mismatch(
            f"sig has {len(sig)} characters and should be 64 hexadecimal digits",
            "send the SHA-256 in hex, whole, not in base64",
        )
    for text, mistakes in _mistaken(request):
        if _fits(sig, text):
            said = " and ".join(mistake for mistake, _ in mistakes)
            return Mismatch(f"it was signed with {said}", "; ".join(fix for _, fix in mistakes))
    return Mismatch(
        "it fits no known mistake",
        "look at the appkey first: is it the one of this sdkappid, or was it replaced?",
    )


_Mistakes = list[tuple[str, str]]
_Part = tuple[str, str, str]  # of the text, the mistake that leads to it, what to do instead


def _mistaken(request: _Request) -> Iterator[tuple[str, _Mistakes]]:
    """Texts that were signed by mistake, single mistakes first, then two or more at once."""
    found = []
    parts = (_appkeys(request), _randoms(request), _times(request), _tails(request))
    for chosen in product(*map(list, parts)):
        appkey, random, time, tail = (text for text, _, _ in chosen)
        mistakes = [(mistake, fix) for _, mistake, fix in chosen if mistake]
        found.append((f"appkey={appkey}&random={random}&time={time}{tail}", mistakes))
    found.sort(key=lambda one: len(one[1]))
    yield from found
    mobiles = request.mobiles if request.sends else ()
    right = signed_text(request.appkey, request.random, request.time, mobiles)
    fix = "sign appkey=...&random=...&time=..., with these names in this order"
    for old, new, mistake in (
        ("appkey=", "app_key=", "app_key= in place of appkey="),
        ("&random=", "&rand=", "rand= in place of random="),
        ("&time=", "&timestamp=", "timestamp= in place of time="),
        ("&", "", "no & between the parts"),
    ):
        yield right.replace(old, new), [(mistake, fix)]
    shuffled = f"appkey={request.appkey}&time={request.time}&random={request.random}"
    yield shuffled, [("time before random", fix)]


def _appkeys(request: _Request) -> Iterator[_Part]:
    appkey = request.appkey
    yield appkey, "", ""
    for shape, mistake, fix in _APPKEYS:
        yield shape.format(appkey), mistake, fix
    for other in {appkey.upper(), appkey.lower()} - {appkey}:
        yield other, "the appkey in other letters", "use it exactly as it was given"


def _randoms(request: _Request) -> Iterator[_Part]:
    random = request.random
    yield random, "", ""
    fix = "sign random character for character as it is in the address"
    if _is_number(random):
        if str(int(random)) != random:
            yield str(int(random)), "random as an integer, without its leading zeros", fix
        for width in range(len(random) + 1, 11):
            yield random.zfill(width), f"random with zeros in front, {width} digits", fix
    yield "", "an empty random", fix


def _is_number(text: str) -> bool:
    """Whether it is one, of no more digits than a random: Python reads none of over 4,300."""
    return text.isascii() and text.isdigit() and len(text) <= limits.RANDOM_CHARS_MAX


def _times(request: _Request) -> Iterator[_Part]:
    time = request.time
    yield time, "", ""
    fix = "sign the same time that is in the body, in whole seconds"
    if not _is_number(time):
        return
    for unit, name in _CLOCK_UNITS:
        yield f"{time}{'0' * (len(str(unit)) - 1)}", f"time in {name}", fix
        if int(time) >= 10**12:
            yield str(int(time) // unit), f"time in seconds, while the body has {name}", fix
    for off in (-2, -1, 1, 2):
        yield str(int(time) + off), f"a time {abs(off)} s {'later' if off > 0 else 'earlier'}", fix
    yield f"{time}.0", "time as a fraction", fix


def _tails(request: _Request) -> Iterator[_Part]:
    none, empty, full = "", "&mobile=", f"&mobile={','.join(request.mobiles)}"
    if request.sends:
        fix = "a call that sends signs &mobile= and the numbers"
        yield full, "", ""
        yield none, "no mobile", fix
        yield empty, "an empty mobile", fix
    else:
        fix = "a pull signs no mobile, even if its body has one"
        yield none, "", ""
        yield empty, "an empty &mobile= at its end", fix
        yield full, "the mobile at its end", fix


def _clock(time: str, now_s: int | None) -> list[Mismatch]:
    if not _is_number(time):
        return [Mismatch("time is not an integer", "send Unix seconds, digits only")]
    if now_s is None:
        return []
    ahead_s = int(time) - now_s
    if abs(ahead_s) <= limits.SKEW_S_MAX:
        return []
    for unit, name in _CLOCK_UNITS:
        if abs(int(time) - now_s * unit) <= 366 * 86400 * unit:
            return [Mismatch(f"time is in {name}: 1021", "send Unix seconds")]
    side = "ahead of" if ahead_s > 0 else "behind"
    return [
        Mismatch(
            f"time is {abs(ahead_s)} s {side} the server's clock: 1021",
            f"set the clock right; {limits.SKEW_S_MAX} s either way are accepted",
        )
    ]
