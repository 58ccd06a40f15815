"""Making, moving and removing rules of routing, safe beside servers and each other.

All of them are one setting, so that their order is what somebody saw when he changed it: a change
beside another one is made anew on what that left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from pullstatus.apps.administration import find_application
from pullstatus.apps.operator import Operator
from pullstatus.apps.routing import Action, Rule, Rules, check_rules, read_rules, unreachable
from pullstatus.apps.values import (
    ROUTING,
    SOURCES,
    check_sdkappid,
    token_setting,
)
from pullstatus.errors import InvalidSetting, UnknownApplication
from pullstatus.receipts.source import builtin
from pullstatus.store import Change, Setting, Store


class RuleStanding(msgspec.Struct, frozen=True):
    """A rule and how it stands.

    Attributes:
        place: from 1.
        wrong: why it does not do what it says, for people; empty: it does.
    """

    place: int
    rule: Rule
    wrong: str


async def rules(store: Store) -> Rules:
    """All rules, in their order."""
    _, found = await _read(store)
    return found


async def add_rule(store: Store, rule: Rule, *, by: Operator, place: int | None = None) -> Rule:
    """Make a rule; returns it as it is kept: for the owner that its application has now.

    Args:
        place: where it stands then, from 1; None: behind all others.

    Raises:
        InvalidSetting: a member is out of bounds, another rule has the name, or there is no such
            place.
        UnknownApplication: it routes to one that does not exist.
    """
    _check_digits(rule)
    if rule.sdkappid is not None:
        application = await find_application(store, check_sdkappid(rule.sdkappid))
        if application is None:
            raise UnknownApplication(f"application {rule.sdkappid} does not exist; create it first")
        rule = msgspec.structs.replace(rule, owner=application.owner)

    def add(before: list[Rule]) -> list[Rule]:
        return _put(before, rule, len(before) + 1 if place is None else place)

    await _change(store, add, rule, by=by, action="route add")
    return rule


def _check_digits(rule: Rule) -> None:
    """Refuse digits as an input method makes them, such as full-width ones: no gateway writes them.

    Of new rules only: those that are stored are read as they are.
    """
    for name in ("to", "to_prefix"):
        if any(each.isdecimal() and not each.isascii() for each in getattr(rule, name)):
            raise InvalidSetting(f"{name} is written with the digits 0 to 9, of single width")


async def move_rule(store: Store, name: str, place: int, *, by: Operator) -> None:
    """Put a rule at another place, from 1, among the others.

    Raises:
        InvalidSetting: none has that name, or there is no such place.
    """
    _, before = await _read(store)
    rule = _named(before, name)

    def move(before: list[Rule]) -> list[Rule]:
        moved = _named(before, name)
        return _put([each for each in before if each is not moved], moved, place)

    await _change(store, move, rule, by=by, action="route move")


async def remove_rule(store: Store, name: str, *, by: Operator) -> None:
    """Remove a rule.

    Raises:
        InvalidSetting: none has that name.
    """
    _, before = await _read(store)
    rule = _named(before, name)

    def remove(before: list[Rule]) -> list[Rule]:
        removed = _named(before, name)
        return [each for each in before if each is not removed]

    await _change(store, remove, rule, by=by, action="route remove")


async def rule_standings(store: Store) -> list[RuleStanding]:
    """All rules in their order, and what is wrong with each."""
    found = list(await rules(store))
    hidden = unreachable(found)
    return [
        RuleStanding(place, rule, await _wrong(store, rule, hidden.get(rule.name)))
        for place, rule in enumerate(found, 1)
    ]


async def _wrong(store: Store, rule: Rule, hidden_by: str | None) -> str:
    if hidden_by is not None:
        return f"never reached: {hidden_by} takes all of it"
    if rule.sdkappid is not None:
        application = await find_application(store, rule.sdkappid)
        if application is None:
            return f"application {rule.sdkappid} does not exist: what it takes is parked"
        if application.owner != rule.owner:
            return f"{rule.sdkappid} has another owner since: what it takes is parked"
    if rule.token:
        token = await store.setting(token_setting(rule.token))
        if token is None or token.value is None:
            return f"no token is named {rule.token}"
    if rule.source and rule.source not in builtin():
        added = await store.setting(SOURCES + rule.source)
        if added is None or added.value is None:
            return f"no source is named {rule.source}"
    return ""


def _named(found: Rules | Sequence[Rule], name: str) -> Rule:
    for rule in found:
        if rule.name == name:
            return rule
    raise InvalidSetting("no rule has this name; `pullstatus route list` shows them")


def _put(others: list[Rule], rule: Rule, place: int) -> list[Rule]:
    if not 1 <= place <= len(others) + 1:
        raise InvalidSetting(f"a rule's place is a number from 1 to {len(others) + 1}")
    return [*others[: place - 1], rule, *others[place - 1 :]]


async def _change(
    store: Store,
    change: Callable[[list[Rule]], list[Rule]],
    rule: Rule,
    *,
    by: Operator,
    action: str,
) -> None:
    """Replace all rules by what `change` makes of them; on record with what `rule` is for."""
    while True:
        setting, before = await _read(store)
        after = change(list(before))
        check_rules(after)
        if after == list(before):
            return
        # Of a condition its name: its value may be somebody's number.
        detail: dict[str, object] = {"name": rule.name, "conditions": list(rule.conditions)}
        if rule.action is Action.ROUTE:
            detail["sdkappid"] = rule.sdkappid
        else:
            detail["result"] = rule.action.value
        if rule in after:
            detail["place"] = after.index(rule) + 1
        if await store.change(
            Change(ROUTING, msgspec.json.encode(after), setting.value),
            act=by.act(action, **detail),
            ticket=by.ticket(),
        ):
            return


async def _read(store: Store) -> tuple[Setting, Rules]:
    setting = await store.setting(ROUTING) or Setting(ROUTING, None, 0)
    return setting, Rules() if setting.value is None else read_rules(ROUTING, setting.value)
