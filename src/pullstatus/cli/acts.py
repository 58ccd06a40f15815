"""`pullstatus acts ...`: what operators did, on record for good."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click
import msgspec

from pullstatus.cli.lazy import Group
from pullstatus.cli.output import json_option, limit_option, moment, print_newest
from pullstatus.cli.periods import period_options
from pullstatus.cli.session import plainly, store_option, with_store
from pullstatus.store import ActRow, Store
from pullstatus.store.acts import read_detail


class _Concerned(msgspec.Struct):
    """The applications that an act's detail names."""

    sdkappid: int | None = None
    to: int | None = None
    sdkappids: list[int] = []
    mailboxes: list[str] = []


@click.group("acts", cls=Group)
def acts_group() -> None:
    """What operators did: who, when, to what, and why."""


@acts_group.command("list")
@click.option("--sdkappid", type=int, help="Only what was done to this application.")
@click.option("--actor", help="Only what was done by this login.")
@period_options
@limit_option
@json_option
@store_option
@plainly
def list_acts(
    sdkappid: int | None,
    actor: str | None,
    from_ms: int | None,
    to_ms: int | None,
    limit: int,
    as_json: bool,
    store_url: str,
) -> None:
    """List what was made, changed, removed, redelivered and restored, newest first.

    No key, secret, telephone number or text of a record is in it, but for what somebody wrote as a
    reason. Each row is chained to the one before; `audit` proves that none was changed since.
    """

    def wanted(row: ActRow) -> bool:
        return (
            (sdkappid is None or concerns(row, sdkappid))
            and (actor is None or row.act.actor == actor)
            and (from_ms is None or row.act.at_ms >= from_ms)
            and (to_ms is None or row.act.at_ms < to_ms)
        )

    async def read(store: Store) -> list[ActRow]:
        found: list[ActRow] = []
        async for row in store.acts(newest_first=True):
            if wanted(row):
                found.append(row)
            if len(found) > limit:
                break
        return found

    found = with_store(store_url, read)
    told = _told if sys.stdout.isatty() and not as_json else _raw
    print_newest(
        [_shown(row, told) for row in found],
        limit,
        as_json=as_json,
        columns=["act", "at", "action", "detail", "actor", "reason"],
        empty="Nobody did anything yet, or nothing that matches.",
        wraps="reason",
    )


def concerns(row: ActRow, sdkappid: int) -> bool:
    """Whether an act was done to an application, or names it."""
    named = read_detail(row, _Concerned)
    return (
        sdkappid in (named.sdkappid, named.to)
        or sdkappid in named.sdkappids
        or any(mailbox.startswith(f"{sdkappid}/") for mailbox in named.mailboxes)
    )


def _shown(row: ActRow, told: Callable[[ActRow], object]) -> dict[str, object]:
    act = row.act
    return {
        "act": row.act_id,
        "at": moment(act.at_ms),
        "actor": act.actor,
        "action": act.action,
        "reason": act.reason,
        "detail": told(row),
    }


def _raw(row: ActRow) -> msgspec.Raw:
    read_detail(row, dict[str, object])
    return msgspec.Raw(row.act.detail.encode())


def _told(row: ActRow) -> str:
    """What an act was done to, for a cell of a table."""
    members = read_detail(row, dict[str, object])
    return ", ".join(f"{name} {_value(value)}" for name, value in members.items())


def _value(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return "on" if value else "off"
    return "-" if value is None else str(value)
