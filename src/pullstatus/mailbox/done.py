"""When what keeps a store healthy was done last: noted in it, for figures and for people."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from pullstatus.store import Noted, Store

_PREFIX: Final = "done/"


class Task(StrEnum):
    """What is done now and then, from outside of a server."""

    BACKUP = "backup"
    AUDIT = "audit"


async def note(store: Store, task: Task, now_ms: int) -> None:
    """Note that it was done now, with success.

    What was noted by a clock that was ahead gives way: a store keeps the later of two times, and
    nothing would be late until that one has come.
    """
    if (await noted_ms(store))[task] > now_ms:
        await store.mark({_PREFIX + task: Noted(0)})
    await store.mark({_PREFIX + task: Noted(now_ms)})


async def noted_ms(store: Store) -> Mapping[Task, int]:
    """When each of them was done last, in Unix milliseconds; 0: never, as far as is known."""
    marks = await store.marks(_PREFIX)
    return {task: marks.get(_PREFIX + task, Noted(0)).at_ms for task in Task}
