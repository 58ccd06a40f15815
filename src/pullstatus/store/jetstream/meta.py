"""What a store is, as it says itself, on a subject of its own beside its settings."""

from __future__ import annotations

from typing import Final

import msgspec
from xxhash import xxh3_64_digest

from pullstatus.errors import StoreCorrupt, StoreRefused
from pullstatus.store.jetstream.commits import NewOp
from pullstatus.store.jetstream.subjects import Layout, Place
from pullstatus.store.jetstream.wire import OP_BYTES, Bus, Message, Put

CHECK_BYTES: Final = 8


class Meta(msgspec.Struct, frozen=True):
    """What a store is.

    Attributes:
        format: of what lies in it.
        partitions: how many there are, for ever.
        secret: of keyed hashes; never shown.
        epochs: the first, and one more each time it was set back: number, and when it began; 0: at
            a time that nobody has said.
        whole: whether all its streams were made.
    """

    format: int
    partitions: int
    secret: bytes
    epochs: list[tuple[int, int]]
    whole: bool

    @property
    def epoch(self) -> int:
        """The number of the newest."""
        return max((number for number, _ in self.epochs), default=1)

    def __repr__(self) -> str:
        return f"Meta(format={self.format}, partitions={self.partitions}, epoch={self.epoch})"


_META: Final = msgspec.msgpack.Decoder(Meta)  # see `nodes`


def put(place: Place, meta: Meta, last: int, op: bytes) -> Put:
    """What is written of it.

    Args:
        last: the sequence of what it said before; 0: nothing.
    """
    subject = place.meta
    body = op + msgspec.msgpack.encode(meta)
    return Put(subject, body + xxh3_64_digest(subject.encode() + body), last)


def told(message: Message) -> Meta:
    """What a message says.

    Raises:
        StoreCorrupt: it is damaged.
        StoreRefused: a later version has written it.
    """
    body, check = message.data[:-CHECK_BYTES], message.data[-CHECK_BYTES:]
    if xxh3_64_digest(message.subject.encode() + body) != check:
        raise StoreCorrupt("what the store says of itself is damaged")
    try:
        return _META.decode(body[OP_BYTES:])
    except msgspec.DecodeError:
        raise StoreRefused("what the store says of itself is of a later version") from None


def read(bus: Bus, layout: Layout) -> tuple[Meta, int]:
    """What a store is, and the sequence of the message that says so.

    Raises:
        StoreRefused: there is none.
    """
    place = layout.common
    found = bus.last(place.stream, place.meta, leader=True)
    if found is None:
        raise StoreRefused(f"there is no store {layout.name}")
    return told(found), found.sequence


def begin_epoch(bus: Bus, layout: Layout, at_ms: int, new_op: NewOp) -> int:
    """Count that the store was set back; returns the number of the epoch that begins.

    Raises:
        Stale: somebody else has just said something else of the store.
    """
    meta, sequence = read(bus, layout)
    epoch, op = meta.epoch + 1, new_op()
    now = msgspec.structs.replace(meta, epochs=[*meta.epochs, (epoch, at_ms)])
    bus.write(layout.common.stream, [put(layout.common, now, sequence, op)], op)
    return epoch
