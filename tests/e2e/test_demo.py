"""`pullstatus demo` as people meet it: a process, with a terminal of 80 columns or with none."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import random
import re
import select
import shlex
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from rich.cells import cell_len

from pullstatus.cli.demo import run
from pullstatus.cli.demo.command import _taken
from pullstatus.cli.demo.records import made_up_reply, made_up_status
from pullstatus.cli.demo.screen import Sample, figures_line
from pullstatus.receipts.tencent import read_in_steps
from pullstatus.records import DeliveryStatus, Kind, Reply, encode
from pullstatus.steps import done
from tests.harness import PATIENCE_S

DEMO = [str(Path(sys.executable).with_name("pullstatus")), "demo"]
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLUMNS = 80


def environment(folder: Path) -> dict[str, str]:
    """Temporary files go to `folder`, so that what is left behind is seen."""
    return {**os.environ, "TMPDIR": str(folder), "TERM": "xterm-256color", "PYTHONUTF8": "1"}


class Terminal:
    """A demonstration on a terminal of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
        # The shell leads a session and opens the terminal, which makes it the session's own:
        # Ctrl-C typed there reaches the program as it would a person's.
        self.process = subprocess.Popen(
            ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(slave), *DEMO, *arguments],
            env=environment(folder),
            start_new_session=True,
        )
        self.shown = ""
        self._raw = b""
        self._read()
        os.close(slave)  # not before it was opened there, or reading would find it hung up

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read until what was shown has `pattern`."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := re.search(pattern, self.shown)) is None:
            assert time.monotonic() < deadline, f"no {pattern} in:\n{self.shown}"
            assert self._read(), f"ended without {pattern}:\n{self.shown}"
        return found

    def interrupt(self) -> int:
        """Type Ctrl-C; returns the exit status."""
        os.write(self._master, b"\x03")
        while self._read():
            pass
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _read(self) -> bool:
        if not select.select([self._master], [], [], PATIENCE_S)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other end is closed
            return False
        self._raw += data
        self.shown = ANSI.sub("", self._raw.decode("utf-8", "ignore"))
        return bool(data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tmp"
    made.mkdir()
    return made


@pytest.fixture
def terminal(folder: Path) -> Iterator[Terminal]:
    made = Terminal(folder, "--port", "0")
    yield made
    made.close()


def curl(line: str) -> dict[str, object]:
    """Run the command as a shell would."""
    words = shlex.split(line)
    assert words[0] == "curl"
    done = subprocess.run(words, capture_output=True, check=True, timeout=PATIENCE_S)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_demo_once_shows_a_page_of_each_kind_and_a_command_without_a_terminal(
    folder: Path,
) -> None:
    done = subprocess.run(
        [*DEMO, "--once", "--port", "0"],
        capture_output=True,
        check=False,
        env=environment(folder),
        timeout=PATIENCE_S,
        stdin=subprocess.DEVNULL,
    )
    shown = done.stdout.decode()
    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert "delivery-statuses: type 0, max 8 -> result 0, count 8, 16 more wait" in shown
    assert "replies: type 1, max 4 -> result 0, count 4, 4 more wait" in shown
    assert shown.count("SUCCESS") + shown.count("FAIL") == 8
    assert re.search(r"(?m)^curl -s 'http://127\.0\.0\.1:\d+/v5/tlssmssvr/pullstatus\?", shown)
    assert "\x1b" not in shown
    assert list(folder.iterdir()) == []


def test_demo_runs_until_ctrl_c_and_its_command_really_pulls(
    terminal: Terminal, folder: Path
) -> None:
    """The command works as printed, the line of figures moves, and Ctrl-C is a clean end."""
    line = terminal.wait_for(r"(?m)^curl .*\}'").group()
    terminal.wait_for(r"out 12  waiting \d+")
    assert list(folder.iterdir()) != []

    answer = curl(line)
    assert (answer["result"], answer["count"]) == (0, 3)
    terminal.wait_for(r"out 15  waiting \d+")
    refused = curl(line.replace('"sig":"', '"sig":"0'))
    assert refused["result"] == 1001

    started_with = int(terminal.wait_for(r"\d\d:\d\d  in (\d+) ").group(1))
    terminal.wait_for(rf"in (?!{started_with} )\d+ \((?!0\.0)[\d.]+/s\)")
    assert terminal.interrupt() == 0
    assert terminal.shown.rstrip().endswith("Stopped; the temporary store is removed.")
    assert "Traceback" not in terminal.shown
    assert '"event"' not in terminal.shown, "the server's log is on the screen"
    assert list(folder.iterdir()) == []


def test_demo_fits_80_columns(terminal: Terminal) -> None:
    """Only the command, which must be copied in one piece, is longer than a line."""
    terminal.wait_for(r"commits [\d.]+/s")
    lines = re.split(r"[\r\n]+", terminal.shown)
    assert [text for text in lines if cell_len(text) > COLUMNS and "curl" not in text] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_without_a_terminal_ends_cleanly(folder: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*DEMO, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(folder),
        text=True,
    ) as process:
        assert process.stdout is not None
        assert any("commits" in line for line in process.stdout)
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, errors) == (0, "")
    assert list(folder.iterdir()) == []


