"""The disk of the store: how much is free, for how many days that is, and how long a sync takes."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

from pullstatus import limits
from pullstatus.cli.doctor.findings import Finding, fault, ok, warning

SYNCS = 5
BLOCK = bytes(4096)
SYNC_SLOW_S = 0.1  # a commit waits for one
SYNC_STALLS_S = 1.0
SYNC_NONE_S = 5e-6  # quicker than any disk takes anything
DAYS_FAULT, DAYS_WARNING = 3, 14
DAY_S = 86_400
GROW = "a larger disk, a shorter --retention-days, or docs/how-to/migrate.md"


def sync_s(folder: Path) -> float:
    """Seconds that a sync takes there, the median of a few, of a file without a name.

    Raises:
        OSError: nothing can be written there.
    """
    taken = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(SYNCS):
            file.seek(0)
            file.write(BLOCK)
            began_s = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - began_s)
    return statistics.median(taken)


def free_bytes(folder: Path) -> int:
    """What this user may still write there.

    Raises:
        OSError: it cannot be asked.
    """
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def look(folder: Path, day_bytes: float | None) -> list[Finding]:
    """Room and syncs in the store's folder; `day_bytes`: by how much it grows a day, if known."""
    found = []
    try:
        found.append(room(free_bytes(folder), day_bytes))
        found.append(sync(sync_s(folder)))
    except OSError as error:
        found.append(
            fault(
                "sync",
                f"nothing can be written in {folder}: {error.strerror}",
                "sudo -u pullstatus pullstatus doctor, as the user of the server",
            )
        )
    return found


def room(free: int, day_bytes: float | None) -> Finding:
    """Judge what is free, and for how long that lasts."""
    said = f"{shown(free)} free"
    if free < limits.STORE_RESERVE_BYTES:
        return fault("room", f"{said}: no more records are accepted", GROW)
    if day_bytes is None:
        return ok("room", f"{said}; how fast it grows is not known yet")
    if day_bytes <= 0:
        return ok("room", f"{said}; the store does not grow")
    days = (free - limits.STORE_RESERVE_BYTES) / day_bytes
    said += f": {days:,.0f} days, by {shown(day_bytes)} a day"
    if days < DAYS_FAULT:
        return fault("room", said, GROW)
    return warning("room", said, GROW) if days < DAYS_WARNING else ok("room", said)


def sync(seconds: float) -> Finding:
    """Judge how long a sync takes."""
    said = f"a sync takes {seconds * 1000:.3g} ms"
    if seconds >= SYNC_STALLS_S:
        return fault("sync", said, "another disk: docs/how-to/migrate.md")
    if seconds >= SYNC_SLOW_S:
        return warning(
            "sync", f"{said}, and each commit waits for one", "another disk: docs/how-to/migrate.md"
        )
    if seconds < SYNC_NONE_S:
        return warning(
            "sync",
            f"{said}: this is memory, or a disk that does not do it; a power cut takes records",
            "put the store on a disk, and have its cache written through",
        )
    return ok("sync", said)


def growth(records_in: float, up_s: float, store_bytes: float, records_stored: int) -> float | None:
    """Bytes a day, if nothing were removed: as many records as came while the server was up.

    None: it was not up for an hour, or nothing is stored.
    """
    if up_s < 3600 or records_stored <= 0:
        return None
    return records_in / up_s * DAY_S * store_bytes / records_stored


def shown(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"
