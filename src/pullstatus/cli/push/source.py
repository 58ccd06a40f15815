"""What `pullstatus push` reads: NDJSON, a JSON array or CSV, as lines of JSON.

Bytes are told by what they begin with: gzip is unpacked, UTF-8 and UTF-16 byte order marks are
heeded, line ends may be LF, CR LF or CR. What can't be read is named once, for the whole file, not
refused line by line.

A file may still be written to. Its last line is *unfinished* if it has no line end, unless it is a
JSON object, which shows by itself that it is whole. An unfinished line is not read; it waits.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import os
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, cast

import msgspec

from pullstatus import limits
from pullstatus.consumer.forms import COLUMNS, EXTRA, INTEGER_END, one_line
from pullstatus.errors import InvalidBody, InvalidSetting
from pullstatus.records import MEMBERS, Kind

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

OMITTED: Final = frozenset(
    member.name for kind in Kind for member in MEMBERS[kind] if member.omitted
)  # not sent when empty
HEAD_BYTES: Final = 4096
ARRAY_CHARS_MAX: Final = 64 * 1024 * 1024
"""A JSON array is read at once, and a row of a CSV that goes over several lines; longer ones would
need memory that nobody planned for."""
LINE_CHARS_MAX: Final = limits.INGEST_BODY_BYTES_MAX + len("\r\n")
"""A line of as many with its end is too long for a record, and only its beginning is held."""

LINE_ENDS: Final = ("\n", "\r")
BLANKS: Final = " \t\r\n\ufeff"  # those of JSON, and what joined files have between them
UNREADABLE: Final = (OSError, EOFError, zlib.error)
UTF_16: Final = "utf-16"
UTF_16_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UTF_32_MARKS: Final = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
MAGIC_BYTES: Final = 4
GZIP: Final = b"\x1f\x8b"
FOREIGN: Final = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\xfd7zX": "compressed with xz",
    b"BZh": "compressed with bzip2",
}


class Line(msgspec.Struct, frozen=True):
    """A record: the line it begins at, counted from 1, its JSON, and what is wrong with it.

    In a JSON array `number` counts records, not lines.
    """

    number: int
    json: bytes
    fault: str = ""


class Source:
    """FILE, opened. What is no regular file is a pipe: read once, and finished when it ends.

    Args:
        path: as it was given.
        form: as `Records` says.
        kind: of its records.
        whole: its last line counts as it is.
        name: whose end tells how it is written, if that is not `path`.

    Attributes:
        path: as it was given.
        real: the file itself, where `path` is a link to it.

    Raises:
        InvalidSetting: it can't be read.
    """

    def __init__(
        self, path: Path, form: str | None, kind: Kind, *, whole: bool, name: str = ""
    ) -> None:
        self.path = path
        self.real = path.resolve() if path.is_symlink() else path
        self._form = form
        self._kind = kind
        self._whole = whole
        self._name = name or str(path)
        self._reading: Records | None = None
        if str(path) == "-":
            self.file: BinaryIO = sys.stdin.buffer
            self.is_pipe = True
            self.inode = 0
            return
        try:
            self.file = path.open("rb")
        except OSError as error:
            raise InvalidSetting(f"{path} cannot be read: {error.strerror}") from error
        found = os.fstat(self.file.fileno())
        # What has no name any more comes once, as a shell's here-document does.
        self.is_pipe = not stat.S_ISREG(found.st_mode) or not found.st_nlink
        self.inode = found.st_ino
        try:
            self._head = b"" if self.is_pipe else self._read_head(HEAD_BYTES)
        except OSError as error:
            self.file.close()
            raise InvalidSetting(f"{path} cannot be read: {error.strerror}") from error

    def records(self) -> Records:
        """Its records; those of a file from its start, each time, and the last ones are closed."""
        self._let_go()
        if not self.is_pipe:
            self.file.seek(0)
        finished = self._whole or self.is_pipe
        self._reading = Records(self.file, self._name, self._form, self._kind, finished=finished)
        return self._reading

    def beside(self, path: Path) -> Source:
        """Another file that had the name of this one, or is a copy: read likewise, to its end."""
        return Source(path, self._form, self._kind, whole=True, name=self._name)

    def check_still(self) -> None:
        """After all was read: nobody cut the file or wrote it anew meanwhile (InvalidBody)."""
        if self.is_pipe:
            return
        read = self.file.tell()
        if os.fstat(self.file.fileno()).st_size < read or (
            self._read_head(len(self._head)) != self._head
        ):
            raise InvalidBody("it was cut or written anew while it was read: run it again")

    def close(self) -> None:
        """Close the file."""
        self._let_go()
        if str(self.path) != "-":
            self.file.close()

    def _let_go(self) -> None:
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    def _read_head(self, size: int) -> bytes:
        self.file.seek(0)
        return self.file.read(size)


class Records:
    """The records of a file, in their order, each a `Line`.

    Args:
        file: binary, buffered; it stays open.
        name: of the file, "-" for standard input; its end tells how the file is written.
        form: "ndjson" or "csv"; None to go by the name, or by the first line.
        finished: nobody writes to the file any more, so its last line counts as it is.

    Attributes:
        unfinished: the number of the line that waits, once all others were read; 0 if none does.

    Raises:
        InvalidBody: at once or while iterating: the file can't be read as what it seems to be.
        InvalidSetting: at once: nothing tells how the file is written.
    """

    def __init__(
        self, file: BinaryIO, name: str, form: str | None, kind: Kind, *, finished: bool
    ) -> None:
        self.unfinished = 0
        self._kind = kind
        self._number = 1  # of the first line that is not empty
        try:
            came = _begun(file)
            unpacked = _unpacked(came)
            encoding = _encoding(unpacked)
            # What is no text of it comes through, to be set apart with its line.
            self._errors = _CUT_PASSES if encoding == UTF_16 else "surrogateescape"
            self._finished = finished or unpacked is not came  # a gzip has an end of its own
            self._text = io.TextIOWrapper(
                unpacked, encoding=encoding, errors=self._errors, newline=""
            )
            self._first = self._text.readline(LINE_CHARS_MAX)
            while self._first.isspace() and len(self._first) < LINE_CHARS_MAX:
                self._first = self._text.readline(LINE_CHARS_MAX)
                self._number += 1
        except UNREADABLE as error:
            raise _unreadable(error) from error
        form = form or _form(name, self._first)
        self._lines = self._read_csv() if form == "csv" else self._read_json()

    def __iter__(self) -> Iterator[Line]:
        return self

    def __next__(self) -> Line:
        try:
            return next(self._lines)
        except UNREADABLE as error:
            raise _unreadable(error) from error

    def close(self) -> None:
        """Let go of the file, which stays open."""
        self._text.detach()

    # --- JSON

    def _read_json(self) -> Iterator[Line]:
        if self._first.lstrip().startswith("["):
            yield from self._read_array()
            return
        if self._first.strip() == "{" and self._first.endswith(LINE_ENDS):
            raise InvalidBody(
                "one record on a line is wanted, and here one goes over several:"
                " `jq -c . FILE` writes such lines"
            )
        encoding = _Encoding(self._errors)
        lines = _Lines(self._first, self._text)
        for number, line in enumerate(lines, self._number):
            if len(line) == LINE_CHARS_MAX:
                if not (lines.pass_by(line).ended or self._finished):
                    self.unfinished = number
                    return
                yield self._too_long(number, line)
                continue
            stripped = line.strip(BLANKS)
            if not stripped:
                continue
            content = stripped.encode("utf-8", self._errors)
            if not self._finished and not line.endswith(LINE_ENDS) and not _whole(content):
                self.unfinished = number
                return
            sound = line.isascii() or encoding.is_sound(number, line)
            fault = "" if sound else encoding.fault
            yield _sized(number, content, fault)

    def _too_long(self, number: int, beginning: str) -> Line:
        return _too_long(number, beginning.strip(BLANKS).encode("utf-8", self._errors))

    def _read_array(self) -> Iterator[Line]:
        content = self._first + self._text.read(max(0, ARRAY_CHARS_MAX + 1 - len(self._first)))
        if len(content) > ARRAY_CHARS_MAX:
            raise InvalidBody(
                f"a JSON array of over {ARRAY_CHARS_MAX // 1024**2} Mi characters is too long to be"
                " read at once: `jq -c '.[]' FILE` writes one record on a line"
            )
        encoding = _Encoding(self._errors)
        if not encoding.is_sound(self._number, content):
            raise InvalidBody(f"the JSON array {encoding.fault}")
        try:
            records = msgspec.json.decode(content, type=list[msgspec.Raw])
        except (msgspec.MsgspecError, RecursionError):
            raise InvalidBody(
                "it begins like a JSON array, but is none to its end: is it still being written?"
            ) from None
        for number, record in enumerate(records, 1):
            yield _sized(number, one_line(bytes(record)))

    # --- CSV

    def _read_csv(self) -> Iterator[Line]:
        delimiter = max(",;\t", key=self._first.count)
        csv.field_size_limit(limits.INGEST_BODY_BYTES_MAX)  # a record that long is refused alone
        encoding = _Encoding(self._errors)
        lines = _Lines(self._first, self._text)
        physical = _Physical(lines, self._number, encoding, finished=self._finished)
        rows = csv.reader(physical, strict=True, delimiter=delimiter)
        number = self._number
        names: list[str] = []
        while True:
            physical.begin_row()
            try:
                row = next(rows, None)
            except _RowTooLongError:
                row = []
            except csv.Error as error:
                # Within a quoted cell, or a character behind one.
                if not self._finished and (physical.at_end or not physical.ended):
                    self.unfinished = number
                    return
                raise InvalidBody(f"line {number} is no CSV: {error}") from None
            if row is None:
                break
            if not physical.ended and not self._finished:
                self.unfinished = number
                return
            if not names:
                names = row
                self._check_names(names)
            elif physical.beginning:
                yield self._too_long(number, physical.beginning)
            elif row:
                yield _record(number, names, row)
            number = physical.number + 1
        if not names:
            self._check_names(names)

    def _check_names(self, names: list[str]) -> None:
        missing = [name for name in COLUMNS[self._kind] if name not in {*names, "ext", "extend"}]
        if missing:
            raise InvalidBody(
                f"the first row must name the columns; there is none named {', '.join(missing)}"
            )
        twice = sorted({name for name in names if names.count(name) > 1 and name})
        if twice:
            raise InvalidBody(f"the first row names a column twice: {', '.join(twice)}")


class _Physical:
    """The lines of a CSV, with what the reader of rows does not tell.

    Attributes:
        number: of the last line.
        ended: whether it has an end.
        at_end: whether there are no more.
        beginning: of it, if it is a row that is too long to be held; else "".
    """

    def __init__(self, lines: _Lines, number: int, encoding: _Encoding, *, finished: bool) -> None:
        self._lines = lines
        self._finished = finished
        self._encoding = encoding
        self._row_chars = 0
        self.number = number - 1
        self.ended = True
        self.at_end = False
        self.beginning = ""

    def begin_row(self) -> None:
        """Take the next line for the first one of a row."""
        self._row_chars = 0
        self.beginning = ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines, "")
        if not line:
            self.at_end = True
            raise StopIteration
        self.number += 1
        self.ended = line.endswith(LINE_ENDS)
        self._check_length(line)
        if line.isascii() or not (self.ended or self._finished):  # it may be cut within a character
            return line
        if not self._encoding.is_sound(self.number, line):
            raise InvalidBody(f"line {self.number} of the CSV {self._encoding.fault}")
        return line

    def _check_length(self, line: str) -> None:
        is_first = not self._row_chars
        self._row_chars += len(line)
        if len(line) == LINE_CHARS_MAX:
            self.ended, quotes = self._lines.pass_by(line)
            if is_first and quotes % 2 == 0:  # so no cell goes on in the next line
                self.beginning = line
                raise _RowTooLongError
        elif self._row_chars <= ARRAY_CHARS_MAX:
            return
        raise InvalidBody(
            f"line {self.number} of the CSV is in a row of several lines that is too long to be"
            " read at once: is a quote missing?"
        )


class _RowTooLongError(Exception):
    """A row, all of it on one line, is too long for a record; the reader may go on behind it."""


class _Encoding:
    """Tells a file of another encoding from one with a damaged line.

    Args:
        errors: how what is none was let through; it is UTF-8 or, by its byte order mark, UTF-16.

    Attributes:
        fault: what is wrong with a damaged line.
    """

    def __init__(self, errors: str) -> None:
        self._errors = errors
        self._seen = errors == _CUT_PASSES  # its mark, or a line that is more than ASCII
        self.fault = "is not UTF-16" if self._seen else "is not UTF-8"

    def is_sound(self, number: int, line: str) -> bool:
        """Whether a line is; those of ASCII alone need not be asked for.

        Raises:
            InvalidBody: it looks as if the whole file is GBK.
        """
        try:
            line.encode()
        except UnicodeEncodeError:
            if not self._seen and _is_gbk(line.encode("utf-8", self._errors)):
                raise InvalidBody(
                    f"line {number} is not UTF-8; if the file is GBK, write it anew:"
                    " `iconv -f GB18030 -t UTF-8 FILE`"
                ) from None
            return False
        self._seen = self._seen or not line.isascii()
        return True


def _is_gbk(line: bytes) -> bool:
    try:
        line.decode("gb18030")
    except UnicodeDecodeError:
        return False
    return True


class _Passed(NamedTuple):
    ended: bool  # by a line end, not by that of the file
    quotes: int


class _Lines:
    """The first line and those that follow; what has `LINE_CHARS_MAX` is the beginning of one."""

    def __init__(self, first: str, text: io.TextIOWrapper) -> None:
        self._pieces = chain([first], iter(partial(text.readline, LINE_CHARS_MAX), ""))
        self._cut = False  # the last one, perhaps within CR LF

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        piece = next(self._pieces)
        if self._cut and piece == "\n":
            piece = next(self._pieces)
        self._cut = len(piece) == LINE_CHARS_MAX and piece.endswith("\r")
        return piece

    def pass_by(self, beginning: str) -> _Passed:
        """Read a line to its end, without holding it."""
        piece, quotes = beginning, 0
        while piece:
            quotes += piece.count('"')
            if piece.endswith(LINE_ENDS):
                return _Passed(ended=True, quotes=quotes)
            piece = next(self, "")
        return _Passed(ended=False, quotes=quotes)


def _let_cuts_pass(error: UnicodeError) -> tuple[str | bytes, int]:
    """Take half a character of UTF-16 at the end of a file for half a pair of surrogates."""
    if isinstance(error, UnicodeDecodeError) and error.reason == "truncated data":
        return "\ud800", error.end
    return codecs.lookup_error("surrogatepass")(error)


_CUT_PASSES: Final = "pullstatus-cut-passes"
codecs.register_error(_CUT_PASSES, _let_cuts_pass)


def _begun(file: BinaryIO) -> BinaryIO:
    """The same, so that its first bytes can be peeked at, however a pipe brings them."""
    assert isinstance(file, io.BufferedReader | gzip.GzipFile)
    if len(file.peek(MAGIC_BYTES)) >= MAGIC_BYTES:
        return file
    return io.BufferedReader(_Joined(file.read(MAGIC_BYTES), file))


class _Joined(io.RawIOBase):
    """The first bytes of a file that were read, and what follows."""

    def __init__(self, head: bytes, rest: io.BufferedReader | gzip.GzipFile) -> None:
        super().__init__()
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        into = memoryview(buffer)
        piece = self._head[: len(into)] or self._rest.read1(len(into))
        self._head = self._head[len(piece) :]
        into[: len(piece)] = piece
        return len(piece)


def _unpacked(file: BinaryIO) -> BinaryIO:
    head = _peek(file)
    for magic, what in FOREIGN.items():
        if head.startswith(magic):
            raise InvalidBody(f"this is {what}: unpack it, or save it as CSV in UTF-8")
    if not head.startswith(GZIP):
        return file
    return _begun(cast("BinaryIO", gzip.GzipFile(fileobj=file)))


def _encoding(file: BinaryIO) -> str:
    head = _peek(file)
    if head.startswith(UTF_32_MARKS):
        raise InvalidBody("this is UTF-32: save it as UTF-8")
    if head.startswith(UTF_16_MARKS):
        return UTF_16
    if b"\0" in head:
        raise InvalidBody(
            "it has zero bytes, as UTF-16 without a byte order mark has: save it as UTF-8"
        )
    return "utf-8-sig"


def _peek(file: BinaryIO) -> bytes:
    assert isinstance(file, io.BufferedReader | gzip.GzipFile)
    return file.peek(MAGIC_BYTES)[:MAGIC_BYTES]


def _form(name: str, first: str) -> str:
    path = Path(name.lower())
    if path.suffix == ".gz":
        path = path.with_suffix("")
    if path.suffix in (".csv", ".tsv"):
        return "csv"
    if (
        path.suffix in (".ndjson", ".jsonl", ".json")
        or name == "-"
        or not first.strip()
        or first.lstrip().startswith(("{", "["))
    ):
        return "ndjson"
    raise InvalidSetting(
        f"{name}: neither its name nor its first line tells how it is written: give --format ndjson"
        " or --format csv"
    )


def _unreadable(error: Exception) -> InvalidBody:
    if isinstance(error, gzip.BadGzipFile) or not isinstance(error, OSError):
        return InvalidBody("the gzip is damaged, or ends in its middle")
    return InvalidBody(f"it cannot be read: {error.strerror}")


def _whole(content: bytes) -> bool:
    try:
        msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _record(number: int, names: list[str], row: list[str]) -> Line:
    members: dict[str, Any] = {}
    if len(row) != len(names):
        fault = f"has {len(row)} cells where there are {len(names)} columns"
        return Line(number, msgspec.json.encode(row), fault)
    for name, cell in zip(names, row, strict=True):
        if name == EXTRA or not (name or cell):
            continue
        if name == "time" and _is_integer(cell):
            members[name] = int(cell)
        elif cell or name not in OMITTED:
            members[name] = cell
    extra = row[names.index(EXTRA)] if EXTRA in names else ""
    if extra:
        try:
            members |= msgspec.json.decode(extra, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
            return Line(number, msgspec.json.encode(row), f"{EXTRA} must be a JSON object")
    return _sized(number, msgspec.json.encode(members))


def _is_integer(cell: str) -> bool:
    """Whether a cell is a number below `INTEGER_END`, which has 20 digits."""
    return cell.isascii() and cell.isdigit() and len(cell) < len(str(INTEGER_END))


def _sized(number: int, content: bytes, fault: str = "") -> Line:
    if len(content) >= limits.INGEST_BODY_BYTES_MAX:
        return _too_long(number, content)
    return Line(number, content, fault)


def _too_long(number: int, beginning: bytes) -> Line:
    return Line(number, beginning[:100], f"has over {limits.INGEST_BODY_BYTES_MAX - 1} bytes")


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
