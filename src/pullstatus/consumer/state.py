"""What a target remembers beside its records, and the refusals that follow from it.

By a reader's name   which page was written last, which one is being written: the service knows the
                     rest. A page may be in the reader's hand while `next_page` is in doubt.
By a key             the page in flight, with its key, noted before it is asked for

A page is not forgotten because the service's address or the target's name has changed meanwhile:
while it may be there, the command refuses, and says where it is waited for. Who goes on at another
address all the same takes along what was written, and which page that was: if it is the same
service, the page comes there, and if it is none that knows it, it refuses the acknowledgement.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import msgspec

from pullstatus.client.keys import NextPage
from pullstatus.client.service_name import service_name
from pullstatus.client.slots import NotOpened, Slots, may_be_slots, peek
from pullstatus.errors import StoreRefused
from pullstatus.mounts import mount_of, mounted_alone, mounts_here
from pullstatus.records import Kind

V = TypeVar("V", bound=msgspec.Struct)
K = TypeVar("K", bound="Known")


class Source(msgspec.Struct, frozen=True):
    """The mailbox that a target belongs to; `url` as `service_name` gives it, but of 0.1.0."""

    url: str
    sdkappid: int
    kind: Kind


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What any target remembers of its mailbox.

    keyed      whether the service knows Idempotency-Key, as far as it has told
    next_page  the page in flight, or the one that a key is kept for; its key is "" if it is in
               flight to a reader
    reader     this target's name as a reader
    written    the pull id of the page that was written last, of those that came to this reader
    writing    that of the page of which a part may be written; "" if the service gave none
    """

    keyed: bool | None = None
    next_page: NextPage | None = msgspec.field(name="in_flight", default=None)
    reader: str | None = None
    written: str | None = None
    writing: str | None = None

    @property
    def in_doubt(self) -> bool:
        """Whether a page may be there that is not done with."""
        return self.next_page is not None and self.next_page.in_doubt

    @property
    def in_flight(self) -> bool:
        """Whether the end of a file may be a part of the next page."""
        if self.next_page is None or self.next_page.key == "":
            return self.writing is not None
        return self.next_page.in_flight

    @property
    def key_in_doubt(self) -> NextPage | None:
        """The page that may have been taken under a key."""
        page = self.next_page
        return page if page is not None and page.key and page.in_doubt else None


class State(Known, frozen=True, kw_only=True):
    """What is in the file of a target that keeps its state in one.

    exact  whether the page in flight is written as it was sent; files of 0.1.0 knew no other
    size   bytes of the file before the page in flight
    """

    source: Source
    exact: bool = True
    size: int = 0


decode_state: Final = msgspec.json.Decoder(State).decode


def open_state(path: Path, decode: Callable[[msgspec.Raw], V]) -> Slots[V]:
    """The file that a command keeps its state in, which is for `--state` to name.

    Raises:
        StoreRefused: it can't be had, as `Slots` says.
    """
    try:
        return Slots(path, decode)
    except NotOpened as error:
        raise StoreRefused(f"{error}; --state gives another path, the same at each run") from error


def refuse_mounted_alone(file: Path, state: Path) -> None:
    """A container that is given a file alone keeps that, and nothing of what it makes beside it.

    Args:
        file: the one of which `state` tells how far it came. A state in another folder is its
            owner's choice, and one that is mounted, too, is kept.

    Raises:
        StoreRefused: the state would be lost with the container.
    """
    # Not `resolve`, which knows no links that lead to themselves: to open them is refused.
    file, state = Path(os.path.realpath(file)), Path(os.path.realpath(state))
    mounts = mounts_here()
    folder = mount_of(state.parent, mounts)
    if folder is not None and folder.point != "/" and folder.kind not in ("tmpfs", "ramfs"):
        return  # the folder is mounted, too, and so is kept: not in memory, which goes as well
    alone = mounted_alone([file], mounts) and not mounted_alone([state], mounts)
    if alone and file.parent == state.parent:
        raise StoreRefused(
            f"{file} is mounted by itself, so {state.name}, which tells how far it came, would stay"
            " behind: mount the folder it lies in, or have --state name a file in one that is"
            " mounted"
        )


