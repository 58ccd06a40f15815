"""By which token an entry came: the mark of its sender, and what is said where two have one."""

from __future__ import annotations

import itertools
import os

from pullstatus.mailbox.senders import Senders, marked
from pullstatus.store import NO_TICKET, TICKET_BYTES, Tickets


def same_mark(*, as_of: str) -> str:
    """Another name with the mark of this one."""
    wanted = marked(NO_TICKET, as_of)
    names = (f"token-{number}" for number in itertools.count())
    return next(name for name in names if name != as_of and marked(NO_TICKET, name) == wanted)


def test_entry_came_by_the_token_whose_mark_its_ticket_has() -> None:
    senders = Senders({"gateway": None, "carrier": 7, "others": 8, "revoked": None})
    tickets = Tickets(os.urandom)
    for name in ("gateway", "carrier", "revoked"):
        assert senders.of(marked(tickets(), name), 7) == [name]
    assert senders.of(marked(tickets(), "others"), 7) == []  # it feeds another application
    assert senders.of(marked(tickets(), "unknown"), 7) == []
    assert senders.of(tickets(), 7) == senders.of(NO_TICKET, 7) == []


def test_of_two_with_one_mark_both_are_named() -> None:
    twin = same_mark(as_of="gateway")
    ticket = marked(NO_TICKET, "gateway")
    assert Senders({"gateway": None, twin: 7}).of(ticket, 7) == ["gateway", twin]
    assert Senders({"gateway": None, twin: 8}).of(ticket, 7) == ["gateway"]


def test_tickets_stay_apart() -> None:
    tickets = Tickets(os.urandom)
    given = [marked(tickets(), name) for name in ("gateway", "carrier") * 500]
    assert len(set(given)) == 1000
    assert {len(ticket) for ticket in given} == {TICKET_BYTES}
