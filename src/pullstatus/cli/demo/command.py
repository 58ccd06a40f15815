"""`pullstatus demo`: the whole thing on this machine, with made-up traffic, until Ctrl-C."""

from __future__ import annotations

import contextlib
import logging
import socket

import click
from click.core import ParameterSource

from pullstatus.cli.output import say
from pullstatus.cli.session import plainly


@click.command("demo")
@click.option(
    "--rate",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="Made-up records a second.",
)
@click.option(
    "--host",
    type=click.Choice(["127.0.0.1", "::1", "localhost"]),
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on: this machine's own only, since the appkey is a published one.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0 takes a free one, and so does the default when it is taken.",
)
@click.option("--once", is_flag=True, help="End after the page and the command to paste.")
@click.pass_context
@plainly
def demo(context: click.Context, rate: int, host: str, port: int, once: bool) -> None:
    """Show it at work: a server, made-up traffic, a signed pull.

    Everything is in a temporary store that is removed at the end. TERM, HUP or
    Ctrl-C ends it.
    """
    import uvloop

    from pullstatus.cli.demo.run import run
    from pullstatus.server import logs
    from pullstatus.server.descriptors import check_limit

    logs.configure("error")
    logging.disable(logging.WARNING)  # libraries included: a line of theirs would tear the screen
    check_limit()
    if context.get_parameter_source("port") is ParameterSource.DEFAULT and _taken(host, port):
        port = 0
    # Before and after the server, which has its own way to stop on Ctrl-C.
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(run(host, port, rate, once=once))
    if not once:
        say("Stopped; the temporary store is removed.")


def _taken(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False
