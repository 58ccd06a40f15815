"""`pullstatus status`: a running server's figures, as a line of JSON and as a screen."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import time

import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console

from pullstatus.cli import main
from pullstatus.cli.scrape import Figures
from pullstatus.cli.status.screen import Sample, Status, age, picture, status
from tests.harness import COMMAND, PATIENCE_S, App, Program, statuses

TEXT = """\
pullstatus_build_info{{version="1.2.3"}} 1
pullstatus_accepting 1
pullstatus_workers 2
process_start_time_seconds 1000
pullstatus_records_in_total{{kind="delivery-status"}} {taken}
pullstatus_records_in_total{{kind="reply"}} 5
pullstatus_records_out_total{{kind="reply"}} 5
pullstatus_pulls_total{{result="0"}} 900
pullstatus_pulls_total{{result="1001"}} {wrong}
pullstatus_batches_total{{door="ingest",status="200"}} 900
pullstatus_batches_total{{door="ingest",status="503"}} 1
pullstatus_commit_seconds_sum {commit_s}
pullstatus_commit_seconds_count {commits}
pullstatus_waiting{{kind="delivery-status"}} 20
pullstatus_waiting{{kind="reply"}} 3
pullstatus_oldest_waiting_seconds 90061
pullstatus_in_hand 0
pullstatus_parked 0
pullstatus_store_bytes 2147483648
pullstatus_store_free_bytes 10737418240
pullstatus_application_waiting{{sdkappid="1400000001",kind="reply"}} 3
pullstatus_application_oldest_waiting_seconds{{sdkappid="1400000001",kind="reply"}} 70
pullstatus_application_waiting{{sdkappid="1400000002",kind="delivery-status"}} 20
pullstatus_application_oldest_waiting_seconds{{sdkappid="1400000002",kind="delivery-status"}} 90061
"""


def sample(at_s: float, **values: float) -> Sample:
    return Sample(at_s, Figures(TEXT.format(**values)))


THEN = sample(10, taken=100, wrong=1, commits=4, commit_s=1)
NOW = sample(12, taken=300, wrong=2, commits=14, commit_s=1.02)


def test_rates_are_those_between_two_looks() -> None:
    found = status(THEN, NOW, wall_s=4600, engine="sqlite")
    assert (found.records_in.total, found.records_in.per_s) == (305, 100)
    assert (found.refused.total, found.refused.per_s) == (3, 0.5)
    assert (found.commits.per_s, found.commit_s) == (5, 0.002)
    assert (found.waiting, found.oldest_waiting_s, found.up_s) == (23, 90061, 3600)
    assert [row.sdkappid for row in found.oldest] == [1400000002, 1400000001]


def test_a_server_that_was_started_anew_has_no_rates_below_zero() -> None:
    anew = msgspec.structs.replace(THEN, at_s=14)
    found = status(NOW, anew, wall_s=4600, engine="")
    assert found.records_in.per_s == found.commits.per_s == found.commit_s == 0


def test_what_only_the_store_knows_is_not_known_while_it_cannot_be_read() -> None:
    told = TEXT.format(taken=300, wrong=2, commits=14, commit_s=1.02).splitlines(keepends=True)
    of_mailboxes = ("waiting", "oldest_waiting", "in_hand", "parked", "application")
    names = tuple(f"pullstatus_{name}" for name in of_mailboxes)
    text = "".join(line for line in told if not line.startswith(names))
    found = status(THEN, Sample(12, Figures(text)), wall_s=4600, engine="sqlite")
    unknown = (found.waiting, found.oldest_waiting_s, found.in_hand, found.parked)
    assert unknown == (None, None, None, None)
    assert found.records_in.per_s == 100
    lines = screen(found)
    for line in (
        "waiting  not known now",
        "in hand  not known now; 0 pulls wait for a record",
        "parked   not known now",
    ):
        assert line in lines


def test_what_a_store_has_told_nothing_of_yet_is_not_known() -> None:
    told = TEXT.format(taken=100, wrong=1, commits=4, commit_s=1).splitlines(keepends=True)
    names = tuple(f"pullstatus_{name}" for name in ("accepting", "store_", "commit_"))
    silent = Figures("".join(line for line in told if not line.startswith(names)))
    found = status(THEN, Sample(12, silent), wall_s=4600, engine="")
    assert (found.accepting, found.store_bytes) == (None, None)
    lines = "\n".join(screen(found))
    assert "TAKES NO MORE" not in lines
    assert "size not known now" in lines
    found = status(Sample(10, silent), NOW, wall_s=4600, engine="")
    assert (found.commits.per_s, found.commit_s, found.records_in.per_s) == (0, 0, 100)


def test_ages_are_said_in_two_units() -> None:
    assert [age(seconds) for seconds in (0.4, 59, 90, 3600, 90061)] == [
        *("0 s", "59 s", "1 min 30 s", "1 h 0 min", "1 d 1 h"),
    ]


def screen(found: Status) -> list[str]:
    """The lines of it, of 80 columns."""
    shown = Console(width=80, record=True, file=io.StringIO())
    shown.print(picture(found, "http://127.0.0.1:8080"))
    return [line.rstrip() for line in shown.export_text().splitlines()]


def test_the_screen_fits_eighty_columns() -> None:
    assert screen(status(THEN, NOW, wall_s=4600, engine="sqlite")) == [
        "pullstatus 1.2.3 at http://127.0.0.1:8080, up 1 h 0 min",
        "",
        "             in all  a second",
        "records in      305     100.0",
        "records out       5       0.0",
        "refused           3       0.5",
        "shed              0       0.0",
        "commits          14       5.0",
        "",
        "waiting  23, the oldest for 1 d 1 h",
        "in hand  0 pages of readers; 0 pulls wait for a record",
        "parked   0 items that could not be read",
        "store    sqlite, 2.00 GiB, 10.0 GiB free; 0 wait for it",
        "commit   2.0 ms on average",
        "server   workers 2, connections 0",
        "",
        "waits longest             kind  waiting      oldest",
        "1400000002     delivery-status       20     1 d 1 h",
        "1400000001               reply        3  1 min 10 s",
    ]


def test_elsewhere_than_on_a_terminal_it_is_one_line_of_json(
    shared: Program, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.feed(app, statuses(3))
    monkeypatch.setenv("PULLSTATUS_STORE", shared.store)
    monkeypatch.setenv("PULLSTATUS_PORT", str(shared.port))
    done = CliRunner().invoke(main, ["status", "--every", "0.1"])
    assert done.exit_code == 0, done.output
    [line] = done.stdout.splitlines()
    said = json.loads(line)
    assert (said["engine"], said["accepting"], said["workers"]) == ("sqlite", True, 1)
    assert said["records_in"]["total"] >= said["waiting"] >= 3
    assert said["records_in"]["per_s"] == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1", "no server answers at http://127.0.0.1:1 (ConnectError): start it"),
        ("{shared}/nowhere", "/nowhere/metrics answers 404"),
        ("nonsense", "is like http://127.0.0.1:8080"),
        ("HTTP://127.0.0.1:1", "no server answers at HTTP://127.0.0.1:1 (ConnectError)"),
        ("http://me:hunter2@127.0.0.1:1", "no server answers at http://127.0.0.1:1 ("),
        ("http://me:hunter2@127.0.0.1:x", "--url is no address of a server"),
        ("http://me:hunter2@{host}/nowhere", "answers 404"),
    ],
)
def test_where_no_server_is_that_is_said(shared: Program, url: str, words: str) -> None:
    host = f"{shared.host}:{shared.port}"
    where = url.format(shared=f"http://{host}", host=host)
    done = CliRunner().invoke(main, ["status", "--url", where, "--every", "0.1"])
    assert done.exit_code in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.output
    assert "hunter2" not in done.output


def test_on_a_terminal_it_goes_on_until_ctrl_c(shared: Program) -> None:
    ours, theirs = pty.openpty()
    command = [COMMAND, "status", "--every", "0.1", "--url", f"http://{shared.host}:{shared.port}"]
    environment = {**shared.environment, "TERM": "xterm", "COLUMNS": "80", "LINES": "40"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as showing:
        os.close(theirs)
        said = b""
        deadline_s = time.monotonic() + PATIENCE_S
        while said.count(b"records in") < 3:  # it was drawn anew
            assert time.monotonic() < deadline_s, said
            said += os.read(ours, 65536)
        showing.send_signal(signal.SIGINT)
        while True:
            try:
                said += os.read(ours, 65536)
            except OSError:  # it has ended
                break
    os.close(ours)
    assert showing.returncode == 0, said
    assert b"Traceback" not in said
    assert said.rstrip().endswith(b"\x1b[?25h"), "the cursor is shown again"
