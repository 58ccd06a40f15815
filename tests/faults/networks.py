"""Nodes on hosts of their own, in a network that can be cut, made deaf, or lossy.

    with NetworkedCluster() as cluster:
        cluster.cut_off(node)       # from the other nodes; clients reach it
        cluster.mend()

A host is a network namespace, as is the switch between them; this process is a further host. All of
it is gone with the processes that hold the namespaces, which end when this one does. Who uses it is
root on Linux.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from tools.nats import Cluster, Node

TRIES: Final = 50  # networks that others may have taken
NET: Final = "198.18.{}.{}"  # of the range that is for tests of networks
OURS: Final = 1


class Host:
    """A network namespace, for as long as a `with` block takes."""

    def __init__(self) -> None:
        self._holder: subprocess.Popen[bytes] | None = None

    @property
    def within(self) -> tuple[str, ...]:
        """What a command begins with that is to run there."""
        return ("nsenter", f"--net=/proc/{self.holder}/ns/net", "--")

    @property
    def holder(self) -> int:
        """The process that holds it."""
        assert self._holder is not None
        return self._holder.pid

    def run(self, *command: str, text: str = "") -> None:
        """Run a command there."""
        run(*self.within, *command, text=text)

    def __enter__(self) -> Self:
        # It says that the namespace is there, and ends when nobody has the other end any more.
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec cat >/dev/null"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline()
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._holder is not None
        self._holder.communicate()


class NetworkedCluster(Cluster):
    """A cluster whose nodes are on hosts of their own."""

    def __init__(
        self, *, server: Mapping[str, str] | None = None, place: Path | None = None
    ) -> None:
        super().__init__(server=server, place=place)
        self._switch = Host()
        self._hosts = {node.name: Host() for node in self.nodes}
        self._stack = contextlib.ExitStack()

    def url(self, name: str, words: str = "") -> str:
        """See `Cluster`."""
        return super().url(name, "insecure=yes" + (words and f"&{words}"))

    def cut_off(self, node: Node, *, clients: bool = False) -> None:
        """Let nothing through between a node and the others; nor between it and us, if so told."""
        others = self._others(node, clients=clients)
        self._filter(node, f"ip saddr {{ {others} }} drop", f"ip daddr {{ {others} }} drop")

    def part(self, node: Node, other: Node) -> None:
        """Let nothing through between two nodes, which hear the others, and us."""
        self._filter(node, f"ip saddr {other.host} drop", f"ip daddr {other.host} drop")

    def deafen(self, node: Node) -> None:
        """Have a node hear nothing of the others, which hear it."""
        self._filter(node, f"ip saddr {{ {self._others(node)} }} drop")

    def lose(self, node: Node, percent: int) -> None:
        """Lose so many of all packets that come to a node."""
        others = self._others(node, clients=True)
        self._filter(node, f"ip saddr {{ {others} }} numgen random mod 100 < {percent} drop")

    def mend(self) -> None:
        """Let everything through."""
        for host in self._hosts.values():
            host.run("nft", "flush", "ruleset")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            net = self._connect(stack)
            for number, node in enumerate(self.nodes):
                node.host = NET.format(net, OURS + 1 + number)
                node.within = self._hosts[node.name].within
            super().__enter__()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        super().__exit__()
        self._stack.close()

    def _connect(self, stack: contextlib.ExitStack) -> int:
        """Make hosts, and cables from each of them to the switch; returns the network's number."""
        switch = stack.enter_context(self._switch)
        switch.run("ip", "link", "add", "switch", "type", "bridge")
        switch.run("ip", "link", "set", "switch", "up")
        net = _claim(switch)
        for number, host in enumerate(self._hosts.values()):
            stack.enter_context(host)
            cable = f"cable{number}"
            end = ("peer", "name", "eth0", "netns", str(host.holder))
            switch.run("ip", "link", "add", cable, "type", "veth", *end)
            switch.run("ip", "link", "set", cable, "master", "switch", "up")
            host.run("ip", "addr", "add", f"{NET.format(net, OURS + 1 + number)}/24", "dev", "eth0")
            host.run("ip", "link", "set", "eth0", "up")
            host.run("ip", "link", "set", "lo", "up")
        return net

    def _others(self, node: Node, *, clients: bool = False) -> str:
        found = [other.host for other in self.nodes if other is not node]
        if clients:
            found.append(f"{node.host.rpartition('.')[0]}.{OURS}")
        return ", ".join(found)

    def _filter(self, node: Node, incoming: str, outgoing: str = "") -> None:
        lines = [
            "table inet faults {",
            f"  chain incoming {{ type filter hook input priority 0; {incoming}; }}",
            f"  chain outgoing {{ type filter hook output priority 0; {outgoing}; }}",
            "}",
        ]
        self._hosts[node.name].run("nft", "-f", "-", text="\n".join(lines))


def _claim(switch: Host) -> int:
    """Be on a network that nobody else is on, by a cable to its switch; returns its number."""
    for attempt in range(TRIES):
        net = (os.getpid() + attempt) % 256
        cable = f"pstest{net}"
        with contextlib.suppress(subprocess.CalledProcessError):
            run(*_VETH, cable, "type", "veth", "peer", "name", "ours", "netns", str(switch.holder))
            run("ip", "addr", "add", f"{NET.format(net, OURS)}/24", "dev", cable)
            run("ip", "link", "set", cable, "up")
            switch.run("ip", "link", "set", "ours", "master", "switch", "up")
            return net
    raise RuntimeError("no network is free")


_VETH: Final = ("ip", "link", "add")


def run(*command: str, text: str = "") -> str:
    """Run a command, and have what it says."""
    return subprocess.run(command, check=True, input=text, capture_output=True, text=True).stdout
