"""`pullstatus status`: a screen that goes on, or one line of JSON."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
import httpx
from rich.live import Live

from pullstatus.addresses import bare
from pullstatus.cli import scrape
from pullstatus.cli.numbers import FiniteRange
from pullstatus.cli.output import json_option, print_json_line
from pullstatus.cli.served import config_option, served
from pullstatus.cli.session import plainly
from pullstatus.cli.status.screen import Sample, Status, picture
from pullstatus.cli.status.screen import status as status_of
from pullstatus.cli.tables import console


@click.command("status")
@config_option
@click.option(
    "--url",
    help="Where the server's /metrics is, such as http://127.0.0.1:8090, if not where the settings"
    " of `serve` say.",
)
@click.option(
    "--every",
    type=FiniteRange(min=0.1, max=3600),
    default=2.0,
    show_default=True,
    help="Seconds between two looks, which rates are measured over.",
)
@json_option
@plainly
def status(config: Path | None, url: str | None, every: float, as_json: bool) -> None:
    """Show how a running server stands, and its rates.

    On a terminal a screen until Ctrl-C; elsewhere, and with --json, one line of JSON after two
    looks. What waits, is in hand or parked is null while mailboxes cannot be read.
    """
    if url is None:
        settings = served({"config": config})
        where, engine = settings.health, settings.store.partition(":")[0]
    else:
        scrape.check_server(url, "--url")
        where, engine = url, ""
    with scrape.client(where, own=url is None) as asking:
        if as_json or not sys.stdout.isatty():
            then = _look(asking, where)
            time.sleep(every)
            print_json_line(_standing(then, _look(asking, where), engine, where))
        else:
            _show(asking, where, engine, every)


def _show(asking: httpx.Client, where: str, engine: str, every: float) -> None:
    """Until Ctrl-C; the last screen stays."""
    then = _look(asking, where)
    first = picture(_standing(then, then, engine, where), bare(where))
    try:
        with Live(first, console=console(), auto_refresh=False) as live:
            while True:
                time.sleep(every)
                now = _look(asking, where)
                live.update(picture(_standing(then, now, engine, where), bare(where)), refresh=True)
                then = now
    except KeyboardInterrupt:
        return


def _look(asking: httpx.Client, where: str) -> Sample:
    figures = scrape.scrape(asking, where)
    return Sample(time.monotonic(), figures)


def _standing(then: Sample, now: Sample, engine: str, where: str) -> Status:
    try:
        return status_of(then, now, wall_s=time.time(), engine=engine)
    except (
        LookupError,
        ValueError,
        OverflowError,
    ) as error:  # a label is missing, a figure is none
        raise scrape.no_figures(where) from error
