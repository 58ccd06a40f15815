"""Where what lies: streams and subjects of a store. Pure.

All of an application lies in one partition, a stream, so that one write may hold all that a group
does to it. What is of no application lies in a stream of its own.

    NAME_P    NAME.P.APP.c                  commits: the newest is how the application stands
              NAME.P.APP.KIND.log           chunks, in order of number
              NAME.P.APP.KIND.new.FIRST     a chunk written anew in its place
              NAME.P.APP.KIND.bad.FIRST     a chunk set aside as it was found
              NAME.P.APP.KIND.again         ranges that are copies
              NAME.P.APP.KIND.reader.HASH   a reader
              NAME.P.APP.KIND.page.HASH     the page that is kept for it
              NAME.P.APP.KIND.route         what takes parked items to other applications
              NAME.P.APP.KIND.segments      which segments there are
              NAME.P.APP.KIND.array.FIRST.INDEX.PART    a part of an array of one
              NAME.P.APP.tally.SERIES.YEAR.DAY          what was counted in the hours of a day
              NAME.P.APP.key.HASH           what a pull key got
              NAME.P.APP.repeat.HASH        what a batch was answered, or a route came to
              NAME.P.APP.print.HOUR         fingerprints of records of one hour
              NAME.P.APP.once.HASH          what must not come twice
              NAME.P.begin                  what first commits of applications rest on
              NAME.P.names                  names of sends of all applications, in order
    NAME_SET  NAME.set.c                    commits of what is of no application
              NAME.set.setting.HEX          a setting
              NAME.set.act.NUMBER           an act
              NAME.set.ticket.HEX           the number of an act, by its ticket
              NAME.set.mark.HEX             when something happened last
              NAME.set.lease                whose turn upkeep is
              NAME.set.following            whose turn it is to follow
              NAME.set.gate                 what the store says of a migration
              NAME.set.moved...             what a migration has brought of repeats
              NAME.set.meta                 format, partitions, secret, epochs
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from pullstatus.store.texts import encoded

_HASH_BYTES: Final = 16
_HOUR_S: Final = 3600


def partition_of(sdkappid: int, partitions: int) -> int:
    """Where an application lies."""
    return zlib.crc32(b"%d" % sdkappid) % partitions


class Place(NamedTuple):
    """Where something lies that has commits of its own: a stream, and how its subjects begin."""

    stream: str
    prefix: str

    @property
    def commits(self) -> str:
        """Its commits."""
        return f"{self.prefix}.c"

    # -- of an application

    def log(self, kind: int) -> str:
        """Chunks of a mailbox."""
        return f"{self.prefix}.{kind}.log"

    def anew(self, kind: int, first_seq: int | str) -> str:
        """A chunk that was written anew."""
        return f"{self.prefix}.{kind}.new.{first_seq}"

    def bad(self, kind: int, first_seq: int | str = "*") -> str:
        """A chunk that was set aside; all of them."""
        return f"{self.prefix}.{kind}.bad.{first_seq}"

    def again(self, kind: int) -> str:
        """Ranges of a mailbox that are copies."""
        return f"{self.prefix}.{kind}.again"

    def reader(self, kind: int, name: str) -> str:
        """A reader."""
        return f"{self.prefix}.{kind}.reader.{hashed(name)}"

    def readers(self, kind: int) -> str:
        """All readers of a mailbox."""
        return f"{self.prefix}.{kind}.reader.*"

    def page(self, kind: int, name: str) -> str:
        """The page that is kept for a reader."""
        return f"{self.prefix}.{kind}.page.{hashed(name)}"

    def route(self, kind: int) -> str:
        """What takes parked items to other applications."""
        return f"{self.prefix}.{kind}.route"

    def pages(self, kind: int) -> str:
        """All pages that are kept for readers of a mailbox."""
        return f"{self.prefix}.{kind}.page.>"

    def segments(self, kind: int) -> str:
        """Which segments a mailbox has."""
        return f"{self.prefix}.{kind}.segments"

    def array(self, kind: int, first_seq: int, index: int, part: int) -> str:
        """A part of an array of a segment."""
        return f"{self.prefix}.{kind}.array.{first_seq}.{index}.{part}"

    def arrays(self, kind: int, first_seq: int | str = "*") -> str:
        """All that there is of a segment; of all of a mailbox."""
        return f"{self.prefix}.{kind}.array.{first_seq}.>"

    def tally(self, series: int, hour: int) -> str:
        """What was counted in the hours of a day."""
        return f"{self.prefix}.tally.{series}.{year_of(hour)}.{day_of(hour)}"

    def tallies(self, series: int | str = "*") -> str:
        """All that was counted in a series; in all of them."""
        return f"{self.prefix}.tally.{series}.>"

    def key(self, pull_key: str) -> str:
        """What a pull key got."""
        return f"{self.prefix}.key.{hashed(pull_key)}"

    @property
    def keys(self) -> str:
        """What all pull keys got."""
        return f"{self.prefix}.key.*"

    def repeat(self, scope: str, key: str) -> str:
        """What a batch was answered."""
        return f"{self.prefix}.repeat.{hashed(scope, key)}"

    def prints(self, hour: int) -> str:
        """Fingerprints of one hour."""
        return f"{self.prefix}.print.{hour}"

    def once(self, nonce: str) -> str:
        """What must not come twice."""
        return f"{self.prefix}.once.{hashed(nonce)}"

    @property
    def names(self) -> str:
        """Names of sends, together with those of all applications of the partition."""
        return f"{self.prefix.rpartition('.')[0]}.names"

    @property
    def remembered(self) -> Sequence[str]:
        """Patterns of all that is remembered to know repeats by."""
        return [f"{self.prefix}.{each}.*" for each in ("key", "repeat", "print", "once")]

    # -- of no application

    def setting(self, name: str) -> str:
        """A setting; of the beginning of a name, the beginning of the subject."""
        return f"{self.prefix}.setting.{_hex(name)}"

    @property
    def settings(self) -> str:
        """All settings."""
        return f"{self.prefix}.setting.*"

    @property
    def gate(self) -> str:
        """What the store says of a migration."""
        return f"{self.prefix}.gate"

    @property
    def marks(self) -> str:
        """All marks."""
        return f"{self.prefix}.mark.*"

    @property
    def meta(self) -> str:
        """What the store is."""
        return f"{self.prefix}.meta"

    @property
    def lease(self) -> str:
        """Whose turn upkeep is."""
        return f"{self.prefix}.lease"

    @property
    def following(self) -> str:
        """Whose turn it is to follow."""
        return f"{self.prefix}.following"

    def act(self, number: int | str) -> str:
        """An act."""
        return f"{self.prefix}.act.{number}"

    def ticket(self, ticket: bytes) -> str:
        """The number of an act."""
        return f"{self.prefix}.ticket.{ticket.hex()}"

    @property
    def moved(self) -> str:
        """When the newest was accepted of what a migration has brought of repeats."""
        return f"{self.prefix}.moved"

    def moved_batch(self, scope: str, key: str) -> str:
        """What a batch was answered, in another store."""
        return f"{self.moved}.repeat.{hashed(scope, key)}"

    @property
    def moved_batches(self) -> str:
        """All of these."""
        return f"{self.moved}.repeat.*"

    def moved_prints(self, accepted_ms: int, keys: bytes) -> str:
        """Fingerprints of records that were accepted together, in another store."""
        return (
            f"{self.moved}.print.{accepted_ms}.{blake2b(keys, digest_size=_HASH_BYTES).hexdigest()}"
        )

    @property
    def moved_rows(self) -> str:
        """All of these."""
        return f"{self.moved}.print.*.*"

    def moved_hour(self, hour: int | str) -> str:
        """The same, by the hour of the records' own time."""
        return f"{self.moved}.hour.{hour}"

    def mark(self, name: str) -> str:
        """When something happened last."""
        return f"{self.prefix}.mark.{_hex(name)}"


