"""Where commands find the master keys of a store; `serve` and all that make or open appkeys."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from pullstatus.apps import Command, GivenFile, Masters, Shut, check_opens, masters_beside
from pullstatus.cli.config import default_master_key
from pullstatus.cli.output import say
from pullstatus.cli.session import plainly
from pullstatus.errors import MasterKeyMissing
from pullstatus.store.values import Accept

R = TypeVar("R")

CREDENTIAL = "pullstatus-master-key"
"""Name of the master key among the credentials that systemd passes to a service."""

IDS_TOLD = 3
NEARER = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP)
FILE, COMMAND = "--master-key-file", "--master-key-command"


def master_key_options(command: Callable[..., R]) -> Callable[..., R]:
    """`--master-key-file` and `--master-key-command`; see `named_masters`."""
    options = (
        click.option(
            FILE,
            callback=_yield_to_nearer,
            type=click.Path(path_type=Path, dir_okay=False),
            envvar="PULLSTATUS_MASTER_KEY_FILE",
            show_envvar=True,
            help="File with the master key that appkeys are sealed under. Not given, it is the"
            " credential pullstatus-master-key of systemd, or else STORE-master-key, which is made"
            " when it is needed.",
        ),
        click.option(
            COMMAND,
            callback=_yield_to_nearer,
            metavar="COMMAND",
            envvar="PULLSTATUS_MASTER_KEY_COMMAND",
            show_envvar=True,
            help="Program, with its arguments, that prints the master key.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _yield_to_nearer(context: click.Context, parameter: click.Parameter, value: Any) -> Any:  # noqa: ANN401 - of either option
    """Of the two the one that is named nearer; both where they are named in the same place."""
    mine = str(parameter.name)
    [other] = {"master_key_file", "master_key_command"} - {mine}
    if value is None or context.params.get(other) is None:
        return value
    place, others = (NEARER.index(context.get_parameter_source(name)) for name in (mine, other))
    if place < others:
        context.params[other] = None
    return value if place <= others else None


def with_masters(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command that has `store_option` the master keys of that store, as `masters`."""

    @functools.wraps(command)
    def given(
        *,
        store_url: str,
        master_key_file: Path | None,
        master_key_command: str | None,
        **others: object,
    ) -> R:
        masters = plainly(named_masters)(store_url, master_key_file, master_key_command)
        return command(store_url=store_url, masters=masters, **others)

    return master_key_options(given)


lost_option = click.option(
    "--lost",
    is_flag=True,
    help="Go on though master keys are lost: what they sealed stays shut. If the one in use is"
    " among them, run `keys rewrap --lost` then, or no server starts; and replace what stays shut.",
)


def accepting(masters: Masters, *, lost: bool) -> Accept:
    """What refuses to make a store of which something cannot be opened, unless that is `lost`."""

    def accept(settings: Iterable[tuple[str, bytes]]) -> None:
        try:
            shut = check_opens(settings, masters, lost=lost)
        except MasterKeyMissing as error:
            raise MasterKeyMissing(f"{error}, or say --lost to go on without") from error
        if shut and not lost:
            raise MasterKeyMissing(
                f"{shut_told(shut, masters)}: put them there as lines of their own, or say --lost"
                " to go on without"
            )
        if shut:
            say(shut_told(shut, masters), err=True)

    return accept


def shut_told(shut: Shut, masters: Masters) -> str:
    """What stays shut, and for want of which master keys."""
    ids = ", ".join(shut.masters[:IDS_TOLD]) + (", ..." if len(shut.masters) > IDS_TOLD else "")
    return (
        f"keys of {shut} cannot be opened: they are sealed under master keys that are not in"
        f" {masters.place} ({ids})"
    )


def named_masters(store_url: str, file: Path | None, command: str | None) -> Masters:
    """The source that is meant: of flags or environment, the configuration file, or the default.

    Nothing is read of it here: most commands never need a key.

    Raises:
        click.UsageError: two are named.
        InvalidSetting: the configuration file is wrong.
    """
    if file is None and command is None:
        file, command = default_master_key()
    if file is not None and command is not None:
        raise click.UsageError(f"{FILE} and {COMMAND} exclude each other")
    if command is not None:
        return Command(command)
    file = file or _credential()
    return masters_beside(store_url) if file is None else GivenFile(file)


def _credential() -> Path | None:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    file = Path(folder) / CREDENTIAL
    return file if file.exists() else None
