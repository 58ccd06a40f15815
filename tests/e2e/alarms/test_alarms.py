"""Each alarm of dist/alerts.yml rings for its fault and no other does; an ordinary hour rings none.

Faults are made on real servers, and nodes. What their /metrics say before and behind it is laid out
over two hours, as if the fault went on, and Prometheus' own tool says what rings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import pytest

from tests.e2e.alarms import calls, care, cluster, mailboxes, store
from tests.e2e.alarms.stories import LATER_S, RULES, Story, rung

FAULTS = {
    module.__name__.rpartition(".")[2]: module.FAULTS for module in (calls, mailboxes, store, care)
}


def rung_in_an_hour(stories: Mapping[str, Story], folder: Path) -> dict[str, set[str]]:
    """What rings of each, where those of care may begin days later."""
    head, *groups = re.split(r"(?m)^(?=  - name:)", RULES.read_text(encoding="utf-8"))
    [of_care] = [group for group in groups if "name: pullstatus-care" in group]
    found: dict[str, set[str]] = {}
    for begins_s, rules in ((0, [head, *groups]), (LATER_S, [head, of_care])):
        some = {name: story for name, story in stories.items() if story.begins_s == begins_s}
        found |= rung(some, "".join(rules), folder) if some else {}
    return found


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("where", FAULTS)
def test_each_alarm_rings_for_its_fault_and_an_ordinary_hour_rings_none(
    where: str, usual: Story, tmp_path: Path
) -> None:
    stories, rings = {"ordinary": usual}, {"ordinary": set[str]()}
    for fault, due in FAULTS[where].items():
        folder = tmp_path / fault.__name__
        folder.mkdir()
        stories[fault.__name__], rings[fault.__name__] = fault(folder), due
    assert rung_in_an_hour(stories, tmp_path) == rings


@pytest.mark.needs("promtool")
def test_each_alarm_of_a_cluster_rings_for_its_fault_and_a_cluster_that_is_well_rings_none(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    stories = cluster.stories(tmp_path, environment)
    assert rung(stories, RULES.read_text(encoding="utf-8"), tmp_path) == cluster.RINGS


def test_there_is_a_fault_for_each_alarm() -> None:
    alarms = re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8"))
    rings = chain(*(faults.values() for faults in FAULTS.values()), cluster.RINGS.values())
    assert set(chain(*rings)) == set(alarms)
