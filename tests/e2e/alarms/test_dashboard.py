"""Each question of the dashboard, dist/grafana.json, has an answer once everything has happened."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from tests.e2e.alarms.stories import COUNTED, Scrape, Story, told_by_promtool
from tests.harness import ROOT

DASHBOARD = json.loads((ROOT / "dist/grafana.json").read_text(encoding="utf-8"))
CHOSEN = {"$job": "pullstatus", "$instance": ".+", "$__rate_interval": "5m"}
"""What is put for the dashboard's variables."""

SEEN: Scrape = dict.fromkeys(
    (
        "pullstatus_backup_timestamp_seconds",
        "pullstatus_audit_timestamp_seconds",
        "pullstatus_certificate_end_timestamp_seconds",
    ),
    time.time(),
)
"""What a server tells once it was backed up and audited, and has a certificate."""


def questions() -> list[str]:
    """What the dashboard asks."""
    asked = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    for name, value in CHOSEN.items():
        asked = [question.replace(name, value) for question in asked]
    return asked


@pytest.mark.needs("promtool")
def test_each_question_of_the_dashboard_has_an_answer(usual: Story, tmp_path: Path) -> None:
    asked = questions()
    assert len(asked) > 50
    assert not [question for question in asked if "$" in question]
    before, after = usual.scrapes
    happened = {name: after[name] + 1 for name in after if COUNTED.search(name)}
    story = Story({**before, **SEEN}, {**after, **happened, **SEEN}, commits_are_timed=True)
    names = set(re.findall(r"\w+", " ".join(asked)))
    # It tells what it got where it is not what was expected, which is one figure of no sense.
    sense = {"labels": "nobody", "value": -1}
    tested = {
        "interval": "1m",
        "input_series": story.series("one", names) + story.series("two", names),
        "promql_expr_test": [
            {"expr": question, "eval_time": "90m", "exp_samples": [sense]} for question in asked
        ],
    }
    told = told_by_promtool({"rule_files": [], "tests": [tested]}, tmp_path)
    answers = re.findall(r'(?s)expr: "(.*?)", time: 1h30m.*?got:(.*?)(?=\n    expr: |\Z)', told)
    assert len(answers) == len(asked), told[:2000]
    empty = [question for question, got in answers if got.strip() in ("", "nil", "{}")]
    assert empty == []
