"""The scenario's file: what it says, and how it is told what it says wrong."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from pullstatus.emulator.scenario import Scenario, example, parse_scenario, read_scenario
from pullstatus.errors import InvalidSetting

LONG = "x" * 50_000


def test_empty_file_is_the_documented_application_and_no_traffic() -> None:
    scenario = parse_scenario("")
    assert scenario == Scenario()
    assert scenario.application.sdkappid == 1400006666
    assert scenario.application.appkey == "5f03a35d00ee52a21327ab048186a2c4"
    assert scenario.traffic.statuses_per_s == scenario.traffic.replies_per_s == 0
    assert scenario.outcomes.delivered == 1
    assert (scenario.sends.delay_s, scenario.replies.share) == (1, 0)


def test_example_is_a_scenario_that_uses_every_part() -> None:
    scenario = parse_scenario(example())
    for part in Scenario.__struct_fields__:
        if part not in {"application", "secret"}:  # they show the default
            assert getattr(scenario, part) != getattr(Scenario(), part), part
    assert str(scenario.sends.delay_s) == "(0.5, 3.0)"
    assert [fault.fault for fault in scenario.faults] == ["cut", "http", "delay"]


def test_rule_is_the_first_that_fits_a_number() -> None:
    scenario = parse_scenario(example())
    ends = {
        mobile: rule and (rule.code or rule.result)
        for mobile in ("13800000001", "13800000002", "13900001234", "13800000003")
        for rule in [scenario.rule(mobile)]
    }
    assert list(ends.values()) == ["MK:0001", 1015, "DELIVRD", None]


def test_outcomes_follow_from_the_seed_and_their_weights() -> None:
    scenario = parse_scenario(example())
    receipts = [scenario.outcomes.receipt(scenario.chance("x")) for _ in range(2)]
    assert receipts[0] == receipts[1]
    chance = scenario.chance("x")
    drawn = [scenario.outcomes.receipt(chance) for _ in range(2000)]
    assert 0.87 < sum(receipt.delivered for receipt in drawn) / len(drawn) < 0.93
    assert {receipt.code for receipt in drawn} >= {"DELIVRD", "MOBILE BLACK", "XX:9999", "-37"}
    assert {receipt.description for receipt in drawn if receipt.code == "XX:9999"} == {
        "a code that nobody has documented"
    }


def test_chance_without_a_seed_differs_from_run_to_run() -> None:
    assert Scenario().chance("x").random() != Scenario().chance("x").random()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed = 'x'", "file: seed: expected"),
        ("speed = 1", "file: speed: is no member"),
        ("[traffic]\nrate = 1", "file: traffic.rate: is no member"),
        ("[traffic]\nstatuses_per_s = -1", "file: traffic.statuses_per_s: expected `float` >= 0"),
        ("[traffic]\nstatuses_per_s = 1001", "file: traffic.statuses_per_s"),
        ("[traffic]\nstatuses_at_start = true", "file: traffic.statuses_at_start: expected `int`"),
        ("[application]\nappkey = 'x'", "file: application.appkey"),
        ("[application]\nsdkappid = 0", "file: application.sdkappid"),
        ("[outcomes]\ndelivered = 1.1", "file: outcomes.delivered"),
        ("[outcomes]\ndelivered = 0.5\nfailures = []", "file: outcomes: failures must say"),
        ("[[outcomes.failures]]\nweight = 1", "file: outcomes.failures[0]: either code or group"),
        ("[[outcomes.failures]]\ngroup = 'x'", "group must be one of number, off, "),
        ("[[outcomes.failures]]\ncode = 'DELIVRD'", "is no failure"),
        ("[[outcomes.failures]]\ngroup = 'off'\nweight = 0", "file: outcomes.failures[0].weight"),
        ("[[outcomes.failures]]\ngroup = 'off'\nweight = inf", "outcomes.failures[0].weight"),
        ("[[outcomes.failures]]\ngroup = 'off'\nweight = nan", "outcomes.failures[0].weight"),
        ("[sends]\ndelay_s = 'x'", "file: sends.delay_s: expected"),
        ("[sends]\ndelay_s = [3, 1]", "file: sends: delay_s must be"),
        ("[sends]\ndelay_s = [1, 2, 3]", "file: sends.delay_s"),
        ("[sends]\ncallback = 'http://xn--a/'", "file: sends: callback is no address"),
        ("[sends]\ncallback = 'http://a..b/x'", "file: sends: callback is no address"),
        ("[replies]\ntexts = []", "file: replies.texts"),
        (f"[replies]\ntexts = ['a', '{LONG}']", "file: replies: texts[1] must"),
        (f"[sends]\nsign = '{LONG}'", "file: sends: sign must"),
        (f"[sends]\nsigns = ['{LONG}']", "file: sends: signs[0] must"),
        (f"[[rules]]\nmobile = '1'\nreply = '{LONG}'", "file: rules[0]: reply must"),
        (
            f"[[rules]]\nmobile = '1'\ncode = 'x'\ndescription = '{LONG}'",
            "file: rules[0]: description must",
        ),
        (
            f"[[outcomes.failures]]\ncode = 'x'\ndescription = '{LONG}'",
            "file: outcomes.failures[0]: description must",
        ),
        ("[[templates]]\nid = 1", "file: templates[0].text: is missing"),
        ("[[templates]]\nid=1\ntext=''\n[[templates]]\nid=1\ntext=''", "different ids"),
        ("[[templates]]\nid=1\ntext='{0}'", "file: templates[0]: text must have the places"),
        ("[[templates]]\nid=1\ntext='{1}{3}'", "file: templates[0]: text must have the places"),
        (
            f"[[templates]]\nid=1\ntext='{{{'9' * 5000}}}'",
            "file: templates[0]: text must have the places",
        ),
        ("[[rules]]\ncode = 'x'", "file: rules[0].mobile: is missing"),
        ("[[rules]]\nmobile = '+1'", "file: rules[0].mobile"),
        ("[[rules]]\nmobile = '1'\nresult = 1015\ncode = 'x'", "file: rules[0]: result refuses"),
        ("[[rules]]\nmobile = '1'\nerrmsg = 'x'", "file: rules[0]: errmsg"),
        ("[[rules]]\nmobile = '1'\ndescription = 'x'", "file: rules[0]: description"),
        ("[[rules]]\nmobile = '1'\n[[rules]]\nmobile = 1", "file: rules[1].mobile: expected `str`"),
        ("[[faults]]\nfault = 'cut'\ncall = 'x'", "file: faults[0].call"),
        ("[[faults]]\nfault = 'result'", "file: faults[0]: result must say"),
        ("x", "file is no TOML"),
    ],
)
def test_mistake_is_told_with_its_member(text: str, said: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        parse_scenario(text, "file")
    assert said in str(caught.value)
    # What a decoder frees wrongly shows at the next collection.
    gc.collect(1)  # what it made is young


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scenario.toml"
    with pytest.raises(InvalidSetting, match=r"scenario\.toml cannot be read: No such file"):
        read_scenario(path)
    path.write_bytes(b"\xff")
    with pytest.raises(InvalidSetting, match=r"scenario\.toml is not UTF-8"):
        read_scenario(path)


def test_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """As editors of Windows write it."""
    path = tmp_path / "scenario.toml"
    path.write_text("seed = 7", encoding="utf-8-sig")
    assert read_scenario(path).seed == 7
