"""What is derived of entries, kept in the commit that moves their mailbox's mark.

    entries   1 .............. mark .......... tail
              segments, tallies     not derived yet

Whoever derives reads first and asks then. So he says at which mark he has read, and nothing is kept
if that is no longer so: another one was quicker, or something was erased since.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from pullstatus.errors import KeyReused, SettingChanged, StoreCorrupt
from pullstatus.store import segments
from pullstatus.store.values import Count, Follow, Followed, Tally, Unfollow
from pullstatus.store.verbs.conditions import refuses
from pullstatus.store.verbs.repeats import came_before
from pullstatus.store.verbs.state import State
from pullstatus.store.verbs.tables import Tables


def follow(tables: Tables, operation: Follow) -> bool:
    """Keep what was derived; answered whether it was."""
    state = tables.draft(operation.mailbox)
    if state is None or tables.followed(state) != operation.expected:
        return False
    before, through, segment = operation.expected, operation.through, operation.segment
    if not before.through < through <= state.tail:
        return False
    if segment is not None:
        assert segment.last_seq == through
        tables.put_segment(state, segment)
    _add(tables, operation.mailbox.sdkappid, operation.tallies)
    tables.put_followed(state, Followed(through, max(before.tallied, through), before.turn))
    return True


def unfollow(tables: Tables, operation: Unfollow) -> bool:
    """Drop what was derived; answered whether it was."""
    state = tables.draft(operation.mailbox)
    before = operation.expected
    if state is None or tables.followed(state) != before:
        return False
    # Of what was removed since it was read nobody can count anything again.
    if operation.from_hour is not None and state.purged > operation.tallied:
        return False
    tables.drop_segments(state, None)
    if operation.from_hour is not None:
        series = int(operation.mailbox.kind)
        tables.drop_tallies(operation.mailbox.sdkappid, series, operation.from_hour)
    tables.put_followed(state, Followed(state.purged, operation.tallied, before.turn + 1))
    return True


def count(tables: Tables, operation: Count) -> bool | KeyReused | SettingChanged:
    """Add to tallies, and keep names; answered whether that was new, and all stood as expected."""
    refusal = refuses(tables, operation.while_set)
    if refusal is not None:
        return refusal
    for mailbox, expected in operation.while_followed:
        state = tables.draft(mailbox)
        if (Followed() if state is None else tables.followed(state)) != expected:
            return False
    sdkappid, key = operation.sdkappid, operation.repeat_key
    if key is not None:
        came = came_before(tables, sdkappid, key, len(operation.tallies), operation.at_ms)
        if came:
            return False if came is True else came
    _add(tables, sdkappid, operation.tallies, anew=operation.anew)
    if operation.names:
        tables.add_names(sdkappid, operation.names, operation.at_ms)
    return True


def let_go(tables: Tables, state: State, seqs: Sequence[int]) -> None:
    """Have segments find no entry any more that is just being erased.

    What somebody has read of the mailbox until now is not followed.
    """
    if state.mailbox.aside or not seqs:
        return
    mark = tables.followed(state)
    tables.put_followed(state, Followed(mark.through, mark.tallied, mark.turn + 1))
    for segment in tables.segments(state, seqs[0], seqs[-1]):
        # One that is damaged stays so: who looks there is told, and it is made anew.
        with contextlib.suppress(StoreCorrupt):
            left = segments.without(segment, seqs)
            if left != segment:
                tables.put_segment(state, left)


def _add(tables: Tables, sdkappid: int, tallies: Sequence[Tally], *, anew: bool = False) -> None:
    for tally in tallies:
        tables.add_tally(sdkappid, tally, anew=anew)
