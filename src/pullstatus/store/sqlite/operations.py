"""What a group may hold: the verbs as values, and what each is answered."""

from __future__ import annotations

import msgspec

from pullstatus.errors import PullstatusError
from pullstatus.store.values import Append, Discard, Page, Pull, Purge, Redeliver


class Change(msgspec.Struct, frozen=True):
    """Set the setting `name` if its value is still `expected`; answered whether it was."""

    name: str
    value: bytes | None
    expected: bytes | None


class Forget(msgspec.Struct, frozen=True):
    """Drop up to `count_max` remembered batches, records and signatures from before `before_ms`.

    Answered how many it dropped.
    """

    before_ms: int
    count_max: int


Operation = Append | Pull | Change | Forget | Discard | Purge | Redeliver
Answer = int | Page | bool | PullstatusError
