"""`pullstatus bench`: how fast a server is, from here, through whatever stands between."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pullstatus import limits
from pullstatus.cli import load
from pullstatus.cli.load import Load, LoadFailed, Measured, Request
from pullstatus.cli.numbers import FiniteRange
from pullstatus.cli.output import json_option, print_rows
from pullstatus.cli.service import (
    appkey_option,
    check_service,
    read_secret,
    sdkappid_option,
    token_option,
    url_option,
)
from pullstatus.cli.session import plainly
from pullstatus.cli.tables import console
from pullstatus.client.arguments import check_appkey
from pullstatus.records import DeliveryStatus, Kind, encode
from pullstatus.wire.v5.pull import pull_request

PAGE = limits.PULL_COUNT_MAX
FILL = limits.INGEST_RECORDS_MAX // 2  # records at a time, where it is not measured
SLICE_S = 1.0  # pages are pulled for so long at a time, between posts that lay records ready
FILL_S_MAX = 60.0  # how long records for one slice may take to lay ready
EMPTYING_S = 600.0


class Row(msgspec.Struct, frozen=True):
    """A measure of the table.

    Attributes:
        requests_per_s, records_per_s: over all of the time measured.
        p50_ms, p99_ms: half of the requests, and 99 of 100, took no longer; of a measure in several
            slices, the median of theirs.
    """

    measure: str
    requests_per_s: int
    records_per_s: int
    p50_ms: float
    p99_ms: float


class Target(msgspec.Struct, frozen=True):
    """Whom the load is for."""

    url: str
    sdkappid: int
    appkey: str
    token: str
    connections: int
    seconds: float

    def pulls(self) -> Load:
        """Signed pulls of a page; good for ten minutes."""
        now_s = int(time.time())
        path, body = pull_request(
            self.sdkappid, self.appkey, Kind.DELIVERY_STATUS, PAGE, "7", now_s
        )
        return Load([Request(path, body)], self.connections)

    def posts(self, count: int) -> Load:
        """Posts of so many made-up records."""
        body = b"[%b]" % b",".join(map(_record, range(count)))
        path = f"/ingest/{self.sdkappid}/delivery-statuses"
        return Load(
            [Request(path, body, {"Authorization": f"Bearer {self.token}"})], self.connections
        )


@click.command("bench")
@url_option
@sdkappid_option
@appkey_option
@token_option
@click.option(
    "--consume",
    is_flag=True,
    help="Yes, what waits in this application's delivery statuses may be taken out and lost.",
)
@click.option(
    "--seconds",
    type=FiniteRange(1, 60),
    default=5.0,
    show_default=True,
    help="Length of each measure.",
)
@click.option(
    "--connections",
    type=click.IntRange(1, 1000),
    default=32,
    show_default=True,
    help="How many requests are under way at a time.",
)
@json_option
@plainly
def bench(
    url: str,
    sdkappid: int,
    appkey_file: Path | None,
    token_file: Path | None,
    seconds: float,
    connections: int,
    *,
    consume: bool,
    as_json: bool,
) -> None:
    """Measure a server, whichever it is: made-up records in, pages out, pulls of nothing.

    For an application made for it: its delivery statuses are taken out first, and after the end
    none of those put in is left. The load is made by wrk, over connections that stay open; each
    answer of the server means that its commit is on disk.
    """
    if not consume:
        raise click.UsageError(
            "this takes out all delivery statuses of the application, for good: name one that was"
            " made for it, and say --consume"
        )
    target = Target(
        url.rstrip("/"),
        sdkappid,
        read_secret(appkey_file, "PULLSTATUS_APPKEY", "--appkey-file"),
        read_secret(token_file, "PULLSTATUS_TOKEN", "--token-file"),
        connections,
        seconds,
    )
    check_service(target.url)
    check_appkey(target.appkey)
    if not load.installed():
        raise click.ClickException(load.HOW_TO_INSTALL)
    rows: list[Row] = []
    try:
        with _shown() as say:
            rows.extend(_measures(target, say))
    except LoadFailed as error:
        raise click.ClickException(str(error)) from error
    print_rows(
        [msgspec.structs.asdict(row) for row in rows],
        as_json=as_json,
        columns=Row.__struct_fields__,
        empty="",
    )


def _measures(target: Target, say: Callable[[str], None]) -> Iterator[Row]:
    say("emptying the mailbox")
    _empty(target)
    for count, text in ((1, "posts of 1 record"), (PAGE, f"posts of {PAGE} records")):
        say(text)
        what = target.posts(count)
        yield _row(text, [_run(target, what, target.seconds)], count)
    say(f"pages of {PAGE} records")
    yield _row(f"pages of {PAGE} records", _pages(target), PAGE)
    say("emptying the mailbox")
    _empty(target)
    say("pulls of nothing")
    yield _row("pulls of nothing", [_run(target, target.pulls(), target.seconds)], 0)


def _run(target: Target, what: Load, seconds: float) -> Measured:
    """One measure, whose answers are all like its first.

    Raises:
        LoadFailed: they are not, or are refusals.
    """
    due = load.look(target.url, what.requests[0]).wire_bytes
    return load.run(target.url, what, seconds, due)


def _pages(target: Target) -> list[Measured]:
    """Slices of full pages; what one needs is laid ready before it, twice as much if it ran dry.

    Raises:
        LoadFailed: records cannot be laid ready as fast as pages of them leave.
    """
    slices: list[Measured] = []
    fill_s = SLICE_S
    while sum(each.seconds for each in slices) < target.seconds:
        load.run(target.url, target.posts(FILL), fill_s)
        full = load.look(target.url, target.pulls().requests[0])
        found = load.run(target.url, target.pulls(), SLICE_S)
        if load.alike(found, full.wire_bytes):
            slices.append(found)
        elif fill_s < FILL_S_MAX:
            fill_s *= 2
        else:
            raise LoadFailed("records cannot be laid ready as fast as pages of them leave")
    return slices


def _empty(target: Target) -> None:
    """Pull until nothing comes.

    Raises:
        LoadFailed: it refuses, or there is no end of it.
    """
    deadline = time.monotonic() + EMPTYING_S
    while b'"count":0' not in load.look(target.url, target.pulls().requests[0]).body:
        if time.monotonic() > deadline:
            raise LoadFailed("records keep coming: this is not an application made for it")
        load.run_unchecked(target.url, target.pulls(), SLICE_S)


def _row(measure: str, slices: list[Measured], records: int) -> Row:
    per_s = sum(each.requests for each in slices) / sum(each.seconds for each in slices)
    return Row(
        measure,
        round(per_s),
        round(per_s * records),
        round(statistics.median(each.p50_ms for each in slices), 1),
        round(statistics.median(each.p99_ms for each in slices), 1),
    )


def _record(number: int) -> bytes:
    """A delivery status as long as any other of these."""
    return encode(
        DeliveryStatus(
            "2015-10-17 08:03:04",
            "86",
            f"138{number:08d}",
            "SUCCESS",
            "DELIVRD",
            "delivered",
            f"8:bench{number:08d}x20170104",
        )
    )


@contextlib.contextmanager
def _shown() -> Iterator[Callable[[str], None]]:
    """Says on a terminal what is being measured."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console(err=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task("", total=None)
        yield lambda text: progress.update(task, description=text)
