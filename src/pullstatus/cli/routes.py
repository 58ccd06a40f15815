"""`pullstatus route ...`: whose what comes with a platform's token is."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import click
import msgspec

from pullstatus import apps
from pullstatus.apps import RuleStanding, routing
from pullstatus.apps.routing import Action, Rule, Rules, Traits, Verdict
from pullstatus.apps.values import read_token, token_setting
from pullstatus.cli.acting import acting
from pullstatus.cli.lazy import Group
from pullstatus.cli.numbers import ORDINAL, SDKAPPID
from pullstatus.cli.output import json_option, print_json, print_rows, say
from pullstatus.cli.recorded import recorded, warn_of_method
from pullstatus.cli.session import plainly, store_option, with_store
from pullstatus.cli.texts import FILLED
from pullstatus.clock import wall_ms
from pullstatus.errors import InvalidSetting, PullstatusError
from pullstatus.mailbox import owning
from pullstatus.mailbox.names import Told, names_of
from pullstatus.receipts.reading import read
from pullstatus.receipts.reports import Report, Whose, receipts_of
from pullstatus.receipts.request import Request
from pullstatus.receipts.source import Source, builtin
from pullstatus.records import Kind
from pullstatus.steps import done
from pullstatus.store import Store

name_argument = click.argument("name")
reason_option = click.option("--reason", default="", help="Why; kept on record.")

RESULTS = {Action.ROUTE: "routed", Action.PARK: "parked", Action.DROP: "dropped"}


@click.group("route", cls=Group)
def route_group() -> None:
    """Rules that say whose a record is that came with a platform's token.

    A token of an application puts all that comes with it into that one, and no rule is asked. With
    a token of none, a record is whose registered its id; else the first rule decides that matches
    it. What none matches is parked under number 0, and `pullstatus parked retry 0` takes it once
    there is a rule. A change is good for the next request to a running server; a rule that is
    removed takes nothing more within a second.
    """


@route_group.command("add")
@name_argument
@click.option("--sdkappid", type=SDKAPPID, help="The application that it routes to.")
@click.option("--park", is_flag=True, help="Park what it matches, whatever stands behind it.")
@click.option("--drop", is_flag=True, help="Acknowledge what it matches, and store nothing of it.")
@click.option("--token", type=FILLED, metavar="NAME", help="What comes with this token.")
@click.option("--source", type=FILLED, metavar="NAME", help="What comes from this kind of gateway.")
@click.option("--to", type=FILLED, metavar="NUMBER", help="What is to, or of, this number of ours.")
@click.option("--to-prefix", type=FILLED, metavar="DIGITS", help="What that number begins with.")
@click.option(
    "--from-prefix", type=FILLED, metavar="DIGITS", help="What the handset's number begins with."
)
@click.option("--id-prefix", type=FILLED, metavar="TEXT", help="What the gateway's id begins with.")
@click.option("--sign", default="", help="The signature of its replies.")
@click.option(
    "--nationcode", default="", metavar="CODE", help="Of numbers that come without a calling code."
)
@click.option(
    "--extend",
    help="That of its replies. Without it: what stands behind --to-prefix, or nothing.",
)
@click.option("--at", "place", type=ORDINAL, help="Its place. Without it: the last.")
@reason_option
@store_option
@plainly
def add_route(
    name: str,
    sdkappid: int | None,
    park: bool,
    drop: bool,
    place: int | None,
    reason: str,
    store_url: str,
    **conditions: str | None,
) -> None:
    """Add a rule. It matches what fulfils all of its conditions, and needs one at least.

    Numbers are written with their calling code and without plus or 00, as 8613800138000; a short
    code as it is. The rule feeds the application of who owns it now: not one that is made later
    under its number.
    """
    if (sdkappid is not None) + park + drop != 1:
        raise click.UsageError("say one of --sdkappid, --park and --drop")
    action = Action.PARK if park else Action.DROP if drop else Action.ROUTE
    given = {member: value for member, value in conditions.items() if value is not None}
    rule = Rule(name=name, action=action, sdkappid=sdkappid, **given)

    async def add(store: Store) -> dict[str, object]:
        await apps.add_rule(store, rule, by=acting(reason), place=place)
        return await _standing(store, name)

    print_json(with_store(store_url, add))


@route_group.command("list")
@json_option
@store_option
@plainly
def list_routes(as_json: bool, store_url: str) -> None:
    """List all rules, in the order in which they are asked, and what is wrong with each.

    As a rule that is never reached, since one before it takes all that it would; or one for an
    application that is gone, or has another owner since: what it takes is parked.
    """
    found = with_store(store_url, apps.rule_standings)
    terminal = sys.stdout.isatty() and not as_json
    print_rows(
        [_row(each) if terminal else _shown(each) for each in found],
        as_json=as_json,
        columns=["place", "name", "goes to", "matches", "wrong", "says"],
        wraps="wrong",
        empty="No rules yet: pullstatus route add NAME makes one.",
    )


@route_group.command("move")
@name_argument
@click.option("--at", "place", type=ORDINAL, required=True, help="Where it stands then.")
@reason_option
@store_option
@plainly
def move_route(name: str, place: int, reason: str, store_url: str) -> None:
    """Put a rule at another place among the others."""

    async def move(store: Store) -> dict[str, object]:
        await apps.move_rule(store, name, place, by=acting(reason))
        return await _standing(store, name)

    print_json(with_store(store_url, move))


@route_group.command("remove")
@name_argument
@reason_option
@store_option
@plainly
def remove_route(name: str, reason: str, store_url: str) -> None:
    """Remove a rule. What it has routed stays where it is."""
    with_store(store_url, lambda store: apps.remove_rule(store, name, by=acting(reason)))
    print_json({"removed": name})


@route_group.command("test")
@click.option("--token", default="", metavar="NAME", help="The token that it comes with.")
@click.option("--source", default="", metavar="NAME", help="The kind of gateway.")
@click.option("--to", default="", metavar="NUMBER", help="Our number.")
@click.option("--number", default="", help="The handset's number, with its calling code.")
@click.option("--id", default="", metavar="TEXT", help="The gateway's id.")
@click.option(
    "--request",
    metavar="FILE",
    help="A recorded request of --source, as `source check` reads it, in place of the last three.",
)
@json_option
@store_option
@plainly
def test_route(as_json: bool, store_url: str, request: str | None, **given: str) -> None:
    """Say where a record would go, and why: what each rule says of it.

    Nothing is stored. With --request there is an answer for each of its reports, and for each item
    that cannot be read. Exit status 1 if one would be parked, or the token refused.
    """
    if not any(given.values()):
        raise click.UsageError("tell something of the record; see --help")
    said = any(given[name] for name in ("to", "number", "id"))
    if request is not None and (said or not given["source"]):
        raise click.UsageError("--request needs --source, and says the rest itself")

    async def test(store: Store) -> list[Tested]:
        door = await _door(store, given["token"])
        if door.refused:
            return [Tested("refused", None, door.refused, [])]
        if request is None:
            return [(await _test(store, door, routing.traits_of(**given)))[0]]
        source = await _source(store, given["source"])
        return await _test_request(store, door, source, recorded(request, wall_ms() // 1000))

    tested = with_store(store_url, test)
    if as_json or not sys.stdout.isatty():
        told = [_as_json(each) for each in tested]
        print_json(told if request else told[0])
    else:
        for each in tested:
            _print_tested(each)
    if any(each.result in ("parked", "refused") for each in tested):
        raise SystemExit(1)


class Tested(msgspec.Struct, frozen=True):
    """Where a record would go.

    Attributes:
        result: "routed", "parked" or "dropped"; or "refused", as all that comes with the token.
        sdkappid: the application; None: none, or it is parked under number 0.
        why: for people.
        rules: what each says; none if none was asked.
    """

    result: str
    sdkappid: int | None
    why: str
    rules: list[Verdict]


class Door(msgspec.Struct, frozen=True):
    """What a token lets in.

    Attributes:
        name: the token's; empty if none was named.
        sdkappid: the application that all of it is for; None: rules are asked.
        refused: why nothing; empty if something.
    """

    name: str = ""
    sdkappid: int | None = None
    refused: str = ""


async def _door(store: Store, name: str) -> Door:
    if not name:
        return Door()
    setting = await store.setting(token_setting(name))
    if setting is None or setting.value is None:
        return Door(name, refused=f"no token is named {name}")
    token = read_token(setting.name, setting.value)
    if not token.good(wall_ms()):
        return Door(name, refused=f"token {name} has ended")
    if token.sdkappid is None:
        return Door(name)
    live = await owning.Stored(store, Rules()).application(token.sdkappid)
    if live is None or not token.feeds(live.application):
        gone = "which is gone, or has another owner since"
        return Door(name, refused=f"token {name} is for {token.sdkappid}, {gone}")
    return Door(name, token.sdkappid)


async def _source(store: Store, name: str) -> Source:
    spoken = {**builtin(), **{each.name: each for each in await apps.sources(store)}}
    if name not in spoken:
        raise InvalidSetting("no source has this name; `pullstatus source list` shows them")
    return spoken[name]


async def _test_request(store: Store, door: Door, source: Source, request: Request) -> list[Tested]:
    """Where each report of a recorded request would go, and behind them what cannot be read."""
    warn_of_method(source, request)

    async def test(report: Report) -> Tested:
        def unreadable(whose: Whose) -> str:
            told = [(report, whose)]
            receipts = receipts_of(report.kind, source.name, told, request.arrived_s)
            return receipts.unread[0].reason if receipts.unread else ""

        traits = routing.traits_of(
            token=door.name,
            source=source.name,
            number=report.number,
            to=report.to,
            id=report.id,
        )
        named = report.kind is Kind.DELIVERY_STATUS
        code = owning.nationcode_of(report.kind, source)
        tested, whose = await _test(store, door, traits, named=named, code=code)
        why = unreadable(whose) if tested.result == "routed" else ""
        return msgspec.structs.replace(tested, result="parked", why=why) if why else tested

    found = done(read(source, request))
    unread = [Tested("parked", door.sdkappid, each.reason, []) for each in found.unread]
    return [await test(report) for report in found.reports] + unread


async def _test(
    store: Store, door: Door, traits: Traits, *, named: bool = True, code: str | None = None
) -> tuple[Tested, Whose]:
    """Where a record would go, and what it does not say of itself."""
    if door.sdkappid is not None:
        why = f"all that comes with token {door.name} is for {door.sdkappid}: no rule is asked"
        return Tested("routed", door.sdkappid, why, []), Whose(code)
    rules = await apps.rules(store)
    names = await names_of(store, [Told(traits.id if named else "", traits.number)])
    [found] = await owning.platforms(owning.Stored(store, rules), [traits], names, [code])
    sdkappid = None if found.live is None else found.live.application.sdkappid
    result = "dropped" if found.dropped else "parked" if sdkappid is None else "routed"
    verdicts = [] if found.name is not None else routing.explain(rules, traits)
    return Tested(result, sdkappid, found.why, verdicts), found.whose


def _as_json(tested: Tested) -> dict[str, object]:
    return {
        "result": tested.result,
        "sdkappid": tested.sdkappid,
        "why": tested.why,
        "rules": [_verdict(each) for each in tested.rules],
    }


def _verdict(verdict: Verdict) -> dict[str, object]:
    return {
        "place": verdict.place,
        "name": verdict.rule.name,
        "takes": verdict.takes,
        "why": verdict.why,
    }


def _print_tested(tested: Tested) -> None:
    """For people: a table of what each rule says, and what comes of it."""
    if tested.rules:
        rows = [_verdict(each) for each in tested.rules]
        columns = ["place", "name", "takes", "why"]
        print_rows(rows, as_json=False, columns=columns, wraps="why", empty="")
    way = "to" if tested.result == "routed" else "for"
    where = f"{tested.result} {way} {tested.sdkappid}" if tested.sdkappid else tested.result
    say(f"It is {where}: {tested.why}.")


async def _standing(store: Store, name: str) -> dict[str, object]:
    """A rule that was changed just now; that it was is told in any case."""
    found: Sequence[RuleStanding] = ()
    try:
        found = await apps.rule_standings(store)
    except PullstatusError as error:
        say(f"how it stands cannot be read now: {error}", err=True)
    return next((_shown(each) for each in found if each.rule.name == name), {"name": name})


def _shown(standing: RuleStanding) -> dict[str, object]:
    rule = standing.rule
    return {
        "place": standing.place,
        "name": rule.name,
        "result": RESULTS[rule.action],
        "sdkappid": rule.sdkappid,
        "conditions": rule.conditions,
        "sign": rule.sign,
        "nationcode": rule.nationcode,
        "extend": rule.extend,
        "wrong": standing.wrong,
    }


def _row(standing: RuleStanding) -> dict[str, object]:
    """A line of a table."""
    rule = standing.rule
    replies = {"sign": rule.sign, "nationcode": rule.nationcode, "extend": rule.extend}
    return {
        **_shown(standing),
        "goes to": rule.sdkappid or RESULTS[rule.action],
        "matches": _told(rule.conditions),
        "says": _told(replies),
    }


def _told(members: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {value}" for name, value in members.items() if value)
