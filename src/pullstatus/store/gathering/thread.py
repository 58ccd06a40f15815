"""A channel to a thread of this process: for commands, tests and servers inside another program."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence

from pullstatus.store.gathering.committer import Committer, Report
from pullstatus.store.gathering.groups import Groups, Sent
from pullstatus.store.gathering.operations import Operation


class ThreadChannel:
    """A committer on a thread that ends with the channel."""

    def __init__(self, committer: Committer) -> None:
        """Take over `committer`."""
        self._committer = committer
        self._queue: queue.SimpleQueue[Sent] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    def start(self, on_report: Callable[[Report], None]) -> None:
        """See `Channel.start`."""
        self._loop = asyncio.get_running_loop()
        self._on_report = on_report
        on_report(self._committer.opening())
        self._thread.start()

    def send(self, operations: Sequence[Operation]) -> None:
        """See `Channel.send`."""
        self._queue.put(operations)

    async def close(self) -> None:
        """See `Channel.close`."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # -- on the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._committer.work(Groups(self._receive), self._send_back)
        finally:
            self._committer.close()

    def _receive(self, timeout_s: float) -> Sequence[Sent]:
        try:
            return [self._queue.get(timeout=timeout_s) if timeout_s else self._queue.get_nowait()]
        except queue.Empty:
            return []

    def _send_back(self, report: Report) -> None:
        self._loop.call_soon_threadsafe(self._on_report, report)
