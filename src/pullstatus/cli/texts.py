"""Texts that commands take."""

from __future__ import annotations

from typing import Final

import click


class Filled(click.ParamType):  # type: ignore[type-arg]
    """A text that is not empty, nor blank.

    As one is that a script makes of a variable which is not set: taken for an option that was not
    given, it would widen what is done.
    """

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text; `BadParameter`: there is none."""
        if not value.strip():
            self.fail("is empty; leave the option out if it is not meant", param, ctx)
        return value


FILLED: Final = Filled()
