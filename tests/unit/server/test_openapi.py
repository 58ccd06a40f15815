"""The document of the server against what it is made of."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.errors import InvalidRecord
from pullstatus.records import MEMBERS, Kind, Member
from pullstatus.server.figures import DOORS, REFUSALS, STATUSES
from pullstatus.server.openapi import (
    ANY,
    CALLBACK_PROBLEMS,
    CALLS,
    GATEWAY_PROBLEMS,
    INGEST_PROBLEMS,
    METRICS_PROBLEMS,
    openapi,
)

DOCUMENT = json.loads(openapi("1", frozenset(CALLS)))
SHAPED = [member for kind in Kind for member in MEMBERS[kind] if member.shape]


def texts(value: object) -> list[str]:
    """Every text in the document."""
    if isinstance(value, dict):
        return [text for one in value.values() for text in texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in texts(one)]
    return [value] if isinstance(value, str) else []


def test_every_reference_leads_somewhere() -> None:
    found = re.findall(r'"\$ref":\s*"#/([^"]+)"', json.dumps(DOCUMENT))
    assert len(found) > 10
    for path in found:
        place: Any = DOCUMENT
        for name in path.split("/"):
            place = place[name]


def test_statuses_are_those_that_are_counted() -> None:
    assert {*DOORS} == {"ingest", "callbacks", "in"}
    doors = {200, *CALLBACK_PROBLEMS, *GATEWAY_PROBLEMS, *INGEST_PROBLEMS}
    assert doors | {405} == {*STATUSES}
    assert {200, *ANY, *METRICS_PROBLEMS} | {405} == {*REFUSALS}


def test_nothing_is_told_of_a_machine_or_in_the_words_of_another_page() -> None:
    said = texts(DOCUMENT)
    marks = re.compile(r" \((?:[A-Z]|[0-9.]+|section [0-9]+)\)")
    assert not [text for text in said if "://" in text or marks.search(text)]


@pytest.mark.parametrize("member", SHAPED, ids=lambda member: member.name)
@given(data=st.data())
def test_what_a_member_may_be_is_told_as_it_is_checked(member: Member, data: st.DataObject) -> None:
    """Both ways: what is let pass has the shape, what has none is refused."""
    assert member.shape is not None
    shaped = st.from_regex(member.shape, fullmatch=True)
    text = data.draw(shaped | shaped.map(lambda text: text + "\n") | st.text(max_size=30))
    try:
        member.check(member.name, text)
    except InvalidRecord:
        if member.name != "user_receive_time":  # which has to be in the calendar, too
            assert not member.shape.fullmatch(text)
    else:
        assert member.shape.fullmatch(text)


@pytest.mark.parametrize("kind", Kind)
def test_a_record_is_described_by_all_its_members(kind: Kind) -> None:
    schema = DOCUMENT["components"]["schemas"][("DeliveryStatus", "Reply")[kind]]
    assert [*schema["properties"]] == [member.name for member in MEMBERS[kind]]
    assert schema["required"] == [member.name for member in MEMBERS[kind] if member.required]
    types = {str: "string", int: "integer"}
    for member in MEMBERS[kind]:
        told = schema["properties"][member.name]
        assert types[member.type] in told.get("type", ["string"]), member.name
