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


class Joined(msgspec.Struct, frozen=True):
    """Parts of one message as one report.

    Attributes:
        whole: whether all of them were there.
    """

    report: Report
    whole: bool


def join(pieces: Sequence[Piece]) -> Joined:
    """One report of some parts of a message, in the order they came; at least one.

    Of two texts with the same number the first counts.
    """
    count = pieces[0].parts
    by_number: dict[int, Report] = {}
    for piece in pieces:
        by_number.setdefault(piece.number, piece.report)
    whole = len(by_number) == count
    parts = [by_number[number] for number in sorted(by_number)]
    raw = b",".join([beside(part.raw, part.query) for part in parts])
    if pieces[0].report.kind is Kind.REPLY:
        begins = by_number[min(by_number)]
        stands = msgspec.structs.replace(begins, text=_text(by_number, count))
    else:
        stands = _decides(pieces, by_number, count)
    said = msgspec.structs.replace(
        stands, part=None, raw=raw, index=None, data=b"", coding="", query=b""
    )
    return Joined(said, whole)


def sorted_out(pieces: Iterable[Piece]) -> list[list[Piece]]:
    """The messages that these are of, each with its pieces in the order they came.

    A sender gives a reference again in time. So a text under a number that is there already with
    another text begins a new message, and what comes then is of that one, if it lacks it: the
    older one lost a part on its way.
    """
    messages: list[list[Piece]] = []
    of: dict[tuple[str, ...], list[list[Piece]]] = {}
    for piece in pieces:
        known = of.setdefault(piece.key, [])
        mine = next((each for each in reversed(known) if _takes(each, piece)), None)
        if mine is None:
            mine = []
            known.append(mine)
            messages.append(mine)
        mine.append(piece)
    return messages


def _takes(message: Sequence[Piece], piece: Piece) -> bool:
    same = [each.report for each in message if each.number == piece.number]
    # A carrier may say of one part first this and then that: both are of one message.
    return piece.report.kind is Kind.DELIVERY_STATUS or all(
        each.text == piece.report.text for each in same
    )


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
    return msgspec.structs.replace(last, state=State.FAIL, errmsg=UNKNOWN, description=said)
