"""The master keys that a server has at hand, as their source changes or cannot be read for a while.

Reading may take long, as that of a program which asks a vault. So it is done beside all else, and
for all who seek keys at once; whoever waits for it has an end, and what is not at hand until then
is sought again later.
"""

from __future__ import annotations

import asyncio
from typing import Final

from pullstatus.apps.masters import GivenFile, Masters, OwnFile
from pullstatus.apps.sealing import Keyring, MasterKey, master_key_missing
from pullstatus.errors import MasterKeyMissing, StoreRefused

PATIENCE_S: Final = 0.5  # what is taken away is known within a second, also behind this
LATE_S: Final = 3.0  # for who asks for what is opened by them, and holds up nobody else
AGAIN_S, AGAIN_S_MAX = 1.0, 60.0  # until a program is run again; each time twice as long


class AtHand:
    """Master keys, read when one is sought that is not there; again, if that brings none, later.

    Attributes:
        keyring: those that were read last; None: there were never any.
        failure: why the source could not be read, the last time; None: it could, or nobody tried.
        version: rises when others are at hand, or when it is for another reason that they are not.
    """

    def __init__(self, masters: Masters) -> None:
        self._masters = masters
        self._found: tuple[MasterKey, ...] | None = None
        self._sought: set[str] = set()
        self._lacked: set[str] = set()  # of those sought, by the newest reading
        self._reading: asyncio.Task[None] | None = None
        self._late: asyncio.Task[None] | None = None  # one that was waited for in vain, and goes on
        self._due_s = 0.0
        self._pause_first_s = 0.0 if isinstance(masters, OwnFile | GivenFile) else AGAIN_S
        self._pause_s = self._pause_first_s
        self.keyring: Keyring | None = None
        self.failure: StoreRefused | None = None
        self.version = 0

    @property
    def known(self) -> bool:
        """Whether the source could be read, once at least."""
        return self._found is not None

    def seek(self, master_id: str) -> MasterKeyMissing:
        """Have the next reading look for a master key; returns why it is not at hand now."""
        self._sought.add(master_id)
        if self.failure is None:
            return master_key_missing(master_id, self._masters.place)
        return MasterKeyMissing(
            f"appkeys of this store are sealed under master key {master_id}, which cannot be looked"
            f" for: {self.failure}"
        )

    async def read(self, patience_s: float | None = PATIENCE_S) -> None:
        """Read the source, if a key is sought that it was not read for, or it is time again.

        What is only read once more comes when it does: nobody waits for it.

        Args:
            patience_s: how long to wait for what is sought now, at most; None: until all is read.
        """
        is_sought = self._is_sought_now()
        if self._reading is None or self._reading.done():
            if not is_sought and asyncio.get_running_loop().time() < self._due_s:
                return
            self._reading = asyncio.create_task(self._read())
        if patience_s is not None and not is_sought:
            return
        await asyncio.wait([self._reading], timeout=patience_s)
        if self._reading.done():
            self._reading.result()
        else:
            self._late = self._reading
            self._fail(StoreRefused(f"{self._masters.place} is still being read"))

    async def read_late(self, patience_s: float) -> bool:
        """Wait longer for a reading that was waited for in vain; returns whether one has ended."""
        late = self._late
        if late is None:
            return False
        await asyncio.wait([late], timeout=patience_s)
        return late.done()

    def _is_sought_now(self) -> bool:
        """Whether something is that no reading was begun or waited for."""
        if self.failure is not None:
            return False
        return self._found is None or not self._sought <= self._lacked

    async def _read(self) -> None:
        sought = set(self._sought)
        try:
            found = await asyncio.to_thread(self._masters.read)
        except StoreRefused as error:
            self._fail(error)
        else:
            self._take(found, sought)
        finally:
            self._late = None
            self._due_s = asyncio.get_running_loop().time() + self._pause_s
            self._pause_s = min(2 * self._pause_s, AGAIN_S_MAX)

    def _fail(self, failure: StoreRefused) -> None:
        if str(failure) != str(self.failure):
            self.version += 1
        self.failure = failure

    def _take(self, found: tuple[MasterKey, ...], sought: set[str]) -> None:
        changed = found != self._found
        if changed or self.failure is not None:
            self.version += 1
        if changed:
            self._pause_s = self._pause_first_s
        if changed and found:
            self.keyring = Keyring(found, self._masters.place)
        self._found, self.failure = found, None
        self._sought -= {master.id for master in found}
        self._lacked = sought & self._sought
