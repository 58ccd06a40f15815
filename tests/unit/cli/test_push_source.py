"""What `pullstatus push` makes of files: those of other programs, those still written to."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import json
import os
import tracemalloc
from itertools import chain, islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pullstatus import limits
from pullstatus.cli.push import source as push_source
from pullstatus.cli.push.source import Records, Source
from pullstatus.errors import InvalidBody, InvalidSetting
from pullstatus.records import Kind

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

TEXT = '{"text":"收到"}\n{"text":"b"}\n'
BOTH = [{"text": "收到"}, {"text": "b"}]
HEAD = "nationcode,mobile,text,sign,time,extend"
ROW = '86,13800000001,"say ""收到""",S,1767571390,'
CELLS = {
    "nationcode": "86",
    "mobile": "13800000001",
    "text": 'say "收到"',
    "sign": "S",
    "time": 1767571390,
    "extend": "",
}


def open_records(
    content: bytes, name: str = "in.ndjson", form: str | None = None, *, finished: bool = False
) -> Records:
    file = io.BufferedReader(cast("io.RawIOBase", io.BytesIO(content)))
    return Records(file, name, form, Kind.REPLY, finished=finished)


def read(content: bytes, name: str = "in.ndjson", form: str | None = None) -> list[dict[str, Any]]:
    records = open_records(content, name, form)
    lines = list(records)
    assert not records.unfinished
    assert not any(line.fault for line in lines)
    return [json.loads(line.json) for line in lines]


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        ("\n \r\n" + TEXT).encode(),
        TEXT[:-1].encode(),
        TEXT.replace("\n", "  \n\n").encode("utf-16"),
        gzip.compress(TEXT.encode(), mtime=0),
        gzip.compress(TEXT.encode("utf-16"), mtime=0),
        json.dumps(BOTH).encode(),
        json.dumps(BOTH, indent=2, ensure_ascii=False).encode("utf-8-sig"),
        json.dumps(BOTH, indent=2).replace("\n", "\r\n").encode("utf-16"),
        gzip.compress(json.dumps(BOTH).encode(), mtime=0),
    ],
)
@pytest.mark.parametrize("name", ["in.ndjson", "in.jsonl", "IN.JSON", "in.txt", "in", "-"])
def test_json_of_any_make_is_read(content: bytes, name: str) -> None:
    assert read(content, name) == BOTH


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ends", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_of_any_make_is_read(delimiter: str, ends: str, encoding: str) -> None:
    text = ends.join((HEAD, ROW, "", ROW, "")).replace(",", delimiter)
    content = text.encode(encoding)
    assert read(content, "in.csv") == [CELLS, CELLS]
    assert read(gzip.compress(content, mtime=0), "IN.CSV.GZ") == [CELLS, CELLS]
    assert read(content, "in.tsv") == [CELLS, CELLS]
    assert read(content, "in.txt", "csv") == [CELLS, CELLS]


@pytest.mark.parametrize(
    ("content", "name", "told"),
    [
        (TEXT.encode("gbk"), "in.ndjson", "iconv -f GB18030"),
        (json.dumps(BOTH, ensure_ascii=False).encode("gbk"), "in.json", "iconv"),
        (f"{HEAD}\n{ROW}\n".encode("gbk"), "in.csv", "iconv"),
        (TEXT.encode("utf-16-le"), "in.ndjson", "UTF-16 without a byte order mark"),
        (TEXT.encode("utf-32"), "in.ndjson", "this is UTF-32"),
        (b"\0\0\xfe\xff" + TEXT.encode("utf-32-be"), "in.ndjson", "this is UTF-32"),
        (gzip.compress(TEXT.encode("utf-32"), mtime=0), "in.ndjson", "this is UTF-32"),
        (f"{HEAD}\n{ROW}\n".encode() + b"\xff\xff\n", "in.csv", "line 3 of the CSV is not UTF-8"),
        (gzip.compress(TEXT.encode(), mtime=0)[:-3], "in.ndjson.gz", "gzip is damaged"),
        (gzip.compress(TEXT.encode(), mtime=0)[:7], "in.ndjson.gz", "gzip is damaged"),
        (b"\x1f\x8b nothing", "in.ndjson", "gzip is damaged"),
        (b"PK\x03\x04 and more", "in.xlsx", "Excel workbook"),
        (b"BZh91AY", "in.ndjson.bz2", "bzip2"),
        (b'[{"text":"a"},', "in.ndjson", "none to its end"),
        (b"[" * 9999, "in.ndjson", "none to its end"),
        (b'[{"a":"\xff"}]', "in.ndjson", "not UTF-8"),
        (b'{\n  "text": "a"\n}\n', "in.ndjson", "jq -c"),
        (f"{HEAD}\n{ROW}\n".replace(",", "|").encode(), "in.csv", "there is none named"),
        (b"", "in.csv", "there is none named"),
        (f'{HEAD}\n"a"b\n'.encode(), "in.csv", "line 2 is no CSV"),
        (f"{HEAD},mobile\n{ROW},1\n".encode(), "in.csv", "names a column twice: mobile"),
    ],
)
def test_what_cannot_be_read_is_named_once(content: bytes, name: str, told: str) -> None:
    with pytest.raises(InvalidBody, match=told):
        list(open_records(content, name))


