"""Whose a report is: names before rules, owners proven, one look before it is nobody's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pullstatus.apps import Application, LiveApplication
from pullstatus.apps.routing import Action, Rule, Rules
from pullstatus.mailbox.owning import NO_RULE, Owned, owned
from pullstatus.receipts.reports import Report, Whose
from pullstatus.receipts.sends import Registered
from pullstatus.receipts.source import builtin
from pullstatus.records import Kind
from tests.names import NamesInMemory

SOURCE = builtin()["kannel"]
STATUS = Report(Kind.DELIVERY_STATUS, b"", number="8613800138000", to="106912", id="a1")
REPLY = Report(Kind.REPLY, b"", number="8613800138000", to="106912")


def application(sdkappid: int, owner: str = "one") -> LiveApplication:
    return LiveApplication(Application(sdkappid, (), 0, owner=owner), 1)


class Commanded:
    """What a server knows, and what a command does beside it, which a look sees."""

    def __init__(self, *applications: LiveApplication, rules: tuple[Rule, ...] = ()) -> None:
        self.live = {each.application.sdkappid: each for each in applications}
        self.rules = Rules(rules)
        self.changes: list[Callable[[], None]] = []
        self.looks = 0

    async def application(self, sdkappid: int) -> LiveApplication | None:
        if sdkappid not in self.live:
            await self.look()
        return self.live.get(sdkappid)

    async def look(self) -> None:
        self.looks += 1
        while self.changes:
            self.changes.pop()()


def whose(
    known: Commanded,
    *reports: Report,
    names: NamesInMemory | None = None,
    own: LiveApplication | None = None,
) -> list[Owned]:
    asked = owned(names or NamesInMemory(), known, reports, token="smsc", source=SOURCE, own=own)
    return asyncio.run(asked)


SHOP = Rule(name="shop", sdkappid=2, owner="one", to_prefix="1069", sign="Shop")


def test_a_name_comes_before_the_rules_and_a_rule_before_nobody() -> None:
    names = NamesInMemory()
    names.register(1, Registered("sid-1", ("a1",), "ext", "86", "13800138000"), owner="one")
    known = Commanded(application(1), application(2), rules=(SHOP,))
    named, ruled, lost = whose(
        known, STATUS, REPLY, Report(Kind.REPLY, b"", number="86139", to="95555"), names=names
    )
    assert (named.live, named.whose.sid, named.whose.ext) == (known.live[1], "sid-1", "ext")
    assert named.whose.number == "+8613800138000"
    assert (ruled.live, ruled.whose) == (known.live[2], Whose(sign="Shop", extend="12"))
    assert (lost.live, lost.dropped, lost.why) == (None, False, NO_RULE)


def test_a_token_of_an_application_asks_no_rule() -> None:
    """And only what this application has registered."""
    names = NamesInMemory()
    names.register(2, Registered("theirs", ("a1",), "", "86", "13800138000"), owner="one")
    known = Commanded(application(1), rules=(SHOP,))
    own = known.live[1]
    assert [each.live for each in whose(known, STATUS, REPLY, names=names, own=own)] == [own, own]
    assert whose(known, STATUS, names=names, own=own)[0].whose.sid == ""


@pytest.mark.parametrize("now", [None, application(2, "next")])
def test_who_has_the_number_next_gets_nothing(now: LiveApplication | None) -> None:
    """Neither by a rule nor by a name; nor does a rule behind it, or another application."""
    names = NamesInMemory()
    names.register(2, Registered("theirs", ("a1",), "", "86", "13800138000"), owner="one")
    behind = Rule(name="behind", sdkappid=1, owner="one", to_prefix="1")
    known = Commanded(*filter(None, (application(1), now)), rules=(SHOP, behind))
    for found in whose(known, STATUS, REPLY, names=names):
        assert (found.live, found.dropped) == (None, False)
        assert "another owner" in found.why
    assert whose(known, Report(Kind.REPLY, b"", number="1", to="18"))[0].live is known.live[1]


def test_what_a_command_has_just_made_takes_the_very_next_one() -> None:
    known = Commanded()

    def make() -> None:
        known.live[2] = application(2)
        known.rules = Rules([SHOP])

    known.changes.append(make)
    assert [each.live for each in whose(known, REPLY, REPLY)] == [known.live[2]] * 2
    assert known.looks == 1


def test_looks_do_not_grow_with_what_is_nobodys() -> None:
    known = Commanded(rules=(SHOP,))
    whose(known, *[REPLY] * 100)
    assert known.looks <= 3


def test_a_rule_parks_or_drops_and_says_so() -> None:
    park = Rule(name="wait", action=Action.PARK, to="106912")
    drop = Rule(name="noise", action=Action.DROP, to="1")
    known = Commanded(rules=(park, drop))
    parked, dropped = whose(known, REPLY, Report(Kind.REPLY, b"", number="1", to="1"))
    assert (parked.live, parked.dropped, parked.why) == (None, False, "rule wait parks it")
    assert (dropped.live, dropped.dropped) == (None, True)
