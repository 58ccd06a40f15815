"""Numbers that commands take: finite ones, whichever command takes them."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from pullstatus.cli import main
from pullstatus.cli.numbers import FiniteRange


def options(command: click.Command) -> Iterator[click.Parameter]:
    yield from command.params
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from options(inner)


def test_whoever_takes_a_number_with_a_fraction_takes_a_finite_one() -> None:
    taken = [
        parameter.type
        for parameter in options(main)
        if isinstance(parameter.type, click.types.FloatParamType)
    ]
    assert taken
    assert all(isinstance(kind, FiniteRange) for kind in taken)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999", "1e12"])
@pytest.mark.parametrize(
    "command",
    [
        ("serve", "--retention-days"),
        ("serve", "--upkeep-every"),
        ("status", "--every"),
        ("bench", "--seconds"),
    ],
)
def test_what_is_no_number_within_bounds_is_refused(command: tuple[str, str], number: str) -> None:
    done = CliRunner().invoke(main, [command[0], f"{command[1]}={number}"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert command[1] in done.stderr


def test_a_bound_that_is_open_needs_a_finite_number_all_the_same() -> None:
    for number in ("nan", "inf"):
        with pytest.raises(click.BadParameter, match="no finite number"):
            FiniteRange(min=0).convert(number, None, None)
