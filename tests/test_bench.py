"""The bench as a whole, for a second or two: that it runs, not what it finds."""

import contextlib
import json
import tempfile
import time
from pathlib import Path
from typing import cast

import apsw
import msgspec
import pytest
from click.testing import CliRunner

from bench import __main__ as bench_main
from bench import ceiling, cluster, consumer, databases, floor, growth
from bench.__main__ import GROUPS, KNOWN, main
from bench.engines import ENGINES
from bench.full import FULL
from bench.goals import GOALS
from bench.growth import GROWTH
from bench.measure import Bench, Side
from bench.process import Running
from bench.records import record
from bench.results import Line, Result
from bench.scenarios import EVERYDAY, Scenario
from bench.server import PAGE, Product, pull_request
from pullstatus.cli import load
from pullstatus.cli.load import Answer, Load, Request


def test_without_wrk_the_bench_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 1
    assert "apt-get install wrk" in result.stderr


def test_unknown_scenario_is_refused_with_the_known_ones() -> None:
    result = CliRunner().invoke(main, ["drian"])
    assert result.exit_code == 2
    assert "there is no drian" in result.stderr
    assert all(name in result.stderr for name in (*EVERYDAY, *FULL, *GOALS))


def test_a_group_stands_for_its_scenarios_each_measured_once() -> None:
    result = CliRunner().invoke(main, ["--list", "goals", "empty", "growth"])
    names = [line.split()[0] for line in result.output.splitlines()[:-1]]
    assert names == list(GOALS)
    assert {*GROUPS["all"], "before"} == {*KNOWN}


def measured_by(monkeypatch: pytest.MonkeyPatch, kept: Path, *scenarios: Scenario) -> object:
    """The exit status of a bench of these, all recorded."""
    monkeypatch.setattr(load, "installed", lambda: True)
    monkeypatch.setattr("bench.machine.file_system_of", lambda _folder: "whatever tests run on")
    known = {scenario.name: scenario for scenario in scenarios}
    monkeypatch.setattr(bench_main, "KNOWN", known)
    command = ["--record", "--results", str(kept), "--folder", str(kept), *known]
    return CliRunner().invoke(main, command).exit_code


