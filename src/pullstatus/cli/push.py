"""`pullstatus push`: records into a mailbox, from a file or a pipe, each once."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from random import SystemRandom
from typing import IO

import click
import httpx
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from pullstatus import ClientError, limits
from pullstatus.cli.push_source import Line, batches, read_csv, read_ndjson
from pullstatus.cli.service import (
    KINDS,
    read_secret,
    sdkappid_option,
    token_option,
    type_option,
    url_option,
)
from pullstatus.cli.session import plainly
from pullstatus.cli.slots import Slots
from pullstatus.client.drivers import drive
from pullstatus.client.errors import BatchRefused, InvalidArgument
from pullstatus.client.feed import Feeder
from pullstatus.errors import InvalidSetting, StoreRefused
from pullstatus.records import Kind

SOME_REFUSED, UNREACHED = 3, 4  # exit statuses
BATCH = 500
ATTEMPTS_MAX = 8


class Goal(msgspec.Struct, frozen=True):
    """Where a push goes to."""

    url: str
    sdkappid: int
    kind: Kind


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """How far a push of a file has come.

    run       tells this push from another of the same lines
    lines     records that are dealt with
    accepted  how many of them were accepted; the others were refused
    sending   records after them that are on their way, as one batch: cut otherwise they would not
              be known again
    """

    goal: Goal
    run: str
    lines: int = 0
    accepted: int = 0
    sending: int = 0


@click.command("push")
@click.argument(
    "file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True)
)
@type_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["ndjson", "csv"]),
    help="How FILE is written; by its name otherwise, and NDJSON from standard input.",
)
@url_option
@sdkappid_option
@token_option
@click.option(
    "--batch",
    "count_max",
    type=click.IntRange(1, limits.INGEST_RECORDS_MAX),
    default=BATCH,
    show_default=True,
    help="How many records to send at a time.",
)
@click.option(
    "--refused-max",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    help="End when more records than this were refused.",
)
@click.option(
    "--again", is_flag=True, help="Push FILE from its start, though it was pushed before."
)
@click.option(
    "--state",
    "state_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where it is kept how far FILE was pushed; FILE.pushed otherwise.",
)
@plainly
def push(
    file: Path,
    kind: str,
    form: str | None,
    url: str,
    sdkappid: int,
    token_file: Path | None,
    count_max: int,
    refused_max: int,
    again: bool,
    state_path: Path | None,
) -> None:
    """Put the records of FILE into a mailbox; - is standard input.

    FILE is NDJSON, a record on each line, or CSV with the members' names in its first row. What was
    cut short goes on where it was: beside FILE it is kept how far it came, and what is sent twice
    is stored once. The same goes for a pipe that gives the same lines again within 72 hours.

    A refused record does not keep the others back. Each is reported as a line of JSON on standard
    output, the sums on the last one; on a terminal as text.

    Exit status: 0 all were accepted; 1 FILE cannot be used; 2 the command was written wrongly; 3
    some were refused; 4 the service could not be reached or does not accept, run it again.
    """
    token = read_secret(token_file, "PULLSTATUS_TOKEN", "--token-file")
    goal = Goal(url.rstrip("/"), sdkappid, KINDS[kind])
    is_csv = form == "csv" if form else file.suffix == ".csv"
    with (
        _opened(file) as opened,
        _progress_of(file, goal, state_path, again=again) as progress,
        httpx.Client(timeout=60) as http,
        _shown(opened) as report,
    ):
        try:
            feeder = Feeder(
                url,
                sdkappid,
                goal.kind,
                token,
                run=progress.done.run,
                attempts_max=ATTEMPTS_MAX,
                random=SystemRandom(),
            )
        except InvalidArgument as error:
            raise click.UsageError(str(error)) from error
        lines = read_csv(opened, goal.kind) if is_csv else read_ndjson(opened)
        place = sum(1 for _ in islice(lines, progress.done.lines))
        report.resumed(place)
        on_their_way = list(islice(lines, progress.done.sending))
        for batch in chain([on_their_way] if on_their_way else [], batches(lines, count_max)):
            progress.note(lines=place, sending=len(batch))
            try:
                accepted = _push(batch, place, feeder, http, report)
            except BatchRefused as error:
                report.end(str(error))
                sys.exit(UNREACHED)
            except ClientError as error:
                report.end(f"{error}; run it again to go on")
                sys.exit(UNREACHED)
            place += len(batch)
            progress.note(lines=place, accepted=progress.done.accepted + accepted)
            if report.refused > refused_max:
                report.end(f"over {refused_max} records were refused: is --type right?")
                sys.exit(SOME_REFUSED)
        report.end()
        if report.refused:
            sys.exit(SOME_REFUSED)


def _push(
    batch: list[Line], place: int, feeder: Feeder, http: httpx.Client, report: _Report
) -> int:
    """Send a batch; returns how many of it were accepted."""
    good = [line for line in batch if not line.fault]
    refused = [(line, line.fault) for line in batch if line.fault]
    accepted = 0
    if good:
        fed = drive(feeder.feed([line.json for line in good], place), http, time.sleep)
        accepted = fed.accepted
        refused += [(good[one.place - place], one.reason) for one in fed.refused]
    for line, reason in sorted(refused, key=lambda one: one[0].number):
        report.refuse(line, reason)
    report.advance(accepted)
    return accepted


# --- how far it came ------------------------------------------------------------------------------


class _Progress:
    """How far a file was pushed, on disk; a pipe's is not kept."""

    def __init__(self, slots: Slots[Done] | None, done: Done) -> None:
        self._slots = slots
        self.done = done
        if slots is not None and slots.value != done:
            slots.write(done)  # before anything is sent: the run is part of every key

    def note(self, *, lines: int, accepted: int | None = None, sending: int = 0) -> None:
        """How far it is; durable on return if something is on its way."""
        if accepted is None:
            accepted = self.done.accepted
        self.done = msgspec.structs.replace(
            self.done, lines=lines, accepted=accepted, sending=sending
        )
        if self._slots is not None and sending:
            self._slots.write(self.done)

    def end(self) -> None:
        """Write down what was noted last."""
        if self._slots is not None and self._slots.value != self.done:
            self._slots.write(self.done)


