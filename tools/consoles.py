"""Runs what the documents show on a console, so that what they show is what happens.

    ```console
    $ a command
    > that goes on, and on
    what it prints
    ```

The blocks of a page are one session: a shell in an empty folder, command after command. Output
that differs from the page only in times, secrets and addresses counts as the same.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Self

BLOCK: Final = re.compile(r"^```console\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
DEADLINE_S: Final = 600  # pip alone takes minutes on a machine that others use
ADDRESS: Final = "http://127.0.0.1:8080"  # as the pages say; the session's server takes a free port
DIFFERS: Final = (
    (r"pst_[0-9a-f]{64}", "SECRET"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", "MOMENT"),
    (r"(?m)^date: .*$", "date: MOMENT"),
)


def renewed(page: str, *, first: str = "", environment: Mapping[str, str] | None = None) -> str:
    """The page with what its commands print now.

    Args:
        first: commands to run before those of the page.
        environment: variables to set beside those that a session has, or instead of them.
    """
    if not BLOCK.search(page):
        return page
    with (
        tempfile.TemporaryDirectory() as folder,
        _Session(Path(folder), environment or {}) as session,
    ):
        for command in first.splitlines():
            session.run(command)
        return BLOCK.sub(lambda block: _replay(session, block["text"]), page)


def _replay(session: _Session, text: str) -> str:
    lines = []
    for command, shown in _commands(text):
        shows = session.run(command)
        lines.append("$ " + command.replace("\n", "\n> ").replace("\n> \n", "\n>\n"))
        lines += [shown if _same(shown, shows) else shows] if shows else []
    return "\n".join(["```console", *lines, "```"])


def _commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a block, each with what it shows."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        count = 1
        while count < len(lines) and (lines[count] == ">" or lines[count].startswith("> ")):
            count += 1
        command = "\n".join(re.sub("^> ?", "", line) for line in lines[:count])
        yield command, "\n".join(lines[count:])


def _same(one: str, other: str) -> bool:
    for pattern, name in DIFFERS:
        one, other = re.sub(pattern, name, one), re.sub(pattern, name, other)
    return one == other


class _Session:
    """A shell that is told a command at a time."""

    END = "=== end of output ==="

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._address = ADDRESS

    def __enter__(self) -> Self:
        # A few variables by name: whatever else is set here must not change what is shown.
        kept = ("PYTHONPATH", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],  # noqa: S607 - the reader's own
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
            env={
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "HOME": str(self._folder),
                "LANG": "C.UTF-8",
                "PULLSTATUS_PORT": "0",
                **{name: os.environ[name] for name in kept if name in os.environ},
                **self._environment,
            },
        )
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._stdin, self._stdout = self._shell.stdin, self._shell.stdout
        os.set_blocking(self._stdout.fileno(), False)
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._stdout, selectors.EVENT_READ)
        return self

    def __exit__(self, *_exception: object) -> None:
        """End the shell and what it left running."""
        with contextlib.suppress(BrokenPipeError), self._stdin:
            self._stdin.write(b"\nkill $(jobs -p) 2>/dev/null; wait; exit\n")
        try:
            self._shell.wait(DEADLINE_S)
        finally:
            self._shell.kill()
            self._shell.wait()
            self._ready.close()
            self._stdout.close()

    def run(self, command: str) -> str:
        """What it prints, without blanks at the ends of lines.

        A command that goes on in the background is the server: it prints its address.
        """
        background = command.endswith("&")
        asked = command.replace(ADDRESS, self._address)
        self._stdin.write(f"{asked}\n".encode())
        if not background:
            self._stdin.write(f"echo '{self.END}'\n".encode())
        self._stdin.flush()
        shown = self._read_until(r"listens on \S+\n$" if background else f"{self.END}\n$")
        if background:
            self._address = shown.split()[-1]
        shown = shown.removesuffix(f"{self.END}\n").replace(self._address, ADDRESS)
        return re.sub(r"[ \t\r]+$", "", shown, flags=re.MULTILINE).strip("\n")

    def _read_until(self, end: str) -> str:
        shown = ""
        deadline = time.monotonic() + DEADLINE_S
        while not re.search(end, shown):
            if not self._ready.select(max(0, deadline - time.monotonic())):
                raise TimeoutError(f"nothing more after {shown!r}")
            data = os.read(self._stdout.fileno(), 65536)
            if not data:
                raise EOFError(f"the shell ended after {shown!r}")
            shown += data.decode()
        return shown
