"""Tickets: no two alike, of one process or of several."""

import itertools
import os

from pullstatus.store import NO_TICKET, TICKET_BYTES, Tickets


def test_no_ticket_is_given_twice() -> None:
    sources = [Tickets(os.urandom) for _ in range(3)]
    given = [ticket() for ticket in sources * 1000]
    assert len({*given, NO_TICKET}) == 3001
    assert {len(ticket) for ticket in given} == {TICKET_BYTES}


def test_they_begin_where_chance_says_and_count_from_there() -> None:
    ticket = Tickets(lambda size: b"\xff" * size)
    assert [ticket().hex() for _ in range(2)] == ["ff" * 8 + "00" * 8, "ff" * 8 + "00" * 7 + "01"]


def test_a_source_far_on_does_not_reach_anothers() -> None:
    begin = itertools.count(1)
    one, other = (Tickets(lambda size: next(begin).to_bytes(size)) for _ in range(2))
    assert int.from_bytes(other()) - int.from_bytes(one()) == 2**64
