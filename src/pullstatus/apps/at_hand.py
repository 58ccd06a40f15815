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
AGAIN_S, AGAIN_S_MAX = 1.0, 60.0  # until a program is run again; each time twice as long


class AtHand:
    """Master keys, read when one is sought that is not there; again, if that brings none, later.

    Attributes:
        keyring: those that were read last; None: there were never any.
        version: rises when others are at hand, or when it is for another reason that they are not.
    """

    def __init__(self, masters: Masters) -> None:
        self._masters = masters
        self._found: tuple[MasterKey, ...] | None = None
        self._failure: StoreRefused | None = None
        self._sought: set[str] = set()
        self._lacked: set[str] = set()  # of those sought, by the newest reading
        self._reading: asyncio.Task[None] | None = None
        self._due_s = 0.0
        self._pause_first_s = 0.0 if isinstance(masters, OwnFile | GivenFile) else AGAIN_S
        self._pause_s = self._pause_first_s
        self.keyring: Keyring | None = None
        self.version = 0

    @property
    def known(self) -> bool:
        """Whether the source could be read, once at least."""
        return self._found is not None

    def seek(self, master_id: str) -> MasterKeyMissing:
        """Have the next reading look for a master key; returns why it is not at hand now."""
        self._sought.add(master_id)
        if self._failure is None:
            return master_key_missing(master_id, self._masters.place)
        return MasterKeyMissing(
            f"appkeys of this store are sealed under master key {master_id}, which cannot be looked"
            f" for: {self._failure}"
        )

    async def read(self, patience_s: float | None = PATIENCE_S) -> None:
        """Read the source, if a key is sought that it was not read for, or it is time again.

        Args:
            patience_s: how long to wait for that, at most; None: until it is done.
        """
        if self._reading is None or self._reading.done():
            if not self._due():
                return
            self._reading = asyncio.create_task(self._read())
        elif patience_s is not None and self._failure is not None:
            return  # somebody has waited for it already
        await asyncio.wait([self._reading], timeout=patience_s)
        if self._reading.done():
            self._reading.result()
        elif self._failure is None:
            self._fail(StoreRefused(f"{self._masters.place} is still being read"))

    def _due(self) -> bool:
        new = self._failure is None and not self._sought <= self._lacked
        return new or asyncio.get_running_loop().time() >= self._due_s

    async def _read(self) -> None:
        sought = set(self._sought)
        try:
            found = await asyncio.to_thread(self._masters.read)
        except StoreRefused as error:
            self._fail(error)
        else:
            self._take(found, sought)
        finally:
            self._due_s = asyncio.get_running_loop().time() + self._pause_s
            self._pause_s = min(2 * self._pause_s, AGAIN_S_MAX)

    def _fail(self, failure: StoreRefused) -> None:
        if str(failure) != str(self._failure):
            self.version += 1
        self._failure = failure

    def _take(self, found: tuple[MasterKey, ...], sought: set[str]) -> None:
        if found != self._found or self._failure is not None:
            self.version += 1
            self._pause_s = self._pause_first_s
        if found and found != self._found:
            self.keyring = Keyring(found, self._masters.place)
        self._found, self._failure = found, None
        self._sought -= {master.id for master in found}
        self._lacked = sought & self._sought
