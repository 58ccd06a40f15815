"""What is mounted where, as Linux tells a process: which file system a folder lies on.

A file may be mounted by itself, as a container is given one. What a program puts beside it lies in
another folder then than the file does, and is gone with the container.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec


class Mount(msgspec.Struct, frozen=True):
    """A line of /proc/self/mountinfo.

    Attributes:
        point: where it is.
        kind: type of the file system.
        options: how that was mounted.
    """

    point: str
    kind: str
    options: tuple[str, ...]


def read_mounts() -> str | None:
    """The text of /proc/self/mountinfo; None where nobody tells, as on other systems than Linux."""
    try:
        # As bytes of file names become text everywhere else.
        return os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
    except OSError:
        return None


def mounts_here() -> list[Mount]:
    """Those that this process sees; none where nobody tells."""
    return parse_mounts(read_mounts() or "")


def parse_mounts(text: str) -> list[Mount]:
    """The lines of /proc/self/mountinfo. A later one covers an earlier one at the same point.

    What is no such line is left out.
    """
    mounts = []
    for line in filter(None, text.split("\n")):
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5:
            continue
        # The mount point is the fifth field; blanks in it are written as \040.
        point = _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), fields[4])
        kind, *rest = right.split(" ")
        options = rest[-1].split(",") if rest else []
        mounts.append(Mount(point, kind, tuple(options)))
    return mounts


def mount_of(folder: Path, mounts: list[Mount]) -> Mount | None:
    """The one that holds `folder`: with the deepest point, and the latest of several there."""
    found = None
    for mount in mounts:
        point = mount.point
        inside = point == "/" or f"{folder}/".startswith(f"{point}/")
        if inside and (found is None or len(point) >= len(found.point)):
            found = mount
    return found


def mounted_alone(files: Iterable[Path], mounts: list[Mount]) -> Path | None:
    """The first of these files, named without links, that is mounted by itself; None if none is."""
    points = {mount.point for mount in mounts}
    return next((file for file in files if str(file) in points), None)


_OCTAL = re.compile(r"\\([0-7]{3})")
