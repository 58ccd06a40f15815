"""Nodes come back whatever is done to them, and end with whoever has started them."""

from __future__ import annotations

import itertools
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.harness import PATIENCE_S, ROOT, clean_environment
from tests.store.engines import cluster
from tools import nats
from tools.postgresql import free_port

STARTS = """
from tools.nats import Cluster

with Cluster() as cluster:
    cluster.nodes[1].pause()
    print(cluster.folder, *[node.pid for node in cluster.nodes], flush=True)
    input()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nodes_do_not_outlive_who_started_them(number: signal.Signals) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTS],
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout is not None
    folder, *pids = starter.stdout.readline().split()
    assert len(pids) == len(list(Path(folder).glob("*/data"))) == 3
    starter.send_signal(number)
    starter.communicate()
    due_s = time.monotonic() + PATIENCE_S
    while Path(folder).exists() or any(Path("/proc", pid).exists() for pid in pids):
        assert time.monotonic() < due_s
        time.sleep(0.05)


@pytest.mark.parametrize("nth", [0, 1])
def test_a_port_that_is_taken_is_given_up_for_others(
    monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """That of clients or of its pages, also where what it said of it is in its log for good."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        given = itertools.count()
        monkeypatch.setattr(
            nats, "free_port", lambda: taken if next(given) in (nth, nth + 3) else free_port()
        )
        with nats.Cluster(1) as one:
            [node] = one.nodes
            assert node.log().count(nats.PORT_TAKEN) == 2
            assert node.look("/varz")["port"] == node.port
            one.settle()


def test_a_cluster_is_healed() -> None:
    nodes = cluster().nodes
    nodes[0].kill()
    nodes[1].pause()
    assert [node.runs for node in nodes] == [False, True, True]
    cluster().heal()
    assert {node.look("/varz")["server_name"] for node in nodes} == {"n0", "n1", "n2"}
    assert all(node.look("/varz")["jetstream"]["config"]["sync_always"] for node in nodes)
