"""Whose a record is: the first rule that matches, whatever else there is, and why."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus import limits
from pullstatus.apps.routing import (
    Action,
    Rule,
    Rules,
    check_rules,
    explain,
    first,
    read_rules,
    traits_of,
    unreachable,
)
from pullstatus.apps.values import ROUTING, Application
from pullstatus.errors import InvalidSetting, StoreCorrupt

HOTLINE = Rule(name="hotline", sdkappid=1, owner="one", to="95555")
SHOP = Rule(name="shop", sdkappid=2, owner="two", to_prefix="1069", sign="Shop")
ABROAD = Rule(name="abroad", action=Action.PARK, from_prefix="44", source="kannel")
NOISE = Rule(name="noise", action=Action.DROP, token="smsc-1", id_prefix="test-")
RULES = Rules([HOTLINE, SHOP, ABROAD, NOISE])


def asked(told: dict[str, str], rules: Rules = RULES) -> str | None:
    found = first(rules, **(_NOTHING | told))
    return None if found is None else found.rule


@pytest.mark.parametrize(
    ("told", "rule"),
    [
        ({"to": "95555"}, "hotline"),
        ({"to": "955555"}, None),
        ({"to": "+1069123"}, "shop"),
        ({"to": " 1069123"}, "shop"),  # a plus that was not encoded
        ({"to": "1069", "number": "44", "source": "kannel"}, "shop"),
        ({"number": "+447700900000", "source": "kannel"}, "abroad"),
        ({"number": "00447700900000", "source": "kannel"}, "abroad"),
        ({"number": "00447", "source": "kannel"}, None),  # a short code: as it is written
        ({"number": "+447700900000", "source": "jasmin"}, None),
        ({"token": "smsc-1", "id": "test-1"}, "noise"),
        ({"token": "smsc-2", "id": "test-1"}, None),
        ({}, None),
    ],
)
def test_the_first_that_matches_decides(told: dict[str, str], rule: str | None) -> None:
    assert asked(told) == rule


def test_what_it_says_of_a_record() -> None:
    told = {"token": "a", "source": "b", "number": "", "id": ""}
    found = first(RULES, to="+106912", **told)
    assert found is not None
    assert (found.sdkappid, found.sign, found.extend, found.nationcode) == (2, "Shop", "12", "")
    said = msgspec.structs.replace(SHOP, extend="7", nationcode="852")
    again = first(Rules([said]), to="106912", **told)
    assert again is not None
    assert (again.extend, again.nationcode) == ("7", "852")
    whole = first(RULES, to="95555", **told)
    assert whole is not None
    assert whole.extend == ""


def test_it_feeds_whoever_had_the_number_when_it_was_made_and_nobody_else() -> None:
    found = first(RULES, token="", source="", number="", to="95555", id="")
    assert found is not None
    assert found.feeds(Application(1, (), 0, owner="one"))
    assert not found.feeds(Application(1, (), 0, owner="another"))
    assert not found.feeds(Application(1, (), 0))
    assert not found.feeds(Application(2, (), 0, owner="one"))
    former = first(Rules([Rule(name="a", sdkappid=1, to="1")]), **dict(_NOTHING, to="1"))
    assert former is not None
    assert former.feeds(Application(1, (), 0))  # both of before there were owners
    assert not former.feeds(Application(1, (), 0, owner="next"))


_NOTHING = {"token": "", "source": "", "number": "", "to": "", "id": ""}


def test_each_rule_says_why() -> None:
    traits = traits_of(token="smsc-1", source="kannel", number="+4477", to="10691", id="test-1")
    said = [(each.place, each.rule.name, each.takes, each.why) for each in explain(RULES, traits)]
    assert said == [
        (1, "hotline", False, "our number is not 95555"),
        (2, "shop", True, "all that it asks for is so"),
        (3, "abroad", False, "shop stands before it"),
        (4, "noise", False, "shop stands before it"),
    ]


DIGITS = st.text("12", max_size=3)
SOME_RULES = st.lists(
    st.builds(
        Rule,
        name=st.just("a"),
        action=st.just(Action.PARK),
        token=st.sampled_from(["", "a", "b"]),
        source=st.sampled_from(["", "a", "b"]),
        to=DIGITS,
        to_prefix=DIGITS,
        from_prefix=DIGITS,
        id_prefix=DIGITS,
    ).filter(lambda rule: bool(rule.conditions) and not (rule.to and rule.to_prefix)),
    max_size=6,
).map(
    lambda rules: [
        msgspec.structs.replace(rule, name=f"r{place}") for place, rule in enumerate(rules)
    ]
)
TRAITS = st.fixed_dictionaries(
    {
        "token": st.sampled_from(["a", "b"]),
        "source": st.sampled_from(["a", "b"]),
        "number": DIGITS,
        "to": DIGITS,
        "id": DIGITS,
    }
)


@given(SOME_RULES, TRAITS)
def test_the_short_way_and_the_long_one_agree(rules: list[Rule], told: dict[str, str]) -> None:
    """And what is called unreachable never decides."""
    check_rules(rules)
    takes = [each for each in explain(Rules(rules), traits_of(**told)) if each.takes]
    assert asked(told, Rules(rules)) == (takes[0].rule.name if takes else None)
    assert not {each.rule.name for each in takes} & unreachable(rules).keys()
    assert list(read_rules(ROUTING, msgspec.json.encode(rules))) == rules


def test_rules_that_nothing_comes_to_are_named_with_the_one_before() -> None:
    wide = Rule(name="wide", sdkappid=1, to_prefix="106")
    same = Rule(name="same", sdkappid=2, to_prefix="106")
    within = Rule(name="within", sdkappid=2, to="10612", token="a")
    other = Rule(name="other", sdkappid=2, to_prefix="10")
    assert unreachable([wide, same, within, other]) == {"same": "wide", "within": "wide"}
    assert unreachable([within, other, wide]) == {"wide": "other"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"to": ""}, "what it is for"),
        ({"name": "-a"}, "name"),
        ({"sdkappid": None}, "routes to"),
        ({"action": Action.DROP}, "routes to"),
        ({"sdkappid": 0}, "sdkappid"),
        ({"to_prefix": "9"}, "not both"),
        ({"to": "+95555"}, "plus or 00"),
        ({"to": " 9"}, "plus or 00"),
        ({"from_prefix": "0044"}, "plus or 00"),
        ({"from_prefix": "4a"}, "digits"),
        ({"token": "a b"}, "token"),
        ({"nationcode": "+86"}, "nationcode"),
        ({"sign": "\x1b[2J"}, "sign"),
        ({"extend": "1" * (limits.RULE_CHARS_MAX + 1)}, "extend"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_with_the_member(
    wrong: dict[str, object], said: str
) -> None:
    rule = msgspec.structs.replace(HOTLINE, **wrong)
    with pytest.raises(InvalidSetting, match=said):
        check_rules([rule])
    with pytest.raises(StoreCorrupt, match="the setting routing is not what was set"):
        read_rules(ROUTING, msgspec.json.encode([rule]))


def test_as_a_whole_they_are_bounded_and_told_apart() -> None:
    many = [
        msgspec.structs.replace(HOTLINE, name=f"r{number}")
        for number in range(limits.RULES_MAX + 1)
    ]
    check_rules(many[1:])
    with pytest.raises(InvalidSetting, match="at most"):
        check_rules(many)
    with pytest.raises(InvalidSetting, match="exists"):
        check_rules([HOTLINE, HOTLINE])


def test_a_condition_of_a_later_version_makes_no_rule_wider() -> None:
    with pytest.raises(StoreCorrupt, match="routing"):
        read_rules(ROUTING, b'[{"name":"a","sdkappid":1,"to":"1","regex":"2"}]')
