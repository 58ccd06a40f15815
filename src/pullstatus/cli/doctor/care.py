"""What is to be done now and then: backups and audits, and when each was done last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pullstatus.cli.doctor.findings import Finding, ok, warning
from pullstatus.cli.output import moment
from pullstatus.mailbox.done import Task
from pullstatus.records.hours import DAY_MS, HOUR_MS

LATE_MS: Final = {Task.BACKUP: 26 * HOUR_MS, Task.AUDIT: 8 * DAY_MS}
"""After how long each is late; the alarms have the same."""

FIX: Final = {
    Task.BACKUP: "systemctl enable --now pullstatus-backup.timer; docs/how-to/back-up.md",
    Task.AUDIT: "pullstatus audit --note; systemctl enable --now pullstatus-audit.timer",
}


def care(done_ms: Mapping[Task, int], now_ms: int, *, copied: bool) -> list[Finding]:
    """Judge when each was done.

    Args:
        copied: whether backups of this engine are made by us; else by the database's own tools.
    """
    found = []
    for task in Task:
        at_ms = done_ms.get(task, 0)
        if task is Task.BACKUP and not copied:
            found.append(
                ok(task, "is made by the tools of the database; docs/how-to/postgresql.md")
            )
        elif not at_ms:
            found.append(warning(task, "none is noted in the store", FIX[task]))
        elif at_ms - now_ms > HOUR_MS:
            told = f"the last one is noted for {moment(at_ms)}, by a clock that was ahead"
            found.append(warning(task, told, FIX[task]))
        elif now_ms - at_ms > LATE_MS[task]:
            found.append(warning(task, f"the last one is of {moment(at_ms)}", FIX[task]))
        else:
            found.append(ok(task, f"done {moment(at_ms)}"))
    return found
