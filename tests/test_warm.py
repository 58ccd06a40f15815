"""A warm start is what a start anew is, as far as a program or a test can tell."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Program
from tests.warm import COMMAND, WARM, Start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it takes Linux")

TELLS = """
import json, os, resource, signal, sys, threading
found = {
    "modules": "pullstatus" in sys.modules,
    "argv": sys.argv,
    "path": sys.path[0],
    "name": __name__,
    "folder": os.getcwd(),
    "environment": dict(os.environ),
    "parent": os.getppid(),
    "leads": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()],
    "umask": os.umask(0),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    "descriptors": [number for number in range(1000) if os.path.exists(f"/proc/self/fd/{number}")],
    "signals": {str(one): str(signal.getsignal(one)) for one in signal.valid_signals()},
    "streams": [
        [stream.encoding, stream.errors, stream.line_buffering, stream.write_through]
        + [stream.seekable(), stream.isatty(), type(stream.buffer).__name__]
        for stream in (sys.stdin, sys.stdout, sys.stderr)
    ],
    "threads": threading.active_count(),
    "input": sys.stdin.read(),
}
json.dump(found, sys.stdout)
"""


def told(**how: Any) -> dict[str, Any]:  # noqa: ANN401
    command = [sys.executable, "-c", TELLS, "one", "\udcff"]
    done = subprocess.run(command, capture_output=True, check=True, **how)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def both(monkeypatch: pytest.MonkeyPatch, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: ANN401
    found = []
    for anew in (False, True):
        monkeypatch.setattr(WARM, "anew", anew)
        found.append(told(**how))
    warm, anew_found = found
    assert warm.pop("modules"), "it was not warm"
    assert not anew_found.pop("modules")
    return warm, anew_found


def test_a_program_finds_what_it_finds_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told()  # what changes from here on has changed since it began
    reading, writing = os.pipe()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    before = os.umask(0o027)
    try:
        environment = os.environ | {"NEW": "\udcff", "PYTHONUNBUFFERED": "1"}
        warm, anew = both(
            monkeypatch,
            cwd=tmp_path,
            env=environment,
            input=b"lines\r\n",
            pass_fds=[reading],
            start_new_session=True,
        )
        assert warm == anew
        assert warm["files"] == [soft - 1, hard]
        more = {"stdin": subprocess.DEVNULL, "process_group": 0, "umask": 0o077}
        warm, anew = both(monkeypatch, env=dict(os.environ), **more)
        assert warm == anew
    finally:
        os.umask(before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(reading)
        os.close(writing)


def test_another_setting_of_python_starts_anew() -> None:
    assert told(env=os.environ)["modules"]
    assert not told(env=os.environ | {"PYTHONHASHSEED": "1"})["modules"]


ENDS = {
    "pass": 0,
    "print('x', end='')": 0,
    "import sys; sys.exit(7)": 7,
    "import sys; sys.exit('said')": 1,
    "raise ValueError('said')": 1,
    "raise KeyboardInterrupt": -signal.SIGINT,
    "import os; os._exit(3)": 3,
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": -signal.SIGKILL,
    "import atexit; atexit.register(print, 'last')": 0,
    "import threading; threading.Timer(0.01, lambda: print('late')).start()": 0,
    "import os, sys; os.close(1); os.open('/dev/full', 1); print('x')": 120,
}


@pytest.mark.parametrize("program", ENDS)
def test_it_ends_as_interpreters_do(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    found = []
    for anew in (False, True):
        monkeypatch.setattr(WARM, "anew", anew)
        command = [sys.executable, "-c", f"{program}  # pullstatus"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=buffered)
        assert done.returncode == ENDS[program]
        lines = done.stderr.splitlines()
        found.append((done.stdout, lines[-1:]))
    assert found[0] == found[1]


LEAVES = """
import subprocess  # as pullstatus may
print(subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)
"""


def test_what_it_leaves_behind_is_not_left_to_us() -> None:
    """Else what a killed server has started would stay as a zombie, and not be gone."""
    done = subprocess.run([sys.executable, "-c", LEAVES], capture_output=True, check=True)
    number = int(done.stdout)
    status = Path(f"/proc/{number}/status").read_text(encoding="utf-8")
    os.kill(number, signal.SIGKILL)
    assert f"\nPPid:\t{os.getpid()}\n" not in status


def test_the_program_itself_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def start(_self: object, start: Start, _descriptors: object) -> int:
        started.append(start.words)
        raise InterruptedError

    monkeypatch.setattr(type(WARM), "start", start)
    with pytest.raises(InterruptedError):
        subprocess.run([COMMAND, "--version"], check=True)
    assert started == [[COMMAND, "--version"]]


def test_what_a_server_starts_is_warm_too(tmp_path: Path) -> None:
    with Program(tmp_path, "--workers", "2") as program:
        lines = [
            Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
            for number in program.processes()
        ]
        assert len(lines) == 4  # and nobody beside the store's and the workers
        assert all(b"tests.warm" in line[2] for line in lines)
