"""The streams of a store: made by `init`, proven whenever a store is opened, changed by nobody.

    NAME_0 ... NAME_K-1    partitions: all of an application lies in one
    NAME_SET               settings, what operators did, marks; and what the store is, on its own
                           subject

What the store is (`Meta`) is written before the partitions are made, and again, as whole, when they
are. So of two that make a store at once one says how many partitions it has; whoever comes later
finishes what was begun; and a stream that is missing from a store that was whole is lost, and is
never made anew. A partition without a word of what the store is, or with records before it was
whole, is what is left of one that has lost its settings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec

from pullstatus.errors import StoreRefused, StoreUnavailable
from pullstatus.store.jetstream import meta
from pullstatus.store.jetstream.api import Api
from pullstatus.store.jetstream.location import Location
from pullstatus.store.jetstream.meta import Meta
from pullstatus.store.jetstream.reading import Reading
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.jetstream.wire import OP_BYTES, Stale
from pullstatus.store.jetstream.writing import Writing

FORMAT: Final = 1
PARTITIONS: Final = 12
PARTITIONS_MAX: Final = 256  # a stream costs each of its nodes a group of its own
REPLICAS: Final = 3
SECRET_BYTES: Final = 32

GONE_S: Final = 10.0
LOOK_S: Final = 0.5


class Streams:
    """The streams of one store, over the connections of a process, in their event loop."""

    def __init__(self, location: Location, api: Api, reading: Reading, writing: Writing) -> None:
        self._location = location
        self._common = Layout(location.store, 0).common
        self._api = api
        self._reading = reading
        self._writing = writing

    async def there(self) -> bool:
        """Whether there is a store, or one that was begun."""
        return await self._api.config(self._common.stream) is not None

    async def open(self) -> Meta:
        """Prove them; returns what the store is.

        Raises:
            StoreRefused: there is none, or it is not as it must be.
        """
        await self._refuse_remains()
        if not await self.there():
            raise StoreRefused(
                f"there is no {self._location.shown}: make it, with `pullstatus store init`"
            )
        found = await self._meta()
        if found is None or not found[0].whole:
            raise StoreRefused(
                f"the {self._location.shown} was begun, and not finished: run `pullstatus store"
                " init` again"
            )
        said, _ = found
        if said.format != FORMAT:
            raise StoreRefused(
                f"the {self._location.shown} has format {said.format}, and this version of"
                f" pullstatus reads {FORMAT}: serve it with the one that it was made with"
            )
        await self.prove(said.partitions)
        return said

    async def prove(self, partitions: int) -> None:
        """Ask all about themselves.

        Raises:
            StoreRefused: one is missing, or not as it must be.
        """
        names = self._names(partitions)
        configs = await asyncio.gather(*[self._there(name) for name in names])
        for (name, subject), config in zip(names.items(), configs, strict=True):
            if config is None:
                raise StoreRefused(
                    f"stream {name} of the {self._location.shown} is gone, and what lay in it:"
                    " restore a backup"
                )
            check(name, subject, config, alone=self._location.alone)

    async def _there(self, name: str) -> dict[str, Any] | None:
        """How a stream is set up; None: it is gone.

        A cluster whose nodes have all just started may not have read yet which streams it has.
        """
        loop = asyncio.get_running_loop()
        due_s = loop.time() + GONE_S
        while True:
            config = await self._api.config(name)
            if config is not None or loop.time() > due_s:
                return config
            await asyncio.sleep(LOOK_S)

    async def _refuse_remains(self) -> None:
        """Refuse a partition without the stream of settings, which is made before any is.

        Looked for in the other order: somebody may be making both.
        """
        first = Layout(self._location.store, 1).stream(0)
        if (
            await self._api.config(first) is not None
            and await self._there(self._common.stream) is None
        ):
            raise StoreRefused(
                f"stream {self._common.stream} of the {self._location.shown} is gone, and {first}"
                f" is there: {_REMAINS}"
            )

    async def init(self, asked: int | None, random_bytes: Callable[[int], bytes]) -> bool:
        """Make what is missing of a store; returns whether there was none, or none that was whole.

        Args:
            asked: how many partitions it is to have; None: as many as it has, or `PARTITIONS`.

        Raises:
            StoreRefused: there is one with other partitions, or what is there is not as it must be.
        """
        if asked is not None and not 0 < asked <= PARTITIONS_MAX:
            raise StoreRefused(f"a store has 1 to {PARTITIONS_MAX} partitions")
        await self._refuse_remains()
        [(name, subject)] = self._names(0).items()
        await self._make(name, subject)
        said, sequence = await self._begun(asked or PARTITIONS, random_bytes)
        partitions = said.partitions
        if asked not in (None, partitions):
            raise StoreRefused(
                f"the {self._location.shown} has {partitions} partitions: their number cannot"
                " be changed; move it into a new store, with `pullstatus migrate`"
            )
        if said.whole:
            await self.prove(partitions)
            return False
        for name, subject in self._names(partitions).items():
            await self._make(name, subject)
            if name != self._common.stream and await self._api.newest(name):
                await self._check_whole(name)
        whole = msgspec.structs.replace(said, whole=True)
        try:
            await self._write(whole, sequence, random_bytes)
        except Stale:
            return False  # somebody else has just done the same
        return True

    async def _check_whole(self, name: str) -> None:
        """Refuse a partition that holds something, unless somebody else has just done the same."""
        found = await self._meta()
        if found is None or not found[0].whole:
            raise StoreRefused(
                f"stream {name} holds records, and nothing says what the {self._location.shown} is:"
                f" {_REMAINS}"
            )

    async def _begun(
        self, partitions: int, random_bytes: Callable[[int], bytes]
    ) -> tuple[Meta, int]:
        """What the store is, of which somebody says it first."""
        while (found := await self._meta()) is None:
            said = Meta(FORMAT, partitions, random_bytes(SECRET_BYTES), [(1, 0)], whole=False)
            try:
                return said, await self._write(said, 0, random_bytes)
            except Stale:
                continue
        return found

    async def _meta(self) -> tuple[Meta, int] | None:
        message = await self._reading.last(self._common.stream, self._common.meta, leader=True)
        return None if message is None else (meta.told(message), message.sequence)

    async def _write(self, said: Meta, last: int, random_bytes: Callable[[int], bytes]) -> int:
        op = random_bytes(OP_BYTES)
        put = meta.put(self._common, said, last, op)
        return await self._writing.write(self._common.stream, [put], op)

    async def _make(self, name: str, subject: str) -> None:
        """Make a stream if there is none of that name; else prove it."""
        if await self._api.config(name) is None:
            replicas = 1 if self._location.alone else REPLICAS
            try:
                await self._api.create(name, config_of(name, subject, replicas))
            except StoreUnavailable as error:
                raise StoreRefused(
                    f"stream {name} cannot be made: {error}; see to it that nodes have room for it,"
                    " and that the user may make it"
                ) from error
        config = await self._api.config(name)
        if config is None:
            raise StoreUnavailable(f"stream {name} was made, and is not there yet: try again")
        check(name, subject, config, alone=self._location.alone)

    def _names(self, partitions: int) -> dict[str, str]:
        """Subjects, by the names of their streams, that of settings first."""
        return dict(reversed(Layout(self._location.store, partitions).streams))


_REMAINS: Final = (
    "the store has lost its settings; restore a backup into a store of another name, or remove what"
    " is left of this one first"
)


# --- what a stream must be ------------------------------------------------------------------------


_DUE: Final[tuple[tuple[str, object, str], ...]] = (
    ("storage", "file", "what is in memory is lost with the nodes"),
    ("retention", "limits", "messages would go once they are read"),
    ("discard", "new", "a full stream would drop what is oldest"),
    ("max_age", 0, "messages would go by the clock of a node"),
    ("max_msgs", -1, "a full stream would drop messages, or take no more"),
    ("max_msgs_per_subject", -1, "messages of a subject would drop those before"),
    ("max_msg_size", -1, "messages of any size that nodes take are due"),
    ("compression", "none", "compressed blocks have been lost in compaction"),
    ("persist_mode", "default", "what is acknowledged would not be on disk"),
    ("allow_direct", True, "replicas would answer no reads"),
    ("allow_atomic", True, "a write would not be stored as a whole"),
    ("no_ack", False, "nothing would be acknowledged"),
    ("sealed", False, "nothing could be written"),
    ("deny_delete", False, "nothing could be erased"),
    ("deny_purge", False, "nothing could be let go"),
    ("allow_rollup_hdrs", False, "a header could remove messages"),
    ("allow_msg_ttl", False, "messages could go by the clock of a node"),
    ("allow_msg_counter", False, "conditions would not hold"),
    ("allow_msg_schedules", False, "messages could come by the clock of a node"),
    ("mirror", None, "others would write into it"),
    ("sources", None, "others would write into it"),
    ("republish", None, "others would read all of it"),
    ("subject_transform", None, "messages would not lie where they are looked for"),
)
_UNSAID: Final = {"persist_mode": "default", "compression": "none"}  # as which nodes leave it out


def config_of(name: str, subject: str, replicas: int) -> dict[str, Any]:
    """What a stream is made with."""
    said = {setting: due for setting, due, _ in _DUE if due and setting not in _UNSAID}
    return said | {"name": name, "subjects": [subject], "num_replicas": replicas}


def check(name: str, subject: str, config: dict[str, Any], *, alone: bool) -> None:
    """Judge what a stream says of itself.

    Args:
        alone: a stream without copies will do.

    Raises:
        StoreRefused: it is not safe; stream, setting, value and fix.
    """
    for setting, due, why in _DUE:
        unsaid = _UNSAID.get(setting, False if isinstance(due, bool) else None)
        value = config.get(setting, unsaid)
        if value != due and (value or due):
            raise StoreRefused(
                f"stream {name} has {setting} = {_shown(value)}: {why}; set it to {_shown(due)}"
            )
    if config.get("subjects") != [subject]:
        raise StoreRefused(
            f"stream {name} has subjects = {_shown(config.get('subjects'))}: set them to {subject}"
        )
    replicas = config.get("num_replicas", 1)
    if replicas < REPLICAS and not alone:
        raise StoreRefused(
            f"stream {name} has num_replicas = {replicas}: what is accepted would be lost with a"
            f" disk; set it to {REPLICAS}"
        )


def _shown(value: object) -> str:
    """As a configuration has it; not more of it than a line takes."""
    return msgspec.json.encode(value).decode()[:100]
