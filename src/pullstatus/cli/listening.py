"""Where a command listens: `--host` and `--port`.

Kubernetes puts variables into every container beside a Service called `pullstatus`, and so do links
of Docker: `PULLSTATUS_PORT=tcp://10.43.214.28:8080`, `PULLSTATUS_SERVICE_HOST` and others. Of these
we read the first, which is told from a port by its form; a test holds all names that we read
against all that such a Service makes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import click

from pullstatus.cli.output import say

__all__ = ["HostAndPort", "listening_options"]

F = TypeVar("F", bound=Callable[..., object])

PORT_MAX = 65_535
_INJECTED = re.compile(r"[a-z]+://")


class _Port(click.Option):
    """An option whose variable may have been set by the platform, for another purpose."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """The variable's value, unless it is the address of a Service."""
        value = super().resolve_envvar_value(ctx)
        if value is None or not _INJECTED.match(value):
            return value
        if not ctx.resilient_parsing:
            say(
                "pullstatus: PULLSTATUS_PORT is not heeded: the platform has set it to the address"
                " of a service of this name. --port or the configuration file say the port",
                err=True,
            )
        return None


# Without its argument, which click knows since 8.4 only.
class HostAndPort(click.ParamType):  # type: ignore[type-arg]
    """`HOST:PORT`, with an IPv6 address in brackets; a pair of them."""

    name = "HOST:PORT"

    def convert(
        self,
        value: str | tuple[str, int],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, int]:
        """The host without brackets, and the port."""
        if isinstance(value, tuple):
            return value
        host, colon, port = value.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        numbered = re.fullmatch("[0-9]{1,5}", port) and int(port) <= PORT_MAX
        if not (colon and _may_be_host(bare) and numbered):
            self.fail("is HOST:PORT, as 127.0.0.1:8090 or [::1]:8090", param, ctx)
        if ":" in bare and bare == host:
            self.fail("has an IPv6 address, which is written in brackets: [::1]:8090", param, ctx)
        return bare, int(port)


def _may_be_host(text: str) -> bool:
    return bool(text) and text.isprintable() and " " not in text


class _Host(click.ParamType):  # type: ignore[type-arg]
    """An address or a name, told from what can be neither."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The host as it is given."""
        if not _may_be_host(value):
            self.fail("is an address or a name, as 127.0.0.1, ::1 or localhost", param, ctx)
        return value


def listening_options(help_of_host: str) -> Callable[[F], F]:
    """`--host` and `--port`."""

    def decorate(command: F) -> F:
        command = click.option(
            "--port",
            cls=_Port,
            type=click.IntRange(0, PORT_MAX),
            envvar="PULLSTATUS_PORT",
            default=8080,
            show_default=True,
            show_envvar=True,
            help="Port to listen on; 0 takes a free one.",
        )(command)
        return click.option(
            "--host",
            type=_Host(),
            envvar="PULLSTATUS_HOST",
            default="127.0.0.1",
            show_default=True,
            show_envvar=True,
            help=help_of_host,
        )(command)

    return decorate
