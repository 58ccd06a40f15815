"""The way to the nodes: TLS, who we are, and that no password is said where it must not be."""

import asyncio
import base64
import json
import os
import re
import socket
import threading
from pathlib import Path
from typing import Any

import msgspec
import nkeys  # type: ignore[import-untyped]
import pytest
import trustme
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport

from pullstatus.errors import InvalidSetting, StoreRefused, StoreUnavailable
from pullstatus.store import audit_store, open_store
from pullstatus.store.jetstream import api, links
from pullstatus.store.jetstream.bus import Bus
from pullstatus.store.jetstream.links import Links
from pullstatus.store.jetstream.location import Address, Login, parse_url
from pullstatus.store.jetstream.opening import opened
from tests.harness import ROOT
from tests.store.build import STATUSES, append, pull, records, repeat_key
from tests.store.jetstream import real
from tests.store.jetstream.conftest import until
from tools.nats import Cluster

ALONE = "single-node-for-tests=yes"


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that is let in, or not, may take long to say so on a busy machine."""
    monkeypatch.setattr(links, "CONNECT_S", 60)
    monkeypatch.setattr(links, "START_S", 240.0)
    monkeypatch.setattr("pullstatus.store.jetstream.nodes.LOOK_S", 60.0)


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """Its certificate is ca.pem, and ours client.pem; both ways for localhost."""
    found = trustme.CA()
    found.cert_pem.write_to_path(tmp_path / "ca.pem")
    found.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "n.pem")
    ours = found.issue_cert("client")
    ours.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    return found


def over_tls(folder: Path, **more: str) -> dict[str, str]:
    """Settings of a node."""
    words = {"cert_file": f'"{folder}/n.pem"', "key_file": f'"{folder}/n.pem"'} | more
    return {"tls": "{ " + ", ".join(f"{name}: {value}" for name, value in words.items()) + " }"}


def test_the_client_has_the_private_parts_that_we_know_of() -> None:
    client = Client()
    for part in (
        "_connect_command",
        "_close",
        "_server_info",
        "_subs",
        "_pending",
        "_pending_data_size",
    ):
        assert hasattr(client, part), part
    assert client._transport is None
    assert hasattr(TcpTransport(), "_io_writer")  # type: ignore[no-untyped-call]
    assert callable(Subscription._stop_processing)


def test_tls_is_taken_from_whom_we_know(tmp_path: Path, authority: trustme.CA) -> None:
    with Cluster(1, server=over_tls(tmp_path)) as nodes:
        with Bus(parse_url(nodes.url("x", f"{ALONE}&tls={tmp_path}/ca.pem")), Login()) as bus:
            assert bus.init(1)
        other = tmp_path / "other.pem"
        trustme.CA().cert_pem.write_to_path(other)
        for tls in (str(other), "yes"):
            with pytest.raises(StoreUnavailable, match="TLS is not to be trusted"):
                Bus(parse_url(nodes.url("x", f"{ALONE}&tls={tls}")), Login())


def test_nodes_may_ask_for_a_certificate(tmp_path: Path, authority: trustme.CA) -> None:
    settings = over_tls(tmp_path, ca_file=f'"{tmp_path}/ca.pem"', verify="true")
    with Cluster(1, server=settings) as nodes:
        url = nodes.url("x", f"{ALONE}&tls={tmp_path}/ca.pem")
        with pytest.raises(StoreUnavailable):
            Bus(parse_url(url), Login())
        ours = f"{url}&tls-certificate={tmp_path}/client.pem&tls-key={tmp_path}/client.pem"
        with Bus(parse_url(ours), Login()) as bus:
            assert bus.init(1)


def test_what_is_no_certificate_is_told(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")
    for file in ("ca.pem", "nothing.pem"):
        location = parse_url(f"jetstream://a/x?monitor=a&tls={tmp_path}/{file}")
        with pytest.raises(InvalidSetting, match="tls, tls-certificate and tls-key"):
            Links(location, Login(), lambda: None)


def test_no_password_is_said_to_who_has_no_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stands between may say that there is none."""
    monkeypatch.setattr(links, "PAUSE_S", 60.0)  # each of two connections is tried once
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            for _ in range(2):
                peer, _ = listener.accept()
                with peer:
                    peer.sendall(b'INFO {"server_id":"a","max_payload":1048576}\r\n')
                    heard.append(peer.recv(4096))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        with Cluster(1) as nodes:
            location = parse_url(nodes.url("x", f"{ALONE}&tls=yes"))
            there = Address("127.0.0.1", listener.getsockname()[1])
            between = msgspec.structs.replace(location, servers=(there,))
            with pytest.raises(StoreUnavailable, match="a node has no TLS"):
                Bus(between, Login("me", "s3cret"))
        thread.join(10)
    assert heard == [b"", b""]


