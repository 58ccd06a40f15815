"""What stands between us and a server: proxies of the environment, files a server may open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from pullstatus import limits
from pullstatus.addresses import bare
from pullstatus.cli.doctor.findings import Finding, fault, ok, warning
from pullstatus.client.errors import InvalidEnvironment
from pullstatus.client.route import proxy_variable

FILES_WANTED: Final = limits.CONNECTIONS_MAX + limits.CONNECTIONS_RESERVED + limits.DESCRIPTORS_KEPT
NEARLY: Final = 0.9
RAISE: Final = "systemctl edit pullstatus.service: LimitNOFILE=65536, then restart it"


def proxies(address: str, environment: Mapping[str, str]) -> Finding:
    """Judge what the environment says of the way to `address`. A value may hold a password."""
    try:
        variable = proxy_variable(address, environment)
    except InvalidEnvironment as error:
        return fault("proxies", str(error), f"export NO_PROXY={urlsplit(address).hostname}")
    where = bare(address)
    if variable is None:
        return ok("proxies", f"none on the way to {where}")
    return warning(
        "proxies",
        f"commands reach {where} through the proxy of {variable}, which sees numbers if it is"
        " not over TLS",
        f"export NO_PROXY={urlsplit(address).hostname}",
    )


def files(allowed: float, used: float) -> Finding:
    """Judge how many files the server may have open, and has."""
    said = f"the server may open {allowed:,.0f} files, and has {used:,.0f}"
    if used > allowed * NEARLY:
        return fault("files", f"{said}: soon nobody can connect", RAISE)
    if allowed < FILES_WANTED:
        return warning("files", f"{said}; for all its connections it wants {FILES_WANTED:,}", RAISE)
    return ok("files", said)
