"""Commands whose modules are loaded when they are called.

Listing and describing commands loads none of them: a script that only pulls starts quickly, and
`--help` works where the server's packages are not installed.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any

import click

from pullstatus.errors import server_missing


class Planned(click.Command):
    """Where a command is, and its first sentence for the list."""

    def __init__(self, place: str, sentence: str) -> None:
        super().__init__(None, help=sentence)
        self._module, _, self._attribute = place.partition(":")

    def load(self) -> click.Command:
        """The command itself.

        Raises:
            ModuleNotFoundError: something that it needs is not installed.
        """
        command = getattr(import_module(self._module), self._attribute)
        assert isinstance(command, click.Command)
        return command


class Commands(MutableMapping[str, click.Command]):
    """Names are known at once; looking a command up loads it."""

    def __init__(self, planned: dict[str, Planned]) -> None:
        self.planned = planned
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._loaded:
            self._loaded[name] = self.planned[name].load()
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        self.planned.pop(name, None)
        self._loaded.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter({**self.planned, **self._loaded})

    def __len__(self) -> int:
        return len({**self.planned, **self._loaded})


class LazyGroup(click.Group):
    """A group over `Commands` that says what to install when a command can't be loaded."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading any."""
        described = click.Group(commands=dict(self._planned()))
        described.format_commands(ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        """Run what the command line names."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in ("", "pullstatus"):
                raise
            raise click.ClickException(server_missing(error)) from error

    def _planned(self) -> Iterator[tuple[str, click.Command]]:
        assert isinstance(self.commands, Commands)
        yield from self.commands.planned.items()