class Layout(NamedTuple):
    """How a store is laid out."""

    name: str
    partitions: int

    def partition(self, sdkappid: int) -> int:
        """Where an application lies."""
        return partition_of(sdkappid, self.partitions)

    def stream(self, partition: int) -> str:
        """The stream of a partition."""
        return f"{self.name}_{partition}"

    def application(self, sdkappid: int) -> Place:
        """The place of an application."""
        partition = self.partition(sdkappid)
        return Place(self.stream(partition), f"{self.name}.{partition}.{sdkappid}")

    def guard(self, partition: int) -> str:
        """What first commits of the applications of a partition rest on."""
        return f"{self.name}.{partition}.begin"

    def names(self, partition: int) -> str:
        """Names of sends of the applications of a partition."""
        return f"{self.name}.{partition}.names"

    @property
    def common(self) -> Place:
        """The place of what is of no application."""
        return Place(f"{self.name}_SET", f"{self.name}.set")

    @property
    def streams(self) -> Sequence[tuple[str, str]]:
        """All streams, each with the pattern of its subjects."""
        own = [(self.stream(each), f"{self.name}.{each}.>") for each in range(self.partitions)]
        return [*own, (self.common.stream, f"{self.common.prefix}.>")]


def day_of(hour: int) -> int:
    """By which a tally lies: their last two digits apart, so with those of a day."""
    return hour // 100


def hours_of(day: int) -> range:
    """All that a day may have; of one of no calendar the last, of what is counted of no hour."""
    begin = 100 * day
    return range(begin, begin + 24) if day % 100 <= 31 else range(begin + 99, begin + 100)


def year_of(hour: int) -> int:
    """The same of days: what is older than all of it is dropped unread."""
    return hour // 1_000_000


def series_of(subject: str) -> int:
    """The series of a tally."""
    return int(subject.split(".")[4])


def hour_of(record_s: int) -> int:
    """The hour by which a record's fingerprint lies; 0 for all that are no time."""
    return max(0, record_s) // _HOUR_S


def hashed(*texts: str) -> str:
    """What stands for texts in a subject: the texts may be long, and hold anything."""
    digest = blake2b(digest_size=_HASH_BYTES)
    for text in texts:
        stored = encoded(text)
        digest.update(b"%d:" % len(stored) + stored)
    return digest.hexdigest()


def _hex(name: str) -> str:
    """A name whose order and beginning are to be told from the subject; never empty."""
    return "x" + encoded(name).hex()
