"""Every exit status of every command, and what it means.

`--help` takes them from here; a test compares what commands really end with. The numbers below 64
are each command's own; 70 is `EX_SOFTWARE` of sysexits, 130 what shells give to a program that
Ctrl-C has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "LEFT",
    "RESTART",
    "TRACES",
    "UNNOTED",
    "WARNED",
    "WRONG",
    "describe",
    "meanings",
]

FAILED: Final = 1
WRONG: Final = click.UsageError.exit_code
WARNED: Final = 3
TRACES: Final = 3
UNNOTED: Final = 3
LEFT: Final = 4
RESTART: Final = 70
INTERRUPTED: Final = 130

COMMON: Final[Mapping[int, str]] = {
    0: "done",
    FAILED: "it failed, and standard error says why",
    WRONG: "the command was written wrongly, or a variable that it reads",
    INTERRUPTED: "Ctrl-C",
}
REMOVING: Final[Mapping[int, str]] = {
    0: "done, and no traces are left",
    TRACES: "done, but traces are left in the store's files until `pullstatus rewrite` has removed"
    " them, or the next start of the server, unless its log says why not",
}
SERVING: Final[Mapping[int, str]] = {
    0: "a clean stop, by TERM, another signal that asks for one, or Ctrl-C",
    FAILED: "it cannot start",
}
SEALING: Final[Mapping[int, str]] = {
    TRACES: "done, but traces of appkeys that 0.1.0 had left readable are in the store's files"
    " until `pullstatus rewrite` has removed them, or the next start of the server, unless its log"
    " says why not",
}
OWN: Final[Mapping[str, Mapping[int, str]]] = {
    "acts verify": {0: "sound", FAILED: "something is wrong, or the store cannot be read"},
    "audit": {0: "sound", FAILED: "something is wrong, or the store cannot be read"},
    "backup": {
        UNNOTED: f"{SEALING[TRACES]}; or done, but the store takes no note of it, so that /metrics"
        " and `doctor` go on telling of the one before",
    },
    "bench": {0: "all was measured", FAILED: "something could not be"},
    "demo": SERVING,
    "doctor": {
        0: "all is well",
        FAILED: "there is a fault",
        WARNED: "there are warnings, and no fault",
    },
    "emulate": {
        **SERVING,
        RESTART: "a restart is due, since the store failed, or processor time is used up",
    },
    "erase": {
        **REMOVING,
        LEFT: "not done, some of an application's records are stored still, run it again",
    },
    "find": {0: "there is something", FAILED: "there is nothing, or it cannot be looked"},
    "keys rewrap": REMOVING,
    "migrate": {INTERRUPTED: "Ctrl-C, TERM or HUP, run it again to go on"},
    "pull": {
        0: "the mailbox is empty, or --follow was ended by TERM or Ctrl-C",
        FAILED: "the target cannot be used",
        3: "the service refuses",
        4: "the service could not be reached, run it again",
        5: "a page may be lost, because the service does not know Idempotency-Key, or has not yet"
        " told whether it does",
        INTERRUPTED: "TERM or Ctrl-C, run it again to go on",
    },
    "push": {
        0: "all were accepted",
        FAILED: "FILE cannot be used",
        3: "some were refused",
        4: "the service could not be reached or does not accept, run it again",
        5: "the last line of FILE is not finished and waits",
        INTERRUPTED: "Ctrl-C, run it again to go on",
    },
    "redeliver": {FAILED: "it failed, something is damaged, or nothing is left of what was named"},
    "restore": SEALING,
    "serve": {
        **SERVING,
        RESTART: "a restart is due, since the store failed or was moved to another, or processor"
        " time is used up",
    },
    "status": {0: "shown, on a terminal until Ctrl-C", FAILED: "no server answers"},
    "verify": {
        0: "it would be accepted",
        FAILED: "it would be refused, and why is printed",
    },
}
"""By command, without the program's name; what is not here is as in `COMMON`."""


def meanings(command: str) -> dict[int, str]:
    """What each status of a command means; `command` is like "app create"."""
    return dict(sorted({**COMMON, **OWN.get(command, {})}.items()))


def describe(command: click.Command, path: str) -> None:
    """End the help of a command, or of those below it, with its statuses."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            describe(below, f"{path} {name}")
        return
    said = "; ".join(f"{status} {meaning}" for status, meaning in meanings(path).items())
    command.epilog = f"Exit status: {said}."
