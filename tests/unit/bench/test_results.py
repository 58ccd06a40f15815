import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest

from bench import report
from bench.machine import Machine
from bench.process import Usage
from bench.results import Indicator, Line, Report, Result, Split, median, paired, share, spread
from pullstatus.cli.load import Measured

MACHINE = Machine("cpu", 2, 8.0, "6.1", "ext4", "3.11.7")
USAGE = Usage(
    processor_s=0.9,
    cores=0.9,
    other_cores=0.2,
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


def test_line_tells_microseconds_of_a_request_not_of_what_it_stands_for() -> None:
    line = Line("pullstatus", "records/s")
    line.add(measured(10), USAGE, factor=100)
    line.add(measured(0), USAGE)
    assert line.us == [pytest.approx(90_000), 0]


def test_line_takes_in_another_one() -> None:
    one, two = Line("a", "posts/s"), Line("b", "posts/s")
    for line, per_s in ((one, 1), (two, 2), (two, 3)):
        line.add(measured(per_s), USAGE)
    one.extend(two)
    assert (one.label, one.per_s, len(one.us), one.requests) == ("a", [1, 2, 3], 3, [1, 2, 3])
    assert two.per_s == [2, 3]


def test_paired_compares_what_was_measured_in_one_turn() -> None:
    """The machine was three times as fast in the second turn, for both."""
    assert paired([10, 30, 10], [20, 60, 20]) == 0.5
    assert paired([1, 2], [0, 4]) == 0.5
    assert paired([], []) == 0


def test_goals_are_all_that_have_one_and_peers_are_beside_them() -> None:
    made = made_report()
    peers = Result("drain", "", [], [Indicator("pages/s to the best durable peer's", 2.0, 3.0)])
    table = report.goals(made, msgspec.structs.replace(made, results=[peers]))
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert [row[1:4] for row in rows] == [
        ("pages/s to ceiling", "0.25", "≥ 0.5"),
        ("p99 to ceiling's", "1.00", "≤ 4"),
        ("pages/s to the best durable peer's", "2.00", "≥ 3"),
    ]
    assert ["missed" in row[4] for row in rows] == [True, False, True]


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
    assert any(text and text.startswith("100 pages/s, 9,000 µs, p99 5.0 ms") for text in texts)


def test_of_more_lines_than_a_page_takes_those_are_shown_that_are_judged() -> None:
    lines = [Line(f"pages, {count} mailboxes", "pages/s") for count in range(report.LINES_MAX + 1)]
    judged = [Indicator("pages, 7 mailboxes, a second", 1.0)]
    assert report.short(Result("cluster", "doors", lines, judged, [])) == [lines[7]]
    assert report.short(Result("cluster", "doors", lines[1:], judged, [])) == lines[1:]


SPLITS = [
    Split("empty pull", 12.0, 0.0, {"sockets": 8.0, "http": 4.0}, 0.0),
    Split("post of 1", 20.0, 10.0, {"http": 20.0, "log": 10.0}, 7.0),
]


def test_the_picture_of_splits_has_a_bar_for_each_load_whose_parts_fill_it() -> None:
    root = ET.fromstring(report.split_plot(SPLITS, "<here>"))
    svg = "{http://www.w3.org/2000/svg}"
    parts = [
        (float(part.attrib["x"]), float(part.attrib["width"]))
        for part in root.findall(f"{svg}rect")
        if part.attrib["height"] == "30"
    ]
    assert [width / report.SPLIT_BAR for _, width in parts] == pytest.approx(
        [2 / 3, 1 / 3, 2 / 3, 1 / 3], rel=1e-3
    )
    assert [x for x, _ in parts[::2]] == [report.SPLIT_LEFT] * 2
    texts = [text.text for text in root.findall(f"{svg}text")]
    assert {"empty pull", "12 µs", "post of 1", "30 µs", "+ 7 µs of sync", "<here>"} <= {*texts}


def test_the_table_of_splits_has_what_was_found_in_the_order_of_the_way() -> None:
    rows = list(report.split_rows(SPLITS))
    assert rows[:3] == [
        ("event loop and sockets", ["8.0", ""]),
        ("HTTP: reading, writing, turns", ["4.0", "20.0"]),
        ("store: its log", ["", "10.0"]),
    ]
    assert rows[3] == ("all", ["12.0", "30.0"])


def test_pictures_of_splits_lie_beside_the_report(tmp_path: Path) -> None:
    result = Result("split", "", [], [], splits=SPLITS)
    file = tmp_path / "recorded.json"
    report.write(file, msgspec.structs.replace(made_report(), results=[result]))
    assert (tmp_path / "recorded-split.svg").exists()
    assert report.read(file) == msgspec.structs.replace(made_report(), results=[result])


def test_busy_generator_and_busy_machine_are_remarked(capsys: pytest.CaptureFixture[str]) -> None:
    line = Line("pullstatus", "pages/s")
    busy = msgspec.structs.replace(measured(1), generator_cores=0.95)
    line.add(busy, msgspec.structs.replace(USAGE, other_cores=0.65))
    result = Result("drain", "", [line], [])
    made = Report("", MACHINE, "wrk", 5.0, 1, [result])
    report.show(made, None, report.console())
    shown = capsys.readouterr().out
    assert "the load took 0.95 cores for pullstatus" in shown
    assert "other programs took up to 0.65 cores" in shown