def at_another_address(known: K, *, moved: bool) -> K:
    """What of it is known there, too; `moved`: since it is the same service.

    The name stays, since a page may be in its hand of which nothing is noted. That of a page does
    not where all is acknowledged, as far as is known: another service may give it to another page.
    """
    return msgspec.structs.replace(
        known,
        written=known.written if known.in_doubt else None,
        keyed=known.keyed if moved else None,
    )


def is_at(name: str, url: str) -> bool:
    """Whether what is kept for an address is kept for the service of a name, however it is spelt.

    It may have been kept by 0.1.0, which took addresses as they were given.
    """
    try:
        return service_name(url) == name
    except ValueError:
        return url == name


def state_of(slots: Slots[State], source: Source, *, moved: bool, abandon: bool) -> State:
    """What a file holds for this mailbox.

    Args:
        moved: a page that is waited for at another address is gone on with.
        abandon: or it is given up.

    Raises:
        StoreRefused: it belongs to another, or its page is waited for at another address.
    """
    state = slots.value or State(source=source)
    was = state.source
    if (was.sdkappid, was.kind) != (source.sdkappid, source.kind):
        raise StoreRefused(
            f"{slots.path} belongs to {was.url}, {was.sdkappid}, {was.kind.path}: give another file"
        )
    if is_at(source.url, was.url):
        return msgspec.structs.replace(state, source=source)
    if state.in_doubt and not (moved or abandon):
        refuse_moved(was.url, slots.path)
    return msgspec.structs.replace(at_another_address(state, moved=moved), source=source)


def refuse_left_behind(folders: Iterable[Path], own: Path, source: Source) -> None:
    """Look whether a page of the same mailbox is waited for elsewhere; daily names leave it behind.

    Args:
        folders: of states, whatever they are called; those in use by a running process are not
            looked at, nor are copies of the own one: what is in a reader's hand comes to it.
        own: the one that will be used.

    Raises:
        StoreRefused: one is, and nobody would ask for it any more.
    """
    known = peek(own, decode_state, in_use=True)
    reader = None if known is None else known.reader
    states = (path for folder in folders for path in may_be_slots(folder))
    for path, state in _others(states, own, source):
        if state.in_doubt and (reader is None or state.reader != reader):
            raise StoreRefused(
                f"{path} waits for a page of this mailbox. Pull into its own target once more, with"
                f" --state {path} and --url {state.source.url}, or --moved and the new --url if the"
                " service has moved; --abandon-page gives the page up"
            )


def refuse_shared(states: Iterable[Path], own: Path, source: Source, reader: str) -> None:
    """Two targets under one reader's name would be handed the same pages.

    Raises:
        StoreRefused: another one has it, as a copy of a state file does.
    """
    for path, state in _others(states, own, source, in_use=True):
        if state.reader == reader:
            raise StoreRefused(
                f"{path} has the reader's name {reader}, too, and two targets under one name share"
                " its pages: remove the copy, or give --reader another name"
            )


def refuse_renamed(known: str | None, reader: str, where: Path) -> None:
    """A target keeps its reader's name: a page may be in its hand.

    Raises:
        StoreRefused: it has another one.
    """
    if known not in (None, reader):
        raise StoreRefused(f"{where} pulls as reader {known}, and keeps that name, not {reader}")


def refuse_moved(was: str, where: Path) -> NoReturn:
    """A service may move to another address, but not while a page may wait at the old one.

    Raises:
        StoreRefused: always.
    """
    raise StoreRefused(
        f"{where} waits for a page that was asked for at {was}: give that --url once more; or"
        " --moved, if the same service has another address now: the page comes there, too; or"
        " --abandon-page, to give the page up"
    )


def _others(
    states: Iterable[Path], own: Path, source: Source, *, in_use: bool = False
) -> Iterable[tuple[Path, State]]:
    """Other targets of the same mailbox; those `in_use` by a running process, too, or not."""
    for path in sorted(states):
        state = peek(path, decode_state, in_use=True)
        if state is None or os.path.realpath(path) == os.path.realpath(own):
            continue
        was = state.source
        if (was.sdkappid, was.kind) != (source.sdkappid, source.kind):
            continue
        if not in_use:
            # This locks it for a moment, and until here it may have been another program's.
            state = peek(path, decode_state)
        if state is not None:
            yield path, state
