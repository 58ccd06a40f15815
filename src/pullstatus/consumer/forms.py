"""How records are written into files: NDJSON for programs, CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import re

import msgspec

from pullstatus import Page
from pullstatus.client.records import Record
from pullstatus.records import MEMBERS, Kind

COLUMNS = {kind: tuple(member.name for member in MEMBERS[kind]) for kind in Kind}
EXTRA = "extra"  # the column of members that have no column
INTEGER_END = 10**19  # from here on a cell is read as text
BOM = b"\xef\xbb\xbf"
FORMULA = re.compile(r"(^|[;\t\r\n])(?=[\s\0\ufeff\"]*[=+\-@\uff1d\uff0b\uff0d\uff20])")
LINE_AND_TAB = ("\t", "\r", "\n")


class Ndjson:
    """One record on a line, as it was sent."""

    def head(self, kind: Kind) -> bytes:  # noqa: ARG002 - for others it depends on the kind
        """What stands at the start of a file."""
        return b""

    def begins(self, content: bytes, kind: Kind) -> bool:  # noqa: ARG002
        """Whether a file that begins with `content` can be gone on with."""
        return True

    def rows(self, page: Page[Record]) -> bytes:
        """The records of a page."""
        return b"".join(one_line(record.json) + b"\n" for record in page)

    def complete(self, data: bytes) -> int:
        """How many bytes of `data`, which may be cut, are whole rows."""
        return data.rfind(b"\n") + 1


class Csv:
    """One record on a row; members without a column of their own are JSON in the last one.

    It is opened by spreadsheets, and strangers write what stands in its cells. So it begins with
    a byte order mark, without which Excel garbles Chinese, and a cell that a spreadsheet would
    take for a formula gets an apostrophe before it. Such a cell's exact value is in the last one,
    from which `pullstatus push` restores it.

    Args:
        exact: neither, for programs.
    """

    def __init__(self, *, exact: bool) -> None:
        self._exact = exact

    def head(self, kind: Kind) -> bytes:
        """The names of the columns."""
        return (b"" if self._exact else BOM) + _row([*COLUMNS[kind], EXTRA])

    def begins(self, content: bytes, kind: Kind) -> bool:
        """Whether a file that begins with `content` has the columns."""
        return content.removeprefix(BOM).startswith(_row([*COLUMNS[kind], EXTRA]))

    def rows(self, page: Page[Record]) -> bytes:
        """The records of a page."""
        columns = COLUMNS[page.kind]
        return b"".join(self._cells(record, columns) for record in page)

    def complete(self, data: bytes) -> int:
        """How many bytes of `data`, which may be cut, are whole rows."""
        end = data.rfind(b"\n")
        while end >= 0 and data.count(b'"', 0, end) % 2:  # within a quoted text
            end = data.rfind(b"\n", 0, end)
        return end + 1

    def _cells(self, record: Record, columns: tuple[str, ...]) -> bytes:
        members = msgspec.json.decode(record.json, type=dict[str, msgspec.Raw])
        cells: list[object] = []
        for name in columns:
            value = cell = getattr(record, name)
            if isinstance(value, str) and not self._exact:
                cell = harmless(value)
            raw = members.get(name)
            if raw is None or (cell == value and _same(raw, value)):
                members.pop(name, None)
            cells.append(cell)
        extra = msgspec.json.encode(members).decode() if members else ""
        if not self._exact:
            extra = extra.replace(";", "\\u003b")  # where a semicolon parts cells
        return _row([*cells, extra])


def harmless(text: str) -> str:
    """A text in which no spreadsheet sees a formula, wherever it parts cells."""
    text = FORMULA.sub(r"\1'", text)
    return f"'{text}" if text[:1] in LINE_AND_TAB else text


def _same(raw: msgspec.Raw, value: object) -> bool:
    """Whether a cell says all of a member; a number in place of a text has lost that it was one."""
    sent = msgspec.json.decode(raw)
    if isinstance(sent, int) and not 0 <= sent < INTEGER_END:
        return False
    return type(sent) is type(value) and sent == value


def one_line(json: bytes) -> bytes:
    """A record's JSON on one line."""
    return msgspec.json.format(json, indent=-1) if b"\n" in json or b"\r" in json else json


def _row(cells: list[object]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out).writerow(cells)
    return out.getvalue().encode()
