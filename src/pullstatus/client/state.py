"""Keys that outlive the process: a small file says which pages were asked for and not done with.

The file is written before a page is asked for. A page that was acknowledged leaves it with the next
one that is asked for, or when the client is closed: killed in between, a process gets it once more.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import Final, Unpack

import msgspec

from pullstatus.client.errors import ClientError, InvalidArgument, StateFailed
from pullstatus.client.faces import Face
from pullstatus.client.flow import Puller, PullerOptions, client_closed
from pullstatus.client.keys import Claim, Claims, NextPage
from pullstatus.client.slots import NotOpened, Slots
from pullstatus.errors import InvalidSetting, StoreFailed, StoreRefused
from pullstatus.records import Kind


class Owed(msgspec.Struct, frozen=True):
    """A page that was asked for and not done with."""

    kind: Kind
    next_page: NextPage


class State(msgspec.Struct, frozen=True):
    """What the file holds: whose pages, and which."""

    url: str
    sdkappid: int
    owed: list[Owed]


decode_state: Final = msgspec.json.Decoder(State).decode


class Kept(Claims):
    """Claims that are on disk before they are asked for; this process alone has the file.

    Attributes:
        closed: others may have the file.
    """

    def __init__(self, new_key: Callable[[], str], path: Path, url: str, sdkappid: int) -> None:
        super().__init__(new_key)
        self._url, self._sdkappid = url, sdkappid
        self.closed = False
        self._writing = False
        with _told(path):
            self._slots = Slots(path, decode_state)
        # Once; also for a client that is dropped, or that could not be made after this.
        self._let_go = weakref.finalize(self, self._slots.close)
        self._claims = [Claim(owed.kind, owed.next_page) for owed in self._found(path)]

    def asks(self, claim: Claim, page: NextPage) -> None:
        """Write down that it is asked for, and what else is not done with.

        Raises:
            StateFailed: that could not be written, so it must not be asked for.
            InvalidArgument: the file is not ours any more; the same.
        """
        before = claim.next
        super().asks(claim, page)
        try:
            self._write()
        except ClientError:
            claim.next = before
            raise

    def forsake(self) -> None:
        """In a forked process: the file is the parent's."""
        super().forsake()
        self._let_go()

    def close(self) -> None:
        """Write down what is not done with, and let others have the file."""
        if self.closed or self.forsaken:
            return
        with contextlib.suppress(ClientError):  # then the page comes once more
            self._write()
        with self._lock:  # not while another thread writes
            self.closed = True
        self._let_go()

    def _find(self, kind: Kind, key: str | None) -> Claim | None:
        self._check_ours()
        return super()._find(kind, key)

    def _check_ours(self) -> None:
        """Whether the file is open: its number may be that of another file by now."""
        if self.closed:
            raise client_closed()
        if self.forsaken:
            raise InvalidArgument(
                "the state file belongs to the process that this one was forked from",
                fix="make a client in each process, with a file of its own",
            )

    def _write(self) -> None:
        with self._lock:
            self._check_ours()
            if self._writing:  # what a signal's handler writes would be written over
                raise StateFailed(
                    f"state: {self._slots.path} is just being written by what was interrupted",
                    fix="nothing was asked for; pull when the signal's handler has ended",
                )
            self._writing = True
            try:
                owed = [Owed(one.kind, one.next) for one in self._claims if one.next.in_doubt]
                state = State(self._url, self._sdkappid, owed)
                if state != self._slots.value:
                    with _told(self._slots.path):
                        self._slots.write(state)
            finally:
                self._writing = False

    def _found(self, path: Path) -> list[Owed]:
        state = self._slots.value
        if state is None:
            return []
        if state.sdkappid != self._sdkappid:
            raise InvalidArgument(f"state: {path} belongs to {state.sdkappid}: give another file")
        if state.url != self._url and state.owed:
            raise InvalidArgument(
                f"state: {path} waits for a page that was asked for at {state.url}: pull from"
                " there once more, or give another file"
            )
        return state.owed


class KeptPuller(Puller):
    """A `Puller` whose keys outlive the process."""

    claims: Kept

    def __init__(
        self,
        base_url: str,
        face: Face,
        state: str | PathLike[str],
        *,
        keyed: bool | None,
        **options: Unpack[PullerOptions],
    ) -> None:
        super().__init__(base_url, face, keyed=keyed, **options)
        try:
            path = Path(state)
            encoded = os.fsencode(path)
        except (TypeError, UnicodeError) as error:
            raise InvalidArgument("state must be the path of a file") from error
        if b"\0" in encoded:
            raise InvalidArgument("state must be the path of a file")
        self.claims = Kept(self._new_key, path, base_url, face.sdkappid)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """What goes wrong with the file, in our own tree."""
    try:
        yield
    except NotOpened as error:
        raise InvalidArgument(f"state: {error}", fix="give another path as state") from error
    except StoreRefused as error:
        raise InvalidArgument(f"state: {error}") from error
    except StoreFailed as error:
        raise StateFailed(
            f"state: {error}", fix="nothing was asked for; see to that file first"
        ) from error
    except InvalidSetting as error:
        raise StateFailed(
            f"state: {path} has no room for so many pages at the same time",
            fix="nothing was asked for; finish some first",
        ) from error
