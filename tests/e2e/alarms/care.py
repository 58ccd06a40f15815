"""Faults of what keeps a server and its store healthy."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import trustme

from pullstatus.mailbox.done import Task, note
from pullstatus.store import open_store
from tests.e2e.alarms.stories import (
    DAY_S,
    HOUR_S,
    LATER_S,
    UPKEEP,
    WATCHED,
    Fault,
    Story,
    figures,
    watched,
)
from tests.harness import UPKEEP_ALWAYS, Program


def neglected(folder: Path) -> Story:
    """The newest backup is of yesterday, and the newest audit of last week."""
    now_ms = int(time.time() * 1000)
    return cared_for(folder, now_ms - 27 * HOUR_S * 1000, now_ms - 9 * DAY_S * 1000)


def cared_for(folder: Path, backup_ms: int, audit_ms: int) -> Story:
    program = Program(folder)

    async def fill() -> None:
        store = await open_store(program.store)
        await note(store, Task.BACKUP, backup_ms)
        await note(store, Task.AUDIT, audit_ms)
        await store.close()

    asyncio.run(fill())
    with program:
        after = figures(program)
    return Story(after, begins_s=LATER_S)


def clock_was_ahead(folder: Path) -> Story:
    """The newest backup and audit were noted for next year, so none seems late."""
    return cared_for(folder, *(int(time.time() * 1000) + 365 * DAY_S * 1000 for _ in Task))


def old_certificate(folder: Path) -> Story:
    authority = trustme.CA()
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(days=10)
    authority.issue_cert("127.0.0.1", not_after=soon).private_key_and_cert_chain_pem.write_to_path(
        folder / "server.pem"
    )
    (folder / "server.pem").chmod(0o600)
    flags = ["--tls-certificate", "server.pem", "--tls-key", "server.pem"]
    flags = [str(folder / flag) if flag.endswith(".pem") else flag for flag in flags]
    with Program(folder, *flags, *WATCHED) as program:
        return Story(watched(program))


def hung_upkeep(folder: Path) -> Story:
    """Whoever commits does not answer, so nothing that is too old is let go."""
    program = Program(folder, *UPKEEP_ALWAYS)
    with program:
        program.until(lambda: figures(program)[UPKEEP])
        _, store = program.processes()
        os.kill(store, signal.SIGSTOP)
        try:
            before = figures(program)
            program.until(lambda: figures(program)["pullstatus_store_oldest_seconds"] > 1)
            after = figures(program)
        finally:
            os.kill(store, signal.SIGCONT)
    return Story(before, after, step_min=20, begins_s=LATER_S, upkeep_hangs=True)


def no_upkeep(folder: Path) -> Story:
    """None has come to its end since the start."""
    with Program(folder, "--upkeep-every", str(HOUR_S)) as program:
        scrape = figures(program)
    assert scrape[UPKEEP] == 0
    return Story(scrape, begins_s=LATER_S, upkeep_hangs=True)


FAULTS: Mapping[Fault, set[str]] = {
    neglected: {"PullstatusBackupLate", "PullstatusAuditLate"},
    clock_was_ahead: {"PullstatusBackupLate", "PullstatusAuditLate"},
    old_certificate: {"PullstatusCertificateEnds"},
    hung_upkeep: {"PullstatusUpkeepLate"},
    no_upkeep: {"PullstatusUpkeepLate"},
}
