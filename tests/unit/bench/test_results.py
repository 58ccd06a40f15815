import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest

from bench import report
from bench.machine import Machine
from bench.process import Usage
from bench.results import Indicator, Line, Report, Result, median, share, spread
from pullstatus.cli.load import Measured

MACHINE = Machine("cpu", 2, 8.0, "6.1", "ext4", "3.11.7")
USAGE = Usage(
    cores=0.9,
    machine_cores=1.6,
    memory_mib=50.0,
    memory_third_mib=40.0,
    memory_last_mib=50.0,
    written_mib=1.0,
    read_mib=0.0,
)


def measured(per_s: int) -> Measured:
    return Measured(1.0, per_s, 100, 0, 0, 1.0, 5.0, 9.0, generator_cores=0.5)


def made_report() -> Report:
    ours, top = Line("pullstatus", "pages/s"), Line("ceiling", "pages/s")
    for per_s in (90, 110, 100):
        ours.add(measured(per_s), USAGE)
        top.add(measured(4 * per_s), USAGE)
    indicators = [
        Indicator("pages/s to ceiling", share(ours.per_s, top.per_s), goal=0.5),
        Indicator("p99 to ceiling's", 1.0, goal=4.0, lower_is_better=True),
        Indicator("something else", 1.0),
    ]
    results = [Result("drain", "pulls & <more>", [ours, top], indicators, ["a remark"])]
    return Report("2025-01-01 00:00:00", MACHINE, "wrk", 5.0, 3, results)


def test_line_counts_in_its_unit() -> None:
    line = Line("pullstatus", "records/s")
    line.add(measured(10), USAGE, factor=100)
    assert line.per_s == [1000]


def test_line_tells_what_others_took() -> None:
    line = Line("pullstatus", "records/s")
    line.add(measured(10), USAGE)
    assert line.other_cores == [pytest.approx(0.2)]


def test_lines_do_not_share_their_figures() -> None:
    one, two = Line("a", ""), Line("b", "")
    one.add(measured(1), USAGE)
    assert two.per_s == []


def test_median_spread_and_share() -> None:
    assert median([3, 1, 2]) == 2
    assert median([]) == 0
    assert spread([90, 110, 100]) == pytest.approx(0.1)
    assert spread([]) == 0
    assert share([1, 2, 3], [4]) == 0.5
    assert share([1], []) == 0


@pytest.mark.parametrize(
    ("indicator", "met"),
    [
        (Indicator("", 0.5, goal=0.5), True),
        (Indicator("", 0.49, goal=0.5), False),
        (Indicator("", 4.0, goal=4.0, lower_is_better=True), True),
        (Indicator("", 4.1, goal=4.0, lower_is_better=True), False),
        (Indicator("", 0.0, goal=0.0, lower_is_better=True), True),
        (Indicator("", 1.0), None),
    ],
)
def test_goal_is_met_or_missed(indicator: Indicator, met: bool | None) -> None:
    assert indicator.met is met


def test_tables_show_figure_ratio_goal_and_change(capsys: pytest.CaptureFixture[str]) -> None:
    recorded = made_report()
    [result] = recorded.results
    old = [msgspec.structs.replace(each, value=each.value / 2) for each in result.indicators]
    results = [msgspec.structs.replace(result, indicators=old)]
    recorded = msgspec.structs.replace(recorded, results=results)
    report.show(made_report(), recorded, report.console())
    shown = capsys.readouterr().out
    for text in ("100 pages/s", "400 pages/s", "10%", "5.00", "0.25", "≥ 0.5", "missed"):
        assert text in shown
    for text in ("≤ 4", "met", "100% better", "100% worse", "drain: a remark", "2 cores of cpu"):
        assert text in shown


def test_json_reads_back(tmp_path: Path) -> None:
    file = tmp_path / "recorded.json"
    assert report.read(file) is None
    file.write_bytes(report.encode(made_report()))
    assert report.read(file) == made_report()


def test_plot_is_xml_with_a_bar_for_each_line_to_one_scale() -> None:
    root = ET.fromstring(report.plot(made_report()))
    svg = "{http://www.w3.org/2000/svg}"
    background, *bars = root.findall(f"{svg}rect")
    ours, top = (float(bar.attrib["width"]) for bar in bars)
    assert top == pytest.approx(4 * ours)
    assert float(background.attrib["width"]) > top
    texts = [text.text for text in root.findall(f"{svg}text")]
    assert "drain: pulls & <more>" in texts
    assert any(text and text.startswith("100 pages/s, p99 5.0 ms") for text in texts)


def test_busy_generator_and_busy_machine_are_remarked(capsys: pytest.CaptureFixture[str]) -> None:
    line = Line("pullstatus", "pages/s")
    busy = msgspec.structs.replace(measured(1), generator_cores=0.95)
    line.add(busy, msgspec.structs.replace(USAGE, machine_cores=2.5))
    result = Result("drain", "", [line], [])
    made = Report("", MACHINE, "wrk", 5.0, 1, [result])
    report.show(made, None, report.console())
    shown = capsys.readouterr().out
    assert "the load took 0.95 cores for pullstatus" in shown
    assert "other programs took up to 0.65 cores" in shown
