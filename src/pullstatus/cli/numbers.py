"""Numbers that commands take: within what a store can look for."""

from __future__ import annotations

import math
from typing import Final

import click

from pullstatus import limits


class Number(click.ParamType):  # type: ignore[type-arg]
    """A whole number within bounds that a help need not say: nobody meets them but by mistake."""

    name = "integer"

    def __init__(self, least: int, most: int) -> None:
        """From one number to another, both included."""
        self._range = click.IntRange(least, most)

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """The number; `BadParameter`: it is none, or out of bounds."""
        return int(self._range.convert(value, param, ctx))  # type: ignore[arg-type]


class FiniteRange(click.FloatRange):
    """A number within bounds. NaN is in none, though it is outside of no bound."""

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number; `BadParameter`: it is none, or out of bounds."""
        number = float(super().convert(value, param, ctx))  # type: ignore[arg-type]
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


SDKAPPID: Final = Number(0, limits.SDKAPPID_MAX)
"""An application, or 0: what is nobody's."""

ORDINAL: Final = Number(1, (1 << 63) - 1)
"""Which one of several, counted from 1: a store's integers have 64 bits."""
