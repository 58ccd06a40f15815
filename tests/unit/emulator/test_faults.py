"""Which request a fault strikes, and how often."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pullstatus import limits
from pullstatus.emulator.faults import Fault, Faults
from pullstatus.emulator.scenario import convert
from pullstatus.errors import InvalidSetting


def fault(name: str, **members: object) -> Fault:
    return convert({"fault": name, **members}, Fault, "fault")


def faults(*wanted: Fault) -> Faults:
    made = Faults(random.Random(7))
    for one in wanted:
        made.arm(one)
    return made


def test_fault_strikes_once_unless_told_otherwise() -> None:
    made = faults(fault("cut"), fault("http", count=2))
    struck = [made.strike("pullstatus", 0) for _ in range(4)]
    assert [one and one.fault.fault for one in struck] == ["cut", "http", "http", None]
    assert not made
    assert [(one.left, one.hits) for one in made.armed()] == [(0, 1), (0, 2)]
    made.clear()
    assert made.armed() == []


@pytest.mark.parametrize(
    "members",
    [{"call": "sendsms"}, {"type": 0}, {"nonempty": True}, {"after_commit": True}, {"delay_s": 1}],
    ids=str,
)
def test_half_bad_strikes_pushes_and_nothing_else(members: dict[str, object]) -> None:
    made = faults(fault("half-bad"), fault("cut"))
    struck = [made.strike("pullstatus", 0), made.strike("push", None), made.strike("push", None)]
    assert [one and one.fault.fault for one in struck] == ["cut", "half-bad", None]
    with pytest.raises(InvalidSetting, match="strikes pushes"):
        fault("half-bad", **members)
    with pytest.raises(InvalidSetting, match=r'bad is for the fault "half-bad" only'):
        fault("cut", bad="value")


def test_fault_that_found_nothing_to_do_is_not_spent() -> None:
    made = faults(fault("reorder"))
    struck = made.strike("pullstatus", 0)
    assert struck is not None
    assert not made
    made.give_back(struck)
    assert made
    assert (struck.left, struck.hits) == (1, 0)


def test_probability_lasts_and_follows_from_the_seed() -> None:
    """As many as its share; with a count, no more than that."""
    runs = []
    for _ in range(2):
        made = faults(fault("cut", probability=0.3))
        runs.append([made.strike("pullstatus", 0) is not None for _ in range(1000)])
    assert runs[0] == runs[1]
    assert 250 < sum(runs[0]) < 350
    made = faults(fault("cut", probability=0.3, count=5))
    assert sum(made.strike("pullstatus", 0) is not None for _ in range(1000)) == 5


@pytest.mark.parametrize(
    ("members", "struck"),
    [
        (
            {},
            {
                "pullstatus/0",
                "pullstatus/1",
                "sendsms/None",
                "sendmultisms2/None",
                "pullstatus4mobile/0",
                "SendSms/None",
                "PullSmsReplyStatus/1",
            },
        ),
        ({"call": "sendsms"}, {"sendsms/None"}),
        ({"call": "SendSms"}, {"SendSms/None"}),
        ({"call": "pullstatus", "type": 1}, {"pullstatus/1"}),
        ({"type": 0}, {"pullstatus/0"}),
        ({"type": 1}, {"pullstatus/1", "PullSmsReplyStatus/1"}),
        ({"call": "PullSmsReplyStatus", "nonempty": True}, {"PullSmsReplyStatus/1"}),
        ({"nonempty": True}, {"pullstatus/0", "pullstatus/1", "PullSmsReplyStatus/1"}),
    ],
)
def test_filters_say_whom_it_strikes(members: dict[str, Any], struck: set[str]) -> None:
    cut = fault("cut", **members)
    requests: list[tuple[Any, int | None]] = [
        ("pullstatus", 0),
        ("pullstatus", 1),
        ("sendsms", None),
        ("sendmultisms2", None),
        ("pullstatus4mobile", 0),
        ("SendSms", None),
        ("PullSmsReplyStatus", 1),
    ]
    assert {f"{call}/{kind}" for call, kind in requests if cut.fits(call, kind)} == struck


def test_reorder_and_duplicate_are_for_pulls() -> None:
    for name in ("reorder", "duplicate"):
        assert fault(name).fits("pullstatus", None)
        assert not fault(name).fits("sendsms", None)
        assert not fault(name).fits("PullSmsSendStatus", 0)


@pytest.mark.parametrize(
    ("name", "late"),
    [
        ("cut", True),
        ("delay", True),
        ("malformed", True),
        ("reorder", True),
        ("duplicate", True),
        ("result", False),
        ("http", False),
    ],
)
def test_whether_the_call_is_done_has_a_default_and_can_be_said(name: str, late: bool) -> None:
    needs = {"result": {"result": 1007}, "delay": {"delay_s": 1}}.get(name, {})
    assert fault(name, **needs).strikes_late is late
    if name not in {"reorder", "duplicate"}:
        assert fault(name, after_commit=not late, **needs).strikes_late is not late


def test_fault_that_was_cleared_meanwhile_does_not_come_back() -> None:
    """Nor to the faults of a scenario that has begun anew."""
    made, others = faults(fault("reorder")), faults()
    struck = made.strike("pullstatus", 0)
    assert struck is not None
    made.clear()
    for one in (made, others):
        one.give_back(struck)
        assert one.armed() == []


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"fault": "explode"}, "fault.fault"),
        ({}, "fault: fault: is missing"),
        ({"fault": "cut", "often": 1}, "fault: often: is no member"),
        ({"fault": "cut", "count": 0}, "count"),
        ({"fault": "cut", "count": True}, "count"),
        ({"fault": "cut", "probability": 1.5}, "probability"),
        ({"fault": "cut", "call": "pull"}, "call"),
        ({"fault": "cut", "type": 2}, "type"),
        ({"fault": "cut", "http_status": 500}, 'http_status is for the fault "http" only'),
        ({"fault": "http", "http_status": 200}, "http_status"),
        ({"fault": "http", "bytes": 1}, 'bytes is for the fault "cut" only'),
        ({"fault": "http", "nonempty": True}, "nonempty needs after_commit"),
        ({"fault": "result"}, "result must say"),
        ({"fault": "delay"}, "delay_s must say"),
        ({"fault": "cut", "call": "sendsms", "type": 0}, "type and nonempty are for pulls only"),
        ({"fault": "reorder", "call": "sendsms"}, "for pulls of v5 only"),
        ({"fault": "reorder", "call": "PullSmsSendStatus"}, "for pulls of v5 only"),
        ({"fault": "cut", "call": "pullstatus4mobile", "type": 0}, "for pulls only"),
        ({"fault": "duplicate", "after_commit": False}, "after the commit only"),
    ],
)
def test_fault_that_makes_no_sense_is_refused_by_name(members: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        convert(members, Fault, "fault")
    assert said.removeprefix("fault.") in str(caught.value)


def test_faults_are_bounded() -> None:
    made = faults(*[fault("cut")] * limits.FAULTS_MAX)
    with pytest.raises(InvalidSetting, match="clear them first"):
        made.arm(fault("cut"))


def test_of_faults_that_are_too_many_none_is_armed() -> None:
    made = faults(*[fault("cut")] * (limits.FAULTS_MAX - 1))
    with pytest.raises(InvalidSetting, match="clear them first"):
        made.arm(fault("http"), fault("http"))
    assert len(made.armed()) == limits.FAULTS_MAX - 1
    made.arm(fault("http"))


def test_faults_that_have_none_left_make_room_the_oldest_first() -> None:
    """Who tests for long and never clears them goes on."""
    made = faults(*[fault("cut")] * limits.FAULTS_MAX)
    first, second = made.strike("pullstatus", 0), made.strike("pullstatus", 0)
    [third] = made.arm(fault("http"))
    assert first is not None
    assert second in made.armed()
    assert not any(one is first for one in made.armed())
    assert made.armed()[-1] is third
    with pytest.raises(InvalidSetting, match="clear them first"):
        made.arm(fault("http"), fault("http"))
    made.give_back(first)
    assert made.strike("pullstatus", 0) is first
