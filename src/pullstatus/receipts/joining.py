"""What a gateway reports in parts becomes one report, whatever the order in which they come. Pure.

A long reply comes as several texts, each numbered: joined, it is one text. A message that was sent
as several SMS is reported part by part: it has arrived only if every part has, and the first part
that has not decides what is said of it.

A part that comes twice is one. When no more are waited for, what is there is joined all the same,
and marked: a text by `MISSING` wherever parts are not there, a status in its description.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import msgspec

from pullstatus.receipts.reports import Report, State, beside
from pullstatus.receipts.text import decoded_together
from pullstatus.records import Kind

MISSING: Final = "[…]"
"""Stands in a text for parts of it that never came, however many are missing in a row."""

UNKNOWN: Final = "UNKNOWN"
"""The `errmsg` of a message of which no part is known to have failed, and not all to have come."""


class Piece(NamedTuple):
    """A part of a message, and whose.

    Attributes:
        key: what parts of one message have in common, and no others have at the same time.
        parts: how many the message has.
        number: which one this is, from 1.
        seq: by which whoever asks knows it.
    """

    key: tuple[str, ...]
    parts: int
    number: int
    report: Report
    seq: int


def is_whole(pieces: Sequence[Piece]) -> bool:
    """Whether some parts of a message, at least one, are all of it."""
    return len({piece.number for piece in pieces}) == pieces[0].parts


def join(pieces: Sequence[Piece]) -> Report:
    """One report of some parts of a message, in the order they came; at least one.

    Of two texts with the same number the first counts.
    """
    count = pieces[0].parts
    by_number: dict[int, Report] = {}
    for piece in pieces:
        by_number.setdefault(piece.number, piece.report)
    parts = [by_number[number] for number in sorted(by_number)]
    raw = b",".join([beside(part.raw, part.query) for part in parts])
    if pieces[0].report.kind is Kind.REPLY:
        begins = by_number[min(by_number)]
        stands = msgspec.structs.replace(begins, text=_text(by_number, count))
    else:
        stands = _decides(pieces, by_number, count)
    return msgspec.structs.replace(
        stands, part=None, raw=raw, index=None, data=b"", coding="", query=b""
    )


def sorted_out(pieces: Iterable[Piece]) -> list[list[Piece]]:
    """The messages that these are of, each with its pieces in the order they came.

    A sender gives a reference again in time. So a text under a number that is there already with
    another text begins a new message, and what comes then is of that one, if it lacks it: the
    older one lost a part on its way.
    """
    messages: list[list[Piece]] = []
    of: dict[tuple[str, ...], _Messages] = {}
    for piece in pieces:
        # A carrier may say of one part first this and then that: both are of one message.
        text = "" if piece.report.kind is Kind.DELIVERY_STATUS else piece.report.text
        mine = of.setdefault(piece.key, _Messages()).taking(piece.number, text)
        if not mine:
            messages.append(mine)
        mine.append(piece)
    return messages


class _Messages:
    """Those of one key, in the order they began: whoever can send SMS can begin any number."""

    def __init__(self) -> None:
        self._pieces: list[list[Piece]] = []
        self._having: dict[tuple[int, str], int] = {}  # by number and text, the newest
        self._lacking: dict[int, _Lacking] = {}  # by number

    def taking(self, number: int, text: str) -> list[Piece]:
        """The newest that has this text under this number, or lacks it; else one that begins."""
        lacking = self._lacking.setdefault(number, _Lacking())
        having = self._having.get((number, text), -1)
        if having > lacking.newest(len(self._pieces)):
            return self._pieces[having]
        taken = lacking.take()
        if taken == len(self._pieces):
            self._pieces.append([])
        self._having[number, text] = taken
        return self._pieces[taken]


class _Lacking:
    """Which messages of a key lack a number: a stack, since it is the newest that gets it."""

    def __init__(self) -> None:
        self._runs: list[range] = []
        self._seen = 0  # messages

    def newest(self, count: int) -> int:
        """Of so many as there are now; -1: none."""
        if self._seen < count:  # what has begun since then lacks it
            self._runs.append(range(self._seen, count))
            self._seen = count
        return self._runs[-1][-1] if self._runs else -1

    def take(self) -> int:
        """The newest, which lacks it no more; if none does, one that begins with it."""
        if not self._runs:
            self._seen += 1
            return self._seen - 1
        run = self._runs.pop()
        if len(run) > 1:
            self._runs.append(run[:-1])
        return run[-1]


def _text(by_number: dict[int, Report], count: int) -> str:
    found: list[str] = []
    numbers = range(1, count + 1)
    for coding, run in groupby(numbers, lambda number: _coding(by_number.get(number))):
        if coding is None:
            found.append(MISSING)
        elif coding:
            found.append(decoded_together([by_number[number].data for number in run], coding))
        else:
            found.extend(by_number[number].text for number in run)
    return "".join(found)


def _coding(part: Report | None) -> str | None:
    """What the bytes of a part are in; "": it has only a text, None: it is not there."""
    return None if part is None else part.coding


def _decides(pieces: Sequence[Piece], by_number: dict[int, Report], count: int) -> Report:
    """The status that stands for all of them."""
    failed = next((each.report for each in pieces if each.report.state is State.FAIL), None)
    if failed is not None:
        return failed
    _, last = max(by_number.items(), key=lambda each: (each[1].at_s or 0, each[0]))
    if len(by_number) == count:
        return last
    said = f"{len(by_number)} of {count} parts were reported, and these had arrived"
    return msgspec.structs.replace(
        last, state=State.FAIL, errmsg=UNKNOWN, code="", description=said
    )
