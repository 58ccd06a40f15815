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
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from pullstatus import limits
from pullstatus.errors import InvalidBody, InvalidRecord
from pullstatus.json import mend_text
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.tencent import read_callback, read_strictly
from pullstatus.records import Kind

__all__ = ["sift"]

_BLANK: Final = b" \t\r\n"
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


def sift(body: bytes, now_s: int) -> Receipts:
    """Read the records of a callback's body; what is none is `unread`.

    An empty body or array holds nothing, and nothing of it is unread.

    Args:
        body: of at most `limits.INGEST_BODY_BYTES_MAX` bytes.
        now_s: when it arrived, in Unix seconds: the time of a record that tells none.
    """
    try:
        return read_callback(body, now_s)
    except (InvalidBody, InvalidRecord) as error:
        whole = _unread(body, error)
    # UTF-16 has no bytes to cut at.
    text = mend_text(body) if body.startswith(_UTF16_MARKS) else body.removeprefix(b"\xef\xbb\xbf")
    text = text.strip(_BLANK)
    if text[:1] == b"[":
        return _join(_read_array(text, now_s))
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


def _read_array(text: bytes, now_s: int) -> Iterator[_Found]:
    parts = _split(text)
    return _read_broken(text, now_s) if parts is None else _read_parts(parts, now_s)


# --- an array -------------------------------------------------------------------------------------

_TOGETHER: Final = 100  # parts that are read at once, as long as none of them is bad
_ALONE_MAX: Final = limits.INGEST_RECORDS_MAX  # parts that are read one by one; some 0.1 s
_PASSED_OVER: Final = (
    f"stands behind {_ALONE_MAX:,} parts among which many could not be read: a retry looks at it"
)


def _read_parts(parts: Sequence[bytes], now_s: int) -> Iterator[_Found]:
    """Read them in runs, and those of a run with a bad one by themselves.

    Of what is behind the last that may be, only runs are read that need no repair.
    """
    left = _ALONE_MAX
    passed: list[bytes] = []
    for start in range(0, len(parts), _TOGETHER):
        run = parts[start : start + _TOGETHER]
        found = _read(
            b",".join(run), partial(read_callback, now_s=now_s) if left else read_strictly
        )
        if passed and isinstance(found, Receipts):
            yield _Found(len(passed), Unread(b",".join(passed), _PASSED_OVER))
            passed = []
        if isinstance(found, Receipts):
            yield _Found(len(run), found)
        elif left:
            left = max(0, left - len(run))
            for part in run:
                yield _Found(1, _read(part, partial(read_callback, now_s=now_s)))
        else:
            passed += run
    if passed:
        yield _Found(len(passed), Unread(b",".join(passed), _PASSED_OVER))


def _split(text: bytes) -> list[bytes] | None:
    try:
        return [bytes(raw) for raw in _decode_raws(text)]
    except _NO_JSON:
        return None


def _read(parts: bytes, read: Callable[[bytes], Receipts]) -> Receipts | Unread:
    """One part, or some, as if there were no others."""
    try:
        return read(b"[" + parts + b"]")
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
_NO_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


# --- an array that is no JSON ---------------------------------------------------------------------

# Behind an object, or before one.
_BETWEEN: Final = re.compile(rb"(?<=\})[ \t\r\n,\]]*+|,[ \t\r\n]*+(?=\{)")
_PIECES_MAX: Final = 8  # of one record: objects within it, or what looks like one in its texts
_CUTS_MAX: Final = 4 * limits.INGEST_RECORDS_MAX  # the rest is one piece; some 0.2 s for the worst
# Each byte of a record as it is stored is spelled with at most six, blanks aside.
_RECORD_BYTES_MAX: Final = 8 * limits.RECORD_BYTES_MAX


def _read_broken(text: bytes, now_s: int) -> Iterator[_Found]:
    pieces = _pieces(text)
    rest: slice | None = None
    place = 0
    while place < len(pieces):
        found, stop = _record_at(text, pieces[place : place + _PIECES_MAX], now_s)
        if found is None:
            rest = slice(pieces[place].start if rest is None else rest.start, pieces[place].stop)
            place += 1
            continue
        if rest is not None:
            yield _Found(1, Unread(text[rest].strip(_BLANK), _BROKEN))
            rest = None
        yield _Found(1, found)
        place += stop
    if rest is not None:
        yield _Found(1, Unread(text[rest].strip(_BLANK), _BROKEN))


_BROKEN: Final = "must be JSON, as the array around it"


def _pieces(text: bytes) -> list[slice]:
    """Where an array can be cut, leaving out what lies between."""
    cuts = list(islice(_BETWEEN.finditer(text), _CUTS_MAX))
    starts = [1, *(cut.end() for cut in cuts)]
    stops = [*(cut.start() for cut in cuts), len(text)]
    return [
        slice(start, stop)
        for start, stop in zip(starts, stops, strict=True)
        if text[start:stop].strip(b" \t\r\n,]")
    ]


def _record_at(text: bytes, pieces: list[slice], now_s: int) -> tuple[Receipts | None, int]:
    """The record that begins with the first piece, and how many pieces it takes; None if none."""
    for count, piece in enumerate(pieces, start=1):
        if piece.stop - pieces[0].start > _RECORD_BYTES_MAX:
            break
        part = text[pieces[0].start : piece.stop]
        if count == 1 or _is_json(part):  # a single piece may yet be mended
            found = _read(part, partial(read_callback, now_s=now_s))
            if isinstance(found, Receipts):
                return found, count
    return None, 1


def _is_json(data: bytes) -> bool:
    try:
        _decode_raw(data)
    except _NO_JSON:
        return False
    return True
