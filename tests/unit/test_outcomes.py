"""The class of a receipt's code: what the reference's table says, and what of all others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.records.outcomes import CLASSES, REASONS, class_of

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "protocol.md"


def documented() -> Iterator[tuple[str, int]]:
    """Code and class of each row of the reference's table."""
    text = REFERENCE.read_text(encoding="utf-8")
    for row in re.findall(
        r"^\| ([0-4])\b[^|]*\|[^|]*\|(.*)\|$", text[text.index("\n## 15 ") :], re.MULTILINE
    ):
        prefix = ""
        for span in re.findall(r"`([^`]+)`", row[1]):
            if span.endswith("_"):  # stands before each of the next span
                prefix = span
                continue
            if span == "BWLIST _006":  # the one with a blank that is in a table of several
                yield span, int(row[0])
                continue
            codes = ["MOBILE BLACK"] if span == "MOBILE BLACK" else span.split()
            # `UNDELIV_612 615`: the first says what stands before the others.
            own = re.fullmatch(r"([A-Z]+_)\d+( \d+)+", span)
            for code in codes:
                yield (own[1] if own and code.isdigit() else prefix) + code, int(row[0])
            prefix = ""


def test_each_code_of_the_reference_has_its_class() -> None:
    rows = dict(documented())
    assert {code: class_of(code, "FAIL") for code in rows} == rows
    assert set(rows) == {code for reason in REASONS.values() for code in reason.codes}


def test_no_code_stands_in_two_rows() -> None:
    codes = [code for reason in REASONS.values() for code in reason.codes]
    assert len(set(codes)) == len(codes) > 300


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("MN:0029", 2),  # pages disagree: of the handset's side, as the pattern has it
        ("MI:7777", 2),
        ("MK:XYZ", 2),
        ("MN: 0001", 2),
        ("BWLIST_006", 3),
        ("TD: 0004", 0),
        ("MK: 0017", 2),
        ("MB:7777", 0),
        ("XMI:0001", 0),
        ("UNDELIV_777", 0),
        ("DELIVRD", 0),  # of a failure: nobody knows why
        ("delivrd", 0),
        ("", 0),
        ("用户关机", 0),
    ],
)
def test_what_is_in_no_row_has_a_class_by_its_form(code: str, failure: int) -> None:
    assert class_of(code, "FAIL") == failure


@given(code=st.text() | st.sampled_from(sorted(dict(documented()))))
def test_each_text_has_a_class_and_success_has_none(code: str) -> None:
    assert class_of(code, "SUCCESS") is None
    assert class_of(code, "FAIL") in CLASSES
