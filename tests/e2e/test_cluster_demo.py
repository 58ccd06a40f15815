"""The demo of a cluster: what it shows, and that it can say no."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from tests.harness import ROOT, clean_environment
from tools.cluster_demo.__main__ import judged
from tools.cluster_demo.traffic import Tally

pytestmark = pytest.mark.early

SHORT = ["--calm", "2", "--blind", "0.5", "--rate", "200"]


@pytest.mark.parametrize(
    ("engine", "happens"),
    [
        ("postgresql", "the primary is killed"),
        ("jetstream", "all three are killed at once"),
    ],
)
def test_what_is_killed_loses_nothing(engine: str, happens: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.cluster_demo", "--engine", engine, *SHORT],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert happens in done.stdout
    assert "none lost; audit sound." in done.stdout
    assert not done.stderr


@pytest.mark.parametrize(
    ("accepted", "seen", "sound", "wrong"),
    [
        ({"a", "b"}, ["a", "b"], True, ""),
        ({"a", "b"}, ["a"], True, "1 records lost"),
        ({"a"}, ["a", "a"], True, "1 records handed out twice"),
        ({"a"}, ["a", "b"], True, "1 records of nobody"),
        ({"a"}, ["a"], False, "the audit is not content"),
    ],
)
def test_judgement(accepted: set[str], seen: list[str], sound: bool, wrong: str) -> None:
    assert "; ".join(judged(Tally(accepted, Counter(seen)), sound=sound)) == wrong
