"""A queue in which owners come in turn."""

import pytest

from pullstatus.turns import Turns


def filled(items: str) -> Turns[str]:
    """Items as "a1 a2 b1", each its owner's letter first."""
    turns: Turns[str] = Turns()
    for item in items.split():
        turns.push(item[0], item)
    return turns


def drained(turns: Turns[str]) -> str:
    return " ".join(turns.pop() for _ in range(len(turns)))


@pytest.mark.parametrize(
    ("come", "go"),
    [
        ("", ""),
        ("a1 a2 a3", "a1 a2 a3"),
        ("a1 a2 a3 b1", "a1 b1 a2 a3"),
        ("a1 a2 a3 b1 b2 c1", "a1 b1 c1 a2 b2 a3"),
    ],
)
def test_owners_come_in_turn(come: str, go: str) -> None:
    assert drained(filled(come)) == go


def test_who_comes_later_waits_for_one_of_each_other() -> None:
    turns = filled("a1 a2 a3 b1 b2 b3")
    assert [turns.pop(), turns.pop(), turns.pop()] == ["a1", "b1", "a2"]
    turns.push("c", "c1")
    assert drained(turns) == "b2 a3 c1 b3"


def test_an_owner_that_had_its_turn_and_comes_again_is_behind_the_others() -> None:
    turns = filled("a1 b1 b2")
    assert turns.pop() == "a1"
    turns.push("a", "a2")
    assert drained(turns) == "b1 a2 b2"


def test_nothing_is_next_where_nothing_waits() -> None:
    with pytest.raises(LookupError):
        Turns[str]().pop()


def test_what_is_taken_out_leaves_the_rest_in_order() -> None:
    turns = filled("a1 a2 a3 b1 b2 c1")
    assert sorted(turns.take(lambda item: item in ("a2", "b1", "c1"))) == ["a2", "b1", "c1"]
    assert (len(turns), sorted(turns.heads())) == (3, ["a1", "b2"])
    assert drained(turns) == "a1 b2 a3"
