"""What `pullstatus push` reads: NDJSON or CSV, one record after the other, as lines of JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final

import msgspec

from pullstatus import limits
from pullstatus.cli.pull_targets import COLUMNS, EXTRA
from pullstatus.errors import InvalidBody
from pullstatus.records import Kind

BOM: Final = b"\xef\xbb\xbf"
OPTIONAL: Final = frozenset({"ext"})  # not sent when empty


class Line(msgspec.Struct, frozen=True):
    """A record: the line it begins at, counted from 1, its JSON, and what is wrong with it."""

    number: int
    json: bytes
    fault: str = ""


def read_ndjson(file: IO[bytes]) -> Iterator[Line]:
    """One record on a line; empty lines are skipped."""
    for number, line in enumerate(file, 1):
        content = (line.removeprefix(BOM) if number == 1 else line).strip(b" \t\r\n")
        if content:
            yield _sized(number, content)


def read_csv(file: IO[bytes], kind: Kind) -> Iterator[Line]:
    """One record on a row, members named in the first; what `pullstatus pull` writes is fine.

    Raises:
        InvalidBody: the first row does not name the members, or the text is not UTF-8.
    """
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        yield from _rows(text, kind)
    except UnicodeDecodeError:
        raise InvalidBody("the CSV is not UTF-8") from None
    except csv.Error as error:
        raise InvalidBody(f"this is no CSV: {error}") from None
    finally:
        text.detach()  # or it would close the file, which is not ours


def _rows(text: Iterable[str], kind: Kind) -> Iterator[Line]:
    rows = csv.reader(text, strict=True)
    names = next(rows, [])
    missing = [name for name in COLUMNS[kind] if name not in {*names, "ext", "extend"}]
    if missing:
        raise InvalidBody(
            f"the first row must name the columns; there is none named {', '.join(missing)}"
        )
    number = rows.line_num + 1
    for row in rows:
        if row:
            yield _record(number, names, row)
        number = rows.line_num + 1


def _record(number: int, names: list[str], row: list[str]) -> Line:
    members: dict[str, Any] = {}
    if len(row) != len(names):
        fault = f"has {len(row)} cells where there are {len(names)} columns"
        return Line(number, msgspec.json.encode(row), fault)
    for name, cell in zip(names, row, strict=True):
        if name == EXTRA:
            continue
        if name == "time" and cell.isascii() and cell.isdigit() and len(cell) < 20:
            members[name] = int(cell)
        elif cell or name not in OPTIONAL:
            members[name] = cell
    extra = row[names.index(EXTRA)] if EXTRA in names else ""
    if extra:
        try:
            members |= msgspec.json.decode(extra, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, UnicodeEncodeError):
            return Line(number, msgspec.json.encode(row), f"{EXTRA} must be a JSON object")
    return _sized(number, msgspec.json.encode(members))


def _sized(number: int, content: bytes) -> Line:
    if len(content) >= limits.INGEST_BODY_BYTES_MAX:
        return Line(number, content[:100], f"has over {limits.INGEST_BODY_BYTES_MAX - 1} bytes")
    return Line(number, content)


def batches(lines: Iterable[Line], count_max: int) -> Iterator[list[Line]]:
    """The lines in batches that one request may carry."""
    batch: list[Line] = []
    size = 0
    for line in lines:
        if batch and (
            len(batch) == count_max or size + len(line.json) + 1 > limits.INGEST_BODY_BYTES_MAX
        ):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line.json) + 1
    if batch:
        yield batch
