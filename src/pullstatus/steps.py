"""Long work in steps, so that whoever does it can see to others between two of them. Pure.

Work is a generator that yields wherever it can be left for a while, and returns what it is for. A
step is a few milliseconds at most, whatever a stranger sent.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, TypeVar

__all__ = ["Steps", "done"]

T = TypeVar("T")
Steps: TypeAlias = Generator[None, None, T]


def done(steps: Steps[T]) -> T:
    """Do all of them at once, where nobody waits; returns and raises what the work does."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
