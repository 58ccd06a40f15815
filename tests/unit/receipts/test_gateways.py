"""Each gateway's row: what it sends, the records that come of it, and the answer to the byte.

Its cases are data: `gateways/NAME.toml`. A case is a request and what it comes to; a number that
does not say its country is one of 86 here.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from pullstatus.receipts.reading import read
from pullstatus.receipts.reports import Report, State, Whose, receipts_of
from pullstatus.receipts.request import Request
from pullstatus.receipts.signatures import SCHEMES
from pullstatus.receipts.source import (
    Answer,
    PartKeys,
    ReplyKeys,
    Source,
    StatusKeys,
    builtin,
    read_source,
)
from pullstatus.records import Kind
from pullstatus.steps import done

ROOT = Path(__file__).parents[3]
FOLDER = Path(__file__).with_name("gateways")
ARRIVED_S = 1_764_320_460  # 2025-11-28 17:01:00 in UTC+8


class Case(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One request.

    Attributes:
        statuses, replies: the records, as they are stored.
        intermediate: how many items are counted only.
        part: of a reply that is one of several: reference, count and number.
        unread: of what can't be read the member at fault, "" if none is.
        to, ids: of each report our number and the gateway's id.
        answer: status, content type, and body.
    """

    says: str
    method: str = "POST"
    query: str = ""
    content_type: str = ""
    body: str = ""
    statuses: list[str] = []
    replies: list[str] = []
    intermediate: int = 0
    part: list[str | int] = []
    unread: list[str] = []
    to: list[str] = []
    ids: list[str] = []
    answer: str = ""


def cases() -> list[tuple[str, Case]]:
    return [
        (path.stem, msgspec.convert(case, Case))
        for path in sorted(FOLDER.glob("*.toml"))
        for case in tomllib.loads(path.read_text(encoding="utf-8"))["case"]
    ]


def outcome(source: Source, case: Case) -> Case:
    """A case with what its request comes to."""
    request = Request(
        case.method, case.query.encode(), case.content_type, case.body.encode(), ARRIVED_S
    )
    reports = done(read(source, request))
    unread = list(reports.unread)
    entries: dict[Kind, list[str]] = {}
    for kind in Kind:
        found = [(one, _whose(source, one)) for one in reports.reports if one.kind is kind]
        receipts = receipts_of(kind, source.name, found, ARRIVED_S)
        assert receipts.fingerprints is not None
        assert len(set(receipts.fingerprints)) == len(receipts.entries)
        entries[kind] = [entry.decode() for entry in receipts.entries]
        unread += receipts.unread
    [part] = {one.part for one in reports.reports} or {None}
    replied = source.answer.reply is not None and bool(entries[Kind.REPLY])
    answer = source.answer
    return msgspec.structs.replace(
        case,
        statuses=entries[Kind.DELIVERY_STATUS],
        replies=entries[Kind.REPLY],
        intermediate=sum(
            one.kind is Kind.DELIVERY_STATUS and one.state is State.INTERMEDIATE
            for one in reports.reports
        ),
        part=[] if part is None else [part.reference, part.count, part.number],
        unread=[one.member or "" for one in unread],
        to=[one.to for one in reports.reports],
        ids=[one.id for one in reports.reports],
        answer=f"{answer.status} {answer.reply_type if replied else answer.content_type}"
        f" {answer.reply if replied else answer.body}".strip(),
    )


def _whose(source: Source, report: Report) -> Whose:
    keys = source.status if report.kind is Kind.DELIVERY_STATUS else source.reply
    assert keys is not None
    return Whose(nationcode="86" if keys.numbers == "national" else None)


@pytest.mark.parametrize(
    ("name", "case"), [pytest.param(*each, id=f"{each[0]}: {each[1].says}") for each in cases()]
)
def test_what_a_gateway_sends_comes_to_what_its_case_says(name: str, case: Case) -> None:
    assert outcome(builtin()[name], case) == case


def test_the_page_on_files_of_ones_own_names_each_member_and_its_example_is_read() -> None:
    page = (ROOT / "docs/how-to/gateways/your-own.md").read_text(encoding="utf-8")
    [row] = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    [body] = re.findall(r"```text\n.*?\n\n(.*?)```", page, re.DOTALL)
    request = Request("POST", b"", "application/json", body.encode(), ARRIVED_S)
    found = done(read(read_source(row), request))
    assert [report.kind for report in found.reports] == [Kind.DELIVERY_STATUS, Kind.REPLY]
    assert not found.unread
    for table in (Source, StatusKeys, ReplyKeys, PartKeys, Answer):
        for member in table.__struct_fields__:
            named = rf"`{member}`|\[{member}\]|[ {{]{member} ="
            assert re.search(named, page), (table.__name__, member)


def test_each_row_has_its_cases_and_a_signature_that_there_is() -> None:
    told = {name for name, _ in cases()}
    for name, source in builtin().items():
        assert source.title
        assert source.retries
        assert source.signature in ("", *SCHEMES)
        assert name in told
