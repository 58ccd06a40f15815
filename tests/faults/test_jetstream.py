"""A store in JetStream, whatever happens to nodes, clients and what is between them.

In `make torture-jetstream` the same happens many times.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pullstatus.store.jetstream import nodes
from tests.faults import planted_jetstream as planted
from tests.faults.clusters import FAULTS, SYNCED_LATE
from tests.faults.doors import Load, Plant
from tests.faults.planted import LIVES
from tests.faults.replicas import Streams, differences
from tests.faults.test_kill import SEED
from tests.faults.torment import Fault, torment

pytestmark = pytest.mark.early

CALM = (40, 120)
BROKEN = 8  # times that something happens to what is broken: it strikes by chance
# What somebody is not told of is not to be taken by somebody else at once.
LOADS = {planted.replica_says_empty: Load((1, 20), (100,), rest_s=0.3, traced=0.0)}
TIMES = {"kill clients": 3, "kill a leader": 2, "lose answers": 5}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.needs(one) for one in fault.needs])
        for name, fault in FAULTS.items()
    ],
)
def test_under_load(tmp_path: Path, name: str) -> None:
    """Nothing is lost, doubled, reordered, torn or left open."""
    told = torment(tmp_path, FAULTS[name], SEED, TIMES.get(name, 1), calm=CALM)
    assert not told.found, str(told)
    assert told.happened
    assert told.verdict.report.delivered
    assert told.verdict.unresolved or "unresolved" not in FAULTS[name].allowed


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (planted.unconditional, "kill clients"),
        (planted.refused, "lose answers"),
        (planted.anew, "lose answers"),
        (planted.read_back, "hold writes"),
        (planted.replica_says_empty, "kill clients"),
    ],
)
def test_what_is_broken_is_caught(tmp_path: Path, plant: Plant, name: str) -> None:
    """By the judge, or by the stores themselves."""
    for life in range(LIVES):
        folder = tmp_path / str(life)
        folder.mkdir()
        seed, load = f"{SEED}/{life}", LOADS.get(plant, Load())
        told = torment(folder, FAULTS[name], seed, BROKEN, calm=CALM, plant=plant, load=load)
        if told.alarms or told.found:
            return
    raise AssertionError("nobody has noticed")


@pytest.mark.parametrize(
    "fault",
    [pytest.param(SYNCED_LATE, marks=[pytest.mark.needs(one) for one in SYNCED_LATE.needs])],
)
def test_what_nodes_have_not_synced_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault[Any]
) -> None:
    """Which also shows that the disks are what they are to be."""
    monkeypatch.setattr(nodes, "_check", nodes._check)
    planted.unproven()
    told = torment(tmp_path, fault, SEED, 1, calm=CALM, plant=planted.unproven)
    assert told.alarms or {"lost", "duplicated"} & told.found.keys(), str(told)


@pytest.mark.parametrize(
    "other",
    [
        {"a": {1: 10}},
        {"a": {1: 10, 2: 20}, "b": {}},
        {"a": {1: 10, 2: 21}},
        {"a": {1: 10, 2: 20, 3: 30}},
    ],
    ids=["a message less", "a stream more", "another message", "a message more"],
)
def test_what_nodes_do_not_have_alike_is_told(other: Streams) -> None:
    same = {"a": {1: 10, 2: 20}}
    assert not differences({"n0": same, "n1": same, "n2": same})
    [told] = differences({"n0": same, "n1": same, "n2": other})
    assert "n0" in told
    assert "n2" in told
