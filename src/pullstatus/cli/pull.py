"""`pullstatus pull`: records out of a mailbox, into a file or a database, none lost, none twice."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from random import SystemRandom
from types import FrameType

import click
import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pullstatus import Client, ClientError, Page
from pullstatus.cli.output import print_json_line, say
from pullstatus.cli.service import (
    KINDS,
    appkey_option,
    check_service,
    count_max_option,
    read_secret,
    sdkappid_option,
    type_option,
    url_option,
)
from pullstatus.cli.session import plainly
from pullstatus.cli.tables import console
from pullstatus.client.arguments import check_appkey
from pullstatus.client.errors import (
    CallRefused,
    InvalidArgument,
    ReaderUnsupported,
)
from pullstatus.client.opening import check_pair
from pullstatus.client.outage import OnRetry
from pullstatus.client.readers import check_reader
from pullstatus.client.records import Record
from pullstatus.client.service_name import service_name
from pullstatus.consumer.run import pull_into
from pullstatus.consumer.sqlite import SqliteTarget
from pullstatus.consumer.state import Source
from pullstatus.consumer.targets import FileTarget, StdoutTarget, Target
from pullstatus.consumer.ways import Job

REFUSED, UNREACHED, IN_DOUBT = 3, 4, 5  # exit statuses
SQLITE = "sqlite:///"
SCHEME = re.compile("^sqlite3?:(//)?")


class _Stopped(BaseException):
    """TERM or Ctrl-C: wherever we are, what is on disk is enough to go on from."""


@click.command("pull")
@type_option
@click.option(
    "--to",
    "to",
    required=True,
    metavar="TARGET",
    help="FILE.ndjson, FILE.csv, sqlite:///FILE, or - for standard output.",
)
@click.option("--follow", is_flag=True, help="Wait for more when the mailbox is empty.")
@count_max_option("How many records to ask for at a time.")
@url_option
@sdkappid_option
@appkey_option
@click.option(
    "--secret-id",
    envvar="PULLSTATUS_SECRET_ID",
    show_envvar=True,
    help="Id of a key pair of API 3.0, to pull over that; no appkey is read then.",
)
@click.option(
    "--secret-key-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    envvar="PULLSTATUS_SECRET_KEY_FILE",
    show_envvar=True,
    help="File that holds the pair's key, or - for standard input; otherwise it is in"
    " PULLSTATUS_SECRET_KEY.",
)
@click.option(
    "--state",
    "state_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the target's name as a reader and the page in flight are kept; FILE.state"
    " otherwise, and for - a file in $XDG_STATE_HOME/pullstatus, or ~/.local/state/pullstatus.",
)
@click.option(
    "--reader",
    metavar="NAME",
    help="The name to pull under, where the service knows readers. Not given, it is made once. A"
    " target keeps its name.",
)
@click.option(
    "--exact",
    is_flag=True,
    help="CSV for programs: cells as they were sent, also those that a spreadsheet would run as a"
    " formula, and no byte order mark.",
)
@click.option(
    "--moved",
    is_flag=True,
    help="The service has another address now: go on there with the page that was in flight.",
)
@click.option(
    "--abandon-page",
    "abandon",
    is_flag=True,
    help="Give up a page that was in flight when the last run ended.",
)
@plainly
def pull(
    kind: str,
    to: str,
    follow: bool,
    count_max: int,
    url: str,
    sdkappid: int,
    appkey_file: Path | None,
    secret_id: str | None,
    secret_key_file: Path | None,
    state_path: Path | None,
    reader: str | None,
    exact: bool,
    moved: bool,
    abandon: bool,
) -> None:
    """Take records out of a mailbox, until it is empty.

    Kill it at any time and start it anew, a week later if need be: nothing is lost and nothing is
    written twice. Each target pulls as a reader with a name of its own, and the service keeps a
    page until the target has it. Services that know no readers are pulled from with a key that is
    on disk before it is used, and then the next run has to come within a day. Only who reads
    standard output may see a page twice.

    FILE.csv is made for spreadsheets: a cell that would be run as a formula has an apostrophe
    before it, and its exact text in the last column, from which `push` restores it.

    On a terminal it shows how far it is. Elsewhere it prints a line of JSON for each page, except
    to standard output, which has the records.
    """
    if moved and abandon:
        raise click.UsageError("--moved and --abandon-page exclude each other")
    credentials = _read_credentials(appkey_file, secret_id, secret_key_file)
    try:
        check_service(url)
        credentials.check()
        if reader is not None:
            check_reader(reader)
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from error
    source = Source(service_name(url), sdkappid, KINDS[kind])
    logging.getLogger("pullstatus").addHandler(logging.NullHandler())  # the watcher tells instead
    service = _Service(url, sdkappid, credentials)
    status = 0
    opened = _open(to, source, url, state_path, exact=exact, moved=moved, abandon=abandon)
    with (
        contextlib.closing(opened) as target,
        _shown(to) as watcher,
        _stoppable(),
    ):
        job = Job(
            target=target,
            connect=service.connect,
            kind=source.kind,
            count_max=count_max,
            reader=reader,
            follow=follow,
            abandon=abandon,
            watcher=watcher,
            clock=time.time,
            random=SystemRandom(),
        )
        try:
            pull_into(job, time.sleep)
            watcher.end()
        except InvalidArgument:  # of the environment, since all others were checked above
            raise
        except ClientError as error:
            watcher.warn(str(error))
            status = _exit_status(error, keyed=service.keyed)
        except _Stopped:
            status = 0 if follow else 130
    sys.exit(status)


class _Credentials(msgspec.Struct, frozen=True):
    """An appkey; or a pair, to speak API 3.0."""

    appkey: str | None
    secret_id: str | None = None
    secret_key: str | None = None

    def check(self) -> None:
        """Refuse what can be no key (InvalidArgument)."""
        if self.secret_id is None:
            check_appkey(self.appkey)
        else:
            check_pair(self.secret_id, self.secret_key)


def _read_credentials(
    appkey_file: Path | None, secret_id: str | None, secret_key_file: Path | None
) -> _Credentials:
    if secret_id is None:
        return _Credentials(read_secret(appkey_file, "PULLSTATUS_APPKEY", "--appkey-file"))
    key = read_secret(secret_key_file, "PULLSTATUS_SECRET_KEY", "--secret-key-file")
    return _Credentials(None, secret_id, key)


class _Service:
    """Makes clients of one service.

    A run that is stopped or fails closes none: whatever it could still say on its connections, the
    next run says, and nobody waits for an answer.
    """

    def __init__(self, url: str, sdkappid: int, credentials: _Credentials) -> None:
        self._url, self._sdkappid, self._credentials = url, sdkappid, credentials
        self._client: Client | None = None

    def connect(
        self,
        *,
        reader: str | None = None,
        keyed: bool | None = None,
        on_retry: OnRetry | None = None,
    ) -> Client:
        self._client = Client(
            self._url,
            self._sdkappid,
            self._credentials.appkey,
            secret_id=self._credentials.secret_id,
            secret_key=self._credentials.secret_key,
            reader=reader,
            keyed=keyed,
            on_retry=on_retry,
        )
        return self._client

    @property
    def keyed(self) -> bool | None:
        """Whether it brings a page again, as far as the last client knows."""
        return None if self._client is None else self._client.keyed


def _exit_status(error: ClientError, *, keyed: bool | None) -> int:
    if error.may_have_consumed and not keyed:
        return IN_DOUBT
    if isinstance(error, CallRefused | ReaderUnsupported) and not error.retry_can_help:
        return REFUSED
    return UNREACHED


def _open(
    to: str,
    source: Source,
    url: str,
    state_path: Path | None,
    *,
    exact: bool,
    moved: bool,
    abandon: bool,
) -> Target:
    if to == "-":
        state_path = state_path or _default_state(source, url)
        return StdoutTarget(source, state_path, moved=moved, abandon=abandon)
    if to.startswith(SQLITE):
        if state_path is not None:
            raise click.UsageError("--state is for files: a database keeps its state in itself")
        return SqliteTarget(Path(to.removeprefix(SQLITE)), source, moved=moved, abandon=abandon)
    path = Path(to)
    if path.suffix.lower() in FileTarget.FORMS:
        return FileTarget(path, source, state_path, exact=exact, moved=moved, abandon=abandon)
    hint = ""
    if path.suffix.lower() in (".db", ".sqlite", ".sqlite3"):
        hint = f"; did you mean {SQLITE}{SCHEME.sub('', to)}?"
    raise click.UsageError(f"--to is FILE.ndjson, FILE.csv, sqlite:///FILE or -{hint}")


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise click.UsageError(
            "this user has no home folder: say by --state where the key of a page in flight is kept"
        ) from error


def _default_state(source: Source, url: str) -> Path:
    base = os.environ.get("XDG_STATE_HOME") or _home() / ".local" / "state"

    def kept(service: str) -> Path:
        place = blake2b(service.encode(), digest_size=4).hexdigest()
        return Path(base) / "pullstatus" / f"{source.sdkappid}-{source.kind.path}-{place}.state"

    own, former = kept(source.url), kept(url.rstrip("/"))  # as 0.1.0 named it
    return former if former.exists() and not own.exists() else own


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- what is shown --------------------------------------------------------------------------------


class _Watcher:
    """Tells about pages: as a line of JSON each, on a progress bar, both or neither."""

    def __init__(self, to: str, *, lines: bool, bar: Progress | None) -> None:
        self._to = to
        self._lines = lines
        self._bar = bar
        self._task = None if bar is None else bar.add_task("Pulling", total=None)
        self._total = 0

    def page(self, page: Page[Record]) -> None:
        self._total += len(page)
        if self._bar is not None and self._task is not None:
            total = None if page.waiting is None else self._total + page.waiting
            self._bar.update(self._task, completed=self._total, total=total)
        if self._lines and page:
            line = {
                "count": len(page),
                "total": self._total,
                "waiting": page.waiting,
                "pull_id": page.pull_id,
            }
            if page.key:
                line["key"] = page.key
            print_json_line(line)

    def warn(self, text: str) -> None:
        self._say(f"pullstatus: {text}")

    def end(self) -> None:
        if self._bar is not None:
            self._say(f"{self._total:,} records went to {self._to}; the mailbox is empty.")

    def _say(self, text: str) -> None:
        if self._bar is None:
            say(text, err=True)
        else:
            self._bar.console.print(text, soft_wrap=True)


@contextlib.contextmanager
def _shown(to: str) -> Iterator[_Watcher]:
    lines = to != "-" and not sys.stdout.isatty()
    if not sys.stderr.isatty() or (to == "-" and sys.stdout.isatty()):
        yield _Watcher(to, lines=lines, bar=None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(err=True), transient=True) as bar:
        yield _Watcher(to, lines=lines, bar=bar)