@pytest.mark.needs("wrk")
def test_a_scenario_that_takes_too_long_ends_and_what_was_measured_is_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who has it all measured overnight finds in the morning what there is."""

    def hang(_bench: Bench, _scenario: Scenario) -> Result:
        time.sleep(600)
        raise AssertionError

    monkeypatch.setattr(bench_main, "ALLOWED_S", 0.05)
    hanging = Scenario("hanging", "", hang, minutes=0.0)
    failing = Scenario("failing", "", lambda _bench, _it: cast("Result", 1 / 0))
    quick = Scenario("quick", "", lambda _bench, _it: Result("quick", "", [], []))
    assert measured_by(monkeypatch, tmp_path, hanging, failing, quick) == 1
    recorded = json.loads((tmp_path / "recorded.json").read_bytes())
    assert [result["scenario"] for result in recorded["results"]] == ["quick"]


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


def test_growth_looks_at_stores_of_as_many_mailboxes_as_it_is_told(tmp_path: Path) -> None:
    scenario = GROWTH["growth"]
    bench = Bench(tmp_path, runs=1, mailboxes=(3, 1500))
    result = scenario.measure(bench, scenario)
    ratios = [each for each in result.indicators if each.goal is not None]
    assert len(ratios) == 8
    assert all(each.value > 0 for each in ratios)
    assert {each.name.rpartition(" ")[2] for each in result.indicators if each.absolute} == {
        "3",
        "1,500",
    }
    assert not list(tmp_path.iterdir())


@pytest.mark.needs("wrk")
def test_removal_is_done_when_all_that_was_old_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(growth, "PAIRS_PER_S", 20_000)
    monkeypatch.setattr(growth, "WINDOW_S", 1)
    monkeypatch.setattr(growth, "OVERDUE", 1000)
    scenario = GROWTH["removal"]
    result = scenario.measure(Bench(tmp_path, runs=1, warmup_s=0), scenario)
    quiet, loaded = result.lines
    arrived = sum(requests / 2 for requests in loaded.requests)
    assert result.indicators[0].value == pytest.approx(round(quiet.per_s[0]) / arrived)


def test_a_lone_append_to_postgresql_takes_two_round_trips() -> None:
    scenario = ENGINES["trips"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # servers of root are nobody's
        [trips] = scenario.measure(Bench(Path(folder)), scenario).indicators
        assert not list(Path(folder).iterdir())
    assert (trips.value, trips.met) == (2.0, True)


def test_doors_to_a_cluster_do_as_they_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cluster, "NODES", (1,))
    monkeypatch.setattr(cluster, "PROCESSES", (2,))
    monkeypatch.setattr(cluster, "MAILBOXES", (3,))
    scenario = ENGINES["cluster"]

    def measured(seconds: float) -> Result:
        return scenario.measure(Bench(tmp_path, seconds=seconds, warmup_s=0), scenario)

    result = measured(0.2)
    if not all(line.per_s[0] for line in result.lines):  # on a busy machine it may come to nothing
        result = measured(20)
    assert [line.label.partition(",")[0] for line in result.lines] == [
        "empty pulls",
        "pages",
        "appends of 100",
        "appends of 1",
    ]
    for line in result.lines:
        assert line.per_s[0] > 0
        assert line.us[0] >= line.behind_us[0]
    # The kernel counts in hundredths of a second, and a few pages take less.
    assert sum(line.behind_us[0] for line in result.lines) > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.needs("wrk")
def test_the_product_over_a_node_is_measured_without_the_peers_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(databases, "PEERS", tmp_path / "none")
    scenario = ENGINES["consumer"]

    def measured(seconds: float) -> Result:
        monkeypatch.setattr(consumer, "RUN_S", seconds)
        bench = Bench(tmp_path, seconds=seconds, runs=1, warmup_s=0)
        return scenario.measure(bench, scenario)

    result = measured(1)
    if not all(line.per_s[0] for line in result.lines):  # on a busy machine it may come to nothing
        result = measured(20)
    assert [line.label.partition(",")[0] for line in result.lines] == [
        "pages",
        "batches of 100",
        "posts of 1",
    ]
    assert all(line.per_s[0] > 0 for line in result.lines)
    assert not result.indicators
    assert "make bench-peers" in result.remarks[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.needs("wrk")
def test_sides_take_turns_and_every_other_turn_goes_the_other_way_round(tmp_path: Path) -> None:
    answer = Answer(200, [("content-length", "2")], b"{}")
    asked: list[str] = []

    def side(name: str, running: Running) -> Side:
        def make() -> Load:
            asked.append(name)
            return Load([Request("/", b"{}")], 1)

        return Side(Line(name, "posts/s"), lambda: running, make, answer.wire_bytes)

    with ceiling.start(answer, tmp_path) as one, ceiling.start(answer, tmp_path) as other:
        sides = [side("one", one), side("other", other)]
        Bench(tmp_path, runs=2, warmup_s=0).in_turns(sides)
    assert asked == ["one", "other", "other", "one"]
    assert all(len(each.line.us) == 2 for each in sides)


@pytest.mark.needs("cc")
def test_the_c_program_moves_cursor_and_journal_as_the_product_does(tmp_path: Path) -> None:
    """Else what it needs for a page is no measure of what a page needs."""
    with Product(tmp_path) as product:
        product.fill(3 * PAGE, step=lambda _share: None)
        product.make_plain()
        floor.lay_on_pages(product)
        program = floor.compiled(tmp_path)
        with floor.start(program, product) as running:
            by_c = [load.look(running.address, pull_request()) for _ in range(2)]
        product.serve()
        by_product = load.look(product.address, pull_request())
        assert product.waiting() == 0
        product.stop()
        with contextlib.closing(apsw.Connection(str(product.file))) as connection:
            found = connection.execute("SELECT * FROM journal ORDER BY key")
            names = [name for name, _ in found.get_description()]
            rows = list(found)
            assert connection.pragma("page_size") == floor.PAGE_BYTES
            moved = next(connection.execute("SELECT cursor, handed_out FROM mailbox"))
        bodies = [msgspec.json.decode(each.body) for each in (*by_c, by_product)]
    records = [each for body in bodies for each in body.pop("data")]
    assert records == [msgspec.json.decode(record(number)) for number in range(3 * PAGE)]
    assert bodies[0] == bodies[1] == bodies[2]
    assert moved == (3 * PAGE, 3 * PAGE)
    assert [row[0] - rows[0][0] for row in rows] == [0, PAGE, 2 * PAGE]
    varying = ("key", "at_ms", "proof", "ticket")
    alike = [
        [type(value) if name in varying else value for name, value in zip(names, row, strict=True)]
        for row in rows
    ]
    assert alike[0] == alike[1] == alike[2]
    assert not list(tmp_path.glob("pullstatus-bench-*"))


def test_without_a_c_compiler_the_rest_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(floor.FloorMissing, match="apt-get install gcc libsqlite3-dev"):
        floor.compiled(tmp_path)


@pytest.mark.needs("wrk")
def test_bench_measures_compares_and_keeps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bench.machine.file_system_of", lambda _folder: "whatever tests run on")
    store, kept = tmp_path / "stores", tmp_path / "results"
    store.mkdir()
    command = ["--runs", "2", "--warm-up", "0", "--json", "--record"]
    command += ["--folder", str(store), "--results", str(kept)]
    ran = CliRunner().invoke(main, [*command, "ingest-1"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.stderr
    made = json.loads(ran.stdout)
    [result] = made["results"]
    assert result["scenario"] == "ingest-1"
    ours, ceiling = result["lines"]
    for line in (ours, ceiling):
        assert len(line["per_s"]) == len(line["us"]) == 2
        assert min(line["per_s"] + line["us"]) > 0
    assert all(indicator["value"] > 0 for indicator in result["indicators"])
    assert json.loads((kept / "recorded.json").read_bytes()) == made
    assert (kept / "recorded.svg").read_text().startswith("<svg")
    assert not list(store.iterdir())