def test_empty_columns_that_spreadsheets_leave_are_none() -> None:
    assert read(f"{HEAD},,\n{ROW},,\n".encode(), "in.csv") == [CELLS]
    assert read(f"{HEAD},,\n{ROW},a,\n".encode(), "in.csv") == [CELLS | {"": "a"}]


@pytest.mark.parametrize("digits", [19, 20, 5000])
def test_time_of_many_digits_is_text_from_where_a_record_has_it_so(digits: int) -> None:
    row = ROW.replace("1767571390", "9" * digits)
    [record] = read(f"{HEAD}\n{row}\n".encode(), "in.csv")
    assert record["time"] == (int("9" * digits) if digits < 20 else "9" * digits)


def test_long_cell_keeps_no_other_row_back() -> None:
    row = ROW.replace("S", "s" * 200_000)
    read_rows = read(f"{HEAD}\n{ROW}\n{row}\n{ROW}\n".encode(), "in.csv")
    assert [len(record["sign"]) for record in read_rows] == [1, 200_000, 1]


def test_byte_order_marks_of_joined_files_are_blanks() -> None:
    assert read(TEXT.encode("utf-8-sig") * 2) == BOTH * 2


def test_long_array_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_source, "ARRAY_CHARS_MAX", 20)
    with pytest.raises(InvalidBody, match=r"jq -c '\.\[\]'"):
        list(open_records(json.dumps(BOTH).encode()))


LONG = "s" * (limits.INGEST_BODY_BYTES_MAX * 3)
LONG_ROWS = [f"{ROW[:-1]},{LONG}", f'{ROW[:-1]},"{LONG}"', f"{LONG},", f'"{LONG}"']


