"""The server where anybody can reach it, as its document says: behind a real nginx, and by itself.

nginx runs the file that is handed out, which the document shows; ports, other files and some times
are the test's. A client's address is whichever of 127.0.0.0/8 it calls from.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import trustme

from pullstatus import Client, Kind, limits
from tests.harness import PATIENCE_S, ROOT, App, Program, Wire, http_request, status, statuses
from tests.test_docs import blocks
from tools.postgresql import free_port

PAGE = "docs/how-to/expose.md"
SITE = ROOT / "dist/nginx/pullstatus.conf"
HELD = "pullstatus_pulls_held"
WATCHED = ("/healthz", "/readyz", "/metrics")
AT_A_TIME = 64  # what the document lets one address have
PER_S = 100
AT_ONCE = 50
FLOOD = 250
CUT_S = 1  # instead of ten

FIREWALL = 128  # connections
KNOCKING = """
import socket, sys
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    server = socket.create_server((host, 443), family=family, backlog=200)
    wires = []
    try:
        while len(wires) < 200:
            wires.append(socket.create_connection((host, 443), timeout=10))
    except ConnectionRefusedError:
        print(len(wires))
"""

behind_nginx = pytest.mark.needs("nginx")
_marks = count(1)

MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/main.log;
worker_processes 1;
{user}
{top}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    set_real_ip_from 127.0.0.9;        # from there a test calls as whom it likes
    real_ip_header Test-Address;
    include {folder}/pullstatus.conf;
}}
"""


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """The document's text with other places in it; each must be there."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


class Secret(NamedTuple):
    """A certificate in files, and those who trust it."""

    certificate: Path
    key: Path
    authority: Path


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Secret:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("sms.example.com", "127.0.0.1")
    made = Secret(folder / "cert.pem", folder / "key.pem", folder / "authority.pem")
    issued.private_key_pem.write_to_path(made.key)
    made.key.chmod(0o600)
    issued.cert_chain_pems[0].write_to_path(made.certificate)
    authority.cert_pem.write_to_path(made.authority)
    return made


class Front:
    """What strangers reach: something that speaks TLS on a port."""

    def __init__(self, port: int, secret: Secret) -> None:
        self.address = f"https://127.0.0.1:{port}"
        self.port = port
        self.authority = secret.authority
        self._trust = ssl.create_default_context(cafile=secret.authority)

    def wire(self, source: str = "127.0.0.1") -> Wire:
        """A connection, from an address of one's own."""
        plain = socket.create_connection(
            ("127.0.0.1", self.port), timeout=PATIENCE_S, source_address=(source, 0)
        )
        return Wire.over(self._trust.wrap_socket(plain, server_hostname="127.0.0.1"))

    def client(self, source: str = "127.0.0.1") -> httpx.Client:
        transport = httpx.HTTPTransport(verify=self._trust, local_address=source)
        return httpx.Client(base_url=self.address, transport=transport, timeout=PATIENCE_S)


class Site(Front):
    """nginx with the document's configuration, in front of a server with the document's settings.

    Attributes:
        program: the server; its own requests go past nginx.
        folder: where nginx writes.
        admin: a client for health and figures.
    """

    def __init__(self, folder: Path, secret: Secret) -> None:
        super().__init__(free_port(), secret)
        self.folder = folder
        self._secret = secret
        self._admin = f"127.0.0.1:{free_port()}"
        self.admin = httpx.Client(
            base_url=f"http://{self._admin}", trust_env=False, timeout=PATIENCE_S
        )
        settings, _ = blocks("toml", PAGE)
        file = folder / "pullstatus.toml"
        file.write_text(replaced(settings, ("127.0.0.1:8090", self._admin)), encoding="utf-8")
        self.program = Program(folder, "--config", str(file))

    def figure(self, name: str) -> float:
        for line in self.admin.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[-1])
        raise AssertionError(name)

    def nginx(self, *changes: tuple[str, str]) -> subprocess.Popen[bytes]:
        """Start it, and return once it is there."""
        site = SITE.read_text(encoding="utf-8")
        *_, top = blocks("nginx", PAGE)
        places = [
            ("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"),
            ("listen [::]:443 ssl;", ""),
            ("127.0.0.1:8080", f"127.0.0.1:{self.program.port}"),
            ("/etc/nginx/tls/sms.example.com.pem", str(self._secret.certificate)),
            ("/etc/nginx/tls/sms.example.com.key", str(self._secret.key)),
            ("/var/log/nginx", str(self.folder)),
            *changes,
        ]
        (self.folder / "pullstatus.conf").write_text(replaced(site, *places), encoding="utf-8")
        user = "" if os.geteuid() else "user root;"
        text = MAIN.format(folder=self.folder, user=user, top=top)
        (self.folder / "nginx.conf").write_text(text, encoding="utf-8")
        with (self.folder / "nginx.out").open("ab") as out:
            process = subprocess.Popen(
                ["nginx", "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")],
                stdout=out,
                stderr=out,
            )

        def there() -> bool:
            assert process.poll() is None, (self.folder / "nginx.out").read_text()
            with contextlib.suppress(OSError):
                self.wire().close()
                return True
            return False

        self.program.until(there)
        return process


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, secret: Secret) -> Iterator[Site]:
    """A site for all tests that change nothing about it."""
    with started(Site(tmp_path_factory.mktemp("site"), secret)) as made:
        yield made


