"""CSV between strangers who write its cells and spreadsheets that run them."""

from __future__ import annotations

import csv
import io
import json
from random import Random
from typing import Any, cast

import msgspec
import pytest

from pullstatus import Page
from pullstatus.apps import Application, Wanted
from pullstatus.cli.app_import import read_applications
from pullstatus.cli.push.source import Records
from pullstatus.client.records import read_record
from pullstatus.consumer.forms import Csv, harmless
from pullstatus.errors import InvalidSetting
from pullstatus.records import Kind

PARTS = (
    *"=+-@\t\r\n'\";,| 1aA\0\ufeff收👍＝＋－＠\x1b\u2028\x85",
    '=HYPERLINK("http://example.invalid","x")',
    "cmd|' /C calc'!A0",
    '{"text":"b"}',
    "\\u003d",
)
FORMULA_BEGINS = tuple("=+-@＝＋－＠")
LINE_AND_TAB = ("\t", "\r", "\n")


def reply(text: str, **more: object) -> dict[str, Any]:
    return {
        "nationcode": "86",
        "mobile": "13800000001",
        "text": text,
        "sign": text[::-1],
        "time": 1_767_571_390,
        "extend": text[:1],
        **more,
    }


def page_of(records: list[dict[str, Any]], kind: Kind = Kind.REPLY) -> Page[Any]:
    read = [read_record(json.dumps(one).encode(), one, kind) for one in records]
    return Page(kind=kind, records=tuple(read), key="k", keyed=True)


def written(records: list[dict[str, Any]], *, exact: bool, kind: Kind = Kind.REPLY) -> bytes:
    form = Csv(exact=exact)
    return form.head(kind) + form.rows(page_of(records, kind))


def pushed(content: bytes, kind: Kind = Kind.REPLY) -> list[dict[str, Any]]:
    file = io.BufferedReader(cast("io.RawIOBase", io.BytesIO(content)))
    lines = list(Records(file, "out.csv", None, kind, finished=False))
    assert not any(line.fault for line in lines)
    return [json.loads(line.json) for line in lines]


def cells(content: bytes, delimiter: str = ",") -> list[str]:
    text = io.StringIO(content.decode("utf-8-sig"), newline="")
    return [cell for row in csv.reader(text, delimiter=delimiter) for cell in row]


def some_texts(seed: int) -> list[str]:
    chance = Random(seed)
    texts = ["".join(chance.choices(PARTS, k=chance.randrange(8))) for _ in range(300)]
    points = [chance.randrange(0x110000) for _ in range(300)]
    return texts + [chr(point) + "=1" for point in points if not 0xD800 <= point < 0xE000]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_push_restores_any_text(seed: int, *, exact: bool) -> None:
    records = [reply(text, new={text: [text, 1.5]}) for text in some_texts(seed)]
    assert pushed(written(records, exact=exact)) == records


@pytest.mark.parametrize("seed", range(5))
def test_no_cell_is_a_formula(seed: int) -> None:
    """Wherever a spreadsheet parts cells: semicolons and tabs do so in some countries."""
    records = [reply(text, new=text) for text in some_texts(seed)]
    content = written(records, exact=False)
    assert content.startswith(b"\xef\xbb\xbf")
    for delimiter in ",;\t":
        for cell in cells(content, delimiter):
            assert not cell.lstrip().startswith(FORMULA_BEGINS), (delimiter, cell)
            assert delimiter != "," or not cell.startswith(LINE_AND_TAB), cell
    statuses = [
        {
            "user_receive_time": "2026-01-05 08:00:00",
            "nationcode": "86",
            "mobile": "+8613800000001",
            "report_status": "FAIL",
            "errmsg": "-37",
            "description": "@SUM(1)",
            "sid": "=1",
            "ext": "\t=1",
        }
    ]
    content = written(statuses, exact=False, kind=Kind.DELIVERY_STATUS)
    assert not any(cell.startswith(FORMULA_BEGINS + LINE_AND_TAB) for cell in cells(content))
    assert pushed(content, Kind.DELIVERY_STATUS) == statuses


def test_ordinary_text_is_as_it_was() -> None:
    for text in ("收到", "it's", "'quoted'", "a=b", "1-2", "a\nb", "", "TD", "\\=1", "x;y"):
        assert harmless(text) == text
    content = written([reply("收到")], exact=False)
    assert cells(content)[-1] == ""


def test_exact_has_the_cells_as_they_were_sent() -> None:
    content = written([reply("=1+1")], exact=True)
    assert content.startswith(b"nationcode,")
    assert "=1+1" in cells(content)
    assert cells(content)[-1] == ""


def test_member_of_another_type_comes_back_as_it_was() -> None:
    records = [
        reply("a", time="1767571390", mobile=13800000001),
        reply("b", time=2**70, sign=None),
        reply("c", time=1.5, extend=["x"]),
        reply("d", time=-5),
        reply("e", time=True),
    ]
    assert pushed(written(records, exact=False)) == records


FIXED_KEY = "5f03a35d00ee52a21327ab048186a2c4"
KINDS = {field.name: field.type for field in msgspec.structs.fields(Wanted)}
SAMPLES: dict[object, list[Any]] = {
    bool: [True, False],
    int: [10, 20],
    tuple[str, ...]: [["192.0.2.0/24", "10.0.0.0/8"]],
}


@pytest.mark.parametrize("column", [name for name in KINDS if name != "sdkappid"])
def test_every_member_of_an_application_may_be_a_column(column: str) -> None:
    """It means in CSV what it means in JSON; and what is none of its kind is refused in both."""
    for value in SAMPLES.get(KINDS[column], [FIXED_KEY]):
        cell = " ".join(value) if isinstance(value, list) else str(value)
        from_csv = imported(f"sdkappid,{column}\n7,{cell}\n")
        assert from_csv == imported(json.dumps({"sdkappid": 7, column: value}))
        assert from_csv == imported(f"{column},sdkappid\n{cell},7\n")
    assert imported(f"sdkappid,{column}\n7,\n") == imported('{"sdkappid":7}')
    if KINDS[column] in (bool, int):
        with pytest.raises(InvalidSetting, match=f"line 2: {column}: Expected"):
            imported(f"sdkappid,{column}\n7,maybe\n")


def imported(text: str) -> Application:
    """The application of a file, but for what is made at random, or of its key."""
    [(_, made)] = read_applications(text.encode(), 1_767_571_390_000)
    keys = tuple(
        msgspec.structs.replace(key, id="") for key in made.appkeys if key.appkey == FIXED_KEY
    )
    return msgspec.structs.replace(made, appkeys=keys, owner="")
