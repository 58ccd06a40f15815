"""What a check has found: how bad it is, what it is, and what ends it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from pullstatus.cli.statuses import FAILED, WARNED


class Level(StrEnum):
    """How bad something is."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        check: its name, of a few.
        found: how it is, as a sentence.
        fix: what ends it: a command, a setting or a page; "" where nothing is wrong.
    """

    check: str
    level: Level
    found: str
    fix: str = ""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, found)


def warning(check: str, found: str, fix: str) -> Finding:
    """Somebody is to see to it in working hours."""
    return Finding(check, Level.WARNING, found, fix)


def fault(check: str, found: str, fix: str) -> Finding:
    """Somebody is to see to it now."""
    return Finding(check, Level.FAULT, found, fix)


def told(check: str, level: Level, sentence: str, page: str) -> Finding:
    """What another room says of it: the fix stands behind the last semicolon, or else on `page`."""
    found, _, fix = sentence.rpartition("; ")
    return Finding(check, level, found or sentence, fix if found else page)


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level of them."""
    levels = {finding.level for finding in findings}
    return max(levels, key=list(Level).index, default=Level.OK)


EXIT = {Level.OK: 0, Level.WARNING: WARNED, Level.FAULT: FAILED}
"""What the command ends with, by the worst of all findings."""
