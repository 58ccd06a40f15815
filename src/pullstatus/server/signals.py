"""What a signal does to the process, for as long as a server runs in it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Final

CONTAINER_STOPS: Final = (
    *((signal.SIGPWR,) if hasattr(signal, "SIGPWR") else ()),
    *((signal.SIGRTMIN + 3,) if hasattr(signal, "SIGRTMIN") else ()),
)
"""How LXC stops a container, and how systemd-nspawn and podman stop one that looks like a system of
its own: lxc.container.conf(5), lxc.signal.halt; systemd-nspawn(1), --kill-signal."""


@contextlib.contextmanager
def handled(handlers: Mapping[int, Callable[[], None]]) -> Iterator[None]:
    """Call these on the event loop; nothing where it is not that of the main thread.

    There whoever runs the loop calls what the handlers would have called.
    """
    loop = asyncio.get_running_loop()
    set_up = []
    try:
        for number, handler in handlers.items():
            with contextlib.suppress(ValueError, RuntimeError):
                loop.add_signal_handler(number, handler)
                set_up.append(number)
        yield
    finally:
        for number in set_up:
            loop.remove_signal_handler(number)
