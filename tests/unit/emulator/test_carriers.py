"""The documented receipt codes, and records made up from them."""

from __future__ import annotations

import random
import re

import pytest

from pullstatus.emulator.carriers import (
    GROUPS,
    Receipt,
    description_of,
    group_codes,
    made_up_number,
    make_reply,
    make_sid,
    make_status,
)
from pullstatus.records import Kind, decode, encode

NOW_S = 1_490_000_000  # 2017-03-20 16:53:20 in UTC+8


def test_codes_of_the_groups_are_apart_and_described() -> None:
    codes = [code for group in GROUPS for code in group_codes(group)]
    assert len(set(codes)) == len(codes) > 150
    assert {"MK:0001", "-37", "MOBILE BLACK", "UNDELIV_601", "1"} <= set(codes)
    assert all(code == code.strip() and description_of(code) for code in codes)
    assert "DELIVRD" not in codes
    assert description_of("DELIVRD") == "delivered"
    assert description_of("nobody knows") == ""


def test_sid_has_the_documented_shape_and_follows_from_the_seed() -> None:
    sids = [make_sid(random.Random("7"), NOW_S) for _ in range(2)]
    assert sids[0] == sids[1]
    assert re.fullmatch(r"8:[0-9A-Za-z]{19}20170320", sids[0])
    # 17:00 UTC is the next day in UTC+8.
    assert make_sid(random.Random("7"), NOW_S + 8 * 3600).endswith("20170321")


@pytest.mark.parametrize(("code", "outcome"), [("DELIVRD", "SUCCESS"), ("-37", "FAIL")])
def test_status_says_what_the_receipt_says(code: str, outcome: str) -> None:
    status = make_status(Receipt(code, "why"), "86", "13800000000", "8:x", NOW_S, "mine")
    assert status.user_receive_time == "2017-03-20 16:53:20"
    assert (status.report_status, status.errmsg, status.description) == (outcome, code, "why")
    assert decode(encode(status), Kind.DELIVERY_STATUS) == (status, None)


def test_made_up_numbers_are_nobodys() -> None:
    chance = random.Random(1)
    for _ in range(200):
        nationcode, mobile = made_up_number(chance)
        assert re.fullmatch(
            r"86 13800000\d{3}|1 20255501\d\d|44 7700900\d{3}", f"{nationcode} {mobile}"
        )
        reply = make_reply("TD", nationcode, mobile, "Example", NOW_S)
        assert decode(encode(reply), Kind.REPLY) == (reply, None)