def test_who_we_are_is_proven_and_not_shown() -> None:
    with Cluster(1, server={"authorization": "{ user: me, password: s3cret }"}) as nodes:
        location = parse_url(nodes.url("x", ALONE))
        with Bus(location, Login("me", "s3cret")) as bus:
            assert bus.init(1)
        for wrong in (Login(), Login("me", "s3cret2")):
            with pytest.raises(StoreUnavailable, match=r"does not let us in: .*NATS_USER") as found:
                Bus(location, wrong)
            assert "s3cret" not in str(found.value)


def test_what_the_user_may_not_do_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "REQUEST_S", 2.0)
    monkeypatch.setattr(api, "GIVE_UP_S", 5.0)
    deny = '{ user: me, password: s3cret, permissions: { publish: { deny: "$JS.API.>" } } }'
    with Cluster(1, server={"authorization": f"{{ users: [{deny}] }}"}) as nodes:
        location = parse_url(nodes.url("x", ALONE))
        with (
            Bus(location, Login("me", "s3cret")) as bus,
            pytest.raises(StoreUnavailable, match="the user may not do what is due"),
        ):
            bus.init(1)


def test_an_account_as_the_documents_have_it_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs/how-to/cluster.md").read_text()
    [block] = re.findall(r"^```\naccounts (\{\n.*?^\})\n```", page, re.MULTILINE | re.DOTALL)

    async def use(url: str) -> None:
        store = await open_store(url, server=True)
        keyed = append(STATUSES, records(30), key=repeat_key("k"))
        assert [await store.append(keyed) for _ in range(2)] == [30, 0]
        assert (await store.pull(pull(STATUSES, 10))).count == 10
        assert not (await audit_store(url, lambda _done, _total: None)).findings
        await store.close()

    monkeypatch.setenv("PULLSTATUS_NATS_PASSWORD", "...")
    with Cluster(server={"accounts": block}) as nodes:
        url = nodes.url("mailboxes")
        monkeypatch.setenv("PULLSTATUS_NATS_USER", "operator")
        real.make_store(url, 1)
        monkeypatch.setenv("PULLSTATUS_NATS_USER", "pullstatus")
        asyncio.run(use(url))
        with opened(parse_url(url)) as (bus, layout, _):
            stream = layout.stream(0)
            until(lambda: bus._wait(bus._all_answer_now(stream)))
            while (led := bus.cluster([stream]).streams[0]) is None:
                pass
            first, second = led.leader, led.copies[0].node

            def passed_on() -> bool:
                bus.step_down(stream, second)
                now = bus.cluster([stream]).streams[0]
                return now is not None and now.leader != first

            until(passed_on)
            newest = bus.newest(stream)
            bus.delete(stream, newest)
            monkeypatch.setattr(api, "REQUEST_S", 60.0)  # said again, it would remove nothing
            assert bus.purge(stream, "mailboxes.>", below=newest) > 0


def test_nobody_there_is_said() -> None:
    with Cluster(1) as nodes:
        location = parse_url(nodes.url("x", ALONE))
        other = parse_url("jetstream://127.0.0.1:1/x?monitor=a").servers
        with pytest.raises(StoreUnavailable, match="no node can be reached"):
            Bus(msgspec.structs.replace(location, servers=other), Login())
    with pytest.raises(StoreRefused, match="does not answer: more than half"):
        Bus(location, Login())


def test_a_file_of_credentials_says_who_we_are(tmp_path: Path) -> None:
    operator = key(nkeys.PREFIX_BYTE_OPERATOR)
    system, account = key(nkeys.PREFIX_BYTE_ACCOUNT), key(nkeys.PREFIX_BYTE_ACCOUNT)
    user = key(nkeys.PREFIX_BYTE_USER)
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    storage = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
    of_account = signed(operator, account, "account", limits=limits | storage)
    of_system = signed(operator, system, "account", limits=limits)
    settings = {
        "operator": signed(operator, operator, "operator"),
        "resolver": "MEMORY",
        "system_account": name(system),
        "resolver_preload": f"{{ {name(account)}: {of_account}, {name(system)}: {of_system} }}",
    }
    credentials = tmp_path / "user.creds"
    of_user = signed(account, user, "user", subs=-1, data=-1, payload=-1)
    credentials.write_text(
        f"-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    with Cluster(1, server=settings) as nodes:
        location = parse_url(nodes.url("x", ALONE))
        with Bus(location, Login(credentials=str(credentials))) as bus:
            assert bus.init(1)
        with pytest.raises(StoreUnavailable, match="does not let us in"):
            Bus(location, Login())


def key(prefix: int) -> Any:  # noqa: ANN401 it has no types
    """A new pair of keys, of that kind."""
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), prefix))


def name(pair: Any) -> str:  # noqa: ANN401
    return str(pair.public_key.decode())


def signed(issuer: Any, subject: Any, kind: str, **claims: object) -> str:  # noqa: ANN401
    """A token of NATS, about the subject."""
    said = {
        "jti": "x",
        "iat": 1_700_000_000,
        "iss": name(issuer),
        "sub": name(subject),
        "name": kind,
        "nats": claims | {"type": kind, "version": 2},
    }
    parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, said]
    text = ".".join(_text(json.dumps(part).encode()) for part in parts)
    return f"{text}.{_text(issuer.sign(text.encode()))}"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
