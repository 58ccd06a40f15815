"""`pullstatus erase`: nothing is left of what somebody wants to be forgotten."""

from __future__ import annotations

import sys

import click

from pullstatus import apps
from pullstatus.apps.erasure import Erased
from pullstatus.cli.acting import acting
from pullstatus.cli.output import print_json
from pullstatus.cli.session import leave_no_traces, plainly, store_option, with_store
from pullstatus.store import Store


@click.command("erase")
@click.option("--sdkappid", type=int, required=True, help="The application whose records go.")
@click.option("--reason", required=True, help="Why; kept on record, so name no number in it.")
@click.option("--yes", is_flag=True, help="Do not ask on a terminal.")
@store_option
@plainly
def erase(sdkappid: int, reason: str, yes: bool, store_url: str) -> None:
    """Remove all records of an application from the store, and every trace of them.

    What waits, what is parked, and what was handed out and is still kept: records, and who took
    them. The application stays, and so do its counts. What was cut off is finished by calling this
    again. Backups keep what they hold.
    """
    if sys.stdin.isatty() and not yes:
        click.confirm(f"Erase all records of application {sdkappid}?", abort=True, err=True)

    async def work(store: Store) -> Erased:
        erased = await apps.erase_application(store, sdkappid, by=acting(reason))
        await leave_no_traces(store, store_url)
        return erased

    erased = with_store(store_url, work)
    print_json({"erased": sdkappid, "waiting": erased.waiting, "removed": erased.removed})
