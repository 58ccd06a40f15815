"""How a batch is known that came before: by its sender's key."""

from __future__ import annotations

from typing import Final

from pullstatus import limits
from pullstatus.errors import KeyReused
from pullstatus.store.values import RepeatKey
from pullstatus.store.verbs.tables import Recalled, Tables

REPEAT_MS: Final = limits.INGEST_REPEAT_S * 1000


def came_before(
    tables: Tables, sdkappid: int, repeat_key: RepeatKey, accepted: int, at_ms: int
) -> bool | KeyReused:
    """Whether a batch came before under its key; if not, it is remembered from now on.

    Args:
        accepted: how many it holds.
        at_ms: when it came.

    Returns:
        KeyReused: another one did.
    """
    known = tables.recall(sdkappid, repeat_key)
    if known is not None and known.accepted_ms >= at_ms - REPEAT_MS:
        if known.digest != repeat_key.digest:
            return KeyReused("this Idempotency-Key came before with another body")
        return True
    tables.remember(sdkappid, repeat_key, Recalled(repeat_key.digest, accepted, at_ms))
    return False
