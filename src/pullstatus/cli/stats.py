"""`pullstatus stats`: how many reports came in, and what they said."""

from __future__ import annotations

import sys

import click

from pullstatus.apps import standing
from pullstatus.cli.numbers import SDKAPPID
from pullstatus.cli.output import json_option, print_json, print_rows
from pullstatus.cli.periods import period_options
from pullstatus.cli.session import plainly, store_option, with_store
from pullstatus.clock import wall_ms
from pullstatus.mailbox.statistics import Counted, Statistics, counted
from pullstatus.records.hours import DAY_MS, nearest_hour
from pullstatus.store import Store


@click.command("stats")
@click.argument("sdkappid", type=SDKAPPID)
@period_options
@click.option(
    "--by",
    "unit",
    type=click.Choice(["hour", "day"]),
    default="hour",
    show_default=True,
    help="A row for each of these in which anything came.",
)
@json_option
@store_option
@plainly
def stats(
    sdkappid: int, from_ms: int | None, to_ms: int | None, unit: str, as_json: bool, store_url: str
) -> None:
    """Count the reports of an application, by the hour in which each was accepted, in UTC+8.

    Delivery statuses that say success, failures by their class, and replies. A record counts once,
    whatever becomes of it, and copies by redelivery do not count. Sends are counted as far as they
    were reported. From --from, or a day before, until before --to, or now, in whole hours.
    """
    end_ms = wall_ms() if to_ms is None else to_ms
    last_hour = nearest_hour(end_ms if to_ms is None else end_ms - 1)
    first_hour = nearest_hour(end_ms - DAY_MS if from_ms is None else from_ms)
    if first_hour > last_hour:
        raise click.UsageError("--from is not before --to")

    async def count(store: Store) -> Counted:
        await standing(store, sdkappid)
        return await counted(store, sdkappid, first_hour, last_hour)

    found = with_store(store_url, count)
    rows = found.hourly() if unit == "hour" else found.daily()
    told = [{unit: at} | _shown(each) for at, each in rows.items()]
    if as_json or not sys.stdout.isatty():
        print_json(
            {"sdkappid": sdkappid, "first_hour": first_hour, "last_hour": last_hour}
            | {"all": _shown(found.total()), f"{unit}s": told}
        )
        return
    total = {unit: "all"} | _shown(found.total())
    print_rows(
        [*told, total] if told else [], as_json=False, columns=list(total), empty="Nothing came."
    )


def _shown(counts: Statistics) -> dict[str, object]:
    return {
        "receipts": counts.receipts,
        "success": counts.success,
        **{f"fail_{failure}": count for failure, count in enumerate(counts.failed)},
        "replies": counts.replies,
        "unreadable": counts.unreadable,
        "requests": counts.requests,
        "accepted": counts.accepted,
        "billed": counts.billed,
    }