@contextlib.contextmanager
def started(site: Site, *changes: tuple[str, str]) -> Iterator[Site]:
    site.program.set_aside(8)
    with site.program, contextlib.closing(site.admin):
        process = site.nginx(*changes)
        try:
            yield site
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def held(site: Site, app: App, *headers: str) -> bytes:
    return http_request("POST", *app.request(), headers=["Pullstatus-Wait: 50", *headers])


@behind_nginx
def test_what_clients_do_works_through_nginx(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches in both shapes, callbacks, pages of a hundred, and our own client."""
    app = site.program.spare_app()
    token = site.program.create_token("sender", app=app)
    lines = "\n".join(map(json.dumps, statuses(300)))
    with site.client() as client:
        taken = client.post(
            f"/ingest/{app.sdkappid}/delivery-statuses",
            content=iter([lines.encode()]),  # in chunks
            headers={
                "Authorization": f"Bearer {site.program.token}",
                "Content-Type": "application/x-ndjson",
            },
        )
        assert taken.json() == {"accepted": 300}
        called = client.post(f"/callbacks/{token}", json=[status(301)])
        assert called.json()["result"] == 0
    monkeypatch.setenv("SSL_CERT_FILE", str(site.authority))
    with Client(site.address, app.sdkappid, app.appkey, reader="here") as puller:
        pulled = []
        for batch in puller.delivery_statuses(follow=False):
            with batch:
                pulled += [one.sid for one in batch]
    assert pulled == [one["sid"] for one in statuses(301)]


@behind_nginx
def test_what_is_signed_for_api_3_fits_behind_nginx(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host is signed as the caller has it: with a port, where that is not the usual one."""
    app = site.program.spare_app()
    made = site.program.cli("secret", "create", "--app", str(app.sdkappid))
    pair = {"secret_id": made["secret_id"], "secret_key": made["secret_key"]}
    site.program.feed(app, statuses(1))
    monkeypatch.setenv("SSL_CERT_FILE", str(site.authority))
    with Client(site.address, app.sdkappid, **pair) as client:
        assert [one.sid for one in client.pull(Kind.DELIVERY_STATUS)] == ["8:1"]
    with site.wire() as wire:
        wire.send(b"GET /nothing HTTP/1.0\r\n\r\n")  # as balancers ask, without a host
        assert wire.ended() is False


@behind_nginx
def test_health_and_figures_are_not_outside(site: Site) -> None:
    with site.client() as client:
        assert [client.get(path).status_code for path in WATCHED] == [404] * 3
    assert [site.admin.get(path).status_code for path in WATCHED] == [200] * 3


@behind_nginx
def test_the_server_knows_callers_by_what_nginx_says_and_by_nothing_else(site: Site) -> None:
    app = site.program.spare_app()
    site.program.cli("app", "set", str(app.sdkappid), "--allow", "127.0.0.3")

    def result(source: str, **headers: str) -> int:
        target, body = app.request()
        with site.client(source) as client:
            return int(client.post(target, content=body, headers=headers).json()["result"])

    site.program.until(lambda: result("127.0.0.4") != 0)
    assert result("127.0.0.3") == 0
    forged = {"X-Forwarded-For": "127.0.0.3", "Forwarded": "for=127.0.0.3"}
    assert result("127.0.0.4", **forged) == result("127.0.0.4") != 0


@behind_nginx
def test_held_pull_is_answered_by_what_comes_and_leaves_with_its_caller(site: Site) -> None:
    app = site.program.spare_app()
    with site.wire() as gone:
        gone.send(held(site, app))
        site.program.until(lambda: site.figure(HELD) == 1)
    site.program.until(lambda: site.figure(HELD) == 0)
    with site.wire() as wire:
        wire.send(held(site, app))
        site.program.until(lambda: site.figure(HELD) == 1)
        site.program.feed(app, statuses(1))
        assert wire.read().data == statuses(1)


@behind_nginx
def test_a_body_that_is_too_large_is_refused_before_the_server(site: Site) -> None:
    app = site.program.spare_app()
    target = f"/ingest/{app.sdkappid}/replies"
    headers = {"Authorization": f"Bearer {site.program.token}", "Content-Type": "application/json"}
    most = limits.INGEST_BODY_BYTES_MAX
    with site.client() as client:
        refused = client.post(target, content=b" " * (most + 1), headers=headers)
        assert refused.status_code == 413
        assert "pullstatus-request-id" not in refused.headers, "nginx has said so"
        whole = client.post(target, content=b"[" + b" " * (most - 1), headers=headers)
        assert whole.status_code == 400
        assert "pullstatus-request-id" in whole.headers


@behind_nginx
@pytest.mark.parametrize("part", ["head", "body"])
def test_a_slow_sender_is_cut_and_holds_up_nobody(
    tmp_path: Path, secret: Secret, part: str
) -> None:
    """The server hears nothing of him."""
    cut = [
        (f"client_{one}_timeout 10s", f"client_{one}_timeout {CUT_S}s")
        for one in ("header", "body")
    ]
    with started(Site(tmp_path, secret), *cut) as site:
        app = site.program.spare_app()
        request = http_request("POST", *app.request())
        with site.wire("127.0.0.5") as slow, site.client("127.0.0.6") as quick:
            slow.send(request[:-1] if part == "body" else request[:40])
            began = time.monotonic()
            target, body = app.request()
            assert quick.post(target, content=body).json()["result"] == 0
            assert slow.ended()
            assert time.monotonic() - began < PATIENCE_S
        assert site.figure('pullstatus_pulls_total{result="0"}') == 1


@behind_nginx
def test_one_address_has_so_many_requests_at_a_time(site: Site) -> None:
    """Beyond them it is told when to come again; others go on meanwhile."""
    crowd(site, site.program.spare_app(), lambda _number: ("127.0.0.7", []))


@behind_nginx
def test_an_ipv6_network_counts_as_one_address(site: Site) -> None:
    crowd(
        site,
        site.program.spare_app(),
        lambda number: ("127.0.0.9", [f"Test-Address: 2001:db8:0:a0a::{number + 1:x}:a0a"]),
    )


def crowd(site: Site, app: App, caller: Callable[[int], tuple[str, list[str]]]) -> None:
    def pull(number: int) -> Wire:
        source, headers = caller(number)
        wire = stack.enter_context(site.wire(source))
        wire.send(held(site, app, *headers))
        return wire

    with contextlib.ExitStack() as stack:
        for number in range(AT_A_TIME):
            pull(number)
        site.program.until(lambda: site.figure(HELD) == AT_A_TIME)
        refused = pull(AT_A_TIME).read()
        assert refused.http_status == 429
        assert refused.header("retry-after") == "1"
        with site.client("127.0.0.8") as other:
            target, body = app.request()
            assert other.post(target, content=body).json()["result"] == 0
    site.program.until(lambda: site.figure(HELD) == 0)


@behind_nginx
def test_a_flood_of_one_address_is_slowed_and_nobody_else(site: Site) -> None:
    app = site.program.spare_app()
    wires, each = 10, FLOOD // 10

    def flood(_number: int) -> list[int]:
        with site.wire("127.0.0.10") as wire:
            answers = []
            for _ in range(each):
                wire.send(http_request("POST", *app.request()))
                answers.append(wire.read().result)
            return answers

    with ThreadPoolExecutor(wires) as pool, site.client("127.0.0.11") as quiet:
        began = time.monotonic()
        floods = [pool.submit(flood, number) for number in range(wires)]
        beside = 0
        while not all(one.done() for one in floods):
            target, body = app.request()
            assert quiet.post(target, content=body).json()["result"] == 0
            beside += 1
            time.sleep(0.1)  # as a client that asks now and then
        took_s = time.monotonic() - began
        assert [result for one in floods for result in one.result()] == [0] * FLOOD, "none refused"
    assert beside > 1
    assert took_s > (FLOOD - AT_ONCE - 1) / PER_S * 0.98


@behind_nginx
def test_nothing_that_is_secret_or_personal_lies_where_nginx_writes(site: Site) -> None:
    """Neither the token in a path nor a body or an answer; large ones, and where it refuses."""
    app = site.program.spare_app()
    token = site.program.create_token("hidden", app=app)
    page = [status(number, description="telltale " * 1500) for number in range(60)]
    with site.client() as client:
        assert client.post(f"/callbacks/{token}", json=page).json()["result"] == 0
        for path in (f"/callbacks/{token}", f"/in/{token}/native"):
            assert client.post(path, json=[]).status_code < 500
            assert client.post(path, content=b" " * 2_000_000).status_code == 413
        target, body = app.request()
        assert len(client.post(target, content=body).json()["data"]) == 60
        asked = "Action=PullSmsSendStatusByPhoneNumber&PhoneNumber=%2B8613800007777&SecretId=AKID0"
        assert client.get(f"/?{asked}").json()["Response"]["Error"]["Code"] == "MissingParameter"
    text = written(site)
    assert f"POST /v5/tlssmssvr/pullstatus?sdkappid={app.sdkappid} 200 " in text
    assert "POST /callbacks/... 413 " in text
    assert not [word for word in (token, "telltale", "temporary file") if word in text]
    assert "13800007777" not in text
    assert "AKID0" not in text


HOST = "Host: sms.example.com"
ASKED = "?Action=PullSmsSendStatusByPhoneNumber&PhoneNumber=%2B8613800007777"
OWN_ANSWERS = {
    "a line that is too long": (f"GET /in/hidden/kannel?{'x' * 30_000} HTTP/1.1", [HOST], 414),
    "a head that is too large": (
        "GET /in/hidden/kannel HTTP/1.1",
        [HOST, f"X: {'x' * 30_000}"],
        400,
    ),
    "no host": ("GET /in/hidden/kannel HTTP/1.1", [], 400),
    "two hosts": ("GET /in/hidden/kannel HTTP/1.1", [HOST, HOST], 400),
    "TRACE": ("TRACE /callbacks/hidden HTTP/1.1", [HOST], 405),
    "a version that there is not": (f"GET /{ASKED} HTTP/9.1", [HOST], 505),
    "a line that is none": (f"GET /{ASKED} or so", [HOST], 400),
    "a broken escape": (f"GET /callbacks/hidden%zz{ASKED} HTTP/1.1", [HOST], 400),
    "a path above the root": (f"GET /../in/hidden{ASKED} HTTP/1.1", [HOST], 400),
}


@behind_nginx
@pytest.mark.parametrize("case", OWN_ANSWERS)
def test_what_nginx_answers_itself_is_not_written_either(site: Site, case: str) -> None:
    """It does so before it knows which location a request is for, or in another one."""
    line, headers, answer = OWN_ANSWERS[case]
    with site.wire() as wire:
        wire.send("\r\n".join([line, *headers, "", ""]).encode())
        assert wire.read().http_status == answer
    assert is_hidden(written(site))


@behind_nginx
def test_what_nginx_refuses_in_a_flood_is_not_written_either(site: Site) -> None:
    asked = http_request("GET", f"/{ASKED}")
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(site.wire("127.0.0.12")) for _ in range(AT_A_TIME)]
        answers = set[int]()
        while 429 not in answers:
            for wire in wires:
                wire.send(asked)
            answers |= {wire.read().http_status for wire in wires}
    assert "GET / 429 " in written(site)
    assert is_hidden(written(site))


