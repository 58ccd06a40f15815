"""Records as they came out: the same members as those that may go in."""

from __future__ import annotations

from datetime import UTC

import pytest

from pullstatus.client import records
from pullstatus.records import MEMBERS, Kind


@pytest.mark.parametrize("kind", Kind)
def test_every_member_is_an_attribute_and_documented(kind: Kind) -> None:
    """In the documented order, after which comes the JSON itself."""
    record_type = type(records.read_record(b"{}", {}, kind))
    names = [member.name for member in MEMBERS[kind]]
    assert [name for name in record_type.__struct_fields__ if name != "json"] == names
    assert record_type.__doc__ is not None
    assert [name for name in names if f"\n        {name}: " not in record_type.__doc__] == []


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("0001-01-01 00:00:00", False),
        ("0001-01-01 07:59:59", False),
        ("0001-01-01 08:00:00", True),
        ("9999-12-31 23:59:59", True),
        ("2015-02-30 08:03:04", False),
        ("", False),
    ],
)
def test_a_time_is_one_that_whoever_stores_it_in_utc_can_store(text: str, *, is_one: bool) -> None:
    found = records.DeliveryStatus(json=b"{}", user_receive_time=text).received_at
    assert (found is not None) is is_one
    if found is not None:
        assert found.astimezone(UTC) == found
        assert f"{found:%H:%M:%S}" == text[11:]
