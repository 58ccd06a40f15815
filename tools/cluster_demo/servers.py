"""`pullstatus serve`, twice, and other commands, over one store."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMMAND = Path(sys.executable).with_name("pullstatus")
START_S = 60.0


class Ended(Exception):
    """The demo cannot go on; the text says why."""


@dataclass
class Server:
    """`pullstatus serve` of one machine."""

    name: str
    process: subprocess.Popen[str]
    address: str
    answers: int = 0


def environment(folder: Path, store: str) -> dict[str, str]:
    """What each process of pullstatus is told: where the store is, and the key of all of them."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PULLSTATUS_")}
    return own | {
        "PULLSTATUS_STORE": store,
        "PULLSTATUS_MASTER_KEY_FILE": str(folder / "master.key"),
    }


def run(folder: Path, store: str, *words: str) -> str:
    """What a command says."""
    done = subprocess.run(
        [COMMAND, *words],
        env=environment(folder, store),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Ended(f"pullstatus {words[0]} has failed: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def serving(name: str, folder: Path, store: str) -> Iterator[Server]:
    """A server, on a free port, until the block ends."""
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [COMMAND, "serve", "--port", "0"],
            env=environment(folder, store),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "listens on" not in line:
            raise Ended(f"server {name} does not start: {(folder / f'{name}.log').read_text()}")
        yield Server(name, process, line.split()[-1])
    finally:
        process.terminate()
        process.wait(START_S)
