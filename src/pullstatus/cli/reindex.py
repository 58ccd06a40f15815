"""`pullstatus reindex`: make anew what is derived of records."""

from __future__ import annotations

import click

from pullstatus.apps import standing
from pullstatus.cli.acting import acting
from pullstatus.cli.numbers import SDKAPPID
from pullstatus.cli.output import print_json
from pullstatus.cli.progress import progress
from pullstatus.cli.session import plainly, store_option, with_store
from pullstatus.mailbox import reindexing
from pullstatus.store import Store


@click.command("reindex")
@click.option("--sdkappid", type=SDKAPPID, help="Only this application's.")
@click.option(
    "--resume", is_flag=True, help="Go on with one that was cut off, and drop nothing anew."
)
@click.option("--reason", default="", help="Why; kept on record.")
@store_option
@plainly
def reindex(sdkappid: int | None, resume: bool, reason: str, store_url: str) -> None:
    """Make anew what records are found by, and what statistics count, from the records.

    For when `audit` says that it differs. It may be cut off: what is not made anew yet is searched
    record by record meanwhile, and a server goes on with it by itself. Counts of hours of which
    records were removed or erased stay as they are.
    """

    async def work(store: Store) -> int:
        if sdkappid is not None and not await store.backlog(sdkappid):
            await standing(store, sdkappid)
        by = acting(reason)
        make = reindexing.go_on if resume else reindexing.reindex
        with progress("reindexing") as report:
            return await make(store, sdkappid, by=by, progress=report)

    print_json({"records": with_store(store_url, work)})
