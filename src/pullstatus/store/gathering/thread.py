"""A channel to a thread of this process: for commands, tests and servers inside another program."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence

from pullstatus.store.gathering.committer import GROUP_MAX, NOTICE_S, Committer, Report
from pullstatus.store.gathering.operations import Operation


class ThreadChannel:
    """A committer on a thread that ends with the channel."""

    def __init__(self, committer: Committer) -> None:
        """Take over `committer`."""
        self._committer = committer
        self._queue: queue.SimpleQueue[Sequence[Operation] | None] = queue.SimpleQueue()
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
            while (group := self._next_group()) is not None:
                if group:
                    self._report(self._committer.commit(group))
                    self._report(self._committer.tend())
                else:
                    self._report(self._committer.watch())
        finally:
            self._committer.close()

    def _next_group(self) -> list[Operation] | None:
        """What has gathered; empty if nothing came for a while; None at the end."""
        try:
            first = self._queue.get(timeout=NOTICE_S)
        except queue.Empty:
            return []
        if first is None:
            return None
        group = list(first)
        while len(group) < GROUP_MAX:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._queue.put(None)
                break
            group += more
        return group

    def _report(self, report: Report | None) -> None:
        if report is not None:
            self._loop.call_soon_threadsafe(self._on_report, report)
