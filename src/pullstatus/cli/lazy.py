"""Commands whose modules are loaded when they are called.

Listing and describing commands loads none of them: a script that only pulls starts quickly, and
`--help` works where the server's packages are not installed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

import click

from pullstatus.cli.statuses import INTERRUPTED, describe
from pullstatus.cli.surroundings import fill_standard_streams, orderly_end
from pullstatus.errors import extra_missing
from pullstatus.terminal import visible


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
            describe(self._loaded[name], name)
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


class Group(click.Group):
    """A group that lists its commands with a whole sentence each."""

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands."""
        list_commands(formatter, self.commands)


def list_commands(formatter: click.HelpFormatter, commands: Mapping[str, click.Command]) -> None:
    """Write names and first sentences, wrapped; click would cut them at the line's end."""
    with formatter.section("Commands"):
        formatter.write_dl(
            [
                (name, command.get_short_help_str(limit=formatter.width * 10))
                for name, command in sorted(commands.items())
            ]
        )


@contextlib.contextmanager
def _harmless_errors() -> Iterator[None]:
    """Errors of the command line quote it, and what it names: on a terminal that is only shown."""
    try:
        yield
    except click.ClickException as error:
        # With a tab Click sets off each line of a list of its own.
        said = visible(error.format_message().replace("\n\t", "\n    "))
        error.format_message = lambda: said  # type: ignore[method-assign]
        raise


class LazyGroup(click.Group):
    """A group over `Commands` that says what to install when a command can't be loaded."""

    def main(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401 - click's signature
        """Run the program, in whatever surroundings."""
        fill_standard_streams()
        with orderly_end():
            return super().main(*args, **extra)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:  # noqa: ANN401
        """Read the command line as far as the name of a command."""
        with _harmless_errors():
            return super().make_context(*args, **extra)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading any."""
        list_commands(formatter, dict(self._planned()))

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        """Run what the command line names."""
        try:
            with _harmless_errors():
                return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in ("", "pullstatus"):
                raise
            raise click.ClickException(extra_missing(error)) from error
        except (KeyboardInterrupt, click.Abort) as error:
            # At a question Click makes the same of Ctrl-C as of the answer no.
            if not any(isinstance(one, KeyboardInterrupt) for one in (error, error.__context__)):
                raise
            click.echo("Interrupted", err=True)
            ctx.exit(INTERRUPTED)

    def _planned(self) -> Iterator[tuple[str, click.Command]]:
        assert isinstance(self.commands, Commands)
        yield from self.commands.planned.items()
