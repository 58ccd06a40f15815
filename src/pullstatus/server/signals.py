"""What a signal does to the process, for as long as a server runs in it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping


@contextlib.contextmanager
def handled(handlers: Mapping[signal.Signals, Callable[[], None]]) -> Iterator[None]:
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
