"""What a store's URL says: which nodes of a cluster, how they are reached, and which store on them.

No password is in it: what a store is called is shown in lists of processes, in logs and in errors.
Who we are to the cluster stands in the environment.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from pullstatus.errors import InvalidSetting

CLIENTS_PORT: Final = 4222
MONITOR_PORT: Final = 8222


class Address(NamedTuple):
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def near(self) -> bool:
        """Whether it is on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class Location(msgspec.Struct, frozen=True):
    """Where a store is.

    Attributes:
        servers: nodes that are tried, in this order; the others need not be named.
        monitors: where every node tells of itself.
        store: which one of the cluster's; names of streams begin with it.
        tls: a file with the authorities whose certificates of nodes are good, or `yes`: those of
            the system; None: there is no TLS.
        certificate: a file with our own, and its key, if nodes ask for one.
        alone: one node will do, without copies.
        insecure: nodes elsewhere may be spoken to without TLS, or as nobody.
    """

    servers: tuple[Address, ...]
    monitors: tuple[Address, ...]
    store: str
    tls: str | None = None
    certificate: tuple[str, str] | None = None
    alone: bool = False
    insecure: bool = False

    @property
    def name(self) -> str:
        """A URL of it, the same whoever connects to it, and how."""
        return f"jetstream://{','.join(map(str, self.servers))}/{self.store}"

    @property
    def shown(self) -> str:
        """For people."""
        return f"store {self.store} at {', '.join(map(str, self.servers))}"


class Login(msgspec.Struct, frozen=True):
    """Who we are to the cluster: a user with a password, or with a file of credentials, or nobody.

    Neither of these is ever shown.
    """

    user: str | None = None
    password: str | None = None
    credentials: str | None = None

    def __repr__(self) -> str:
        return "Login(...)"

    @property
    def anonymous(self) -> bool:
        """Whether we are nobody."""
        return self.user is None and self.credentials is None


FORM: Final = "jetstream://HOST[:PORT][,HOST...]/NAME?monitor=HOST[:PORT][,HOST...]"

USER: Final = "PULLSTATUS_NATS_USER"
PASSWORD: Final = "PULLSTATUS_NATS_PASSWORD"  # noqa: S105 the name of a variable
CREDENTIALS: Final = "PULLSTATUS_NATS_CREDENTIALS"

_WORDS: Final = frozenset(
    {"monitor", "tls", "tls-certificate", "tls-key", "single-node-for-tests", "insecure"}
)
# Not `urlsplit`, which takes no brackets behind another host.
_URL: Final = re.compile(r"jetstream://([^/?#]*)/([^?#]*)(?:\?([^#]*))?")
_NAME: Final = re.compile("[a-z0-9_]{1,32}")
_HOST: Final = re.compile(
    r"\[([0-9A-Fa-f:.]+)\](?::([0-9]{1,5}))?|([A-Za-z0-9._-]+)(?::([0-9]{1,5}))?"
)


def parse_url(url: str) -> Location:
    """Read `jetstream://HOST:PORT,HOST:PORT,HOST:PORT/NAME?monitor=HOST:PORT,...`.

    Raises:
        InvalidSetting: it is none, or says what must not be in it.
    """
    parts = _URL.fullmatch(url)
    if parts is None:
        raise InvalidSetting(_WRONG)
    nodes, store, query = parts.groups("")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise InvalidSetting(_WRONG) from None
    words = dict(pairs)
    if len(words) != len(pairs):
        raise InvalidSetting(_WRONG)
    if "@" in nodes or "password" in words or "user" in words:
        raise InvalidSetting(
            "a user or a password in a store URL can be read by everybody who sees the list of"
            f" processes: put them into the environment, as {USER} and {PASSWORD}, or name a file"
            f" of credentials there, as {CREDENTIALS}, and leave them out"
        )
    if strange := sorted(words.keys() - _WORDS):
        raise InvalidSetting(f"a store URL of JetStream has no {strange[0][:40]!r}: {_WRONG}")
    if not _NAME.fullmatch(store):
        raise InvalidSetting(
            "the name of a store in JetStream is 1 to 32 of a to z, 0 to 9 and _, behind the nodes:"
            f" {FORM}"
        )
    if not words.get("monitor"):
        raise InvalidSetting(
            "a store URL of JetStream says where every node can be asked about its settings, such"
            f" as ?monitor=HOST:{MONITOR_PORT},HOST:{MONITOR_PORT},HOST:{MONITOR_PORT}: only there"
            " does a node tell whether it syncs what it acknowledges"
        )
    return Location(
        _addresses("the nodes", nodes, CLIENTS_PORT),
        _addresses("monitor", words["monitor"], MONITOR_PORT),
        store,
        words.get("tls"),
        _certificate(words),
        _said(words, "single-node-for-tests"),
        _said(words, "insecure"),
    )


def login(environment: Mapping[str, str]) -> Login:
    """Who we are, as the environment says.

    Raises:
        InvalidSetting: it says half of it, or both.
    """
    user, password, credentials = (
        environment.get(name) or None for name in (USER, PASSWORD, CREDENTIALS)
    )
    if (user is None) != (password is None):
        there, lacking = (USER, PASSWORD) if password is None else (PASSWORD, USER)
        raise InvalidSetting(f"{there} is set, and {lacking} is not: set both, or neither")
    if credentials is not None:
        if user is not None:
            raise InvalidSetting(f"{USER} and {CREDENTIALS} are both set: leave one of them out")
        if not Path(credentials).is_file():
            raise InvalidSetting(f"{CREDENTIALS} names a file that is not there")
    return Login(user, password, credentials)


def _addresses(member: str, text: str, port: int) -> tuple[Address, ...]:
    found = []
    for part in text.split(","):
        match = _HOST.fullmatch(part)
        number = int(match[2] or match[4] or port) if match else 0
        if match is None or not 0 < number < 1 << 16:
            raise InvalidSetting(
                f"{member} in a store URL of JetStream must be HOST or HOST:PORT, or several of"
                f" them with commas between; an IPv6 address stands in brackets: {FORM}"
            )
        found.append(Address(match[1] or match[3], number))
    if len(set(found)) != len(found):
        raise InvalidSetting(f"{member} in a store URL of JetStream must each be named once")
    return tuple(found)


def _certificate(words: Mapping[str, str]) -> tuple[str, str] | None:
    certificate, key = words.get("tls-certificate"), words.get("tls-key")
    if certificate is None and key is None:
        return None
    if not certificate or not key or "tls" not in words:
        raise InvalidSetting("tls-certificate and tls-key in a store URL go together, beside tls")
    return certificate, key


def _said(words: Mapping[str, str], word: str) -> bool:
    value = words.get(word, "no")
    if value not in ("yes", "no"):
        raise InvalidSetting(f"{word} in a store URL must be yes or no")
    return value == "yes"


_WRONG: Final = (
    f"a store URL of JetStream is {FORM}, perhaps with &tls=FILE, the authorities of its"
    " certificates, or tls=yes for those of the system, tls-certificate=FILE and tls-key=FILE, and"
    " with insecure=yes, single-node-for-tests=yes"
)
