"""What `serve` would be told here: by flags, the environment and the file, checked as it does."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from pullstatus.cli.serve import check_together, serve


class Served(msgspec.Struct, frozen=True):
    """The settings of a server that are of use to whoever looks at it.

    Attributes:
        admin: where health and figures are, if not at `host` and `port`.
    """

    store: str
    host: str
    port: int
    admin: tuple[str, int] | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    master_key_file: Path | None = None
    master_key_command: str | None = None

    @property
    def calls(self) -> str:
        """The URL of its calls, from this machine."""
        scheme = "http" if self.tls_certificate is None else "https"
        return f"{scheme}://{_reached(self.host)}:{self.port}"

    @property
    def health(self) -> str:
        """The URL of its health and figures, from this machine."""
        if self.admin is None:
            return self.calls
        host, port = self.admin
        return f"http://{_reached(host)}:{port}"


def served(flags: Mapping[str, object]) -> Served:
    """The settings that `serve` would have with these flags, those that are None left out.

    Raises:
        click.ClickException: it would not start with them.
    """
    given = [
        word
        for name, value in flags.items()
        if value is not None
        for word in (f"--{name}", str(value))
    ]
    # Within the program: the library keeps what help is asked for with from the first context.
    current = click.get_current_context(silent=True)
    root = None if current is None else current.find_root()
    settings: dict[str, Any] = serve.make_context("serve", given, parent=root).params
    check_together(
        settings["host"],
        settings["tls_certificate"],
        settings["tls_key"],
        insecure=settings["insecure"],
    )
    return Served(
        store=settings["store_url"],
        host=settings["host"],
        port=settings["port"],
        admin=settings["admin"],
        tls_certificate=settings["tls_certificate"],
        tls_key=settings["tls_key"],
        master_key_file=settings["master_key_file"],
        master_key_command=settings["master_key_command"],
    )


config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The settings of the server, as `serve` has them by --config. Not given, they are those"
    " that `serve` would find here.",
)


def _reached(host: str) -> str:
    """A host as it stands in a URL; one that stands for all of this machine is its own."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return f"[{host}]" if address.version == 6 else host
