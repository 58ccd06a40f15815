"""What operators did goes on record in the commit of what they did, each act once."""

from __future__ import annotations

from pullstatus.store.acts import NOTHING_BEFORE, chained
from pullstatus.store.values import Act
from pullstatus.store.verbs.tables import ActTable


def record(acts: ActTable, act: Act) -> int:
    """Put an act on record behind the newest one, unless it is; returns its number."""
    known = acts.act_number(act.ticket)
    if known is not None:
        return known
    newest, before = acts.newest_act() or (0, NOTHING_BEFORE)
    act_id = newest + 1
    acts.add_act(act_id, act, chained(before, act_id, act))
    return act_id
