"""Who gives a command, for the acts that it leaves on record."""

from __future__ import annotations

import secrets

from pullstatus.apps import Operator
from pullstatus.cli.surroundings import operator
from pullstatus.clock import wall_ms


def acting(reason: str = "") -> Operator:
    """Who gives this command, now."""
    return Operator(operator(), wall_ms(), secrets.token_hex, reason)
