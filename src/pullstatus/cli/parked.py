"""`pullstatus parked ...`: what could not be read of callbacks, kept as it came."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial

import click

from pullstatus.cli.acting import acting
from pullstatus.cli.lazy import Group
from pullstatus.cli.numbers import ORDINAL, SDKAPPID
from pullstatus.cli.output import json_option, limit_option, moment, print_json, print_rows, say
from pullstatus.cli.session import plainly, store_option, with_store
from pullstatus.errors import InvalidSetting
from pullstatus.mailbox import parking, unparking
from pullstatus.mailbox.parking import Parked
from pullstatus.mailbox.unparking import Unparked
from pullstatus.receipts.request import charset_of
from pullstatus.receipts.text import coding_named
from pullstatus.records import Kind
from pullstatus.store import Store

COLUMNS = ["sdkappid", "item", "at", "token", "address", "kind", "index", "member", "reason"]

sdkappid_argument = click.argument("sdkappid", type=SDKAPPID)
items_argument = click.argument("items", type=ORDINAL, nargs=-1, metavar="[ITEM]...")
all_option = click.option("--all", "all_items", is_flag=True, help="All items.")
reason_option = click.option("--reason", default="", help="Why; kept on record.")


def _known_charset(_context: click.Context, _option: click.Parameter, charset: str) -> str:
    named = charset_of(f"application/json; charset={charset}")
    if charset and not (named and named == coding_named(charset)):
        raise click.BadParameter("is UTF-8, or no charset that is known")
    return charset


@click.group("parked", cls=Group)
def parked_group() -> None:
    """What could not be read of callbacks, kept as it came.

    What is nobody's, since it came with a platform's token and no rule says whose it is, is parked
    under number 0.
    """


@parked_group.command("list")
@click.option("--sdkappid", type=SDKAPPID, help="Only this application's.")
@limit_option
@json_option
@store_option
@plainly
def list_parked(sdkappid: int | None, limit: int, as_json: bool, store_url: str) -> None:
    """List what is parked, oldest first, and why. Nothing of what the items say is shown."""

    async def read(store: Store) -> list[tuple[int, Parked]]:
        return [
            (row.mailbox.sdkappid, each)
            for row in await store.backlog(sdkappid)
            if row.mailbox.parked and row.waiting
            for each in await parking.parked(store, row.mailbox.sdkappid)
        ]

    found = sorted(with_store(store_url, read), key=lambda one: _at_ms(one[1]))
    print_rows(
        [_shown(number, each) for number, each in found[:limit]],
        as_json=as_json,
        columns=COLUMNS,
        empty="Nothing is parked, or nothing that matches.",
        wraps="reason",
    )
    if len(found) > limit:
        say(f"{len(found) - limit} more are parked; --limit shows more.", err=True)


@parked_group.command("show")
@sdkappid_argument
@click.argument("item", type=ORDINAL)
@click.option(
    "--reveal", is_flag=True, help="Print its bytes, too: they are personal data, so it is an act."
)
@reason_option
@json_option
@store_option
@plainly
def show_parked(
    sdkappid: int, item: int, reveal: bool, reason: str, as_json: bool, store_url: str
) -> None:
    """Show one parked item, and what is wrong with it."""

    async def read(store: Store) -> dict[str, object]:
        found = [one for one in await parking.parked(store, sdkappid) if one.number == item]
        if not found:
            raise InvalidSetting(f"item {item} of {sdkappid} is not parked")
        shown = _shown(sdkappid, found[0])
        if reveal and found[0].item is not None:
            by = acting(reason)
            act = by.act("parked show", sdkappid=sdkappid, item=item)
            await store.change(act=act, ticket=by.ticket())
            shown["data"] = found[0].item.raw.decode("utf-8", "backslashreplace")
        return shown

    shown = with_store(store_url, read)
    if as_json or not sys.stdout.isatty():
        print_json(shown)
        return
    print_rows(
        [{"": name, "item": value} for name, value in shown.items()],
        as_json=False,
        columns=["", "item"],
        empty="",
        wraps="item",
    )


@parked_group.command("retry")
@sdkappid_argument
@items_argument
@all_option
@click.option(
    "--charset",
    default="",
    callback=_known_charset,
    help="In which bodies are that are no UTF-8 and name none, such as gb18030.",
)
@reason_option
@store_option
@plainly
def retry_parked(
    sdkappid: int,
    items: tuple[int, ...],
    all_items: bool,
    charset: str,
    reason: str,
    store_url: str,
) -> None:
    """Read parked items again, as this version reads them; what it can read becomes records.

    Those of number 0 become records of the applications that registrations or rules name by now.
    Parts of messages are joined, and wait an hour for what is missing: "pending" says how many.
    Safe to repeat, also when it was cut off: nothing is stored twice. What it cannot read stays.
    """
    retry = partial(unparking.retry, charset=charset)
    told = _settle(retry, sdkappid, items, all_items, reason, store_url)
    print_json({**_what(told), "pending": told.pending})


@parked_group.command("drop")
@sdkappid_argument
@items_argument
@all_option
@reason_option
@store_option
@plainly
def drop_parked(
    sdkappid: int, items: tuple[int, ...], all_items: bool, reason: str, store_url: str
) -> None:
    """Erase parked items. Their sender is told nothing, and does not send them again."""
    print_json(_what(_settle(unparking.drop, sdkappid, items, all_items, reason, store_url)))


@parked_group.command("route")
@sdkappid_argument
@items_argument
@all_option
@click.option(
    "--to",
    type=SDKAPPID,
    required=True,
    metavar="SDKAPPID",
    help="Whose items they should have been.",
)
@reason_option
@store_option
@plainly
def route_parked(
    sdkappid: int, items: tuple[int, ...], all_items: bool, to: int, reason: str, store_url: str
) -> None:
    """Give parked items to another application, as when they came with the wrong one's token.

    What can be read becomes records there; the rest is parked there, under new numbers. Safe to
    repeat, also when it was cut off: an item leaves here in the commit that stores it there.
    """
    verb = partial(unparking.route, to=to)
    told = _settle(verb, sdkappid, items, all_items, reason, store_url)
    print_json({**_what(told), "parked": told.parked, "pending": told.pending})


def _settle(
    verb: Callable[..., Awaitable[Unparked]],
    sdkappid: int,
    items: tuple[int, ...],
    all_items: bool,
    reason: str,
    store_url: str,
) -> Unparked:
    if bool(items) == all_items:
        raise click.UsageError("name the items, or say --all")

    async def settle(store: Store) -> Unparked:
        numbers = None if all_items else items
        return await verb(store, sdkappid, by=acting(reason), numbers=numbers)

    return with_store(store_url, settle)


def _what(told: Unparked) -> dict[str, int]:
    return {"items": told.items, "records": told.records, "left": told.left}


def _at_ms(parked: Parked) -> int:
    """When it came; what is damaged may be older than all others."""
    return 0 if parked.item is None else parked.item.at_ms


def _shown(sdkappid: int, parked: Parked) -> dict[str, object]:
    item = parked.item
    if item is None:
        told = dict.fromkeys(COLUMNS) | {"sdkappid": sdkappid, "item": parked.number}
        return told | {"reason": "it is damaged on the disk; a retry or drop sets it aside"}
    return {
        "sdkappid": sdkappid,
        "item": parked.number,
        "at": moment(item.at_ms),
        "format": item.format,
        "token": item.token,
        "address": item.address,
        "kind": None if item.kind is None else Kind(item.kind).path,
        "index": item.index,
        "member": item.member,
        "reason": item.reason,
        "bytes": len(item.raw),
    }
