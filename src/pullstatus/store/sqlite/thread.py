"""A lane to a thread of this process: for commands, tests and servers inside another program."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence

from pullstatus.store.sqlite.committer import GROUP_MAX, NOTICE_S, Committer, Word
from pullstatus.store.sqlite.operations import Operation


class ThreadLane:
    """A committer on a thread that ends with the lane."""

    def __init__(self, committer: Committer) -> None:
        """Take over `committer`."""
        self._committer = committer
        self._queue: queue.SimpleQueue[Sequence[Operation] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    def start(self, told: Callable[[Word], None]) -> None:
        """See `Lane.start`."""
        self._loop = asyncio.get_running_loop()
        self._told = told
        self._thread.start()

    def send(self, operations: Sequence[Operation]) -> None:
        """See `Lane.send`."""
        self._queue.put(operations)

    async def close(self) -> None:
        """See `Lane.close`."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # -- on the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (group := self._next_group()) is not None:
                if group:
                    self._say(self._committer.commit(group))
                    self._say(self._committer.tend())
                else:
                    self._say(self._committer.watch())
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

    def _say(self, word: Word | None) -> None:
        if word is not None:
            self._loop.call_soon_threadsafe(self._told, word)
