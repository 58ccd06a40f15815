"""`pullstatus source ...`: how gateways speak, and what a request of one comes to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import msgspec

from pullstatus import apps, limits
from pullstatus.cli.acting import acting
from pullstatus.cli.lazy import Group
from pullstatus.cli.output import json_option, moment_or_none, print_json, print_rows, say
from pullstatus.cli.recorded import recorded, warn_of_method
from pullstatus.cli.session import plainly, store_option, with_store
from pullstatus.clock import wall_ms
from pullstatus.errors import InvalidSetting
from pullstatus.mailbox import parking
from pullstatus.mailbox.owning import nationcode_of
from pullstatus.mailbox.pending import piece_of
from pullstatus.mailbox.traffic import Came, came
from pullstatus.receipts import Receipts
from pullstatus.receipts.reading import read, read_records
from pullstatus.receipts.reports import Report, Whose, receipts_of
from pullstatus.receipts.request import Request
from pullstatus.receipts.source import Source, builtin, builtin_text, read_source
from pullstatus.records import Kind
from pullstatus.steps import done
from pullstatus.store import Store

COLUMNS = [
    "source",
    "token",
    "last_record",
    "hour",
    "day",
    "repeats",
    "parked",
    "refused",
    "ours",
    "reads",
    "methods",
    "signature",
    "title",
]

NO_MORE = "no source has this name"

name_argument = click.argument("name")
reason_option = click.option("--reason", default="", help="Why; kept on record.")


@click.group("source", cls=Group)
def source_group() -> None:
    """Sources: how gateways speak, of which each has an address, `/in/TOKEN/SOURCE`.

    What is added here is good for the next request to a running server, and what is removed here is
    gone within a second.
    """


@source_group.command("list")
@json_option
@store_option
@plainly
def list_sources(as_json: bool, store_url: str) -> None:
    """List all sources, ours and those that were added, and what came by each token.

    Records that were stored in this hour and in 24, and of these 24: repeats, which were there
    already, and requests that were refused. Parked is what waits now. A server writes what it has
    counted every minute, and when it stops; a kill takes what came since.
    """

    async def collect(store: Store) -> list[dict[str, object]]:
        waiting = await _parked(store)
        sources = [*builtin().values(), *await apps.sources(store)]
        tokens = [token for token, _ in await apps.tokens(store)]
        names = [source.name for source in sources]
        traffic = await came(store, tokens, names, wall_ms())
        pairs = sorted({*waiting, *traffic})
        return [
            shown
            | {"token": token or None, "parked": waiting[name, token]}
            | _came(traffic.get((name, token)))
            for name, shown in _shown(sources, waiting).items()
            for token in [token for source, token in pairs if source == name] or [""]
        ]

    print_rows(with_store(store_url, collect), as_json=as_json, columns=COLUMNS, empty="")


@source_group.command("show")
@name_argument
@store_option
@plainly
def show_source(name: str, store_url: str) -> None:
    """Print a source as TOML, to make one's own from."""
    if name in builtin():
        say(builtin_text(name), nl=False)
    else:
        say(with_store(store_url, lambda store: apps.source_text(store, name)), nl=False)


@source_group.command("check")
@click.argument("source", metavar="FILE")
@click.argument("request", metavar="REQUEST")
@plainly
def check_source(source: str, request: str) -> None:
    """Show what a recorded REQUEST would come to by the source of FILE; nothing is stored.

    FILE is a source as TOML, or the name of one of ours. REQUEST is a file that holds a request as
    it stands on the wire, or as arguments of curl; - is standard input. What is shown is personal
    data if the request is. Its status is 1 if anything would be parked.
    """
    found = _source(source)
    made = recorded(request, int(time.time()))
    warn_of_method(found, made)
    told = outcome(found, made)
    print_json(told)
    if told["parked"]:
        raise SystemExit(1)


@source_group.command("add")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--replace", is_flag=True, help="Take the place of the one of its name.")
@reason_option
@store_option
@plainly
def add_source(file: Path, replace: bool, reason: str, store_url: str) -> None:
    """Add the source of FILE; what it is called there is the last part of its address."""
    text = _text(file)

    async def add(store: Store) -> Source:
        return await apps.add_source(store, text, by=acting(reason), replace=replace)

    print_json(_told(with_store(store_url, add)))


