"""What an entry counts as."""

from __future__ import annotations

import pytest

from pullstatus.mailbox.tallies import WIDTH, Column, columns_of
from pullstatus.records import Kind

STATUS, REPLY = Kind.DELIVERY_STATUS, Kind.REPLY


@pytest.mark.parametrize(
    ("kind", "entry", "columns"),
    [
        (STATUS, b'{"report_status":"SUCCESS","errmsg":"DELIVRD"}', [Column.SUCCESS]),
        (STATUS, b'{"report_status":"FAIL","errmsg":"MK:0001","more":[1]}', [1]),
        (STATUS, b'{"report_status":"FAIL","errmsg":"MX:0003"}', [4]),
        (STATUS, b'{"report_status":"FAIL","errmsg":"new"}', [0]),
        (STATUS, b'{"report_status":"FAIL","errmsg":7}', [0, Column.UNREADABLE]),
        (STATUS, b"{", [0, Column.UNREADABLE]),
        (STATUS, None, [0, Column.UNREADABLE]),
        (REPLY, b'{"text":"TD"}', [Column.REPLIES]),
        (REPLY, None, [Column.REPLIES, Column.UNREADABLE]),
    ],
)
def test_entry_counts_in_its_columns(kind: Kind, entry: bytes | None, columns: list[int]) -> None:
    assert list(columns_of(kind, entry)) == columns


def test_columns_are_apart() -> None:
    assert sorted([*range(5), *Column]) == list(range(WIDTH))
