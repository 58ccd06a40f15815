"""How far a usual request comes before its scope is made: what a call says of it at once.

Three ends. `Said`: it is answered. `Later`: the store has been asked; when it has done what it was
asked, the answer is written, and nothing else of the request is ever made. Anything else goes the
careful way, with what is known of it by then as `Begun`, and that way has the last word: on what is
refused, what has failed, and who has gone.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final

import msgspec

BEGUN: Final = "pullstatus.begun"
"""Of a request's scope: the `Begun` that it is already, if it is."""

Said = tuple[bytes, bytes]
"""Header lines and the body of an answer, whose status is 200."""


class Begun(msgspec.Struct, kw_only=True):
    """A request as far as it went; what it was read as is the call's own to add.

    Attributes:
        began_s: when, by perf_counter.
        failed: what the store said, if it was asked: to be told, and not to be asked again.
    """

    began_s: float
    failed: Exception | None = None


class Later(msgspec.Struct):
    """A request that waits for the store.

    Attributes:
        said: its answer, once it is there; raises what the store does.
        begun: with which it goes on the careful way if that has failed.
        owner: the application that it is for.
    """

    said: Coroutine[Any, Any, Said]
    begun: Begun
    owner: int