def test_demo_says_in_a_line_that_a_port_is_taken(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert _taken("127.0.0.1", port)
        done = subprocess.run(
            [*DEMO, "--once", "--port", str(port)],
            capture_output=True,
            check=False,
            env=environment(folder),
            text=True,
            timeout=PATIENCE_S,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"Error: cannot listen on 127.0.0.1:{port}: Address already in use; --port says another"
    ]
    assert not _taken("127.0.0.1", 0)
    assert list(folder.iterdir()) == []


def test_made_up_records_are_valid_varied_and_nobodys() -> None:
    chance = random.Random(1)
    statuses = [made_up_status(chance, 1_700_000_000) for _ in range(500)]
    replies = [made_up_reply(chance, 1_700_000_000) for _ in range(500)]
    taken = done(read_in_steps(b"[" + b",".join(map(encode, statuses)) + b"]", 0))
    assert (taken.kind, len(taken.entries)) == (Kind.DELIVERY_STATUS, 500)
    assert len({status.sid for status in statuses}) == 500
    assert len({status.errmsg for status in statuses}) > 8
    assert {status.report_status for status in statuses} == {"SUCCESS", "FAIL"}
    for status in statuses:
        assert (status.errmsg == "DELIVRD") == (status.report_status == "SUCCESS")
    records: list[DeliveryStatus | Reply] = [*statuses, *replies]
    for record in records:
        assert re.fullmatch(
            r"86 13800000\d{3}|1 20255501\d\d|44 7700900\d{3}",
            f"{record.nationcode} {record.mobile}",
        )
    texts = {reply.text for reply in replies}
    assert any(text.isascii() for text in texts)
    assert any("收到" in text for text in texts)


def test_figures_line_is_totals_and_rates_within_80_columns() -> None:
    then = Sample(at_s=100.0, taken_in=1000, handed_out=12, waiting=988, commits=40)
    now = Sample(at_s=104.0, taken_in=1080, handed_out=15, waiting=1065, commits=56)
    line = figures_line(then, now, 65.9)
    assert line == "01:05  in 1,080 (20.0/s)  out 15  waiting 1,065  commits 4.0/s"
    assert "0.0/s" in figures_line(now, now, 0.0)
    late = Sample(at_s=3000.0, taken_in=2_999_999, handed_out=2_000_000, waiting=999_999, commits=1)
    assert len(figures_line(late._replace(at_s=0.0, taken_in=0, commits=0), late, 5999)) <= COLUMNS


@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize(
    "error", [httpx.ConnectError("refused"), AttributeError("no getpeername of a closed socket")]
)
def test_connection_that_ends_with_the_server_is_no_fault(
    ready: bool, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stumble(_show: object, *, once: bool) -> None:
        raise error

    monkeypatch.setattr(run._Show, "_show_all", stumble)
    server = SimpleNamespace(address="http://127.0.0.1:1", routes=SimpleNamespace(ready=ready))
    showing = run._Show(server, "token", 1).run(once=True)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="its own server") if ready else contextlib.nullcontext():
        asyncio.run(showing)
