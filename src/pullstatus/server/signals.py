"""What a signal does to the process, for as long as a server runs in it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Final, TypeAlias

CONTAINER_STOPS: Final = (
    *((signal.SIGPWR,) if hasattr(signal, "SIGPWR") else ()),
    *((signal.SIGRTMIN + 3,) if hasattr(signal, "SIGRTMIN") else ()),
)
"""How LXC stops a container, and how systemd-nspawn and podman stop one that looks like a system of
its own: lxc.container.conf(5), lxc.signal.halt; systemd-nspawn(1), --kill-signal."""

_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int


@contextlib.contextmanager
def handled(
    handlers: Mapping[int, Callable[[], None]], *, for_good: bool = False
) -> Iterator[None]:
    """Call these on the event loop; nothing where it is not that of the main thread.

    There whoever runs the loop calls what the handlers would have called.

    Args:
        for_good: the process only ends behind this, so that these signals do nothing any more: what
            they did before would have it end as if it had failed. Otherwise they do that again.
    """
    loop = asyncio.get_running_loop()
    before: dict[int, _Handler] = {}
    try:
        for number, handler in handlers.items():
            with contextlib.suppress(ValueError, OSError):
                before[number] = _set(number, loop, handler)
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, signal.SIG_IGN if for_good else handler_before)


def _set(number: int, loop: asyncio.AbstractEventLoop, handler: Callable[[], None]) -> _Handler:
    """Have a signal call it; returns what it did before.

    Not by the loop's own method: what that has set it takes away itself, when it is closed, and
    until the next step a signal would end the process.

    Raises:
        ValueError: this is not the main thread.
        OSError: it cannot be caught here.
    """
    before = signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(handler))
    signal.siginterrupt(number, False)  # noqa: FBT003 - it takes no keyword
    return signal.SIG_DFL if before is None else before
