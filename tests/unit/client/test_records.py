"""Records as they came out: the same members as those that may go in."""

from __future__ import annotations

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
