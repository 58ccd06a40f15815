"""The bench as a whole, for a second or two: that it runs, not what it finds."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.__main__ import main
from bench.full import FULL
from bench.measure import Bench
from bench.scenarios import EVERYDAY
from pullstatus.cli import load


def test_without_wrk_the_bench_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 1
    assert "apt-get install wrk" in result.stderr


def test_unknown_scenario_is_refused_with_the_known_ones() -> None:
    result = CliRunner().invoke(main, ["drian"])
    assert result.exit_code == 2
    assert "there is no drian" in result.stderr
    assert all(name in result.stderr for name in EVERYDAY | FULL)


def test_folder_in_memory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A sync to memory costs nothing: figures from there would be lies."""
    monkeypatch.setattr(load, "installed", lambda: True)
    monkeypatch.setattr("bench.machine.file_system_of", lambda _folder: "tmpfs")
    result = CliRunner().invoke(main, ["--folder", str(tmp_path)])
    assert result.exit_code == 1
    assert "nothing is durable" in result.stderr


def test_mixed_accounts_for_every_record(tmp_path: Path) -> None:
    """What went in came out or waits, and the load generator of a constant rate kept its rate."""
    scenario = FULL["mixed"]
    result = scenario.measure(Bench(tmp_path, mixed_s=1.0), scenario)
    assert [line.per_s for line in result.lines] == [[3000.0], [50.0]]
    assert not list(tmp_path.iterdir())


def test_every_held_pull_is_answered_with_the_record_that_was_posted_for_it(tmp_path: Path) -> None:
    scenario = EVERYDAY["held"]
    result = scenario.measure(Bench(tmp_path, seconds=1.0, warmup_s=0), scenario)
    assert [line.per_s for line in result.lines] == [[500.0], [500.0]]
    assert all(line.p99_ms[0] > 0 for line in result.lines)


@pytest.mark.needs("wrk")
def test_bench_measures_compares_and_keeps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bench.machine.file_system_of", lambda _folder: "whatever tests run on")
    store, kept = tmp_path / "stores", tmp_path / "results"
    store.mkdir()
    command = ["--seconds", "1", "--warm-up", "0", "--json", "--record"]
    command += ["--folder", str(store), "--results", str(kept)]
    ran = CliRunner().invoke(main, [*command, "empty", "ingest-1"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.stderr
    made = json.loads(ran.stdout)
    assert [result["scenario"] for result in made["results"]] == ["empty", "ingest-1"]
    for result in made["results"]:
        ours, ceiling = result["lines"]
        assert ours["per_s"][0] > 0
        assert ceiling["per_s"][0] > 0
        assert result["indicators"][0]["value"] > 0
    assert json.loads((kept / "recorded.json").read_bytes()) == made
    assert (kept / "recorded.svg").read_text().startswith("<svg")
    assert not list(store.iterdir())
