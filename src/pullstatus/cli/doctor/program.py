"""The program itself: its version, what it runs on, and as whom."""

from __future__ import annotations

import os
import platform

import apsw

from pullstatus.cli.doctor.findings import Finding, ok, warning
from pullstatus.version import VERSION


def look() -> list[Finding]:
    """Which versions these are, and whether it runs as root."""
    return [
        ok(
            "program",
            f"pullstatus {VERSION}, Python {platform.python_version()}, SQLite"
            f" {apsw.sqlite_lib_version()}, {platform.system()} {platform.release()}",
        ),
        user(os.geteuid()),
    ]


def user(number: int) -> Finding:
    """Judge the number of the user."""
    if number:
        return ok("user", f"runs as user {number}")
    return warning(
        "user",
        "runs as root; files that a command makes as root cannot be written by the server",
        "sudo -u pullstatus pullstatus doctor",
    )
