"""JSON for programs is UTF-8 in any locale, and for people what their terminal can show."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_cli import good
from tests.harness import COMMAND, PATIENCE_S, clean_environment

NAME = "Zoë 中文 😀"


def said(folder: Path, command: list[str], encoding: str) -> bytes:
    done = subprocess.run(
        command,
        cwd=folder,
        env=clean_environment() | {"PYTHONIOENCODING": encoding},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("encoding", ["gbk", "latin-1", "ascii", "utf-8"])
def test_names_of_any_language_are_json(tmp_path: Path, encoding: str) -> None:
    good(tmp_path, "app", "create", "7", "--name", NAME)
    spawn = [sys.executable, "-c", "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"]
    for command in (
        ["app", "list", "--json"],
        ["app", "show", "7", "--json"],
        ["acts", "list", "--json"],
    ):
        by_program = said(tmp_path, [COMMAND, *command], encoding)
        by_people = said(tmp_path, [*spawn, COMMAND, *command], encoding)
        assert json.loads(by_program.decode()) == json.loads(by_people.decode(encoding))
    assert NAME.encode() in said(tmp_path, [COMMAND, "app", "list"], encoding)
