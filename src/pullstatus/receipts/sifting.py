"""Reads of a callback what can be read: its sender can mend nothing, and drops what is refused.

    [ good , bad , good ]  ->  two records, and one part that is unread

A body of which every record can be read goes no further than the first line of this. Of another one
each part is read by itself, as strictly as ever, so that no part depends on its neighbours. An
array that is no JSON is cut wherever an object may begin or end, and what reads as a record there
is one: inside a string nothing can, since its quotes are escaped. What lies between two records is
one part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from pullstatus import limits
from pullstatus.errors import InvalidBody, InvalidRecord
from pullstatus.json import NO_JSON, mend_in_steps, survey
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.tencent import read_in_steps, read_strictly
from pullstatus.records import Kind
from pullstatus.steps import Steps

__all__ = ["sift_in_steps"]

_BLANK: Final = b" \t\r\n"
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


def sift_in_steps(body: bytes, now_s: int) -> Steps[Receipts]:
    """Read the records of a callback's body; what is none is `unread`.

    An empty body or array holds nothing, and nothing of it is unread.

    Args:
        body: of at most `limits.INGEST_BODY_BYTES_MAX` bytes.
        now_s: when it arrived, in Unix seconds: the time of a record that tells none.
    """
    try:
        return (yield from read_in_steps(body, now_s))
    except (InvalidBody, InvalidRecord) as error:
        whole = _unread(body, error)
    if body.startswith(_UTF16_MARKS):
        text = yield from mend_in_steps(body)  # UTF-16 has no bytes to cut at
    else:
        text = body.removeprefix(b"\xef\xbb\xbf")
    text = text.strip(_BLANK)
    if text[:1] == b"[":
        return _join((yield from _read_array(text, now_s)))
    if not text:
        return Receipts(Kind.DELIVERY_STATUS, [], [])
    if text[:1] == b"{":
        whole = msgspec.structs.replace(whole, kind=Kind.REPLY)
        return Receipts(Kind.REPLY, [], [], unread=(whole,))
    return Receipts(Kind.DELIVERY_STATUS, [], [], unread=(whole,))


class _Found(NamedTuple):
    """What some neighbouring parts of an array say."""

    parts: int
    what: Receipts | Unread


def _read_array(text: bytes, now_s: int) -> Steps[list[_Found]]:
    shape = yield from survey(text, limits.CALLBACK_PARTS_MAX)
    if shape.parts > limits.CALLBACK_PARTS_MAX:
        return [_Found(1, Unread(text, _TOO_MANY))]
    parts = _split(text)
    yield
    if parts is None:
        return (yield from _read_broken(text, now_s))
    return (yield from _read_parts(parts, now_s))


# --- an array -------------------------------------------------------------------------------------

_TOGETHER: Final = 100  # parts that are read at once, as long as none of them is bad
_ALONE_MAX: Final = limits.INGEST_RECORDS_MAX  # parts that are read one by one; some 0.1 s
_PASSED_OVER: Final = (
    f"stands behind {_ALONE_MAX:,} parts among which many could not be read: a retry looks at it"
)


_TOO_MANY: Final = f"must be an array of at most {limits.CALLBACK_PARTS_MAX:,} parts"


def _read_parts(parts: Sequence[bytes | msgspec.Raw], now_s: int) -> Steps[list[_Found]]:
    """Read them in runs, and those of a run with a bad one by themselves.

    Of what is behind the last that may be, only runs are read that need no repair.
    """
    left = _ALONE_MAX
    all_found: list[_Found] = []
    passed: list[bytes] = []
    for start in range(0, len(parts), _TOGETHER):
        run = [bytes(part) for part in parts[start : start + _TOGETHER]]
        found = yield from _read(
            b",".join(run), partial(read_in_steps, now_s=now_s) if left else read_strictly
        )
        if passed and isinstance(found, Receipts):
            all_found.append(_passed_over(passed))
            passed = []
        if isinstance(found, Receipts):
            all_found.append(_Found(len(run), found))
        elif left:
            left = max(0, left - len(run))
            for part in run:
                alone = yield from _read(part, partial(read_in_steps, now_s=now_s))
                all_found.append(_Found(1, alone))
        else:
            passed += run
        yield
    if passed:
        all_found.append(_passed_over(passed))
    return all_found


def _passed_over(parts: list[bytes]) -> _Found:
    return _Found(len(parts), Unread(b",".join(parts), _PASSED_OVER))


def _split(text: bytes) -> list[msgspec.Raw] | None:
    try:
        return _decode_raws(text)
    except NO_JSON:
        return None


def _read(parts: bytes, read: Callable[[bytes], Steps[Receipts]]) -> Steps[Receipts | Unread]:
    """One part, or some, as if there were no others."""
    try:
        return (yield from read(b"[" + parts + b"]"))
    except (InvalidBody, InvalidRecord) as error:
        return _unread(parts, error)


def _unread(raw: bytes, error: InvalidBody | InvalidRecord) -> Unread:
    if isinstance(error, InvalidRecord):
        return Unread(raw, error.fix, error.member)
    return Unread(raw, str(error))


def _join(found: Iterable[_Found]) -> Receipts:
    entries: list[bytes] = []
    fingerprints: list[tuple[int, bytes]] = []
    unread: list[Unread] = []
    repaired = index = 0
    for parts, what in found:
        if isinstance(what, Unread):
            unread.append(msgspec.structs.replace(what, kind=Kind.DELIVERY_STATUS, index=index))
        else:
            entries += what.entries
            fingerprints += what.fingerprints or []
            repaired += what.repaired
        index += parts
    return Receipts(Kind.DELIVERY_STATUS, entries, fingerprints, repaired, tuple(unread))


_decode_raws: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_raw: Final = msgspec.json.Decoder(msgspec.Raw).decode


# --- an array that is no JSON ---------------------------------------------------------------------

# Behind an object, with its last brace, or before one. Each begins with a byte of its own, so that
# a body without any is looked through three times as fast as with a look back.
_BETWEEN: Final = re.compile(rb"\}[ \t\r\n,\]]*+|,[ \t\r\n]*+(?=\{)")
_BRACE: Final = ord("}")
_PIECES_MAX: Final = 8  # of one record: objects within it, or what looks like one in its texts
_CUTS_MAX: Final = 4 * limits.INGEST_RECORDS_MAX  # the rest is one piece; some 0.2 s for the worst


def _read_broken(text: bytes, now_s: int) -> Steps[list[_Found]]:
    pieces = yield from _pieces(text)
    all_found: list[_Found] = []
    rest: slice | None = None
    place = 0
    while place < len(pieces):
        found, stop = yield from _record_at(text, pieces[place : place + _PIECES_MAX], now_s)
        if found is None:
            rest = slice(pieces[place].start if rest is None else rest.start, pieces[place].stop)
            place += 1
            continue
        if rest is not None:
            all_found.append(_broken(text[rest]))
            rest = None
        all_found.append(_Found(1, found))
        place += stop
    if rest is not None:
        all_found.append(_broken(text[rest]))
    return all_found


def _broken(text: bytes) -> _Found:
    return _Found(1, Unread(text.strip(_BLANK), _BROKEN))


_BROKEN: Final = "must be JSON, as the array around it"


def _pieces(text: bytes) -> Steps[list[slice]]:
    """Where an array can be cut, leaving out what lies between."""
    pieces = []
    start = 1
    for cut in islice(_BETWEEN.finditer(text), _CUTS_MAX):
        pieces.append(slice(start, cut.start() + (text[cut.start()] == _BRACE)))
        start = cut.end()
        yield
    pieces.append(slice(start, len(text)))
    return [piece for piece in pieces if text[piece].strip(b" \t\r\n,]")]


def _record_at(text: bytes, pieces: list[slice], now_s: int) -> Steps[tuple[Receipts | None, int]]:
    """The record that begins with the first piece, and how many pieces it takes; None if none."""
    for count, piece in enumerate(pieces, start=1):
        if piece.stop - pieces[0].start > limits.RECORD_SENT_BYTES_MAX:
            break
        part = text[pieces[0].start : piece.stop]
        if count == 1 or _is_json(part):  # a single piece may yet be mended
            found = yield from _read(part, partial(read_in_steps, now_s=now_s))
            if isinstance(found, Receipts):
                return found, count
        yield
    return None, 1


def _is_json(data: bytes) -> bool:
    try:
        _decode_raw(data)
    except NO_JSON:
        return False
    return True