@behind_nginx
@pytest.mark.parametrize("path", ["//callbacks/hidden", "/Callbacks/hidden", "/x/in/hidden"])
def test_no_path_is_written_that_may_hold_what_is_secret(
    tmp_path: Path, secret: Secret, path: str
) -> None:
    """However near it comes to one that has it; and while the server is away."""
    with started(Site(tmp_path, secret)) as site:
        with site.client() as client:
            client.post(f"{site.address}{path}{ASKED}")
            site.program.stop()
            assert client.post(f"{site.address}{path}{ASKED}").status_code == 502
            assert client.post("/v5/tlssmssvr/pullstatus?sdkappid=7").status_code == 502
        text = written(site)
        site.program.start()
    assert " 502 " in text
    assert "connect() failed" in text, "who operates it sees why"
    assert is_hidden(text)


def written(site: Site) -> str:
    """All that nginx has written, when what was asked before is among it."""
    with site.client("127.0.0.13") as client:
        client.get(f"/ingest/{next(_marks)}")
    files = [file for file in site.folder.glob("*.log") if file.is_file()]
    assert len(files) > 1
    return "".join(file.read_text(encoding="utf-8") for file in files)


def is_hidden(text: str) -> bool:
    return not [word for word in ("hidden", "13800007777", "xxxx") if word in text]


