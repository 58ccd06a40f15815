"""`pullstatus pulls ...` and `pullstatus redeliver`: who was handed what, and once more."""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import click
import msgspec

from pullstatus.cli.output import json_option, moment, print_json, print_rows
from pullstatus.cli.session import plainly, store_option, with_store
from pullstatus.mailbox import redelivery
from pullstatus.records import Kind
from pullstatus.store import Entry, JournalRow, Mailbox, Store

F = TypeVar("F", bound=Callable[..., object])

KINDS = {"delivery-status": Kind.DELIVERY_STATUS, "reply": Kind.REPLY}
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


# Without its argument: click takes one since 8.4 only, and is asked for from 8.1 on.
class Moment(click.ParamType):  # type: ignore[type-arg]
    """A time: ISO 8601 (UTC unless it says otherwise), or how long ago, such as 90m or 2d."""

    name = "time"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,  # noqa: ARG002 - click's signature
        ctx: click.Context | None,  # noqa: ARG002 - as above
    ) -> int:
        """Unix milliseconds."""
        if isinstance(value, int):
            return value
        text = str(value)
        if text[:-1].isdigit() and text[-1:] in UNITS:
            ago = timedelta(**{UNITS[text[-1]]: int(text[:-1])})
            return int((datetime.now(UTC) - ago).timestamp() * 1000)
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError:
            self.fail("a time is like 2026-11-23T04:00 (UTC), or how long ago, like 90m or 2d")
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=UTC)
        return int(parsed.timestamp() * 1000)


def period_options(command: F) -> F:
    """`--from` and `--to`."""
    command = click.option("--to", "to_ms", type=Moment(), help="Until before this time.")(command)
    return click.option(
        "--from", "from_ms", type=Moment(), help="From this time on: 2026-11-23T04:00 (UTC), or 2h."
    )(command)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# -- the journal -----------------------------------------------------------------------------------


@click.group("pulls")
def pulls_group() -> None:
    """The journal: who was handed what, and when."""


@pulls_group.command("list")
@click.option("--sdkappid", type=int, help="Only this application's.")
@click.option("--type", "kind", type=click.Choice(list(KINDS)), help="Only this kind.")
@click.option("--key", help="Only pulls with this Idempotency-Key.")
@period_options
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most."
)
@json_option
@store_option
@plainly
def list_pulls(
    sdkappid: int | None,
    kind: str | None,
    key: str | None,
    from_ms: int | None,
    to_ms: int | None,
    limit: int,
    as_json: bool,
    store_url: str,
) -> None:
    """List what left the mailboxes, newest first."""

    def wanted(row: JournalRow) -> bool:
        return (
            (sdkappid is None or row.mailbox.sdkappid == sdkappid)
            and (kind is None or row.mailbox.kind == KINDS[kind])
            and (from_ms is None or row.at_ms >= from_ms)
            and (to_ms is None or row.at_ms < to_ms)
        )

    async def read(store: Store) -> list[JournalRow]:
        if key is not None:
            return [row for row in await store.keyed(key) if wanted(row)]
        found: list[JournalRow] = []
        for standing in await store.backlog():
            mine = 0
            async for row in store.journal(standing.mailbox, newest_first=True):
                if wanted(row):
                    found.append(row)
                    mine += 1
                if mine == limit or (from_ms is not None and row.at_ms < from_ms):
                    break
        return found

    rows = sorted(with_store(store_url, read), key=lambda row: row.at_ms, reverse=True)[:limit]
    print_rows(
        [_shown(row) for row in rows],
        as_json=as_json,
        columns=["pull_id", "at", "records", "outcome", "address", "key"],
        empty="Nothing was pulled yet, or nothing that matches.",
        wraps="key",
    )


@pulls_group.command("show")
@click.argument("pull_id")
@click.option("--records", is_flag=True, help="Print its records too: they are personal data.")
@json_option
@store_option
@plainly
def show_pull(pull_id: str, records: bool, as_json: bool, store_url: str) -> None:
    """Show one pull: who, when, how many, and which of its records had been handed out before."""

    async def read(store: Store) -> dict[str, object]:
        row = await redelivery.find_pull(store, pull_id)
        last = row.first_seq + row.count - 1
        acts = {act.audit_id: act for act in await store.audit_rows()}
        shown = _shown(row) | {
            "max": row.count_max,
            "random": row.random,
            "time": row.time_s,
            "again": [
                {
                    "first": max(again.first_seq, row.first_seq),
                    "last": min(again.first_seq + again.count - 1, last),
                    "copied_from": again.source_seq + max(row.first_seq - again.first_seq, 0),
                    "by": acts[again.audit_id].action,
                    "actor": acts[again.audit_id].actor,
                    "at": moment(acts[again.audit_id].at_ms),
                    "reason": acts[again.audit_id].reason,
                }
                for again in await store.again(row.mailbox)
                if again.first_seq <= last and again.first_seq + again.count > row.first_seq
            ],
        }
        if records:
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
    }


# -- redelivery ------------------------------------------------------------------------------------


@click.command("redeliver")
@click.option("--pull", "pull_id", metavar="ID", help="All that this pull was handed.")
@click.option("--sid", help="The delivery statuses with this sid.")
@click.option("--number", help="The records of this number, with or without calling code.")
@period_options
@click.option("--sdkappid", type=int, help="Only this application's.")
@click.option("--reason", required=True, help="Why; kept in the audit row.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
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
    reason: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    store_url: str,
) -> None:
    """Hand records out again: copies of them, at the end of their mailboxes.

    Name what by one of --pull, --sid, --number, or --from and --to (when it was handed out). On a
    terminal it shows what it would do and asks first.
    """
    period = from_ms is not None or to_ms is not None
    if [pull_id, sid, number, True if period else None].count(None) != 3:
        raise click.UsageError("name one of --pull, --sid, --number, or --from and --to")
    if period and (from_ms is None or to_ms is None):
        raise click.UsageError("--from and --to go together")

    async def find(store: Store) -> tuple[str, list[redelivery.Range]]:
        if pull_id is not None:
            return f"pull {pull_id}", await redelivery.by_pull(store, pull_id)
        if sid is not None:
            return "sid", await redelivery.by_sid(store, sid, sdkappid)
        if number is not None:
            return "number", await redelivery.by_number(store, number, sdkappid)
        assert from_ms is not None
        assert to_ms is not None
        how = f"time from {moment(from_ms)} to {moment(to_ms)}"
        return how, await redelivery.by_time(store, from_ms, to_ms, sdkappid)

    how, ranges = with_store(store_url, find)
    plan = [
        {
            "sdkappid": mailbox.sdkappid,
            "type": int(mailbox.kind),
            "first": first_seq,
            "records": count,
        }
        for mailbox, first_seq, count in ranges
    ]
    count = sum(size for _, _, size in ranges)
    interactive = sys.stdout.isatty() and not as_json
    if dry_run or interactive:
        print_rows(
            plan,
            as_json=as_json,
            columns=["sdkappid", "type", "first", "records"],
            empty="Nothing that was handed out matches.",
        )
    if dry_run:
        return
    if interactive and count and not yes:
        click.confirm(f"Append copies of these {count} records?", abort=True)
    copied = with_store(
        store_url,
        lambda store: redelivery.redeliver(
            store, ranges, at_ms=_now_ms(), actor=getpass.getuser(), reason=reason, how=how
        ),
    )
    print_json({"redelivered": copied, "ranges": plan})
