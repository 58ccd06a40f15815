"""Which nodes have lost messages of a stream, told by what all of them say that they have. Pure.

A node with a damaged block in a file loses all that lies behind it there, says nothing of it, and
may lead. It leads then as if the others had lost that, too: a condition that there be no message on
a subject holds there though there is one, so what repeats are known by is taken for new.

All nodes of a stream take the same steps in the same order. So how many messages were removed of it
grows alike on each, and a node of which more are missing than of another one, which has come as far
since, has lost them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple


class Held(NamedTuple):
    """What a node says that it has of a stream.

    Attributes:
        messages: how many.
        newest: sequence of the newest one that it ever had.
    """

    messages: int
    newest: int

    @property
    def missing(self) -> int:
        """How many it has no more: removed, or lost."""
        return self.newest - self.messages


Copies = Mapping[str, Mapping[str, Held]]
"""By the group of nodes that has a stream, and by node, as of one moment or another."""


class Short(NamedTuple):
    """A node that lacks messages of a stream which another one has.

    Attributes:
        group: that has the stream.
        node, whole: the one, and another one that has the most.
    """

    group: str
    node: str
    whole: str


def short(before: Copies, now: Copies) -> Iterator[Short]:
    """Nodes that had lost messages by then.

    Args:
        before, now: of two looks. What a node lacked before is compared with what others lack now:
            they have taken each step by then that it had taken, or their newest is not as new.
    """
    for group, held in before.items():
        others = now.get(group, {})
        for node, was in held.items():
            reached = {
                other: each.missing
                for other, each in others.items()
                if other != node and each.newest >= was.newest
            }
            whole = min(reached, key=reached.__getitem__, default=None)
            if whole is not None and reached[whole] < was.missing:
                yield Short(group, node, whole)
