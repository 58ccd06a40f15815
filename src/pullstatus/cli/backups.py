"""A folder of backups: each is named after its time, and the oldest of them go."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

_NAME = re.compile(r"pullstatus-\d{8}T\d{6}Z\.db")


def backup_in(folder: Path, now_ms: int) -> Path:
    """The file for a backup of now; such names sort by time."""
    moment = datetime.fromtimestamp(now_ms / 1000, UTC)
    return folder / f"pullstatus-{moment:%Y%m%dT%H%M%SZ}.db"


def prune(made: Path, keep: int) -> list[Path]:
    """Remove all but the newest backups of a folder; returns which, oldest first.

    Other files are left alone: only what has such a name is a backup of this folder.

    Args:
        made: the one that was just made. It stays, though others have later names: of a clock that
            was ahead.
        keep: how many stay, at least 1.

    Raises:
        OSError: one of them cannot be removed.
    """
    others = sorted(
        path
        for path in made.parent.iterdir()
        if _NAME.fullmatch(path.name) and path.name != made.name
    )
    removed = others[: max(0, len(others) + 1 - keep)]
    for path in removed:
        path.unlink()
    return removed
