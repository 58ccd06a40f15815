"""The server's TLS certificate, which can be renewed while connections are open."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from pullstatus import limits
from pullstatus.errors import InvalidSetting
from pullstatus.files import check_ordinary
from pullstatus.modes import trouble_of

if TYPE_CHECKING:
    from cryptography import x509

log = structlog.get_logger(__name__)

_FIRST: Final = re.compile(rb"-----BEGIN (?:X509 |(TRUSTED ))?CERTIFICATE-----")  # as OpenSSL does


class Certificate:
    """Gives each new handshake the newest certificate; open connections keep theirs.

    Attributes:
        end_s: until when that is good, in Unix seconds.
    """

    def __init__(self, certificate: Path, key: Path | None) -> None:
        """Read PEM files: the certificate with its chain, and its key.

        Raises:
            InvalidSetting: they are no use.
        """
        self.renew(certificate, key)
        self.context = _read(certificate, key)  # the one to listen with
        self.context.sni_callback = self._choose

    def renew(self, certificate: Path, key: Path | None) -> None:
        """Read the files anew; if that fails, everything stays as it was.

        Raises:
            InvalidSetting: they are no use.
        """
        newest, end_s = _read(certificate, key), _end_s(certificate)
        self._newest, self.end_s = newest, end_s

    def _choose(
        self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        # Called in every handshake, whether the client names a host or not. A context of its own
        # for each pair of files: half of a new pair never gets into use.
        handshake.context = self._newest


def _read(certificate: Path, key: Path | None) -> ssl.SSLContext:
    for file in filter(None, (certificate, key)):
        trouble = trouble_of(file, secret=file is key)
        if trouble.refused:
            raise InvalidSetting(trouble.refused)
        if trouble.warned:
            log.warning("others have access", reason=trouble.warned)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        for file in filter(None, (certificate, key)):
            check_ordinary(file, limits.NAMED_FILE_BYTES_MAX)
        context.load_cert_chain(certificate, key, password=no_password)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InvalidSetting(
            "the TLS certificate and key cannot be used: both must be PEM files, and the key"
            f" without a password must fit the certificate ({why})"
        ) from error
    return context


def _end_s(certificate: Path) -> float:
    try:
        return first_of(certificate.read_bytes()).not_valid_after_utc.timestamp()
    except (OSError, ValueError) as error:
        raise InvalidSetting(
            f"until when the TLS certificate is good cannot be read ({error})"
        ) from error


def first_of(pem: bytes) -> x509.Certificate:
    """The first certificate of a file, which is the server's own.

    OpenSSL has taken it, and it may be none to others: one with notes (`-trustout`), which they
    would pass over for the next of the chain, or one of a version that there is not.

    Raises:
        ValueError: there is none, or it is such a one.
    """
    from cryptography import x509  # noqa: PLC0415 - a server behind a proxy starts without it

    first = _FIRST.search(pem)
    if first is not None and first[1]:
        raise ValueError("a TRUSTED CERTIFICATE; `openssl x509` writes a usual one")
    try:
        return x509.load_pem_x509_certificate(pem)
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from error


def no_password() -> str:
    """Else OpenSSL would ask for one on the terminal, and wait."""
    raise ValueError("the key has a password")
