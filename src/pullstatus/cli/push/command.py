"""`pullstatus push`: records into a mailbox, from a file or a pipe, each once."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from random import SystemRandom
from typing import IO

import click
import httpx
import msgspec
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from pullstatus import ClientError, limits
from pullstatus.cli.output import print_json_line, say
from pullstatus.cli.push.progress import Goal, InDoubt, Progress, progress_of
from pullstatus.cli.push.source import Line, Source, batches
from pullstatus.cli.service import (
    KINDS,
    check_service,
    read_secret,
    sdkappid_option,
    token_option,
    type_option,
    url_option,
)
from pullstatus.cli.session import plainly
from pullstatus.cli.tables import console
from pullstatus.client.drivers import drive
from pullstatus.client.errors import BatchRefused, InvalidArgument
from pullstatus.client.feed import Feeder
from pullstatus.client.route import open_http
from pullstatus.client.service_name import service_name
from pullstatus.errors import InvalidBody

UNUSABLE, SOME_REFUSED, UNREACHED, UNFINISHED, INTERRUPTED = 1, 3, 4, 5, 130  # exit statuses
WAITS = (
    "line {line} of {file} is not finished and waits: run it again when it is, or with --whole if"
    " it stays so"
)
BATCH = 500
ATTEMPTS_MAX = 8
TIMEOUT_S = 60.0


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
    "--moved",
    is_flag=True,
    help="The service has another address now: go on there after what was pushed.",
)
@click.option(
    "--whole",
    is_flag=True,
    help="FILE is finished: its last row counts although no line end follows.",
)
@click.option(
    "--state",
    "state_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where it is kept how far FILE was pushed; FILE.pushed otherwise.",
)
@click.option(
    "--in-doubt",
    type=click.Choice([one.value for one in InDoubt]),
    help="What to do with a batch that was on its way when the push of FILE was cut short, once the"
    f" service may not know it again: after {limits.INGEST_REPEAT_S // 3600} hours, or by another"
    " token.",
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
    moved: bool,
    whole: bool,
    state_path: Path | None,
    in_doubt: str | None,
) -> None:
    """Put the records of FILE into a mailbox; - is standard input.

    FILE is NDJSON, a record on each line, a JSON array, or CSV with the members' names in its first
    row; in UTF-8, or UTF-16 with a byte order mark; also as gzip. What was cut short goes on where
    it was: beside FILE it is kept how far it came, and what is sent twice is stored once. The same
    goes for a pipe that gives the same lines again within 72 hours.

    A file that has grown is gone on with. Another file of the same name is pushed from its start. A
    file that has changed where it was pushed already is refused. A last line that is not finished
    waits for the next run.

    A refused record does not keep the others back. Each is reported as a line of JSON on standard
    output, the sums on the last one; on a terminal as text.
    """
    token = read_secret(token_file, "PULLSTATUS_TOKEN", "--token-file")
    try:
        check_service(url)
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from error
    goal = Goal(service_name(url), sdkappid, KINDS[kind])
    with (
        contextlib.closing(Source(file, form, goal.kind, whole=whole)) as source,
        progress_of(
            source,
            goal,
            state_path,
            token=token,
            again=again,
            moved=moved,
            in_doubt=None if in_doubt is None else InDoubt(in_doubt),
        ) as progress,
        open_http(url, TIMEOUT_S) as http,
        _shown(source.file) as report,
    ):
        try:
            records, on_their_way = progress.go_on(source)
            feeder = Feeder(
                url,
                sdkappid,
                goal.kind,
                token,
                run=progress.done.run,
                attempts_max=ATTEMPTS_MAX,
                random=SystemRandom(),
            )
            report.begin(progress)
            for batch in chain([on_their_way], batches(records, count_max)):
                _push(batch, progress, feeder, http, report)
                if report.refused > refused_max:
                    report.end(f"over {refused_max} records were refused: is --type right?")
                    sys.exit(SOME_REFUSED)
            source.check_still()
        except InvalidArgument as error:
            raise click.UsageError(str(error)) from error
        except InvalidBody as error:
            report.end(f"{file}: {error}")
            sys.exit(UNUSABLE)
        except BatchRefused as error:
            report.end(str(error))
            sys.exit(UNREACHED)
        except ClientError as error:
            report.end(f"{error}; run it again to go on")
            sys.exit(UNREACHED)
        except KeyboardInterrupt:
            report.end(f"{progress.done.lines:,} pushed; run it again to go on")
            sys.exit(INTERRUPTED)
        progress.end(whole=not records.unfinished)
        report.end(WAITS.format(file=file, line=records.unfinished) if records.unfinished else "")
        if report.refused:
            sys.exit(SOME_REFUSED)
        if records.unfinished:
            sys.exit(UNFINISHED)


def _push(
    batch: list[Line], progress: Progress, feeder: Feeder, http: httpx.Client, report: _Report
) -> None:
    """Send a batch, in parts if it is not taken whole, and report what became of it."""
    parts = [batch] if batch else []
    while parts:
        part = parts.pop()
        progress.sending(part)
        good = [place for place, line in enumerate(part) if not line.fault]
        cut = None
        if good:
            records = [part[place].json for place in good]
            cut = drive(feeder.feed(records, progress.done.lines), lambda: http, time.sleep)
        if cut is not None:
            parts += reversed(_cut(part, good[cut.count], cut.reason))
            continue
        for line in part:
            if line.fault:
                report.refuse(line, line.fault)
        report.advance(len(good))
        progress.sent()


def _cut(part: list[Line], place: int, reason: str | None) -> list[list[Line]]:
    """The parts to go on with: what is before a place, a line there that is refused, the rest."""
    if reason is None:
        return [part[:place], part[place:]]
    refused = msgspec.structs.replace(part[place], fault=reason)
    parts = [part[:place], [refused], part[place + 1 :]]
    return [one for one in parts if one]


# --- what is shown --------------------------------------------------------------------------------


class _Report:
    """What was accepted and refused: lines of JSON, or text on a terminal."""

    def __init__(self, source: IO[bytes], bar: Bar | None) -> None:
        self._source = source
        self._bar = bar
        self._plain = sys.stdout.isatty()
        self.accepted = self.refused = self.skipped = 0
        size = os.fstat(source.fileno()).st_size if source.seekable() else 0
        self._task = None if bar is None else bar.add_task("Pushing", total=size or None)

    def begin(self, progress: Progress) -> None:
        self.skipped = progress.skipped
        if progress.said:
            self._say(progress.said)
        if self.skipped:
            self._say(f"{self.skipped:,} records were pushed before; going on after them")

    def refuse(self, line: Line, reason: str) -> None:
        self.refused += 1
        if self._plain:
            self._print(f"line {line.number}: {reason}")
        else:
            self._print({"line": line.number, "reason": reason, "record": _shown_record(line.json)})

    def advance(self, accepted: int) -> None:
        self.accepted += accepted
        if self._bar is not None and self._task is not None and self._source.seekable():
            self._bar.update(self._task, completed=self._source.tell())

    def end(self, trouble: str = "") -> None:
        sums = {"accepted": self.accepted, "refused": self.refused, "skipped": self.skipped}
        if self._plain:
            self._print(f"{self.accepted:,} accepted, {self.refused:,} refused")
        else:
            self._print(sums)
        if trouble:
            self._say(trouble)

    def _print(self, report: str | Mapping[str, object]) -> None:
        if self._bar is not None:
            self._bar.stop()
        if isinstance(report, str):
            say(report)
        else:
            print_json_line(report)
        if self._bar is not None:
            self._bar.start()

    def _say(self, text: str) -> None:
        if self._bar is None:
            say(f"pullstatus: {text}", err=True)
        else:
            self._bar.console.print(f"pullstatus: {text}", soft_wrap=True)


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
    with Bar(*columns, TimeRemainingColumn(), console=console(err=True), transient=True) as bar:
        yield _Report(source, bar)
