"""Faults of a cluster of nodes: what two servers over it tell, one after the other."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from pullstatus.store import init_store
from pullstatus.store.jetstream.location import parse_url
from pullstatus.store.jetstream.opening import opened
from tests.e2e.alarms.stories import Scrape, Story, figures
from tests.faults.load import doomed
from tests.harness import REPLY, App, Program, http_request, reply, with_values
from tests.nats_proxy import NatsProxy
from tests.store.build import incompressible
from tools.nats import Cluster, Node
from tools.postgresql import free_port

NAME = "mailboxes"
STREAM = f"{NAME}_0"
BLOCKS_BYTES = 9_000_000
"""More than a node has in one file: the newest one is proven when it starts."""

AWAY = "pullstatus_cluster_copies_away"
BEHIND = "pullstatus_cluster_copies_behind"
DOWN = "pullstatus_cluster_streams_down"
FULL = "pullstatus_cluster_full_ratio"
MENDED = "pullstatus_cluster_mended_total"
NO_WRITES = "pullstatus_cluster_streams_without_writes"
UNPROVEN = "pullstatus_cluster_copies_unproven"
OLDEST = "pullstatus_store_oldest_seconds"
LATE_S = 5  # of the alarm for it
POLL_S = 0.2  # nothing of it changes more often
TEXT_BYTES = 15_000
TOGETHER = 10  # records that are stored, and read, together

IMPATIENCE = {
    "store.jetstream.watchdog.UNWRITTEN_S": 1.0,
    "store.jetstream.writing.RESOLVE_S": 600.0,
}
IMPATIENT = with_values(IMPATIENCE, workers=IMPATIENCE)
"""A command whose server thinks soon that a leader takes no writes, and gives none up."""

RINGS: Mapping[str, set[str]] = {
    "well": set(),
    "a node unproven": {"PullstatusNodeUnproven"},
    "a node away": {"PullstatusCopiesAway"},
    "a node damaged": {"PullstatusNodeDamaged"},
    "writes lost": {"PullstatusLeaderWithoutWrites", "PullstatusStoreStalled"},
    "writes of workers lost": {"PullstatusLeaderWithoutWrites", "PullstatusStoreStalled"},
    "nearly full": {"PullstatusClusterFull"},
    "all nodes gone": {"PullstatusStreamsDown", "PullstatusStoreStalled"},
}


def stories(folder: Path, environment: Mapping[str, str]) -> dict[str, Story]:
    """By what happens."""
    with Cluster() as cluster:
        url = cluster.url(NAME)
        asyncio.run(init_store(url, partitions=1))
        cluster.settle()
        program = Program(folder, environment=environment, store=url)
        with doomed(program):
            app = program.create_app()
            _feed(program, app, BLOCKS_BYTES)
            well = _scraped(program, lambda now: now[FULL] > 0 and _is_well(now))
            told = {"well": Story(well)}
            unproven = _unproven(folder, environment, cluster, program.token)
            told["a node unproven"] = Story(unproven)
            node = next(each for each in cluster.nodes if each is not cluster.leader(STREAM))
            node.stop()
            away = _scraped(program, lambda now: _is_quick(now) and now[AWAY] > 0 and not now[DOWN])
            told["a node away"] = Story(away)
            _damage(node)
            node.start()
            cluster.settle()
            told["a node damaged"] = Story(well, _until_mended(program, app))
            for name, workers in (("writes lost", "1"), ("writes of workers lost", "2")):
                lost = _without_writes(
                    folder / name, environment, cluster, program.token, app, workers
                )
                told[name] = Story(lost)
            limit = _bytes(node) * 4 // 3
            _bound(url, limit)
            _feed(program, app, limit // 10)
            told["nearly full"] = Story(
                _scraped(program, lambda now: _is_quick(now) and now[FULL] > 0.8)
            )
            for each in cluster.nodes:
                each.kill()
            gone = _scraped(program, lambda now: now[DOWN] > 0 and now[OLDEST] > LATE_S)
            told["all nodes gone"] = Story(gone)
    return told


def _scraped(program: Program, happened: Callable[[Scrape], bool]) -> Scrape:
    """The first figures that say so."""

    def look() -> Scrape:
        time.sleep(POLL_S)
        return found if happened(found := figures(program)) else {}

    return program.until(look)


def _is_well(now: Scrape) -> bool:
    return _is_quick(now) and not any(now[name] for name in (AWAY, BEHIND, DOWN))


def _is_quick(now: Scrape) -> bool:
    """No commit takes long, as one may on a busy machine, for which another alarm rings."""
    return now[OLDEST] <= LATE_S


def _feed(program: Program, app: App, size: int) -> None:
    """Store about so many bytes."""
    texts = [incompressible(TEXT_BYTES, number).decode() for number in range(TOGETHER)]
    for _ in range(size // (TOGETHER * TEXT_BYTES)):
        answer = program.ingest(app, REPLY, [reply(1, text=text) for text in texts])
        assert answer.http_status == 200


def _damage(node: Node) -> None:
    """Flip bits of what a node has of entries, but in its newest file."""
    files = node.folder.glob(f"data/jetstream/*/streams/{STREAM}/msgs/*.blk")
    oldest, *newer = sorted(files, key=lambda file: int(file.stem))
    assert newer
    data = bytearray(oldest.read_bytes())
    for found in re.finditer(rb'"text":"', data):
        data[found.end()] ^= 1
    oldest.write_bytes(data)


def _until_mended(program: Program, app: App) -> Scrape:
    """Pull until the damaged node was asked, as a third of all times, and another one had it."""

    def happened(now: Scrape) -> bool:
        assert program.pull(app, REPLY, max=TOGETHER).result == 0
        return now[MENDED] > 0 and _is_well(now)

    return _scraped(program, happened)


def _bytes(node: Node) -> int:
    """What the stream has, by what a node says."""
    [account] = node.look("/jsz?accounts=true&streams=true")["account_details"]
    [found] = [each for each in account["stream_detail"] if each["name"] == STREAM]
    return int(found["state"]["bytes"])


def _bound(url: str, size: int) -> None:
    """Have the stream hold no more than that, as an operator would."""
    with opened(parse_url(url)) as found:
        api = found.bus._api
        config = found.bus._wait(api.config(STREAM))
        assert config is not None
        changed = {**config, "max_bytes": size}
        said = found.bus._wait(api._said(f"STREAM.UPDATE.{STREAM}", changed))
        assert said.error is None


def _unproven(folder: Path, environment: Mapping[str, str], cluster: Cluster, token: str) -> Scrape:
    """Of another server, which asks one of the nodes about itself where nobody answers."""
    (folder / "unproven").mkdir()
    other = Program(
        folder / "unproven",
        environment=environment,
        store=cluster.url(NAME).replace(f":{cluster.nodes[-1].monitor}", f":{free_port()}"),
        token=token,
    )
    with doomed(other):
        return _scraped(other, lambda now: _is_well(now) and now[UNPROVEN] > 0)


def _without_writes(
    folder: Path,
    environment: Mapping[str, str],
    cluster: Cluster,
    token: str,
    app: App,
    workers: str,
) -> Scrape:
    """Of another server, of which no write gets through, and all else does."""
    url = cluster.url(NAME)
    with ExitStack() as stack:
        proxies = [stack.enter_context(NatsProxy(node.port)) for node in cluster.nodes]
        for node, proxy in zip(cluster.nodes, proxies, strict=True):
            url = url.replace(f":{node.port}", f":{proxy.port}", 1)
        folder.mkdir()
        other = Program(
            folder,
            "--workers",
            workers,
            environment=environment,
            store=url,
            token=token,
            command=IMPATIENT,
        )
        stack.enter_context(doomed(other))
        wire = stack.enter_context(other.connect())
        for proxy in proxies:
            proxy.lose(1 << 30)
        wire.send(http_request("POST", *app.request(REPLY, 1)))
        return _scraped(other, lambda now: now[NO_WRITES] > 0 and now[OLDEST] > LATE_S)
