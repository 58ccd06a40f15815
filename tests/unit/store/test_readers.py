"""The table of a reader, every line of it, and what follows for any traffic."""

import itertools
from random import Random

import pytest

from pullstatus.store.readers import Given, Hand, Move, decide

NOTHING, AGAIN, NEXT = Given.NOTHING, Given.AGAIN, Given.NEXT


@pytest.mark.parametrize(
    ("hand", "ack", "takes", "moved"),
    [
        # Nobody has anything yet.
        (Hand(), None, True, Move(False, NEXT)),
        (Hand(), 1, True, None),
        (Hand(), 1, False, None),
        # A page in hand, the first one.
        (Hand(1), None, True, Move(False, AGAIN)),
        (Hand(1), 1, True, Move(True, NEXT)),
        (Hand(1), 1, False, Move(True, NOTHING)),
        (Hand(1), 2, True, None),
        (Hand(1), 2, False, None),
        # A page in hand, behind one that was acknowledged.
        (Hand(4, 1), None, True, Move(False, AGAIN)),
        (Hand(4, 1), 4, True, Move(True, NEXT)),
        (Hand(4, 1), 4, False, Move(True, NOTHING)),
        (Hand(4, 1), 1, True, Move(False, AGAIN)),
        (Hand(4, 1), 1, False, Move(False, NOTHING)),
        (Hand(4, 1), 2, True, None),
        (Hand(4, 1), 5, True, None),
        (Hand(4, 1), 5, False, None),
        # None in hand, but one was acknowledged.
        (Hand(None, 1), None, True, Move(False, NEXT)),
        (Hand(None, 1), 1, True, Move(False, NEXT)),
        (Hand(None, 1), 1, False, Move(False, NOTHING)),
        (Hand(None, 4), 1, True, None),
        (Hand(None, 4), 5, True, None),
    ],
)
def test_the_table(hand: Hand, ack: int | None, takes: bool, moved: Move | None) -> None:
    assert decide(hand, ack, takes=takes) == moved


@pytest.mark.parametrize(
    ("hand", "former", "left"),
    [
        (Hand(4, 1), 0, Hand(4, 1)),
        (Hand(4, 1), 1, Hand(4, None)),
        (Hand(4, 1), 4, Hand()),
        (Hand(None, 4), 3, Hand(None, 4)),
    ],
)
def test_what_was_a_former_owners_is_in_no_hand(hand: Hand, former: int, left: Hand) -> None:
    assert hand.since(former) == left


def test_every_request_late_twice_and_in_any_order_does_no_harm() -> None:
    """All interleavings of what one consumer ever sent, each request delivered again at any time.

    The consumer acknowledges what it was given and nothing else, and it starts anew now and then
    without knowing what it had. No page that it did not get is ever acknowledged, none is passed
    over, and at most one is in hand.
    """
    for seed in range(3000):
        rng = Random(seed)
        hand = Hand()
        tail, seen = 0, set[int]()
        sent: list[tuple[int | None, bool]] = []
        knows: int | None = None
        acknowledged: list[int] = []
        for _ in range(rng.randrange(2, 40)):
            answered = rng.random() < 0.5
            if sent and rng.random() < 0.6:
                ack, takes = rng.choice(sent)
                answered = False
            else:
                if rng.random() < 0.1:
                    knows = None
                ack, takes = knows, knows is None or rng.random() < 0.8
                sent.append((ack, takes))
            moved = decide(hand, ack, takes=takes)
            if moved is None:
                if answered:
                    knows = None
                continue
            given = hand.first_seq
            if moved.acknowledges:
                assert hand.first_seq in seen
                acknowledged.append(hand.first_seq or 0)
                hand = Hand(None, hand.first_seq)
            if moved.given is NEXT:
                assert hand.first_seq is None
                tail += 1
                hand = Hand(tail, hand.acked_seq)
                given = tail
            if answered and moved.given is not NOTHING:
                assert given == hand.first_seq
                knows = given
                seen.add(given or 0)
        assert acknowledged == list(range(1, len(acknowledged) + 1))
        assert tail == len(acknowledged) + (hand.first_seq is not None)


def test_an_acknowledgement_is_never_refused_as_long_as_nothing_else_was_acknowledged() -> None:
    """Whoever repeats one request until it is answered is never told off for it."""
    for first, acked in itertools.product((None, 7), (None, 3)):
        hand = Hand(first, acked)
        for ack in (None, *filter(None, (first, acked))):
            assert decide(hand, ack, takes=True) is not None
            assert decide(hand, ack, takes=False) is not None
