"""What a pull of a reader does: a table over how the reader stands. Pure; the same in every engine.

A *reader* is a consumer that acknowledges. While a page is in its hand, it gets that page again:

    it acknowledges                     a page in hand             none in hand
    nothing                             AGAIN                      NEXT
    the page in hand                    acknowledged, then NEXT
    the page it acknowledged last       AGAIN                      NEXT
    any other                           refused                    refused

Who asks to take nothing gets nothing, where the table has AGAIN or NEXT. So an attempt that arrives
late, twice or in another order than it was sent in is refused, or gets what is in hand, or takes
what then is the reader's next page.
"""

from __future__ import annotations

import enum

import msgspec


class Hand(msgspec.Struct, frozen=True, gc=False):
    """How one reader of a mailbox stands.

    Attributes:
        first_seq: first number of the page in hand; None: no page is.
        acked_seq: first number of the page acknowledged last; None: none was.
    """

    first_seq: int | None = None
    acked_seq: int | None = None

    def since(self, former: int) -> Hand:
        """The same for an owner to whom the entries up to `former` never belonged."""
        return Hand(
            *(
                None if seq is None or seq <= former else seq
                for seq in (self.first_seq, self.acked_seq)
            )
        )


class Given(enum.Enum):
    """What a pull is answered with."""

    NOTHING = enum.auto()
    AGAIN = enum.auto()
    NEXT = enum.auto()


class Move(msgspec.Struct, frozen=True, gc=False):
    """What a pull does: whether the page in hand is acknowledged, and then what is given."""

    acknowledges: bool
    given: Given


def decide(hand: Hand, ack: int | None, *, takes: bool) -> Move | None:
    """What a pull does to a reader that stands like this; None: it is refused.

    Args:
        ack: first number of the page that it acknowledges; None: it acknowledges nothing.
        takes: False for a pull that only acknowledges.
    """
    if ack not in (None, hand.first_seq, hand.acked_seq):
        return None
    acknowledges = ack is not None and ack == hand.first_seq
    if not takes:
        return Move(acknowledges, Given.NOTHING)
    if hand.first_seq is None or acknowledges:
        return Move(acknowledges, Given.NEXT)
    return Move(acknowledges, Given.AGAIN)
