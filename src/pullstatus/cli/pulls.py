"""`pullstatus pulls ...` and `pullstatus redeliver`: who was handed what, and once more."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import click
import msgspec

from pullstatus.cli.acting import acting
from pullstatus.cli.found import RUN_COLUMNS, print_found, shown_range
from pullstatus.cli.lazy import Group
from pullstatus.cli.numbers import ORDINAL, SDKAPPID
from pullstatus.cli.output import (
    exact_moment,
    json_option,
    limit_option,
    moment,
    print_json,
    print_newest,
    print_rows,
    say,
)
from pullstatus.cli.periods import period_options
from pullstatus.cli.service import KINDS
from pullstatus.cli.session import plainly, store_option, with_store
from pullstatus.cli.texts import FILLED
from pullstatus.errors import PullstatusError
from pullstatus.mailbox import finding, redelivery, search
from pullstatus.mailbox.finding import Traced
from pullstatus.mailbox.redelivery import Plan
from pullstatus.mailbox.search import Found
from pullstatus.records import Kind
from pullstatus.store import Entry, JournalRow, Mailbox, Store
from pullstatus.wire.api3 import requests as api3
from pullstatus.wire.v5 import pull as v5

NOUNS = {
    Kind.DELIVERY_STATUS: ("delivery status", "delivery statuses"),
    Kind.REPLY: ("reply", "replies"),
}


# -- the journal -----------------------------------------------------------------------------------


@click.group("pulls", cls=Group)
def pulls_group() -> None:
    """The journal: who was handed what, and when."""


@pulls_group.command("list")
@click.option("--sdkappid", type=SDKAPPID, help="Only this application's.")
@click.option("--type", "kind", type=click.Choice(list(KINDS)), help="Only this kind.")
@click.option("--key", help="Only pulls with this Idempotency-Key.")
@click.option("--request-id", metavar="ID", help="Only the pull that API 3.0 gave this RequestId.")
@period_options
@limit_option
@json_option
@store_option
@plainly
def list_pulls(
    sdkappid: int | None,
    kind: str | None,
    key: str | None,
    request_id: str | None,
    from_ms: int | None,
    to_ms: int | None,
    limit: int,
    as_json: bool,
    store_url: str,
) -> None:
    """List what left the mailboxes, newest first.

    Of one mailbox they are in the order in which they left it, whatever the clock said then. Where
    it was behind for a while, what had left before stands as low, and may be beyond --limit.
    """
    kinds = list(Kind) if kind is None else [KINDS[kind]]

    def wanted(row: JournalRow) -> bool:
        return (
            row.mailbox.kind in kinds
            and (request_id is None or api3.read_proof(row.proof)[0] == request_id)
            and (from_ms is None or row.at_ms >= from_ms)
            and (to_ms is None or row.at_ms < to_ms)
        )

    async def read(store: Store) -> list[JournalRow]:
        mailboxes = [standing.mailbox for standing in await store.backlog(sdkappid)]
        if key is None:
            journals = [
                store.journal(mailbox, newest_first=True)
                for mailbox in mailboxes
                if mailbox.kind in kinds
            ]
        else:
            numbers = dict.fromkeys(mailbox.sdkappid for mailbox in mailboxes)
            keyed = [row for number in numbers for row in await store.keyed(number, key)]
            journals = [_of(mailbox, keyed) for mailbox in mailboxes]
        return await _newest(journals, wanted, limit + 1)

    print_newest(
        [_shown(row) for row in with_store(store_url, read)],
        limit,
        as_json=as_json,
        columns=RUN_COLUMNS,
        empty="Nothing was pulled yet, or nothing that matches.",
        wraps="key",
    )


async def _of(mailbox: Mailbox, rows: Sequence[JournalRow]) -> AsyncIterator[JournalRow]:
    """Those of a mailbox, as `Store.journal` has them, newest first."""
    mine = [row for row in rows if row.mailbox == mailbox]
    for row in sorted(mine, key=lambda row: row.first_seq, reverse=True):
        yield row


async def _newest(
    journals: Sequence[AsyncIterator[JournalRow]],
    wanted: Callable[[JournalRow], bool],
    count_max: int,
) -> list[JournalRow]:
    """The newest rows of several journals, each of which has its own newest first.

    A clock may have been ahead, so a row's time says neither that all behind it are older, nor that
    it is newer than those before it in its journal: it stands no higher than these.
    """
    found: list[tuple[int, JournalRow]] = []
    for journal in journals:
        at_ms, mine = sys.maxsize, 0
        async for row in journal:
            at_ms = min(at_ms, row.at_ms)
            if wanted(row):
                found.append((at_ms, row))
                mine += 1
            if mine == count_max:
                break
    found.sort(key=lambda pair: pair[0], reverse=True)
    return [row for _, row in found[:count_max]]


@pulls_group.command("show")
@click.argument("pull_id")
@click.option(
    "--records",
    is_flag=True,
    help="Print its records, too: they are personal data, so it is an act.",
)
@click.option("--reason", default="", help="Why --records; kept on record.")
@json_option
@store_option
@plainly
def show_pull(pull_id: str, records: bool, reason: str, as_json: bool, store_url: str) -> None:
    """Show one pull: who, when, how many, and which of its records had been handed out before."""
    if reason and not records:
        raise click.UsageError("--reason goes with --records")

    async def read(store: Store) -> dict[str, object]:
        row = await search.find_pull(store, pull_id)
        last = row.first_seq + row.count - 1
        marks = [
            again
            async for again in store.again(row.mailbox)
            if again.first_seq <= last and again.first_seq + again.count > row.first_seq
        ]
        named = {again.act_id for again in marks}
        acts = {act.act_id: act.act async for act in store.acts() if act.act_id in named}
        shown = _shown(row) | {
            "max": row.count_max,
            **_proven(row),
            "again": [
                {
                    "first": max(again.first_seq, row.first_seq),
                    "last": min(again.first_seq + again.count - 1, last),
                    "copied_from": again.source_seq + max(row.first_seq - again.first_seq, 0),
                    "by": acts[again.act_id].action,
                    "actor": acts[again.act_id].actor,
                    "at": moment(acts[again.act_id].at_ms),
                    "reason": acts[again.act_id].reason,
                }
                for again in marks
            ],
        }
        if records:
            by = acting(reason)
            act = by.act("pulls show", sdkappid=row.mailbox.sdkappid, pull=row.pull_id)
            await store.change(act=act, ticket=by.ticket())
            shown["data"] = [
                msgspec.Raw(entry.data)
                async for entry in _range(store, row.mailbox, row.first_seq, last)
            ]
        return shown

    shown = with_store(store_url, read)
    if as_json or records or not sys.stdout.isatty():
        print_json(shown)
        return
    print_rows(
        [{"": name, "pull": value} for name, value in shown.items() if name != "again"],
        as_json=False,
        columns=["", "pull"],
        empty="",
        wraps="pull",
    )
    again = shown["again"]
    assert isinstance(again, list)
    if again:
        print_rows(again, as_json=False, columns=list(again[0]), empty="", wraps="reason")


def _proven(row: JournalRow) -> dict[str, object]:
    """What a pull was proven by, in the words of its face."""
    name, time_s = api3.read_proof(row.proof)
    if name:
        return {"request_id": name, "time": time_s}
    random, time_s = v5.read_proof(row.proof)
    return {"random": random, "time": time_s}


async def _range(store: Store, mailbox: Mailbox, first: int, last: int) -> AsyncIterator[Entry]:
    async for entry in store.entries(mailbox, first):
        if entry.seq > last:
            return
        yield entry


def _shown(row: JournalRow) -> dict[str, object]:
    return {
        "pull_id": row.pull_id,
        "sdkappid": row.mailbox.sdkappid,
        "type": int(row.mailbox.kind),
        "at": moment(row.at_ms),
        "first": row.first_seq,
        "records": row.count,
        "outcome": row.outcome.name.lower(),
        "address": row.address,
        "key": row.key,
        "reader": row.reader,
        "given": row.given,
        "acknowledged": row.acked_ms and moment(row.acked_ms),
        "released": row.released_ms and moment(row.released_ms),
    }


# -- redelivery ------------------------------------------------------------------------------------


@click.command("redeliver")
@click.option("--pull", "pull_id", metavar="ID", help="All that this pull was handed.")
@click.option("--sid", help="The delivery statuses with this sid.")
@click.option("--number", help="The records of this number, with or without calling code.")
@period_options
@click.option("--sdkappid", type=SDKAPPID, help="Only this application's.")
@click.option(
    "--reason", type=FILLED, help="Why; kept on record. Needed unless --dry-run or --resume."
)
@click.option(
    "--resume",
    "act_id",
    type=ORDINAL,
    metavar="ACT",
    help="Go on with this redelivery, which was cut off: name the same records again.",
)
@click.option(
    "--dry-run", is_flag=True, help="Only look: what there is, and what became of each record."
)
@click.option("--yes", is_flag=True, help="Do not ask on a terminal.")
@json_option
@store_option
@plainly
def redeliver(
    pull_id: str | None,
    sid: str | None,
    number: str | None,
    from_ms: int | None,
    to_ms: int | None,
    sdkappid: int | None,
    reason: str | None,
    act_id: int | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    store_url: str,
) -> None:
    """Hand records out again: copies of them, at the end of their mailboxes.

    Name what by one of --pull, --sid, --number, or --from and --to (when it was handed out). On a
    terminal it shows what it would do and asks first.

    With --dry-run it only looks, and shows what there is and what became of it, as `find` does for
    a number or a sid. Exit status 1 when there is nothing.

    What was erased is not copied; exit status 1 when that was all. Nor is what is damaged: it is
    told, with exit status 1, and all else is copied.

    Many are copied in steps, so that pulls and appends hardly notice. What was cut off between two
    of them is finished by the same command with --resume, and no record is copied twice by that:
    `acts list` tells the number and what was looked for.
    """
    period = from_ms is not None or to_ms is not None
    if [pull_id, sid, number, True if period else None].count(None) != 3:
        raise click.UsageError("name one of --pull, --sid, --number, or --from and --to")
    if period and (from_ms is None or to_ms is None):
        raise click.UsageError("--from and --to go together")
    if reason is None and act_id is None and not dry_run:
        raise click.UsageError("say why, with --reason; or only look, with --dry-run")
    if reason is not None and act_id is not None:
        raise click.UsageError("what is resumed has its reason on record already")

    asks = sys.stdin.isatty() and not yes
    shown = dry_run or (sys.stdout.isatty() and not as_json)
    looking = partial(acting, reason or "")

    async def find(store: Store) -> tuple[str, list[Traced], int, int | None]:
        how, seen = await look(store)
        due = redelivery.ranges([one.found for one in seen])
        waiting = await redelivery.copies_waiting(store, due)
        return how, seen, waiting, None if seen else await search.oldest_ms(store, sdkappid)

    async def look(store: Store) -> tuple[str, list[Traced]]:
        if pull_id is not None:
            return f"pull {pull_id}", _untraced(await search.by_pull(store, pull_id))
        if sid is not None and shown:  # somebody reads them, which goes on record
            seen = await finding.by_sid(store, sid, sdkappid, by=looking())
            return "sid", seen.records
        if sid is not None:
            return "sid", _untraced(await search.by_sid(store, sid, sdkappid))
        if number is not None and shown:
            seen = await finding.by_number(store, number, sdkappid, by=looking())
            return "number", seen.records
        if number is not None:
            return "number", _untraced(await search.by_number(store, number, sdkappid))
        assert from_ms is not None
        assert to_ms is not None
        how = f"time from {exact_moment(from_ms)} to {exact_moment(to_ms)}"
        return how, _untraced(await search.by_time(store, from_ms, to_ms, sdkappid))

    how, seen, copies_waiting, oldest_ms = with_store(store_url, find)
    found = [one.found for one in seen]
    if shown:
        print_found(seen, as_json=as_json)
    if not found and shown:
        since = "nothing is" if oldest_ms is None else f"what is goes back to {moment(oldest_ms)}"
        raise click.ClickException(f"nothing that is stored matches; {since}")
    if dry_run:
        return
    if asks and redelivery.ranges(found):
        click.confirm(_question(found, copies_waiting), abort=True, err=True)
    by = acting(reason or "")

    async def copy(store: Store) -> dict[str, object]:
        if act_id is None:
            plan = redelivery.begin(found, by=by, how=how)
        else:
            plan = await redelivery.resume(store, act_id, found, how=how)
            _say_what_is_missing(plan, act_id)
        try:
            done = await redelivery.redeliver(store, plan, by=by)
        except PullstatusError:
            await _say_how_to_go_on(store, plan)
            raise
        return {
            "redelivered": done.copied,
            "act": await redelivery.number(store, plan.act),
            "ranges": [shown_range(*run) for run in plan.due],
            "damaged": [shown_range(*run) for run in done.damaged],
        }

    told = with_store(store_url, copy)
    try:
        print_json(told)
    except OSError:  # whoever gives it again has all of it copied again
        say(f"Act {told['act']} was done; do not give the command again.", err=True)
        raise
    if told["damaged"]:
        raise click.ClickException(
            "what is damaged can't be read any more, and was not copied; all else was"
        )
    if told["act"] is None:
        raise click.ClickException("nothing was copied: all of it was erased")


def _say_what_is_missing(plan: Plan, act_id: int) -> None:
    """What retention has removed meanwhile is copied by nobody."""
    if plan.missing:
        say(
            f"Records that act {act_id} was about and that are not found: {plan.missing}. They are"
            " stored no longer, or what is named now is less.",
            err=True,
        )


async def _say_how_to_go_on(store: Store, plan: Plan) -> None:
    """What a redelivery has copied before it failed stays so."""
    with contextlib.suppress(PullstatusError):
        act_id = await redelivery.number(store, plan.act)
        if act_id is not None:
            say(f"Act {act_id} has begun; --resume {act_id} goes on with it.", err=True)


def _untraced(found: Sequence[Found]) -> list[Traced]:
    """What nobody is shown, or no single records."""
    return [Traced(one) for one in found]


def _question(found: list[Found], copies_waiting: int) -> str:
    """Whose records, which, how many, and since when: what whoever says yes should know."""
    counts: Counter[Mailbox] = Counter()
    for one in found:
        counts[one.mailbox] += one.count if one.redeliverable else 0
    whose = " and ".join(
        f"{count} {NOUNS[Kind(mailbox.kind)][count != 1]} of {mailbox.sdkappid}"
        for mailbox, count in sorted(counts.items())
        if count
    )
    first = min(one.row.at_ms for one in found if one.row is not None and one.redeliverable)
    waits = f" Copies of {copies_waiting} of them wait already." if copies_waiting else ""
    return f"{whose}, first handed out at {moment(first)}.{waits} Append copies?"