@source_group.command("remove")
@name_argument
@reason_option
@store_option
@plainly
def remove_source(name: str, reason: str, store_url: str) -> None:
    """Remove a source that was added. What comes to its address is parked from then on."""

    async def remove(store: Store) -> None:
        await apps.remove_source(store, name, by=acting(reason))

    with_store(store_url, remove)
    say(f"{name} is removed.")


def outcome(source: Source, request: Request) -> dict[str, object]:
    """What a request comes to: records, what is counted only, what is parked, and the answer.

    Of the records so many are parts, which wait for the others of their message.

    As for a token of an application: nothing is registered, and no rule is asked.
    """
    if source.records:
        found = [done(read_records(request))]
        kinds, unread, intermediate, parts = {found[0].kind}, [], 0, 0
    else:
        reports = done(read(source, request))
        found = [_receipts(source, reports.reports, kind, request.arrived_s) for kind in Kind]
        kinds, unread = {each.kind for each in reports.reports}, list(reports.unread)
        intermediate = sum(each.passes for each in reports.reports)
        parts = sum(piece_of(each, None) is not None for each in reports.reports)
    records: dict[str, list[msgspec.Raw]] = {kind.path: [] for kind in Kind}
    for receipts in found:
        records[receipts.kind.path] += map(msgspec.Raw, receipts.entries)
        unread += receipts.unread
    replies = kinds == {Kind.REPLY}
    answer = source.answer
    return {
        "source": source.name,
        "stored": records,
        "parts": parts,
        "intermediate": intermediate,
        "parked": [
            {"index": each.index, "member": each.member, "reason": each.reason} for each in unread
        ],
        "answer": {
            "status": answer.status,
            "content_type": (replies and answer.reply_type) or answer.content_type,
            "body": answer.body if not replies or answer.reply is None else answer.reply,
        },
    }


def _receipts(source: Source, reports: Sequence[Report], kind: Kind, arrived_s: int) -> Receipts:
    """The records of one kind."""
    whose = Whose(nationcode_of(kind, source))
    return receipts_of(
        kind, source.name, [(each, whose) for each in reports if each.kind is kind], arrived_s
    )


def _source(given: str) -> Source:
    return builtin()[given] if given in builtin() else read_source(_text(Path(given)))


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(limits.SOURCE_BYTES_MAX + 1).decode("utf-8-sig")
    except OSError as error:
        raise InvalidSetting(f"the source cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidSetting("the source is not TOML: it is no UTF-8") from None


def _told(source: Source) -> dict[str, object]:
    kinds = ((Kind.DELIVERY_STATUS, source.status), (Kind.REPLY, source.reply))
    return {
        "source": source.name,
        "title": source.title,
        "ours": source.name in builtin(),
        "methods": " ".join(source.methods),
        "reads": " ".join(kind.path for kind, keys in kinds if keys is not None),
        "signature": source.signature,
    }


def _shown(
    sources: Sequence[Source], waiting: Iterable[tuple[str, str]]
) -> dict[str, dict[str, object]]:
    """All sources by their names, and names under which something is parked, and no source is."""
    shown = {source.name: _told(source) for source in sources}
    for name in sorted({name for name, _ in waiting} - {*shown}):
        shown[name] = dict.fromkeys(shown["native"]) | {"source": name, "title": NO_MORE}
    return shown


def _came(found: Came | None) -> dict[str, object]:
    if found is None:
        found = Came(None, 0, 0, 0, 0, 0)
    return {
        "last_record": moment_or_none(found.last_ms),
        "hour": found.hour,
        "day": found.day,
        "repeats": found.repeats,
        "refused": found.refused,
        "parked_day": found.parked,
    }


async def _parked(store: Store) -> Counter[tuple[str, str]]:
    """How many items wait, by the source that could not read them and the token they came with."""
    found: Counter[tuple[str, str]] = Counter()
    for row in await store.backlog():
        if row.mailbox.parked and row.waiting:
            for each in await parking.parked(store, row.mailbox.sdkappid):
                if each.item is not None:
                    found[each.item.format, each.item.token] += 1
    return found
