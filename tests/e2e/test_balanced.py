"""Servers over one cluster behind a load balancer, as the document sets it up: a real nginx."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.harness import PATIENCE_S
from tests.test_docs import blocks

PAGE = "docs/how-to/cluster.md"
SERVERS = ("10.0.0.11:8080", "10.0.0.12:8080")
APPLICATIONS = range(1400006600, 1400006640)

MAIN = """
daemon off;
pid {folder}/pid;
error_log {folder}/log;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {balancing}
    server {{ listen unix:{folder}/0; location / {{ return 200 "0"; }} }}
    server {{ listen unix:{folder}/1; location / {{ return 200 "1"; }} }}
    server {{ listen unix:{folder}/front; location / {{ proxy_pass http://pullstatus; }} }}
}}
"""

pytestmark = pytest.mark.needs("nginx")


@pytest.fixture
def chosen(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Which of the servers gets what is sent to a path."""
    [balancing] = blocks("nginx", PAGE)
    for number, server in enumerate(SERVERS):
        assert f"server {server};" in balancing
        balancing = balancing.replace(server, f"unix:{tmp_path}/{number}")
    user = "" if os.geteuid() else "user root;"
    text = MAIN.format(folder=tmp_path, user=user, balancing=balancing)
    (tmp_path / "nginx.conf").write_text(text, encoding="utf-8")
    process = subprocess.Popen(["nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")])
    transport = httpx.HTTPTransport(uds=str(tmp_path / "front"))
    try:
        due_s = time.monotonic() + PATIENCE_S
        while not (tmp_path / "pid").exists():
            assert process.poll() is None
            assert time.monotonic() < due_s
            time.sleep(0.01)
        with httpx.Client(
            base_url="http://balanced", transport=transport, timeout=PATIENCE_S
        ) as client:
            yield lambda path: client.post(path).text
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def test_all_of_an_application_goes_to_one_server_and_applications_to_all(
    chosen: Callable[[str], str],
) -> None:
    found = set()
    for number in APPLICATIONS:
        paths = [
            f"/v5/tlssmssvr/pullstatus?sdkappid={number}&random=7226249334",
            f"/v5/tlssmssvr/pullsendstatus?random=7226249334&sdkappid={number}",
            f"/ingest/{number}",
            f"/ingest/{number}/delivery-statuses",
        ]
        [server] = {chosen(path) for path in paths}
        found.add(server)
    assert found == {"0", "1"}


@pytest.mark.parametrize("path", ["/callbacks/token", "/", "/v5/tlssmssvr/pullstatus?random=1"])
def test_what_does_not_tell_its_application_goes_to_all(
    chosen: Callable[[str], str], path: str
) -> None:
    assert {chosen(path) for _ in APPLICATIONS} == {"0", "1"}
