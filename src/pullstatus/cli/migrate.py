"""`pullstatus migrate`: what a store holds becomes another."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from pullstatus.apps import read_setting
from pullstatus.cli.acting import acting
from pullstatus.cli.master_keys import accepting, lost_option, master_key_options, named_masters
from pullstatus.cli.output import json_option, print_json, say
from pullstatus.cli.progress import progress
from pullstatus.cli.session import check_store, plainly
from pullstatus.cli.statuses import INTERRUPTED
from pullstatus.records import Kind
from pullstatus.server.signals import handled
from pullstatus.store import Aside, Mailbox
from pullstatus.store.migration import Moved, abandon_move, move_store

R = TypeVar("R")

_PATHS = {each.path: each for each in (*Kind, *Aside)}


def _read_mailboxes(
    _context: click.Context, _parameter: click.Parameter, names: tuple[str, ...]
) -> list[Mailbox]:
    found = []
    for name in names:
        number, _, path = name.partition("/")
        if not number.isascii() or not number.isdecimal() or path not in _PATHS:
            raise click.BadParameter(
                "a mailbox is named as `pullstatus audit` does: SDKAPPID, a slash, and"
                f" {' or '.join(_PATHS)}"
            )
        found.append(Mailbox(int(number), int(_PATHS[path])))
    return found


@click.command("migrate")
@click.option(
    "--from",
    "source_url",
    metavar="URL",
    required=True,
    callback=check_store,
    help="The store that is in use.",
)
@click.option(
    "--to",
    "target_url",
    metavar="URL",
    required=True,
    callback=check_store,
    help="The store that it becomes: a new one. A file is made if it is not there; in a database or"
    " a cluster it has been made, with `pullstatus store init`, and is empty.",
)
@click.option(
    "--copy-only",
    is_flag=True,
    help="Leave the switch to a later run: copy until little is missing, and stop.",
)
@click.option(
    "--abandon",
    is_flag=True,
    help="End the migration, and open the store --from again; what --to holds is lost for good."
    " Possible until --to was in use.",
)
@click.option(
    "--damaged",
    metavar="MAILBOX",
    multiple=True,
    callback=_read_mailboxes,
    help="Move this mailbox as it is, though the audit finds something in it; as often as needed.",
)
@click.option("--reason", default="", help="Why; kept on record.")
@lost_option
@master_key_options
@json_option
@plainly
def migrate(
    source_url: str,
    target_url: str,
    *,
    copy_only: bool,
    abandon: bool,
    damaged: list[Mailbox],
    reason: str,
    lost: bool,
    master_key_file: Path | None,
    master_key_command: str | None,
    as_json: bool,
) -> None:
    """Move all that a store holds into a new store, and switch to that one.

    A server of --from goes on serving while it is copied. Then it is sealed: it takes and hands out
    nothing, callers are told to come again, the rest is copied, and both are audited. Then --to is
    ready to be served, and each server of --from ends with status 70. Numbers, cursors, pages in
    readers' hands and what repeats are known by stay what they are. Either may be a file, a
    database or a cluster.

    What was begun goes on when the command is given again, whatever has ended it. A failure, TERM
    or Ctrl-C while the store is sealed opens it again.

    The master key is not moved: its file is copied to TO-master-key first, or named here, as it
    must be for a database or a cluster. Act on record: in both stores.
    """
    if abandon:
        if copy_only or damaged:
            raise click.UsageError("--abandon goes with neither --copy-only nor --damaged")
        act = acting(reason).act("migrate abandon")
        source, target = _run(
            abandon_move(source_url, target_url, act=act, say=lambda text: say(text, err=True))
        )
        print_json({"abandoned": target, "in_use": source})
        return
    masters = named_masters(target_url, master_key_file, master_key_command)
    act = acting(reason).act("migrate")
    moved = _run(
        move_store(
            source_url,
            target_url,
            act=act,
            phase=progress,
            switch=not copy_only,
            damaged=damaged,
            prove_setting=read_setting,
            accept=accepting(masters, lost=lost),
        )
    )
    if as_json or not sys.stdout.isatty():
        print_json(_shown(moved))
    else:
        say(_told(moved))


def _run(work: Coroutine[Any, Any, R]) -> R:
    """Do it; TERM and HUP end it as Ctrl-C does, so that nothing stays sealed."""

    async def run() -> R:
        task = asyncio.ensure_future(work)

        def end() -> None:
            task.cancel()

        with handled(dict.fromkeys((signal.SIGTERM, signal.SIGHUP, signal.SIGINT), end)):
            return await task

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        say("Interrupted; give the same command again to go on", err=True)
        sys.exit(INTERRUPTED)


def _shown(moved: Moved) -> dict[str, object]:
    return {
        "from": moved.source,
        "to": moved.target,
        "switched": moved.switched,
        "mailboxes": moved.mailboxes,
        "entries": moved.entries,
        "pulls": moved.pulls,
        "passes": moved.passes,
        "shut_seconds": round(moved.shut_s, 3),
    }


def _told(moved: Moved) -> str:
    held = f"{moved.mailboxes:,} mailboxes, {moved.entries:,} entries, {moved.pulls:,} pulls"
    if not moved.switched:
        return (
            f"Copied {held} to {moved.target}. {moved.source} is in use; run this without"
            " --copy-only to switch."
        )
    if not moved.passes:
        return f"{moved.source} was moved to {moved.target} before."
    return (
        f"Moved {held} to {moved.target}; nothing was taken for {moved.shut_s:.1f} s."
        f" Serve that one now; {moved.source} takes nothing any more."
    )
