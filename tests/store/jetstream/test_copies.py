"""Which nodes have lost messages, by what all say that they have, whatever they did meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.store import open_store
from pullstatus.store.jetstream import watchdog
from pullstatus.store.jetstream.copies import Held, Short, short
from pullstatus.store.jetstream.holdings import copies
from pullstatus.store.jetstream.location import parse_url
from pullstatus.store.jetstream.opening import opened
from tests.store.build import STATUSES, append, incompressible, records, repeat_key
from tests.store.engines import cluster as nodes
from tests.store.jetstream import real
from tools.nats import PATIENCE_S, Cluster, Node

BATCHES = 800
BATCH_BYTES = 15_000  # together more than a node has in one file: the newest is proven at its start

WHOLE = Held(90, 100)


def told(before: Mapping[str, Held], now: Mapping[str, Held]) -> list[Short]:
    return list(short({"g": before}, {"g": now}))


def test_a_node_of_which_more_are_missing_has_lost_them() -> None:
    held = {"n0": Held(89, 100), "n1": WHOLE, "n2": Held(91, 110)}
    assert told(held, held) == [Short("g", "n0", "n1")]


def test_the_one_that_has_the_most_is_named() -> None:
    held = {"n0": Held(80, 100), "n1": Held(85, 100), "n2": WHOLE}
    assert told(held, held) == [Short("g", "n0", "n2"), Short("g", "n1", "n2")]


def test_a_node_that_is_behind_or_away_tells_nothing_of_others() -> None:
    """What it has yet to remove it lacks none of."""
    before = {"n0": Held(50, 100)}
    assert told(before, {"n0": Held(50, 100)}) == []
    assert told(before, {"n0": Held(50, 100), "n1": Held(99, 99)}) == []
    assert list(short({"g": before}, {})) == []


def test_a_node_that_catches_up_has_lost_nothing() -> None:
    held = {"n0": Held(0, 0), "n1": WHOLE, "n2": WHOLE}
    assert told(held, held) == []


@given(seed=st.integers(0, 2**32), lost=st.sampled_from([0, 1, 5]))
def test_who_takes_the_same_steps_later_has_lost_nothing(seed: int, lost: int) -> None:
    """Between two looks all take at least the steps that one had taken at the first."""
    rng = Random(seed)
    steps = [Held(0, 0)]
    for _ in range(rng.randrange(1, 60)):
        messages, newest = steps[-1]
        if rng.random() < 0.6:
            count = rng.randrange(1, 4)
            steps.append(Held(messages + count, newest + count))
        else:
            steps.append(Held(messages - rng.randrange(messages + 1), newest))
    reached = [rng.randrange(len(steps)) for _ in range(3)]
    before = {f"n{node}": steps[at] for node, at in enumerate(reached)}
    later = [rng.randrange(max(reached), len(steps)) for _ in reached]
    now = {f"n{node}": steps[at] for node, at in enumerate(later)}
    damaged = Held(before["n0"].messages - lost, before["n0"].newest)
    found = told(before | {"n0": damaged}, now)
    assert all(each.node == "n0" for each in found)
    if lost and all(steps[at].missing == before["n0"].missing for at in later):
        assert len(found) == 1
    assert lost or not found


def test_real_nodes_say_what_they_have_by_the_names_of_their_groups(tmp_path: Path) -> None:
    with real.place(tmp_path) as url:
        location = parse_url(url)

        async def filled() -> tuple[str, dict[str, Held]]:
            store = await open_store(url)
            await store.append(append(STATUSES, records(3)))
            bus, layout = store._bus, store._layout  # type: ignore[attr-defined]
            while (led := bus.cluster([layout.stream(0)]).streams[0]) is None:
                pass
            size = bus.newest(layout.stream(0))
            await store.close()
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    found = (await copies(location.monitors)).get(led.group, {})
                    if len(found) == len(nodes().nodes) and all(
                        each.newest == size for each in found.values()
                    ):
                        return led.leader, dict(found)

        leader, found = asyncio.run(filled())
        assert leader in found
        assert set(found) == {node.name for node in nodes().nodes}
        assert len(set(found.values())) == 1


def test_of_nodes_that_do_not_answer_or_say_something_else_nothing_is_known() -> None:
    location = parse_url("jetstream://127.0.0.1/x?monitor=127.0.0.1:1")
    assert asyncio.run(copies(location.monitors)) == {}


def test_a_server_that_starts_is_not_misled_by_a_leader_that_has_lost_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who looks at no nodes is: half of the batches are sent again to a store that does not."""
    # However busy the machine is, who starts looks for as long as it takes.
    monkeypatch.setattr("pullstatus.store.jetstream.nodes.LOOK_S", 60.0)
    monkeypatch.setattr(watchdog, "PASSED_ON_S", PATIENCE_S)
    monkeypatch.setattr(watchdog, "AGAIN_S", 5.0)
    with Cluster() as cluster:
        url = cluster.url("mailboxes")
        real.make_store(url, 1)
        cluster.settle()
        stream = "mailboxes_0"
        asyncio.run(sent(url, range(BATCHES)))
        damaged = next(node for node in cluster.nodes if node is not cluster.leader(stream))
        damaged.kill()
        flip(damaged, stream)
        damaged.start()
        cluster.settle()
        lead(cluster, url, stream, damaged)
        assert asyncio.run(sent(url, range(0, BATCHES, 2))) > 0
        assert cluster.leader(stream) is damaged
        assert asyncio.run(sent(url, range(1, BATCHES, 2), server=True)) == 0
        assert cluster.leader(stream) is not damaged


async def sent(url: str, numbers: Iterable[int], *, server: bool = False) -> int:
    """Store batches with keys, once more if they are known; returns how many records were new."""
    store = await open_store(url, server=server)
    try:
        body = [b'"%b"' % incompressible(BATCH_BYTES, 1)]
        return sum(
            [
                await store.append(append(STATUSES, body, key=repeat_key(f"{number}")))
                for number in numbers
            ]
        )
    finally:
        await store.close()


def flip(node: Node, stream: str) -> None:
    """A bit in the middle of the oldest file that a node has of a stream."""
    files = node.folder.glob(f"data/jetstream/*/streams/{stream}/msgs/*.blk")
    oldest, *newer = sorted(files, key=lambda file: int(file.stem))
    assert newer
    data = bytearray(oldest.read_bytes())
    data[len(data) // 2] ^= 1
    oldest.write_bytes(data)


def lead(cluster: Cluster, url: str, stream: str, node: Node) -> None:
    by_s = time.monotonic() + PATIENCE_S
    with opened(parse_url(url)) as found:
        while cluster.leader(stream) is not node:
            assert time.monotonic() < by_s
            found.bus.step_down(stream, node.name)
