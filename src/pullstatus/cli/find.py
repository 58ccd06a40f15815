"""`pullstatus find`: where is the report for this number?"""

from __future__ import annotations

import click

from pullstatus import limits
from pullstatus.cli.acting import acting
from pullstatus.cli.found import print_found
from pullstatus.cli.numbers import SDKAPPID
from pullstatus.cli.output import json_option, moment, say
from pullstatus.cli.periods import period_options
from pullstatus.cli.session import plainly, store_option, with_store
from pullstatus.clock import wall_ms
from pullstatus.mailbox import finding
from pullstatus.mailbox.finding import Findings
from pullstatus.mailbox.search import EVER, Period
from pullstatus.records.hours import DAY_MS
from pullstatus.store import Store


@click.command("find")
@click.option("--number", help="The records of this number, with or without calling code.")
@click.option("--sid", help="The delivery statuses with this sid.")
@click.option("--sdkappid", "--app", type=SDKAPPID, help="Only this application's.")
@period_options
@click.option("--reason", default="", help="Why; kept on record, so name no number in it.")
@json_option
@store_option
@plainly
def find(
    number: str | None,
    sid: str | None,
    sdkappid: int | None,
    from_ms: int | None,
    to_ms: int | None,
    reason: str,
    as_json: bool,
    store_url: str,
) -> None:
    """Where is the report for this number? A row for each record of it that is stored.

    Each says what was reported, when it was accepted and by which token, and what became of it: it
    waits at a place, 1 being the next; or it was handed out in a pull, to an address, at a time,
    and acknowledged; or it expired. Copies by redelivery are there, too, what waits for its name or
    for other parts, and callbacks that could not be read but hold the number. --from and --to are
    about when it was accepted. Where over 10,000 records match, none is shown: narrow the range by
    these, or by --sdkappid.

    Nothing is taken out of a mailbox. The search is an act on record, without the number. Exit
    status 1 when there is nothing: then it says how far back the store goes.
    """
    if (number is None) == (sid is None):
        raise click.UsageError("give --number or --sid, and not both")

    accepted = Period(from_ms, to_ms)

    async def look(store: Store) -> Findings:
        by, count_max = acting(reason), limits.FOUND_COUNT_MAX
        if number is not None:
            return await finding.by_number(
                store, number, sdkappid, by=by, accepted=accepted, count_max=count_max
            )
        assert sid is not None
        return await finding.by_sid(
            store, sid, sdkappid, by=by, accepted=accepted, count_max=count_max
        )

    found = with_store(store_url, look)
    print_found(found.records, found.pending, found.parked, as_json=as_json)
    if found.damaged:
        say(
            f"{found.damaged} entries there are damaged, and whose they were is not known:"
            " `pullstatus audit` tells which.",
            err=True,
        )
    if not found.count:
        raise click.ClickException(_nothing(found, accepted))


def _nothing(found: Findings, accepted: Period) -> str:
    if found.oldest_ms is None:
        return "nothing: no record at all is stored there"
    days = (wall_ms() - found.oldest_ms) // DAY_MS
    back = f"what is stored goes back to {moment(found.oldest_ms)}"
    if accepted == EVER:
        return f"nothing in the last {max(1, days)} days; {back}"
    others = "some" if found.elsewhere else "none"
    return f"nothing in that time, and {others} at other times; {back}"
