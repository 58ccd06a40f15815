"""Records of very many hours, in parts that one write can hold. Pure.

Fingerprints lie by the hour of the records' own time, each hour on a subject. So what a gateway has
kept for weeks may touch more subjects than one answer, or one write, has room for. It is stored in
several commits then. Who is not answered sends all of it again, and by their fingerprints those
records that were stored are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import msgspec

from pullstatus.store.jetstream.subjects import hour_of
from pullstatus.store.values import Append, Fingerprints, Park

HOURS_MAX: Final = 500  # of one part: half of what an answer or a write holds


def appends_of(operation: Append) -> list[Append]:
    """The same in order, each of few enough hours; with a key, which is of all of it, as it is."""
    prints = operation.fingerprints
    if prints is None or len(prints.items) <= HOURS_MAX or operation.repeat_key is not None:
        return [operation]
    return [
        msgspec.structs.replace(operation, entries=entries, fingerprints=own)
        for entries, own in _parts_of(operation.entries, prints)
    ]


def parks_of(operation: Park) -> list[Park]:
    """The same: records first, and what is put aside beside them behind."""
    records, prints = operation.records, operation.fingerprints
    own, theirs = (
        0 if each is None else len(each.items) for each in (prints, records.fingerprints)
    )
    if own + theirs <= HOURS_MAX or records.repeat_key is not None:
        return [operation]
    none = msgspec.structs.replace(records, entries=[], fingerprints=None)
    parts = [
        msgspec.structs.replace(operation, records=each, entries=[], fingerprints=None)
        for each in appends_of(records)
    ]
    aside = (
        [(operation.entries, prints)] if prints is None else _parts_of(operation.entries, prints)
    )
    parts += [
        msgspec.structs.replace(operation, records=none, entries=entries, fingerprints=each)
        for entries, each in aside
    ]
    return parts


def _parts_of(
    entries: list[bytes], prints: Fingerprints
) -> Iterator[tuple[list[bytes], Fingerprints]]:
    ends: list[int] = []
    hours: set[int] = set()
    for place, (record_s, _) in enumerate(prints.items):
        hours.add(hour_of(record_s))
        if len(hours) > HOURS_MAX:
            ends.append(place)
            hours = {hour_of(record_s)}
    for begin, end in pairwise([0, *ends, len(entries)]):
        yield entries[begin:end], Fingerprints(prints.scope, prints.items[begin:end])
