"""Writes a page for man(1) of each command, from its help: `make man`.

Runs in the environment of `requirements/dist.txt`.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from inspect import cleandoc
from pathlib import Path

import click
from click_man import core

from pullstatus.cli import main
from pullstatus.version import VERSION

LINE_CHARS = 200  # of a sentence that stands for a command; the library cuts at 45


def write(folder: Path) -> None:
    """Write `pullstatus.1`, `pullstatus-app.1`, ... into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    # https://reproducible-builds.org/specs/source-date-epoch/
    written_s = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    date = datetime.fromtimestamp(written_s, UTC).strftime("%Y-%m-%d")
    core.get_short_help_str.__defaults__ = (LINE_CHARS,)
    _take_in_statuses(main)
    core.write_man_pages("pullstatus", main, version=VERSION, target_dir=str(folder), date=date)


def _take_in_statuses(command: click.Command) -> None:
    """Have what `--help` says last, which the library leaves out, be part of the text."""
    command.help = "\n\n".join(map(cleandoc, filter(None, (command.help, command.epilog))))
    if isinstance(command, click.Group):
        for one in command.commands.values():
            _take_in_statuses(one)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
