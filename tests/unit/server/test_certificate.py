"""The certificate of each handshake, over memory: which one is shown, and what is refused."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from pullstatus.errors import InvalidSetting
from pullstatus.server.certificate import Certificate

NAMES = [None, "localhost", "elsewhere.example"]


class Files:
    """A certificate and its key, made anew when asked."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key = folder / "cert.pem", folder / "key.pem"
        self.authority = trustme.CA()
        self.issue()

    def issue(self) -> None:
        issued = self.authority.issue_cert("localhost")
        issued.private_key_pem.write_to_path(self.key)
        self.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))

    def der(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert(self.certificate.read_text(encoding="ascii"))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def handshake(server: Certificate, name: str | None) -> ssl.SSLObject:
    """A client's end of one, complete."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(down, up, server_hostname=name)
    other = server.context.wrap_bio(up, down, server_side=True)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for end in (client, other):
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                continue
    return client


@pytest.mark.parametrize("name", NAMES)
def test_handshake_shows_the_newest_certificate(files: Files, name: str | None) -> None:
    """Whether the client names a host, and which."""
    certificate = Certificate(files.certificate, files.key)
    first = files.der()
    before = handshake(certificate, name)
    assert before.getpeercert(binary_form=True) == first
    files.issue()
    assert handshake(certificate, name).getpeercert(binary_form=True) == first
    certificate.renew(files.certificate, files.key)
    assert handshake(certificate, name).getpeercert(binary_form=True) == files.der() != first
    assert before.getpeercert(binary_form=True) == first


def test_certificate_and_key_may_be_one_file(files: Files) -> None:
    issued = files.der()
    files.certificate.write_bytes(files.key.read_bytes() + files.certificate.read_bytes())
    certificate = Certificate(files.certificate, None)
    assert handshake(certificate, None).getpeercert(binary_form=True) == issued


V3, V4 = bytes.fromhex("a003020102"), bytes.fromhex("a003020103")  # as a certificate says them


def trusted(der: bytes) -> bytes:
    """A certificate with notes of OpenSSL's own, as of `openssl x509 -trustout`."""
    lines = base64.encodebytes(der + bytes([0x30, 0])).decode()
    label = "TRUSTED CERTIFICATE-----"
    return f"-----BEGIN {label}\n{lines}-----END {label}\n".encode()


def only_openssls(files: Files, how: str) -> bytes:
    """A file that OpenSSL takes, and whose end nobody else can tell."""
    der = files.der()
    chain = files.authority.cert_pem.bytes()
    if how == "of another version":
        der = der.replace(V3, V4, 1)
        return ssl.DER_cert_to_PEM_cert(der).encode()
    return trusted(der) + (chain if how == "trusted, before its chain" else b"")


ONLY_OPENSSLS = pytest.mark.parametrize(
    "how", ["trusted", "trusted, before its chain", "of another version"]
)


@ONLY_OPENSSLS
def test_certificate_whose_end_is_not_known_is_refused(files: Files, how: str) -> None:
    files.certificate.write_bytes(only_openssls(files, how))
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key)
    with pytest.raises(InvalidSetting, match="until when the TLS certificate is good"):
        Certificate(files.certificate, files.key)


@ONLY_OPENSSLS
def test_renewal_by_one_whose_end_is_not_known_changes_nothing(files: Files, how: str) -> None:
    certificate = Certificate(files.certificate, files.key)
    first, end_s = files.der(), certificate.end_s
    files.issue()
    files.certificate.write_bytes(only_openssls(files, how))
    with pytest.raises(InvalidSetting, match="until when the TLS certificate is good"):
        certificate.renew(files.certificate, files.key)
    assert handshake(certificate, None).getpeercert(binary_form=True) == first
    assert certificate.end_s == end_s


@pytest.mark.parametrize("half", ["certificate", "key"])
def test_half_of_a_new_pair_never_gets_into_use(files: Files, half: str) -> None:
    certificate = Certificate(files.certificate, files.key)
    first = files.der()
    path: Path = getattr(files, half)
    old = {each: each.read_bytes() for each in (files.certificate, files.key) if each != path}
    files.issue()
    for each, content in old.items():
        each.write_bytes(content)
    with pytest.raises(InvalidSetting, match="must fit the certificate"):
        certificate.renew(files.certificate, files.key)
    assert handshake(certificate, None).getpeercert(binary_form=True) == first


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file"),
        (b"", "PEM"),
        (b"-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n", "PEM"),
    ],
)
def test_file_that_is_no_use_is_refused(files: Files, content: bytes | None, why: str) -> None:
    files.certificate.unlink()
    if content is not None:
        files.certificate.write_bytes(content)
    with pytest.raises(InvalidSetting, match=why):
        Certificate(files.certificate, files.key)


def test_key_with_a_password_is_refused_and_nobody_is_asked_for_it(files: Files) -> None:
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(InvalidSetting, match="the key has a password"):
        Certificate(files.certificate, files.key)
