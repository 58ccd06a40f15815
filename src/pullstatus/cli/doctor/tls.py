"""TLS: whether certificate and key fit, until when they are good, and what callers make of them."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pullstatus import limits
from pullstatus.cli.doctor.findings import Finding, fault, ok, warning
from pullstatus.cli.output import moment
from pullstatus.files import check_ordinary
from pullstatus.records.hours import DAY_MS
from pullstatus.server.certificate import first_of, no_password

CONNECT_S = 5.0
SOON_MS = 14 * DAY_MS  # as the alarm has it
RENEW = "renew it, then systemctl reload pullstatus"
CHAIN = (
    "put the certificates between it and its root behind it in the same file; of an authority of"
    " your own, name the root: SSL_CERT_FILE=FILE"
)


class Chain(msgspec.Struct, frozen=True):
    """What a server shows.

    Attributes:
        begin_ms, end_ms: between them it is good, in Unix milliseconds.
        distrust: why a caller with the roots of this machine refuses it; "": it does not.
    """

    leaf: bytes
    begin_ms: int
    end_ms: int
    distrust: str = ""


def of_files(certificate: Path, key: Path) -> Chain:
    """What a server with these files would show, by a handshake in memory.

    Raises:
        OSError, ValueError: they cannot be read, or do not fit; `ssl.SSLError` is one of the first.
    """
    for file in (certificate, key):
        check_ordinary(file, limits.NAMED_FILE_BYTES_MAX)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key, password=no_password)
    leaf = first_of(certificate.read_bytes()).public_bytes(Encoding.DER)
    calling = ssl.create_default_context()
    calling.check_hostname = False  # it may have any number of names
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = calling.wrap_bio(down, up)
    server = serving.wrap_bio(up, down, server_side=True)
    try:
        for _ in range(4):  # flights of a handshake
            for end in (caller, server):
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return _chain(leaf, error.verify_message)
    return _chain(leaf)


def of_server(address: str, *, own: bool) -> Chain:
    """What the server of an https URL shows.

    Args:
        own: it is on this machine, and asked by an address that is not in its certificate.

    Raises:
        OSError: there is none, or it speaks no TLS.
    """
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port or 443
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    with _connected(anybody, host, port) as connection:
        leaf = connection.getpeercert(binary_form=True) or b""
    if not own:
        try:
            with _connected(ssl.create_default_context(), host, port):
                pass
        except ssl.SSLCertVerificationError as error:
            return _chain(leaf, error.verify_message)
    return _chain(leaf)


def _connected(context: ssl.SSLContext, host: str, port: int) -> ssl.SSLSocket:
    return context.wrap_socket(
        socket.create_connection((host, port), CONNECT_S), server_hostname=host
    )


def _chain(leaf: bytes, distrust: str = "") -> Chain:
    read = x509.load_der_x509_certificate(leaf)
    begin, end = read.not_valid_before_utc, read.not_valid_after_utc
    return Chain(leaf, int(begin.timestamp() * 1000), int(end.timestamp() * 1000), distrust)


def unusable(error: Exception) -> Finding:
    """Certificate or key cannot be used."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return fault(
        "tls",
        f"certificate and key cannot be used: {why}",
        "both are PEM files, and the key without a password fits the certificate",
    )


def unreached(error: OSError) -> Finding:
    """No handshake came about."""
    return fault(
        "tls",
        f"no TLS there: {error.strerror or type(error).__name__}",
        "systemctl status pullstatus, or that of the proxy in front of it",
    )


def certificate(chain: Chain, now_ms: int) -> Finding:
    """Judge what is shown."""
    if chain.end_ms <= now_ms:
        return fault("tls", f"the certificate ended {moment(chain.end_ms)}", RENEW)
    if chain.begin_ms > now_ms:
        return fault(
            "tls", f"the certificate begins {moment(chain.begin_ms)}", f"set the clock, or {RENEW}"
        )
    said = f"the certificate ends {moment(chain.end_ms)}"
    if chain.end_ms - now_ms < SOON_MS:
        return warning("tls", said, RENEW)
    if chain.distrust:
        return warning("tls", f"{said}, but callers refuse it: {chain.distrust}", CHAIN)
    return ok("tls", said)


def renewed(file: Chain, shown: Chain) -> list[Finding]:
    """Judge whether the server shows what lies in the file."""
    if file.leaf == shown.leaf:
        return []
    return [
        warning(
            "tls",
            "the server shows another certificate than the file",
            "systemctl reload pullstatus",
        )
    ]