@contextlib.contextmanager
def _progress_of(
    file: Path, goal: Goal, state_path: Path | None, *, again: bool
) -> Iterator[_Progress]:
    if str(file) == "-":
        if state_path is not None:
            raise click.UsageError("--state is for files: what a pipe has given can't be skipped")
        run = f"{SystemRandom().getrandbits(64):016x}" if again else "pipe"
        yield _Progress(None, Done(goal=goal, run=run))
        return
    path = state_path or file.with_name(file.name + ".pushed")
    with Slots(path, Done) as slots:
        done = slots.value
        if done is not None and done.goal != goal and not again:
            was = done.goal
            raise StoreRefused(
                f"{path}: the file was pushed to {was.url}, {was.sdkappid}, {was.kind.path}; give"
                " --again to push it here, too"
            )
        if done is None or again:
            done = Done(goal=goal, run=f"{SystemRandom().getrandbits(64):016x}")
        progress = _Progress(slots, done)
        try:
            yield progress
        finally:
            progress.end()


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        opened = file.open("rb")
    except OSError as error:
        raise InvalidSetting(f"{file} cannot be read: {error.strerror}") from error
    with opened:
        yield opened


# --- what is shown --------------------------------------------------------------------------------


class _Report:
    """What was accepted and refused: lines of JSON, or text on a terminal."""

    def __init__(self, source: IO[bytes], bar: Progress | None) -> None:
        self._source = source
        self._bar = bar
        self._plain = sys.stdout.isatty()
        self.accepted = self.refused = self.skipped = 0
        size = os.fstat(source.fileno()).st_size if source.seekable() else 0
        self._task = None if bar is None else bar.add_task("Pushing", total=size or None)

    def resumed(self, lines: int) -> None:
        self.skipped = lines
        if lines:
            self._say(f"{lines:,} records were pushed before; going on after them")

    def refuse(self, line: Line, reason: str) -> None:
        self.refused += 1
        if self._plain:
            self._print(f"line {line.number}: {reason}")
        else:
            report = {"line": line.number, "reason": reason, "record": _shown_record(line.json)}
            self._print(msgspec.json.encode(report).decode())

    def advance(self, accepted: int) -> None:
        self.accepted += accepted
        if self._bar is not None and self._task is not None and self._source.seekable():
            self._bar.update(self._task, completed=self._source.tell())

    def end(self, trouble: str = "") -> None:
        sums = {"accepted": self.accepted, "refused": self.refused, "skipped": self.skipped}
        if self._plain:
            self._print(f"{self.accepted:,} accepted, {self.refused:,} refused")
        else:
            self._print(msgspec.json.encode(sums).decode())
        if trouble:
            self._say(trouble)

    def _print(self, text: str) -> None:
        if self._bar is None:
            click.echo(text)
        else:
            # Through the bar's console, which knows where the bar is.
            self._bar.stop()
            click.echo(text)
            self._bar.start()

    def _say(self, text: str) -> None:
        if self._bar is None:
            click.echo(f"pullstatus: {text}", err=True)
        else:
            self._bar.console.print(f"pullstatus: {text}", markup=False, soft_wrap=True)


def _shown_record(json: bytes) -> object:
    try:
        msgspec.json.decode(json)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return json.decode("utf-8", "replace")
    return msgspec.Raw(json)


@contextlib.contextmanager
def _shown(source: IO[bytes]) -> Iterator[_Report]:
    if not sys.stderr.isatty():
        yield _Report(source, None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        yield _Report(source, bar)
