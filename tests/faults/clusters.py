"""What can happen to a cluster of JetStream and its clients, while clients of `Doors` are at work.

Nodes are killed, stand still, lose their power, what they have on disk, or each other. A majority
of them may be gone for a while: then clients wait, and nothing is lost.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

from pullstatus.store.jetstream import writing
from tests.faults.clocks import WrongClocks
from tests.faults.doors import Plant
from tests.faults.networks import NetworkedCluster
from tests.faults.power import PoweredCluster
from tests.faults.replicas import apart
from tests.faults.small_disks import SmallDisks
from tests.faults.torment import SILENCE_S, Fault, Run, Stage, kill_a_client, pause_a_client
from tests.nats_proxy import NatsProxy
from tests.store.jetstream import real
from tools.nats import PATIENCE_S, POLL_S, PROGRAM, Cluster, Node

NAME: Final = "store"
PARTITIONS: Final = 3
AWAY_S: Final = (0.1, 3, 3, 10)  # an election takes 4 to 9 s
STILL_S: Final = (1, 5, 15)
LONG_S: Final = (25, 40, 60)  # what came of a write is asked for 20
APART_S: Final = (2, 6, 15)
LOST_PERCENT: Final = 20
FULL_S: Final = (0, 2, 8)
FLIPS: Final = 3
DAMAGED: Final = (50, 400)  # answers until somebody sees to the node
DAY_S: Final = 86_400
LATE_S: Final = (0.5, 3, 6)  # a first send is given up after 2
ANSWERS: Final = 3  # of one node, that are lost in a row at most: a lane has one write under way


def kill_a_leader(run: Run[Cluster]) -> None:
    """And have it run again, perhaps before the others have noticed."""
    node = _leader(run)
    node.kill()
    time.sleep(run.rng.choice(AWAY_S))
    node.start()
    run.happened["kills of a leader"] += 1


def kill_two(run: Run[Cluster]) -> None:
    """Those that do not lead a partition; who leads it goes on alone, until they are back."""
    leader = _leader(run)
    gone = [node for node in run.servers.nodes if node is not leader]
    for node in gone:
        node.kill()
    time.sleep(run.rng.choice(AWAY_S))
    for node in gone:
        node.start()
    run.servers.settle()
    run.happened["kills of two nodes"] += 1


def kill_all(run: Run[Cluster]) -> None:
    """At once."""
    nodes = run.servers.nodes
    for node in nodes:
        node.pause()
    for node in nodes:
        node.kill()
    for node in nodes:
        node.start()
    run.servers.settle()
    run.happened["kills of all nodes"] += 1


def restart_in_turn(run: Run[Cluster]) -> None:
    """As whoever brings them up to date does it: each ends in order, and the others go on."""
    for node in run.servers.nodes:
        node.restart()
        run.servers.settle()
    run.happened["restarts of all nodes in turn"] += 1


def bring_up_to_date(run: Run[Cluster]) -> None:
    """A node that still runs what came before, as whoever does that for all in turn."""
    node = min(run.servers.nodes, key=lambda node: node.program == PROGRAM)
    node.stop()
    node.program = PROGRAM
    node.start()
    run.servers.settle()
    run.happened["nodes brought up to date"] += 1


def pause_a_node(run: Run[Cluster]) -> None:
    """It says nothing for a while, and connections stay."""
    node = run.rng.choice([_leader(run), *run.servers.nodes])
    node.pause()
    time.sleep(run.rng.choice(STILL_S))
    node.resume()
    run.servers.settle()
    run.happened["pauses of a node"] += 1


def pause_most(run: Run[Cluster]) -> None:
    """One that leads and another, until clients have given up: their writes may yet be stored."""
    leader = _leader(run)
    still = [leader, run.rng.choice([node for node in run.servers.nodes if node is not leader])]
    for node in still:
        node.pause()
    time.sleep(run.rng.choice(LONG_S))
    for node in still:
        node.resume()
    run.servers.settle()
    run.happened["long pauses of most nodes"] += 1


def replace_a_disk(run: Run[Cluster]) -> None:
    """A node loses all that it had on disk, and gets it from the others again."""
    _empty(run, run.rng.choice(run.servers.nodes))
    run.happened["nodes that lost what they had"] += 1


def _empty(run: Run[Cluster], node: Node) -> None:
    node.kill()
    shutil.rmtree(node.folder / "data")
    node.start()
    run.servers.settle()


def flip_bits(run: Run[Cluster]) -> None:
    """Of one node, in what it has of messages, while it does not run; perhaps it leads then.

    It loses what lies behind them in a block, and never gets that again: so it is given an empty
    disk after a while, as the documents say.
    """
    node = run.rng.choice(run.servers.nodes)
    node.kill()
    blocks = sorted((node.folder / "data").rglob("*.blk"))
    for _ in range(FLIPS):
        _flip(run.rng.choice([block for block in blocks if block.stat().st_size]), run.rng)
    node.start()
    run.servers.settle()
    if run.rng.random() < 0.5:
        for other in run.servers.nodes:
            if other is not node:
                other.restart()
                run.servers.settle()
    run.doors.answered(run.rng.randrange(*DAMAGED), patience_s=SILENCE_S)
    _empty(run, node)
    run.happened["nodes with flipped bits"] += 1


def _flip(file: Path, rng: Random) -> None:
    with file.open("r+b") as block:
        place = rng.randrange(file.stat().st_size)
        block.seek(place)
        [byte] = block.read(1)
        block.seek(place)
        block.write(bytes([byte ^ 1 << rng.randrange(8)]))


def cut_power(run: Run[PoweredCluster]) -> None:
    """Of all of them at once."""
    run.servers.cut(run.servers.nodes, run.rng)
    run.servers.settle()
    run.happened["power cuts of all nodes"] += 1


def cut_power_of_some(run: Run[PoweredCluster]) -> None:
    """Of one or two, perhaps while the other one stands still."""
    *cut, other = run.rng.sample(run.servers.nodes, run.rng.choice((2, 3)))
    other.pause()
    run.servers.cut(cut, run.rng)
    other.resume()
    run.servers.settle()
    run.happened["power cuts of some nodes"] += 1


def cut_off(run: Run[NetworkedCluster]) -> None:
    """Who leads a partition is cut off from the others, with the clients on its side or on none."""
    _disturb(run, partial(run.servers.cut_off, clients=run.rng.random() < 0.5))
    run.happened["leaders cut off"] += 1


def part(run: Run[NetworkedCluster]) -> None:
    """Who leads a partition and another node hear nothing of each other, and all else.

    For a moment both lead: the other is elected by the third, of which the first has heard, too.
    """

    def apart(leader: Node) -> None:
        others = [node for node in run.servers.nodes if node is not leader]
        run.servers.part(leader, run.rng.choice(others))

    _disturb(run, apart)
    run.happened["leaders parted from one other"] += 1


def deafen(run: Run[NetworkedCluster]) -> None:
    """Who leads a partition hears nothing of the others, which hear it."""
    _disturb(run, run.servers.deafen)
    run.happened["leaders made deaf"] += 1


def lose_packets(run: Run[NetworkedCluster]) -> None:
    """Some of what is said to one who leads a partition."""
    _disturb(run, lambda node: run.servers.lose(node, LOST_PERCENT))
    run.happened["leaders that lose packets"] += 1


def _disturb(run: Run[NetworkedCluster], how: Callable[[Node], None]) -> None:
    how(_leader(run))
    time.sleep(run.rng.choice(APART_S))
    run.servers.mend()
    run.servers.settle()


def shift_a_clock(run: Run[WrongClocks]) -> None:
    """By a day, to either side; those that were shifted before stay so."""
    run.servers.shift(run.rng.choice(run.servers.nodes), run.rng.choice((-DAY_S, 0, DAY_S)))
    run.happened["clocks set"] += 1


def fill_disks(run: Run[SmallDisks]) -> None:
    """Of one that leads, or of all, for a while after that was met."""
    nodes = run.rng.choice(([_leader(run)], run.servers.nodes))
    for node in nodes:
        run.servers.fill(node)
    _await(run, lambda: any(map(run.servers.has_met_it, nodes)), "no disk is full")
    time.sleep(run.rng.choice(FULL_S))
    for node in nodes:
        run.servers.empty(node)
    run.servers.settle()
    run.happened["full disks"] += len(nodes)


def lose_answers(run: Run[list[NatsProxy]]) -> None:
    """Some acknowledgements of writes do not get through, and some writes."""

    def missing() -> int:
        return sum(proxy.dropped + proxy.lost for proxy in run.servers)

    wanted = missing() + ANSWERS
    for proxy in run.servers:
        proxy.drop(run.rng.randint(1, ANSWERS))
        proxy.lose(run.rng.randint(1, ANSWERS))
    _await(run, lambda: missing() >= wanted, "nothing is written")
    for proxy in run.servers:  # there may be one that nobody is connected to
        proxy.spare()
    run.happened["times that answers were lost"] += 1


def hold_writes(run: Run[list[NatsProxy]]) -> None:
    """All writes get there late, when some were sent again already and others were given up."""

    def held() -> int:
        return sum(proxy.held for proxy in run.servers)

    before = held()
    for proxy in run.servers:
        proxy.hold(sys.maxsize)
    _await(run, lambda: held() > before, "nothing is written")
    time.sleep(run.rng.choice(LATE_S))
    for proxy in run.servers:
        proxy.release()
    run.happened["times that writes came late"] += 1


def _await(run: Run[Any], happens: Callable[[], bool], otherwise: str) -> None:
    """Wait until something happens to clients that are at work."""
    due_s = time.monotonic() + PATIENCE_S
    while not happens():
        run.doors.check_alive()
        assert time.monotonic() < due_s, otherwise
        time.sleep(POLL_S)


def _leader(run: Run[Any]) -> Node:
    """Of some partition."""
    node: Node = run.servers.leader(f"{NAME}_{run.rng.randrange(PARTITIONS)}")
    return node


def patient() -> None:
    """Learn what a write came to however long that takes on a busy machine."""
    writing.RESOLVE_S = PATIENCE_S  # type: ignore[misc]


def _on(
    make: Callable[[Path], Cluster],
    stack: contextlib.ExitStack,
    _major: int | None,
    prepare: Plant | None = patient,
) -> Stage[Any]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pullstatus-nodes-")))
    cluster = stack.enter_context(make(folder))
    url = cluster.url(NAME)
    real.make_store(url, PARTITIONS)
    cluster.settle()
    if isinstance(cluster, PoweredCluster):
        cluster.sync()
    return Stage(cluster, url, url, prepare, partial(apart, cluster), (cluster.folder, folder))


_nodes = partial(_on, lambda _folder: Cluster())
_given_up_on = partial(_on, lambda _folder: Cluster(), prepare=None)
_networked = partial(_on, lambda _folder: NetworkedCluster())
_wrong_clocks = partial(_on, lambda _folder: WrongClocks())
_small_disks = partial(_on, lambda _folder: SmallDisks())
_powered = partial(_on, PoweredCluster)
_late = partial(_on, lambda folder: PoweredCluster(folder, jetstream={"sync_interval": "2m"}))


def _proxied(stack: contextlib.ExitStack, major: int | None) -> Stage[list[NatsProxy]]:
    """Nodes behind a proxy each."""
    cluster, _, straight, _, compare, evidence = _nodes(stack, major)
    proxies = [stack.enter_context(NatsProxy(node.port)) for node in cluster.nodes]
    url = straight
    for node, proxy in zip(cluster.nodes, proxies, strict=True):
        url = url.replace(f":{node.port}", f":{proxy.port}", 1)
    return Stage(proxies, url, straight, patient, compare, evidence)


# A leader that is cut off, or stood still, says what it knows until it notices.
OLD: Final = frozenset({"false_short"})
GIVEN_UP: Final = OLD | {"unresolved"}
NETWORK: Final = ("root", "ip", "nft")
CLOCKS: Final = ("root", "unshare", "/lib64/ld-linux-x86-64.so.2")
POWER: Final = ("root", "/dev/fuse", "fusermount3", "mkfs.ext4")

FAULTS: Final[Mapping[str, Fault[Any]]] = {
    fault.name: fault
    for fault in (
        Fault("kill a leader", kill_a_leader, 1, _nodes),
        Fault("kill two", kill_two, 0.2, _nodes),
        Fault("kill all", kill_all, 0.5, _nodes),
        Fault("kill clients", kill_a_client, 1, _nodes),
        Fault("pause clients", pause_a_client, 0.1, _nodes),
        Fault("pause nodes", pause_a_node, 0.5, _nodes, allowed=OLD),
        Fault("pause most", pause_most, 0.1, _given_up_on, allowed=GIVEN_UP),
        Fault("restart in turn", restart_in_turn, 0.1, _nodes),
        Fault("replace a disk", replace_a_disk, 0.1, _nodes),
        Fault("flip bits", flip_bits, 0.2, _nodes),
        Fault("fill disks", fill_disks, 0.1, _small_disks, ("root",)),
        Fault("shift clocks", shift_a_clock, 0.1, _wrong_clocks, CLOCKS),
        Fault("lose answers", lose_answers, 1, _proxied),
        Fault("hold writes", hold_writes, 0.5, _proxied),
        Fault("cut off", cut_off, 0.2, _networked, NETWORK, OLD),
        Fault("part", part, 0.2, _networked, NETWORK, OLD),
        Fault("deafen", deafen, 0.2, _networked, NETWORK, OLD),
        Fault("lose packets", lose_packets, 0.1, _networked, NETWORK, OLD),
        Fault("cut power", cut_power, 0.5, _powered, POWER),
        Fault("cut power of some", cut_power_of_some, 0.2, _powered, POWER),
    )
}

SYNCED_LATE: Final = Fault("cut power", cut_power, 0, _late, POWER)
"""Nodes that acknowledge what they have not synced: no store may be on such."""


def upgrading_from(program: Path) -> Fault[Cluster]:
    """Three times of it bring a cluster of an older version up to date, under load."""

    def before(_folder: Path) -> Cluster:
        cluster = Cluster()
        for node in cluster.nodes:
            node.program = program
        return cluster

    return Fault("upgrade in turn", bring_up_to_date, 0, partial(_on, before))
