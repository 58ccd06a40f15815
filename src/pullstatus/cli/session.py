"""What every command needs: the store's address, an event loop, and our errors said plainly."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

import click

from pullstatus.client.errors import InvalidArgument, InvalidEnvironment
from pullstatus.errors import PullstatusError
from pullstatus.store import Store, open_store

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_STORE = "sqlite:///pullstatus.db"

store_option = click.option(
    "--store",
    "store_url",
    metavar="URL",
    envvar="PULLSTATUS_STORE",
    default=DEFAULT_STORE,
    show_default=True,
    show_envvar=True,
    help="The store: sqlite:/// and the path of a file.",
)


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
            raise click.ClickException(str(error)) from error

    return run


def with_store(store_url: str, work: Callable[[Store], Awaitable[R]]) -> R:
    """Open the store beside whatever else uses it, do `work`, close it."""

    async def run() -> R:
        store = await open_store(store_url)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())
