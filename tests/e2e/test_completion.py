"""Shells complete our commands."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness import COMMAND, clean_environment

ENVIRONMENT = clean_environment() | {
    "PATH": os.pathsep.join([str(Path(COMMAND).parent), os.environ["PATH"]])
}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("pullstatus app cr", "create"),
        ("pullstatus completion ", "bash fish zsh"),
        ("pullstatus push --type re", "reply"),
        ("pullstatus serve --work", "--workers"),
    ],
)
def test_bash_offers_commands_flags_and_values(words: str, offered: str) -> None:
    script = f"""
        eval "$(pullstatus completion bash)"
        COMP_WORDS=({words} {"''" if words.endswith(" ") else ""})
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        $(complete -p pullstatus | sed 's/.*-F \\([^ ]*\\).*/\\1/') pullstatus
        echo "${{COMPREPLY[@]}}"
    """
    assert shutil.which("bash")
    shell = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout.strip() == offered, shell.stderr


@pytest.mark.parametrize("shell", ["fish", "zsh"])
def test_what_other_shells_read_calls_us_back(shell: str) -> None:
    printed = subprocess.run(
        [COMMAND, "completion", shell], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert f"_PULLSTATUS_COMPLETE={shell}_complete" in printed.stdout
