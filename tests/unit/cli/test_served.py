"""What `serve` would be told, for commands that look at it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("command", ["doctor", "status"])
def test_who_asks_leaves_the_help_of_serve_as_it_is(tmp_path: Path, command: str) -> None:
    """The library makes a command's help option once, by the context that comes first."""
    code = (
        "from click.testing import CliRunner; from pullstatus.cli import main\n"
        f"CliRunner().invoke(main, [{command!r}, '--json'])\n"
        "print(CliRunner().invoke(main, ['serve', '-h']).stdout)"
    )
    environment = {**os.environ, "PULLSTATUS_PORT": "1"}  # where no server is
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "-h, --help" in done.stdout
