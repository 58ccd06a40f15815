"""Whether a worker goes on: its event loop counts beats in the ledger, and the server looks.

    worker   1 2 3 4 5 5 5 5 5 ...   stopped, or in a loop that never ends
    server   . . . . . 1 2 3 4 ...   looks at which nothing was new: so many are too many

It is looks that count, and no clock: a server that was stopped itself, with all its workers, or a
machine that has slept, finds at its first look what is one look old, however long that took.
"""

from __future__ import annotations

from typing import Final

from pullstatus import limits

BEAT_S: Final = 0.5  # between two beats of a worker, and between two looks of the server


class Pulse:
    """What the server knows of one worker."""

    def __init__(self) -> None:
        """Nothing was looked at."""
        self._beats = -1
        self._misses = 0

    def stands_still(self, beats: int) -> bool:
        """Whether too many looks in a row have found this number; to be asked each `BEAT_S`."""
        if beats != self._beats:
            self._beats, self._misses = beats, 0
        else:
            self._misses += 1
        return self._misses * BEAT_S >= limits.WORKER_SILENT_S
