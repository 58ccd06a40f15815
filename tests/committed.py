"""How programs that a test starts commit to their databases of SQLite."""

from __future__ import annotations

from pathlib import Path

from tests.harness import ROOT

NOTING = str(ROOT / "tests/e2e/commits")
"""A folder for PYTHONPATH: each commit of the program is noted in the file that COMMITS names."""

EXTRA = "3"  # its journal's removal is on the disk, too: no power cut undoes it


def ways(noted: Path) -> set[str]:
    """What `PRAGMA synchronous` was at the commits that were noted."""
    return set(noted.read_text("ascii").split())
