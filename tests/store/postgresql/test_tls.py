"""The way to a server on another machine: TLS, certificates of clients, passwords.

Debian's server, since that of the Python package has no TLS.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from pullstatus.errors import StoreRefused
from pullstatus.store import init_store, open_store
from tools.postgresql import DEBIAN, UNPRIVILEGED, PostgreSQL, majors

pytestmark = [pytest.mark.anyio, pytest.mark.needs("postgres")]

PASSWORD = "not to be shown"
HBA = b"""
local   all all      trust
hostssl all certuser all cert
hostssl all all      all scram-sha-256
"""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server(authority: trustme.CA) -> Iterator[PostgreSQL]:
    """One that is named localhost, with a role that has a password, and one with a certificate."""
    [major, *_] = [number for number, place in majors().items() if place.is_relative_to(DEBIAN)]
    found = PostgreSQL(major)
    issued = authority.issue_cert("localhost")
    for setting, name, content in (
        ("ssl_cert_file", "server.crt", issued.cert_chain_pems[0].bytes()),
        ("ssl_key_file", "server.key", issued.private_key_pem.bytes()),
        ("ssl_ca_file", "ca.crt", authority.cert_pem.bytes()),
        ("hba_file", "hba", HBA),
    ):
        file = found.folder / name
        file.write_bytes(content)
        file.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(file, pwd.getpwnam(UNPRIVILEGED).pw_uid, -1)
        found._settings[setting] = str(file)
    found._settings["ssl"] = "on"
    with found:
        with found.connect() as connection:
            connection.execute(f"CREATE ROLE owner LOGIN PASSWORD '{PASSWORD}'")
            connection.execute("CREATE ROLE certuser LOGIN IN ROLE owner")
            connection.execute("CREATE DATABASE store OWNER owner TEMPLATE template0")
        yield found


@pytest.fixture
def trusted(tmp_path: Path, authority: trustme.CA) -> str:
    """What a URL says of whom we trust."""
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    return f"?commits=thread&sslmode=verify-full&sslrootcert={tmp_path / 'ca.crt'}"


def url(server: PostgreSQL, query: str, user: str = "owner", host: str = "localhost") -> str:
    return f"postgresql://{user}@{host}:{server.port}/store{query}"


async def refused(where: str) -> str:
    with pytest.raises(StoreRefused) as refusal:
        await open_store(where)
    assert PASSWORD not in str(refusal.value)
    return str(refusal.value)


async def test_a_server_that_proves_its_name_is_used(
    server: PostgreSQL, trusted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text(f"localhost:{server.port}:store:owner:{PASSWORD}\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    await init_store(url(server, trusted))
    store = await open_store(url(server, trusted))
    encrypted = server.ask(
        "SELECT bool_and(ssl) FROM pg_stat_ssl s JOIN pg_stat_activity USING (pid)"
        " WHERE usename = 'owner'"
    )
    assert encrypted
    await store.close()


async def test_another_name_or_authority_is_refused(
    server: PostgreSQL, trusted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert 'does not match host name "127.0.0.1"' in await refused(
        url(server, trusted, host="127.0.0.1")
    )
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.crt")
    other = trusted.replace("ca.crt", "other.crt")
    assert "certificate verify failed" in await refused(url(server, other))
    assert "no encryption" in await refused(url(server, "?sslmode=disable"))


async def test_who_brings_no_password_is_told_where_it_goes(
    server: PostgreSQL, trusted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", os.devnull)
    assert "a file that PGPASSFILE names" in await refused(url(server, trusted))
    monkeypatch.setenv("PGPASSWORD", f"{PASSWORD}!")
    assert "password authentication failed" in await refused(url(server, trusted))


async def test_a_certificate_can_stand_for_a_password(
    server: PostgreSQL, trusted: str, authority: trustme.CA, tmp_path: Path
) -> None:
    assert "valid client certificate" in await refused(url(server, trusted, "certuser"))
    issued = authority.issue_cert("machine@example.org", common_name="certuser")
    certificate, key = tmp_path / "client.crt", tmp_path / "client.key"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    own = f"{trusted}&sslcert={certificate}&sslkey={key}"
    store = await open_store(url(server, own, "certuser"))
    await store.close()
