"""Whose a report is: names before rules, owners proven, one look before it is nobody's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.apps import Application, LiveApplication
from pullstatus.apps.routing import Action, Rule, Rules
from pullstatus.mailbox.owning import NO_RULE, Owned, named_together, owned
from pullstatus.mailbox.pending import waits_for
from pullstatus.receipts.reading import read, read_statuses
from pullstatus.receipts.reports import Report, State, Whose, receipts_of, receipts_together
from pullstatus.receipts.request import Request
from pullstatus.receipts.sends import Registered
from pullstatus.receipts.source import builtin
from pullstatus.records import Kind
from pullstatus.steps import done
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


# --- many at once ---------------------------------------------------------------------------------

NATIVE = builtin()["native"]
IDS = ("7", "0a", "12", "x-1", "")
ITEMS = st.fixed_dictionaries(
    {"report_status": st.sampled_from(["SUCCESS", "FAIL", "DELIVRD", "SENT"])},
    optional={
        "id": st.sampled_from(IDS),
        "mobile": st.sampled_from(["13800138000", "13900139000"]),
        "sid": st.sampled_from(["echo", ""]),
        "ext": st.just("theirs"),
        "errmsg": st.just("OK"),
        "user_receive_time": st.just("2026-03-02 08:03:04"),
    },
)
SENDS = st.builds(
    Registered,
    st.sampled_from(["sid-1", "sid-2"]),
    st.sampled_from([("7",), ("0A",), ("18",), ("x-1",), ("7", "0a")]),
    st.sampled_from(["", "ext"]),
    st.just("86"),
    st.sampled_from(["", "13800138000"]),
)


@given(st.lists(ITEMS, min_size=1, max_size=5), st.lists(st.tuples(SENDS, st.booleans())))
def test_what_is_named_together_is_what_each_is(
    items: list[dict[str, str]], sends: list[tuple[Registered, bool]]
) -> None:
    """And none of it is to wait; whatever is to is left."""
    names, own = NamesInMemory(), application(1)
    for send, ours in sends:
        names.register(1, send, owner="one" if ours else "two")
    request = Request("POST", b"", "application/json", json.dumps(items).encode(), 1_772_409_700)
    statuses = read_statuses(NATIVE, request)
    if statuses is None:
        return
    together = asyncio.run(named_together(names, statuses, own))
    reports = done(read(NATIVE, request)).reports
    asked = owned(names, Commanded(own), reports, token="smsc", source=NATIVE, own=own)
    owns = asyncio.run(asked)
    each_is_told = all(
        report.id and report.number and report.state is not State.INTERMEDIATE for report in reports
    )
    waiting = [
        waits_for(report, each.name, named=True) for report, each in zip(reports, owns, strict=True)
    ]
    if together is None:
        assert any(waiting) or not each_is_told or len(reports) < len(items)
        return
    assert each_is_told
    assert not any(waiting)
    receipts = receipts_together(NATIVE.name, together, "86", request.arrived_s)
    told = [(report, each.whose) for report, each in zip(reports, owns, strict=True)]
    if receipts is not None:
        assert receipts == receipts_of(Kind.DELIVERY_STATUS, NATIVE.name, told, request.arrived_s)


def test_a_callback_of_what_is_registered_is_named_together() -> None:
    """However it writes their ids, and also what says its sid itself."""
    names, own = NamesInMemory(), application(1)
    for number in range(100):
        names.register(1, Registered(f"sid-{number}", (f"{number:x}Z",), "e", "", ""), owner="one")
    items = [
        {"report_status": "SUCCESS", "mobile": "13800138000", "id": f"0{number:x}z"}
        for number in range(100)
    ]
    items[7] |= {"id": "none", "sid": "its own", "ext": "x"}
    request = Request("POST", b"", "application/json", json.dumps(items).encode(), 1_772_409_700)
    statuses = read_statuses(NATIVE, request)
    assert statuses is not None
    together = asyncio.run(named_together(names, statuses, own))
    assert together is not None
    sids = [f"sid-{number}" for number in range(100)]
    sids[7] = "its own"
    assert together.sids == sids
    assert together.exts == [*["e"] * 7, "x", *["e"] * 92]
    assert receipts_together("native", together, "86", request.arrived_s) is not None


@pytest.mark.parametrize(
    ("item", "together"),
    [
        ({"id": "one"}, True),
        ({"id": "long"}, False),
        ({"id": "others"}, False),
        ({"id": "nobodys"}, False),
        ({"id": ""}, False),
        ({"id": "one", "mobile": ""}, False),
        ({"id": "one", "report_status": "SOON"}, False),
    ],
)
def test_what_may_have_to_wait_is_not_named_together(item: dict[str, str], together: bool) -> None:
    """Nor what says too little; one of them is enough."""
    names = NamesInMemory()
    for send, owner in (
        (Registered("sid-1", ("one",), "", "86", "13800138000"), "one"),
        (Registered("sid-2", ("long", "long-2"), "", "86", "13800138000"), "one"),
        (Registered("sid-3", ("others",), "", "86", "13800138000"), "two"),
    ):
        names.register(1, send, owner=owner)
    known = {"report_status": "SUCCESS", "mobile": "13800138000", "id": "one"}
    body = json.dumps([known, known | item]).encode()
    request = Request("POST", b"", "application/json", body, 1_772_409_700)
    statuses = read_statuses(NATIVE, request)
    assert statuses is not None
    found = asyncio.run(named_together(names, statuses, application(1)))
    assert (found is not None) is together
