"""`pullstatus erase`: nothing is left of what somebody wants to be forgotten."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import click
import msgspec

from pullstatus import apps
from pullstatus.apps.erasure import Erased
from pullstatus.cli.acting import acting
from pullstatus.cli.numbers import SDKAPPID
from pullstatus.cli.output import print_json
from pullstatus.cli.progress import progress
from pullstatus.cli.session import leaves_traces, plainly, store_option, with_store
from pullstatus.cli.statuses import LEFT, TRACES
from pullstatus.cli.texts import FILLED
from pullstatus.errors import EntriesLeft, InvalidSetting
from pullstatus.mailbox import erasing
from pullstatus.mailbox.erasing import ErasedNumber, Number
from pullstatus.mailbox.following import Follower
from pullstatus.store import Store

T = TypeVar("T")

NUMBER_CHARS_MAX = 64


class _Left(click.ClickException):
    exit_code = LEFT


@click.command("erase")
@click.option("--sdkappid", type=SDKAPPID, help="The application whose records go.")
@click.option(
    "--number",
    help="The telephone number whose records go, of all applications: +8613800000000; - reads it"
    " from standard input, where no list of processes shows it.",
)
@click.option("--nationcode", help="Its calling code, if --number is without: 86.")
@click.option("--reason", type=FILLED, help="Why; kept on record, so name no number in it.")
@click.option("--dry-run", is_flag=True, help="Count the records of --number, and erase none.")
@click.option("--yes", is_flag=True, help="Do not ask on a terminal.")
@store_option
@plainly
def erase(
    sdkappid: int | None,
    number: str | None,
    nationcode: str | None,
    reason: str | None,
    dry_run: bool,
    yes: bool,
    store_url: str,
) -> None:
    """Remove all records of an application, or of a telephone number, and every trace of them.

    What waits, what is parked, and what was handed out and is still kept: records, and of an
    application also who took them. The application stays, and so do its counts. A page that comes
    again comes without what was erased. What was cut off is finished by calling this again. In a
    cluster, --sdkappid takes a minute more: who took records is told by what servers may need until
    then. Backups keep what they hold.
    """
    if (sdkappid is None) == (number is None):
        raise click.UsageError("give --sdkappid or --number, and not both")
    if reason is None and not dry_run:
        raise click.UsageError("Missing option '--reason'.")
    if number is None:
        if dry_run or nationcode is not None:
            raise click.UsageError("--dry-run and --nationcode go with --number")
        assert sdkappid is not None
        _erase_application(sdkappid, reason or "", store_url, yes=yes)
        return
    if number == "-":
        number = _read_number()
        yes = True  # nobody is there to be asked
    try:
        meant = erasing.parse_number(number, nationcode)
    except InvalidSetting as error:
        raise click.UsageError(str(error)) from None
    if dry_run:
        found = with_store(store_url, lambda store: erasing.count_number(store, meant))
        print_json(msgspec.structs.asdict(found))
        return
    _erase_number(meant, reason or "", store_url, yes=yes)


def _read_number() -> str:
    """The one that standard input holds; whoever types it ends it with the line."""
    given = sys.stdin.buffer.readline(NUMBER_CHARS_MAX)
    if not sys.stdin.isatty() and sys.stdin.buffer.read(NUMBER_CHARS_MAX).strip():
        raise click.UsageError("standard input holds more than one number: give one at a time")
    return given.decode(errors="replace")


def _erase_application(sdkappid: int, reason: str, store_url: str, *, yes: bool) -> None:
    _confirm(f"Erase all records of application {sdkappid}?", yes=yes)

    async def work(store: Store) -> tuple[Erased, bool]:
        by = acting(reason)
        follower = Follower(store, by.random_hex)
        with progress("erasing"):
            erased = await apps.erase_application(
                store, sdkappid, by=by, follow=partial(follower.follow, sdkappid)
            )
        return erased, await leaves_traces(store, store_url)

    erased, traces = _whole(store_url, work)
    _tell({"erased": sdkappid, "waiting": erased.waiting, "removed": erased.removed}, traces=traces)


def _erase_number(number: Number, reason: str, store_url: str, *, yes: bool) -> None:
    _confirm("Erase all records of this number?", yes=yes)

    async def work(store: Store) -> tuple[ErasedNumber, bool]:
        with progress("erasing") as report:
            erased = await erasing.erase_number(store, number, by=acting(reason), progress=report)
        return erased, await leaves_traces(store, store_url)

    erased, traces = _whole(store_url, work)
    _tell(msgspec.structs.asdict(erased), traces=traces)


def _whole(store_url: str, work: Callable[[Store], Awaitable[T]]) -> T:
    """What an erasure has done; that it has not done all of it is a status of its own."""
    try:
        return with_store(store_url, work)
    except EntriesLeft as error:
        raise _Left(str(error)) from error


def _tell(erased: dict[str, object], *, traces: bool) -> None:
    """Print what was erased; what is not gone for good is no full success."""
    print_json(erased | {"traces_left": True} if traces else erased)
    if traces:
        raise SystemExit(TRACES)


def _confirm(question: str, *, yes: bool) -> None:
    if sys.stdin.isatty() and not yes:
        click.confirm(question, abort=True, err=True)