@behind_nginx
def test_gateways_have_limits_of_their_own(site: Site) -> None:
    """Each sends from one address, one receipt a request; what is refused may never come again."""
    token = site.program.create_token("gateway", app=site.program.spare_app())
    receipt = json.dumps([status(1)]).encode()
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(site.wire("127.0.0.14")) for _ in range(2 * AT_A_TIME)]
        for _ in range(4):
            for wire in wires:
                wire.send(http_request("POST", f"/callbacks/{token}", receipt))
            assert {wire.read().http_status for wire in wires} == {200}


@behind_nginx
def test_the_longest_address_of_a_callback_comes_through(site: Site) -> None:
    token = site.program.create_token("kannel", app=site.program.spare_app())
    address = f"/in/{token}/kannel?from=8613800000001&to=10690001&coding=2&text="
    text = "%E5%A5%BD" * ((limits.CALLBACK_QUERY_BYTES_MAX - len(address)) // 9)
    with site.client() as client:
        assert client.get(address + text).status_code == 200


def test_by_itself_it_speaks_tls_and_nothing_else(tmp_path: Path, secret: Secret) -> None:
    _, settings = blocks("toml", PAGE)
    admin = f"127.0.0.1:{free_port()}"
    file = tmp_path / "pullstatus.toml"
    places = [
        ("127.0.0.1:8090", admin),
        ('"0.0.0.0"', '"127.0.0.1"'),
        ("/etc/pullstatus/tls/sms.example.com.pem", str(secret.certificate)),
        ("/etc/pullstatus/tls/sms.example.com.key", str(secret.key)),
    ]
    file.write_text(replaced(settings, *places), encoding="utf-8")
    program = Program(tmp_path, "--config", str(file))
    app = program.create_app()
    with program:
        front = Front(program.port, secret)
        with front.client() as client:
            target, body = app.request()
            assert client.post(target, content=body).json()["result"] == 0
            assert [client.get(path).status_code for path in WATCHED] == [404] * 3
        for path in WATCHED:
            url = f"http://{admin}{path}"
            assert httpx.get(url, trust_env=False, timeout=PATIENCE_S).status_code == 200
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        plain = socket.create_connection(("127.0.0.1", program.port))
        with plain, pytest.raises(ssl.SSLError):
            old.wrap_socket(plain)
        with program.connect() as wire:
            wire.send(http_request("GET", "/"))
            assert wire.ended()


@pytest.mark.needs("root")
@pytest.mark.needs("unshare")
@pytest.mark.needs("ip")
@pytest.mark.needs("nft")
def test_the_firewall_bounds_the_connections_of_an_address(tmp_path: Path) -> None:
    """Of IPv4 and of IPv6, in a network of its own."""
    [rules] = blocks("nft", PAGE)
    file = tmp_path / "sms.nft"
    file.write_text(rules, encoding="utf-8")
    inside = f'ip link set lo up && nft -f {file} && exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", inside, sys.executable, KNOCKING],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [str(FIREWALL)] * 2, done.stderr
