"""How a service is reached: through which proxy, trusting whose certificates.

The environment says so, in the variables that curl and most programs read:

    https_proxy http_proxy all_proxy   a proxy's address; capitals too
    no_proxy                           what is reached without: names, addresses, networks, *
    SSL_CERT_FILE SSL_CERT_DIR         whom to trust, instead of the authorities that certifi lists

A client talks to one service only, so nothing is read that is not for its address: a variable that
is wrong for somebody else does no harm. A loopback address is never reached through a proxy, since
the proxy's loopback is another machine's.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx
import msgspec

from pullstatus.client.arguments import split_address
from pullstatus.client.deadline import AsyncTransport, Transport
from pullstatus.client.errors import InvalidArgument, InvalidEnvironment
from pullstatus.client.service_name import PORTS

__all__ = ["certificate_fix", "check_address", "open_async_http", "open_http", "proxy_variable"]

H = TypeVar("H")

TIMEOUT_S_MAX: Final = 86_400  # a day: beyond some years the operating system refuses it
PROXY_SCHEMES: Final = ("http", "https", "socks5", "socks5h")

_HOSTNAME_MISMATCH: Final = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, ..._IP_ADDRESS_MISMATCH
_OUT_OF_DATE: Final = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, ..._CERT_HAS_EXPIRED


class _Proxy(msgspec.Struct, frozen=True):
    address: str
    variable: str

    @property
    def scheme(self) -> str:
        return self.address.partition("://")[0].lower()


def open_http(
    base_url: str, timeout_s: float, transport: httpx.BaseTransport | None = None
) -> httpx.Client:
    """A blocking HTTP client for one service.

    Raises:
        InvalidArgument: the address or the timeout is wrong.
        InvalidEnvironment: a variable that counts for this address is of no use; it is named.
    """

    def build(proxy: str | None, trusted: ssl.SSLContext | None) -> httpx.Client:
        # Without certificates where nothing is encrypted.
        way = transport or Transport(verify=trusted or False, proxy=proxy)
        return httpx.Client(timeout=timeout_s, transport=way, trust_env=False)

    return _open(build, base_url, timeout_s, own_transport=transport is not None)


def open_async_http(
    base_url: str, timeout_s: float, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """The same with await; see `open_http`."""

    def build(proxy: str | None, trusted: ssl.SSLContext | None) -> httpx.AsyncClient:
        way = transport or AsyncTransport(verify=trusted or False, proxy=proxy)
        return httpx.AsyncClient(timeout=timeout_s, transport=way, trust_env=False)

    return _open(build, base_url, timeout_s, own_transport=transport is not None)


def _open(
    build: Callable[[str | None, ssl.SSLContext | None], H],
    base_url: str,
    timeout_s: float,
    *,
    own_transport: bool,
) -> H:
    _check_timeout(timeout_s)
    url = check_address(base_url)
    if own_transport:
        return build(None, None)
    proxy = _proxy_for(url, os.environ)
    schemes = {url.scheme, proxy.scheme if proxy else ""}
    trusted = _trusted(os.environ) if "https" in schemes else None
    if proxy is None:
        return build(None, trusted)
    try:
        return build(proxy.address, trusted)
    except Exception as error:
        raise _unusable_proxy(proxy, "is no address of a proxy") from error


def check_address(address: str, name: str = "base_url") -> httpx.URL:
    """An address whose host can be looked up.

    Raises:
        InvalidArgument: it is none.
    """
    try:
        return _url(address)
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidArgument(f"{name} is no address: {error}") from error


def _url(address: str) -> httpx.URL:
    """The same.

    Raises:
        httpx.InvalidURL, ValueError: it is none. A name with an empty label, one of over 63
            characters, or one whose xn-- stands for nothing, would only be refused at each
            attempt, as if something had been sent.
    """
    split_address(address)
    url = httpx.URL(address)
    _ = url.host  # reads what xn-- stands for
    url.raw_host.decode("ascii").encode("idna")
    return url


def _check_timeout(timeout_s: object) -> None:
    if not isinstance(timeout_s, int | float) or not 0 < timeout_s <= TIMEOUT_S_MAX:
        raise InvalidArgument(
            f"timeout_s must be a number of seconds above 0, and at most {TIMEOUT_S_MAX}"
        )


# --- proxies --------------------------------------------------------------------------------------


def proxy_variable(address: str, environment: Mapping[str, str]) -> str | None:
    """Which variable names the proxy on the way to a service, if any does.

    Raises:
        InvalidArgument: the service's address is none.
        InvalidEnvironment: the variable names one that cannot be used.
    """
    proxy = _proxy_for(check_address(address), environment)
    return None if proxy is None else proxy.variable


def _proxy_for(url: httpx.URL, environment: Mapping[str, str]) -> _Proxy | None:
    """The proxy that the environment names for this address, if any.

    Raises:
        InvalidEnvironment: it names one that cannot be used.
    """
    # As Python reads them: small letters first, and what a CGI request may have set does not count.
    named = getproxies()
    kind = next((kind for kind in (url.scheme, "all") if named.get(kind)), None)
    if kind is None or _is_direct(url, named.get("no", "")):
        return None
    given = named[kind]
    variable = next(
        (
            name
            for name in (f"{kind}_proxy", f"{kind}_PROXY".upper())
            if environment.get(name) == given
        ),
        "the system's setting of a proxy",
    )
    address = given if "://" in given else f"http://{given}"
    proxy = _Proxy(address, variable)
    if proxy.scheme not in PROXY_SCHEMES:
        raise _unusable_proxy(proxy, "names a kind of proxy that is not known")
    if proxy.scheme.startswith("socks") and not _has_socks():
        raise _unusable_proxy(
            proxy,
            "names a SOCKS proxy, for which the package socksio is not installed",
            how="install it",
        )
    try:
        _url(address)
    except (httpx.InvalidURL, ValueError) as error:
        raise _unusable_proxy(proxy, "is no address of a proxy") from error
    return proxy


def _unusable_proxy(
    proxy: _Proxy,
    fault: str,
    how: str = "write it like http://proxy.example:3128 or socks5://proxy.example:1080",
) -> InvalidEnvironment:
    # Without the value: it may hold a password.
    return InvalidEnvironment(
        f"{proxy.variable} {fault}",
        fix=f"{how}, unset it, or name the service's host in NO_PROXY",
    )


def _has_socks() -> bool:
    try:
        import socksio  # type: ignore[import-not-found,unused-ignore]  # noqa: F401, PLC0415
    except ImportError:
        return False
    return True


def _is_direct(url: httpx.URL, no_proxy: str) -> bool:
    host = url.host.lower().rstrip(".")
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    port = url.port or PORTS.get(url.scheme)
    return any(
        _excepts(entry, host, address, port) for entry in no_proxy.lower().replace(",", " ").split()
    )


def _excepts(
    entry: str, host: str, address: IPv4Address | IPv6Address | None, port: int | None
) -> bool:
    """Whether an entry of NO_PROXY is about this host. What cannot be read is about none."""
    if entry == "*":
        return True
    if address is not None:
        try:
            return address in ip_network(entry.replace("[", "").replace("]", ""), strict=False)
        except ValueError:
            pass  # no network: an address with a port, or a name
    try:
        parts = urlsplit(entry if "://" in entry else f"//{entry}")
        name, wanted_port = (parts.hostname or "").lstrip("*").strip("."), parts.port
    except ValueError:
        return False
    if not name or wanted_port not in (None, port):
        return False
    return host == name or (address is None and host.endswith(f".{name}"))


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None


# --- certificates ---------------------------------------------------------------------------------

_LOADS: Final[dict[str, Callable[[ssl.SSLContext, str], object]]] = {
    "SSL_CERT_FILE": lambda context, value: context.load_verify_locations(cafile=value),
    "SSL_CERT_DIR": lambda _context, value: next(
        os.scandir(value), None
    ),  # OpenSSL looks only later
    "SSLKEYLOGFILE": lambda context, value: setattr(context, "keylog_filename", value),
}
"""Variables that can keep a TLS context from being made, and what finds out whether they do."""


def _trusted(environment: Mapping[str, str]) -> ssl.SSLContext:
    """Whom to believe.

    Raises:
        InvalidEnvironment: a variable names a file or folder that cannot be used.
    """
    file, folder = environment.get("SSL_CERT_FILE"), environment.get("SSL_CERT_DIR")
    try:
        if not file and folder:
            _LOADS["SSL_CERT_DIR"](ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), folder)
        if file or folder:
            return ssl.create_default_context(cafile=file or None, capath=folder or None)
        return httpx.create_ssl_context(trust_env=False)
    except (OSError, ValueError) as error:
        raise InvalidEnvironment(
            f"{_at_fault(environment)} cannot be used: {error}",
            fix="let it name something that is there and readable (certificates in PEM), or"
            " unset it",
        ) from error


def _at_fault(environment: Mapping[str, str]) -> str:
    for variable, load in _LOADS.items():
        value = environment.get(variable)
        if value:
            try:
                load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), value)
            except (OSError, ValueError):
                return f"what {variable} names"
    return "the certificates of this installation"


def certificate_fix(error: BaseException | None) -> str:
    """What to do if the other side's certificate was not believed; "" if it was not that."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    if error is None:
        return ""
    if error.verify_code in _HOSTNAME_MISMATCH:
        return "base_url must name the host as its certificate does"
    if error.verify_code in _OUT_OF_DATE:
        return "it must be renewed, unless it is this machine's clock that is wrong"
    return (
        "if it is of a private authority, let SSL_CERT_FILE name the file of that authority's"
        " certificate; if it is self-signed, the file of the certificate itself"
    )
