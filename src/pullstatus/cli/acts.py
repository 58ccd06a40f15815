"""`pullstatus acts ...`: what operators did, on record for good."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

import click
import msgspec

from pullstatus.cli.lazy import Group
from pullstatus.cli.numbers import ORDINAL, SDKAPPID
from pullstatus.cli.output import (
    json_option,
    limit_option,
    moment,
    print_json,
    print_newest,
    say,
)
from pullstatus.cli.periods import period_options
from pullstatus.cli.session import plainly, store_option, with_store
from pullstatus.cli.statuses import FAILED
from pullstatus.store import ActRow, Store
from pullstatus.store.acts import HASH_BYTES, Break, Chain, read_detail


class _Concerned(msgspec.Struct):
    """The applications that an act's detail names."""

    sdkappid: int | None = None
    to: int | None = None
    sdkappids: list[int] = []
    no_longer: list[int] = []
    mailboxes: list[str] = []


_decode_concerned: Final = msgspec.json.Decoder(_Concerned).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, object]).decode


def _read_hash(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> bytes | None:
    if value is None:
        return None
    try:
        read = bytes.fromhex(value)
    except ValueError:
        read = b""
    if len(read) != HASH_BYTES:
        raise click.BadParameter(f"a hash of an act is {2 * HASH_BYTES} hex digits")
    return read


@click.group("acts", cls=Group)
def acts_group() -> None:
    """What operators did: who, when, to what, and why."""


@acts_group.command("list")
@click.option("--sdkappid", type=SDKAPPID, help="Only what was done to this application.")
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
    reason. Each act's hash stands for it and all before it: see `acts verify`.

    The server itself is the actor `server`: it puts failed tries on record, summed by the hour,
    and that it put parked items of number 0 back behind others, once in an hour.
    """

    def wanted(row: ActRow) -> bool:
        return (
            (sdkappid is None or concerns(row, sdkappid))
            and (actor is None or row.act.actor == actor)
            and (from_ms is None or row.act.at_ms >= from_ms)
            and (to_ms is None or row.act.at_ms < to_ms)
        )

    async def read(store: Store) -> tuple[ActRow | None, list[ActRow]]:
        newest: ActRow | None = None
        found: list[ActRow] = []
        async for row in store.acts(newest_first=True):
            newest = newest or row
            if wanted(row):
                found.append(row)
            if len(found) > limit:
                break
        return newest, found

    newest, found = with_store(store_url, read)
    told = _told if sys.stdout.isatty() and not as_json else _raw
    print_newest(
        [_shown(row, told) for row in found],
        limit,
        as_json=as_json,
        columns=["act", "at", "action", "detail", "actor", "reason"],
        empty="Nobody did anything yet, or nothing that matches.",
        wraps="reason",
    )
    if newest is not None and sys.stdout.isatty() and not as_json:
        say(_newest(newest))


@acts_group.command("verify")
@click.option(
    "--hash",
    "kept",
    metavar="HASH",
    callback=_read_hash,
    help="A hash that was printed before, and kept elsewhere: it must still be an act's.",
)
@click.option(
    "--at",
    type=ORDINAL,
    metavar="ACT",
    help="With --hash, the number of the act that had it.",
)
@json_option
@store_option
@plainly
def verify_acts(kept: bytes | None, at: int | None, as_json: bool, store_url: str) -> None:
    """Prove that no act was changed, put in or removed; exit status 1 if one was.

    Each act has a hash over itself and the hash of the one before. The rows alone do not tell
    whether the newest acts were cut off, nor whether somebody who can write the store has made the
    whole chain anew. For that, keep the newest hash elsewhere, and give it here later: it stands
    for its act and all before it. `audit` does the same, without that.
    """
    if at is not None and kept is None:
        raise click.UsageError("--at tells where --hash was; give both")

    async def read(store: Store) -> tuple[Chain, list[dict[str, object]]]:
        chain = Chain()
        problems: list[dict[str, object]] = []
        there = kept is None
        at_that: ActRow | None = None
        async for row in store.acts():
            found = chain.follow(row)
            if found is not None:
                problems.append(_problem(found))
            there = there or (row.hash == kept and at in (None, row.act_id))
            if row.act_id == at:
                at_that = row
        if kept is not None and not there:
            problems.append(_not_there(kept, at, at_that, chain.newest))
        return chain, problems

    chain, problems = with_store(store_url, read)
    newest = chain.newest
    if as_json or not sys.stdout.isatty():
        print_json(
            {
                "sound": not problems,
                "acts": chain.count,
                "newest": newest and {"act": newest.act_id, "hash": newest.hash.hex()},
                "problems": problems,
            }
        )
    elif not problems:
        say(f"Sound: {chain.count} acts, each chained to the one before.")
        if newest is not None:
            say(_newest(newest))
    for problem in problems:
        say(str(problem["problem"]), err=True)
    if problems:
        sys.exit(FAILED)


def _problem(found: Break) -> dict[str, object]:
    return {
        "act": found.act_id,
        "problem": str(found),
        "expected": found.expected.hex(),
        "found": found.found.hex(),
    }


def _not_there(
    kept: bytes, at: int | None, at_that: ActRow | None, newest: ActRow | None
) -> dict[str, object]:
    """That a hash which was kept is no act's: the chain was made anew, or is cut off."""
    if at is None:
        problem = (
            "no act has the hash that was kept: those up to it were changed, or it was cut off"
        )
    elif at_that is not None:
        problem = f"act {at} has not the hash that was kept: it or one before it was changed"
    elif newest is None or newest.act_id < at:
        ends = "there is no act" if newest is None else f"the newest act is {newest.act_id}"
        problem = f"act {at} is not there, and {ends}: the newest ones were cut off"
    else:
        problem = f"act {at} is not there"
    return {
        "act": at,
        "problem": f"{problem}, or this store is restored from an older backup",
        "expected": kept.hex(),
        "found": at_that and at_that.hash.hex(),
    }


def _newest(row: ActRow) -> str:
    return f"Newest: act {row.act_id}, hash {row.hash.hex()}"


def concerns(row: ActRow, sdkappid: int) -> bool:
    """Whether an act was done to an application, or names it."""
    named = read_detail(row, _decode_concerned)
    return (
        sdkappid in (named.sdkappid, named.to)
        or sdkappid in named.sdkappids
        or sdkappid in named.no_longer
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
        "hash": row.hash.hex(),
    }


def _raw(row: ActRow) -> msgspec.Raw:
    read_detail(row, _decode_members)
    return msgspec.Raw(row.act.detail.encode())


def _told(row: ActRow) -> str:
    """What an act was done to, for a cell of a table."""
    members = read_detail(row, _decode_members)
    return ", ".join(f"{name} {_value(value)}" for name, value in members.items())


def _value(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return "on" if value else "off"
    return "-" if value is None else str(value)