@pytest.mark.parametrize(
    ("name", "head", "good", "long"),
    [
        ("in.ndjson", "", '{"text":"收到"}', f'{{"text":"{LONG}"}}'),
        ("in.ndjson", "", '{"text":"收到"}', "收" + LONG),
        ("in.ndjson", "", '{"text":"收到"}', " " * 100 + LONG),
        *(("in.csv", f"{HEAD}\n", ROW, long) for long in LONG_ROWS),
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_line_too_long_for_a_record_is_refused_alone(
    name: str, head: str, good: str, long: str, ends: str
) -> None:
    text = head + "".join(f"{line}{ends}" for line in (good, long, long, good))
    lines = list(open_records(text.encode(), name))
    number = 1 + bool(head)
    assert [line.number for line in lines] == list(range(number, number + 4))
    assert [line.fault for line in lines] == ["", *["has over 1048575 bytes"] * 2, ""]
    assert lines[0].json == lines[3].json
    assert lines[1].json == lines[2].json == long.strip().encode()[:100]
    unfinished = open_records(f"{head}{good}{ends}{long}".encode(), name)
    assert len(list(unfinished)) == 1
    assert unfinished.unfinished == number + 1
    finished = open_records(f"{head}{good}{ends}{long}".encode(), name, finished=True)
    assert [bool(line.fault) for line in finished] == [False, True]


@pytest.mark.parametrize("excess", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_longest_record_is_read(excess: int, ends: str) -> None:
    """To the byte, and however its line ends."""
    empty = '{"text":""}'
    text = "s" * (limits.INGEST_BODY_BYTES_MAX - 1 - len(empty) + excess)
    content = f'{{"text":"{text}"}}{ends}{{}}{ends}'
    long, short = open_records(content.encode())
    assert bool(long.fault) == (excess > 0)
    assert short.json == b"{}"
    assert (long.number, short.number) == (1, 2)


@pytest.mark.parametrize(
    "long", [f'{ROW[:-1]},"{LONG}\n{ROW}"', f'{ROW[:-1]},"a\n{LONG}"', f'"{LONG}']
)
def test_long_row_whose_end_nothing_tells_is_named(long: str) -> None:
    """Within a quoted cell: what follows could be taken for rows, and be pushed."""
    with pytest.raises(InvalidBody, match="in a row of several lines that is too long"):
        list(open_records(f"{HEAD}\n{ROW}\n{long}\n{ROW}\n".encode(), "in.csv"))


class Endless(io.RawIOBase):
    """A file that repeats itself up to a size, and holds nothing."""

    def __init__(self, head: str, again: str, size: int) -> None:
        self._pieces = chain([head.encode()], repeat(again.encode() * 1000))
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self._left <= 0:
            return 0
        into = memoryview(buffer)
        piece = next(self._pieces)[: len(into)]
        into[: len(piece)] = piece
        self._left -= len(piece)
        return len(piece)


SIZE = 2_000_000


@pytest.mark.parametrize(
    ("name", "head", "again"),
    [
        ("-", "[", " "),
        ("in.json", "[\n", "{},\n"),
        ("-", '{"text":"', "a"),
        ("in.ndjson", "{}\n", " "),
        ("in.ndjson", " ", " "),
        ("in.csv", f"{HEAD}\n", "a"),
        ("in.csv", f"{HEAD}\n", '""'),
        ("in.csv", f"{HEAD}\n", '"\n",'),
        ("in.csv", HEAD, "a"),
        ("in.csv", "", '"a'),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_whatever_a_file_is_little_of_it_is_held(
    name: str, head: str, again: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_source, "ARRAY_CHARS_MAX", 20_000)
    monkeypatch.setattr(push_source, "LINE_CHARS_MAX", 10_000)
    content: io.RawIOBase = Endless(head, again, SIZE)
    if packed:
        times = SIZE // len(again)
        small = gzip.compress((head + again * times).encode(), compresslevel=1, mtime=0)
        content = cast("io.RawIOBase", io.BytesIO(small))
    file = io.BufferedReader(content)
    tracemalloc.start()
    try:
        with contextlib.suppress(InvalidBody):
            for _ in Records(file, name, None, Kind.REPLY, finished=True):
                pass
        assert tracemalloc.get_traced_memory()[1] < SIZE / 4
    finally:
        tracemalloc.stop()


def test_damaged_line_is_refused_alone() -> None:
    """Bytes that are no UTF-8 in a file that else is: its other lines are good."""
    lines = list(open_records(TEXT.encode() + b'{"text":"\xe4\xbd"}\n' + b'{"text":"c"}\n'))
    assert [line.fault for line in lines] == ["", "", "is not UTF-8", ""]
    assert lines[2].json == b'{"text":"\xe4\xbd"}'


def test_half_a_character_of_utf_16_is_refused_alone() -> None:
    """With its line; as programs leave it that cut a text in the middle of an emoji."""
    half = '{"text":"\ud83d"}'
    text = f'{{"text":"a\U0001f600"}}\n{half}\n{{"text":"c"}}\n'
    lines = list(open_records(text.encode("utf-16", "surrogatepass")))
    assert [line.fault for line in lines] == ["", "is not UTF-16", ""]
    assert lines[0].json == '{"text":"a\U0001f600"}'.encode()
    csv = f"{HEAD}\n{ROW}\n{ROW}\ud83d\n".encode("utf-16", "surrogatepass")
    with pytest.raises(InvalidBody, match="line 3 of the CSV is not UTF-16"):
        list(open_records(csv, "in.csv"))


@pytest.mark.parametrize("name", ["in.txt", "in", "in.dat.gz"])
def test_form_that_nothing_tells_is_asked_for(name: str) -> None:
    content = f"{HEAD}\n{ROW}\n".encode()
    with pytest.raises(InvalidSetting, match="--format"):
        open_records(content, name)
    assert read(content, name, "csv") == [CELLS]


@pytest.mark.parametrize(
    ("name", "content", "count", "line"),
    [
        ("in.ndjson", TEXT.encode() + b'{"text":"c', 2, 3),
        ("in.ndjson", TEXT.encode() + '{"text":"收'.encode()[:-1], 2, 3),
        ("in.ndjson", b'{"te', 0, 1),
        ("in.csv", f"{HEAD}\n{ROW}\n{ROW}".encode(), 1, 3),
        ("in.csv", f'{HEAD}\n{ROW}\n86,1,"two\nli'.encode(), 1, 3),
        ("in.csv", f'{HEAD}\n{ROW}\n86,1,"two\n'.encode(), 1, 3),
        ("in.csv", f'{HEAD}\n86,1,"收'.encode()[:-1], 0, 2),
        ("in.ndjson", TEXT.encode("utf-16") + b"\x00", 2, 3),
        ("in.ndjson", f"{TEXT}{{".encode("utf-16")[:-1], 2, 3),
        ("in.ndjson", f"{TEXT}\U0001f600".encode("utf-16")[:-1], 2, 3),
        ("in.csv", f"{HEAD}\n{ROW}\n{ROW}".encode("utf-16")[:-1], 1, 3),
        ("in.csv", HEAD.encode(), 0, 1),
        ("in.csv", HEAD[:10].encode(), 0, 1),
    ],
)
def test_unfinished_line_waits(name: str, content: bytes, count: int, line: int) -> None:
    records = open_records(content, name)
    assert len(list(records)) == count
    assert records.unfinished == line


def test_file_cut_anywhere_gives_whole_records_only() -> None:
    """As it grows, byte by byte: what is read are always the first ones of all."""
    rows = [HEAD, ROW, '86,1,"two\r\nlines, ""x""",,5,1', "86,2,收到,,6,22", ""]
    for name, content in (
        ("in.ndjson", '{"text":"收到"}\n{"text":"b"}\r\n{"text":"c"}\r{"text":"d"}'.encode()),
        ("in.csv", "\r\n".join(rows).encode()),
        (
            "in.ndjson",
            '{"text":"收到"}\n{"text":"b"}\r\n{"text":"c"}\r{"text":"d"}'.encode("utf-16"),
        ),
        ("in.csv", "\r\n".join(rows).encode("utf-16")),
    ):
        whole = [line.json for line in open_records(content, name)]
        assert len(whole) == (4 if name == "in.ndjson" else 3)
        for cut in range(len(content)):
            if content[:cut] in (b"", codecs.BOM_UTF16) and name == "in.csv":
                continue
            lines = [line.json for line in open_records(content[:cut], name)]
            assert lines == whole[: len(lines)], cut


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.csv", f"{HEAD}\n{ROW}".encode()),
        ("-", b'{"te'),
        ("in.csv", f"{HEAD}\n86,1".encode()),
    ],
)
def test_last_line_of_a_finished_file_counts(name: str, content: bytes) -> None:
    """That of a pipe, of a gzip, of a file that is said to be whole."""
    records = open_records(content, name, finished=True)
    assert len(list(records)) == 1
    assert not records.unfinished
    packed = open_records(gzip.compress(content, mtime=0), name)
    assert len(list(packed)) == 1


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that gives EIO")
def test_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(InvalidSetting, match="/proc/self/mem cannot be read: Input/output error"):
        Source(Path("/proc/self/mem"), None, Kind.REPLY, whole=False)


def test_half_a_character_at_the_end_of_a_finished_file_is_refused_alone() -> None:
    lines = list(open_records(f"{TEXT}{{}}".encode("utf-16")[:-1], finished=True))
    assert [line.fault for line in lines] == ["", "", "is not UTF-16"]


class Trickle(io.RawIOBase):
    """A pipe whose writer writes a byte at a time."""

    def __init__(self, content: bytes) -> None:
        self._bytes = iter(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        piece = bytes(islice(self._bytes, 1))
        memoryview(buffer)[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-16"),
        gzip.compress(TEXT.encode(), mtime=0),
        gzip.compress(TEXT.encode("utf-16"), mtime=0),
    ],
)
def test_pipe_is_told_by_its_first_bytes_however_they_come(content: bytes) -> None:
    lines = list(Records(io.BufferedReader(Trickle(content)), "-", None, Kind.REPLY, finished=True))
    assert [json.loads(line.json) for line in lines] == BOTH


@pytest.mark.parametrize("content", [b"", b"\n", b"{}", b"\xff\xfe"])
def test_pipe_of_hardly_any_bytes_is_read(content: bytes) -> None:
    lines = list(Records(io.BufferedReader(Trickle(content)), "-", None, Kind.REPLY, finished=True))
    assert [line.json for line in lines] == ([b"{}"] if content == b"{}" else [])


@pytest.mark.parametrize(
    ("content", "told"), [(b"PK\x03\x04", "Excel"), ("{}".encode("utf-32"), "UTF-32")]
)
def test_pipe_of_what_cannot_be_read_is_named(content: bytes, told: str) -> None:
    with pytest.raises(InvalidBody, match=told):
        Records(io.BufferedReader(Trickle(content)), "-", None, Kind.REPLY, finished=True)


def test_file_cut_or_written_anew_while_it_is_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "in.ndjson"
    path.write_text(TEXT * 10)
    source = Source(path, None, Kind.REPLY, whole=False)
    list(source.records())
    with path.open("a") as file:
        file.write(TEXT)
    source.check_still()
    list(source.records())
    os.truncate(path, 30)
    with pytest.raises(InvalidBody, match="while it was read"):
        source.check_still()
    path.write_text(TEXT.replace("b", "c") * 20)
    list(source.records())
    with pytest.raises(InvalidBody, match="while it was read"):
        source.check_still()
    source.close()
