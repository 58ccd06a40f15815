"""What every command needs: the store's address, an event loop, and our errors said plainly."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

import click
import msgspec

from pullstatus.addresses import bare
from pullstatus.cli.config import DEFAULT_STORE, default_store
from pullstatus.cli.output import say
from pullstatus.client.errors import InvalidArgument, InvalidEnvironment
from pullstatus.errors import (
    InvalidSetting,
    PullstatusError,
    WorldError,
)
from pullstatus.store import Store, check_store_url, open_store

P = ParamSpec("P")
R = TypeVar("R")


class _WrongEnvironment(click.ClickException):
    exit_code = click.UsageError.exit_code


def plainly(command: Callable[P, R]) -> Callable[P, R]:
    """Turn our errors into one line on standard error and exit status 1.

    An argument that the client finds wrong is one of the command line, or of its environment: 2.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except InvalidEnvironment as error:
            raise _WrongEnvironment(str(error)) from error
        except InvalidArgument as error:
            raise click.UsageError(str(error)) from error
        except PullstatusError as error:
            told = "; ".join([str(error), *getattr(error, "__notes__", ())])
            raise click.ClickException(told) from error
        except msgspec.DecodeError as error:  # what comes from elsewhere was refused before
            raise click.ClickException(
                "the store holds what is no JSON, or other JSON than was stored; run"
                " `pullstatus audit`, and restore a backup"
            ) from error

    return run


def check_store(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Refuse an option's value that names no store, as `check_store_url` does."""
    try:
        check_store_url(value)
    except InvalidSetting as error:
        raise click.BadParameter(str(error)) from error
    return value


store_option = click.option(
    "--store",
    "store_url",
    metavar="URL",
    envvar="PULLSTATUS_STORE",
    default=plainly(default_store),
    show_envvar=True,
    callback=check_store,
    help="The store: sqlite:/// and the path of a file, postgresql:// and a database, or jetstream://"
    f" and a cluster. Not given, it is that of the configuration file, or else {DEFAULT_STORE}.",
)


def with_store(store_url: str, work: Callable[[Store], Awaitable[R]], *, create: bool = False) -> R:
    """Open the store beside whatever else uses it, do `work`, close it.

    What can be shown only once is printed by `work`: nothing that fails behind it is in between.

    Args:
        create: make one if there is none, and say so.
    """

    async def run() -> R:
        store = await open_store(store_url, create=create)
        try:
            if store.created:
                say_created(store_url)
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


async def leaves_traces(store: Store, store_url: str) -> bool:
    """Write the store's files anew if they are to be; say and tell where that must wait."""
    from pullstatus.apps import rewrite_if_due  # which takes more than a client has

    try:
        await rewrite_if_due(store, store_url)
    except WorldError as error:
        say(f"traces of what was removed are left in the files: {error}", err=True)
        return True
    return False


def say_created(store_url: str) -> None:
    """Tell on standard error that there was no store, so that a wrong name is noticed."""
    say(f"made a new store: {bare(store_url)}", err=True)
