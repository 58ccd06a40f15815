"""`pullstatus audit`, `backup` and `restore`: is it all there, and a second copy of it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click
import msgspec

from pullstatus import apps
from pullstatus.apps import Masters, read_setting
from pullstatus.cli.acting import acting
from pullstatus.cli.backups import backup_in, clear, prune
from pullstatus.cli.master_keys import accepting, lost_option, with_masters
from pullstatus.cli.output import json_option, moment, print_json, print_rows, say
from pullstatus.cli.progress import progress
from pullstatus.cli.session import leaves_traces, plainly, say_created, store_option, with_store
from pullstatus.cli.statuses import TRACES, UNNOTED
from pullstatus.clock import wall_ms
from pullstatus.errors import PullstatusError, StoreCorrupt
from pullstatus.mailbox import done, proving
from pullstatus.mailbox.done import Task
from pullstatus.store import (
    AuditReport,
    Progress,
    Store,
    audit_store,
    backup_store,
    read_store,
    restore_store,
)


@click.command("audit")
@click.option(
    "--note",
    is_flag=True,
    help="Note in the store that it was found sound now: /metrics shows when that was last.",
)
@json_option
@store_option
@plainly
def audit(note: bool, as_json: bool, store_url: str) -> None:
    """Prove from the data that nothing is lost, doubled or changed.

    Works beside a running server and on a copy; reads only, but for --note.

    It proves the store against itself, not that this is its newest state: an older copy is sound,
    too. So it says when the newest record came or left, when a server last began with it, whether
    a log lay beside the file, and in which epoch (one more with each restore) it is.
    """
    with progress("Auditing") as report:
        found = asyncio.run(_audit(store_url, report))
    problems = [
        {
            "mailbox": None if finding.mailbox is None else str(finding.mailbox),
            "problem": finding.problem,
        }
        for finding in found.findings
    ]
    rows = [
        {
            "mailbox": str(row.mailbox),
            "accepted": row.accepted,
            "waiting": row.waiting,
            "handed_out": row.handed_out,
            "quarantined": row.quarantined,
            "erased": row.erased,
            "expired": row.expired,
            "put_back": row.put_back,
            "routed": row.routed,
        }
        for row in found.mailboxes
    ]
    state = {
        "epoch": found.epoch,
        "newest": found.newest_ms and _moment(found.newest_ms),
        "served": found.served_ms and _moment(found.served_ms),
        "log": found.log,
    }
    if as_json or not sys.stdout.isatty():
        print_json({"sound": not problems, "mailboxes": rows, "problems": problems, **state})
    else:
        columns = list(rows[0]) if rows else []
        print_rows(rows, as_json=False, columns=columns, empty="No mailboxes yet.")
        print_rows(
            problems,
            as_json=False,
            columns=["mailbox", "problem"],
            wraps="problem",
            empty="Sound: accepted = waiting + handed out + erased + expired + quarantined"
            " + put back + routed.",
        )
        say(_as_of(found))
    for problem in problems:
        say(f"{problem['mailbox'] or 'store'}: {problem['problem']}", err=True)
    if problems:
        sys.exit(1)
    if note:
        with_store(store_url, lambda store: done.note(store, Task.AUDIT, wall_ms()))


async def _audit(url: str, report: Progress) -> AuditReport:
    """What a store says of itself, and, if that is sound, what is derived of its entries."""
    found = await audit_store(url, report, prove_setting=read_setting)
    if found.findings or not found.mailboxes:
        return found
    store = await read_store(url)
    try:
        findings = await proving.problems(store)
    finally:
        await store.close()
    return msgspec.structs.replace(found, findings=findings)


def _moment(at_ms: int) -> str:
    """As `moment`; of a time that is none, that."""
    try:
        return moment(at_ms)
    except StoreCorrupt:
        return "at no time of the calendar"


def _as_of(found: AuditReport) -> str:
    newest = "none yet" if found.newest_ms is None else f"of {_moment(found.newest_ms)}"
    served = "never served" if found.served_ms is None else f"served {_moment(found.served_ms)}"
    return (
        f"Newest record: {newest}; epoch {found.epoch}; {served};"
        f" {'a' if found.log else 'no'} log beside the file. No audit can know whether there is a"
        " newer state of it elsewhere."
    )


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option(
    "--into",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder for a file that is named after the time, instead of FILE.",
)
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    help="With --into: how many such backups of this store stay, this one included; the oldest go."
    " A restored or moved copy counts as the same store: give it a folder of its own.",
)
@store_option
@with_masters
@plainly
def backup(
    file: Path | None, folder: Path | None, keep: int | None, store_url: str, masters: Masters
) -> None:
    """Write a consistent, audited copy of the store to a new FILE, while it is in use.

    Of a store in a cluster it is a file, too, in which each application is as of one moment.

    What a backup that was killed has left in the folder of --into is removed first.

    The master key is not in it, and is not needed for it, unless appkeys of an older version are
    to be sealed first.
    """
    target = _target(file, folder, keep)
    traces = _seal(store_url, masters)
    if folder is not None:
        clear(folder)  # before it is made: there may be no room beside what is left
    with progress("Copying") as report:
        asyncio.run(backup_store(store_url, target, report))
    noted = _note(store_url)
    made: dict[str, object] = {"backup": click.format_filename(target), "bytes": _bytes(target)}
    if keep is not None:
        removed = prune(target, keep)  # only now: it is whole and sound
        made["removed"] = [click.format_filename(path) for path in removed]
    print_json(made)
    if traces:
        raise SystemExit(TRACES)
    if not noted:
        raise SystemExit(UNNOTED)


def _note(store_url: str) -> bool:
    """Note in the store that it was backed up now; say where it takes no note, and tell whether."""
    try:
        with_store(store_url, lambda store: done.note(store, Task.BACKUP, wall_ms()))
    except PullstatusError as error:
        say(f"the backup is whole, but the store takes no note of it: {error}", err=True)
        return False
    return True


def _bytes(target: Path) -> int | None:
    """How large it is; None if somebody has it no more, which is no fault of it."""
    try:
        return target.stat().st_size
    except FileNotFoundError:
        return None


def _target(file: Path | None, folder: Path | None, keep: int | None) -> Path:
    if (file is None) == (folder is None):
        raise click.UsageError("give either FILE or --into")
    if keep is not None and folder is None:
        raise click.UsageError("--keep goes with --into")
    if file is not None:
        return file
    assert folder is not None
    return backup_in(folder, wall_ms())


def _seal(store_url: str, masters: Masters) -> bool:
    """Seal appkeys that an older version left readable; whether traces of them are left."""

    async def seal(store: Store) -> bool:
        sealed = await apps.seal_readable(store, masters, by=acting())
        return bool(sealed) and await leaves_traces(store, store_url)

    return with_store(store_url, seal)


@click.command("rewrite")
@store_option
@plainly
def rewrite(store_url: str) -> None:
    """Write the store's files anew, so that nothing is left in them of what was removed.

    Needed only where a command says so. It takes twice the room of the store for a while, in
    its own folder; who writes meanwhile waits, so a large store is not rewritten beside its server.
    """

    async def work(store: Store) -> None:
        await apps.mark_traces(store, acting())
        await apps.rewrite_if_due(store, store_url)

    with_store(store_url, work)
    print_json({"rewritten": store_url})


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@lost_option
@store_option
@with_masters
@plainly
def restore(file: Path, store_url: str, masters: Masters, *, lost: bool) -> None:
    """Make a new store (--store) out of a backup FILE, and begin a new epoch.

    Records handed out after the backup was made wait again in it, and come out a second time. They
    are marked as restored: `pullstatus pulls show` tells.

    The master key of the store that was backed up is needed, and any other that keys are still
    under: its file is copied to STORE-master-key first, or named. In a cluster the store was made,
    with `pullstatus store init`, and is empty.
    """
    with progress("Copying") as report:
        epoch = asyncio.run(
            restore_store(
                store_url,
                file,
                act=acting().act("restore"),
                progress=report,
                prove_setting=read_setting,
                accept=accepting(masters, lost=lost),
            )
        )
    traces = _seal(store_url, masters)
    say_created(store_url)
    print_json({"restored": store_url, "epoch": epoch})
    if traces:
        raise SystemExit(TRACES)
