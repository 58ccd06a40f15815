"""Who else may reach the files, and whether the store's place or database can be trusted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pullstatus.cli.doctor.findings import Finding, Level, ok, told
from pullstatus.errors import PullstatusError
from pullstatus.modes import Trouble, trouble_of
from pullstatus.store import store_cautions

PAGE = "docs/how-to/run-in-production.md#who-else-may-reach-its-files"


def look(store: str, public: Iterable[Path | None], secret: Iterable[Path | None]) -> list[Finding]:
    """What the store's engine warns of, and the modes of other files; those that are None are none.

    Args:
        public: files that others may read.
        secret: files that others may not.
    """
    found = modes_of(public, secret)
    try:
        found += [told("place", Level.WARNING, said, PAGE) for said in store_cautions(store)]
    except PullstatusError as error:
        found.append(told("place", Level.FAULT, str(error), PAGE))
    return found or [ok("place", "nobody else can change the store or its settings")]


def modes_of(public: Iterable[Path | None], secret: Iterable[Path | None]) -> list[Finding]:
    """What is wrong with the modes of files; see `look`."""
    files = [trouble_of(file) for file in public if file is not None]
    files += [trouble_of(file, secret=True) for file in secret if file is not None]
    return modes(files)


def modes(troubles: Iterable[Trouble]) -> list[Finding]:
    """Judge the modes of files."""
    return [
        told("modes", Level.FAULT if trouble.refused else Level.WARNING, said, PAGE)
        for trouble in troubles
        for said in filter(None, trouble)
    ]
