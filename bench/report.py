"""How results are shown: a table for people, JSON for programs, a plot for a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from bench.guard import worse_by
from bench.layers import Layer
from bench.results import Indicator, Line, Report, Result, Split, median, spread

WIDTH_CHARS = 140
BUSY = 0.9  # of a core: from here on the load generator may be what binds
LINES_MAX = 24  # of a scenario, in a plot and on the page
DISTURBED = 0.3  # cores that others may take before figures are not to be trusted


def console() -> Console:
    """Standard output; wide enough for the tables when it is no terminal."""
    out = Console()
    return out if out.is_terminal else Console(width=WIDTH_CHARS)


def show(report: Report, recorded: Report | None, console: Console) -> None:
    """Print the table of figures, then that of goals."""
    console.print(figures(report))
    console.print(indicators(report, recorded))
    for result in report.results:
        if result.splits:
            console.print(split_table(result.splits))
        for remark in [*result.remarks, *_busy(result)]:
            console.print(f"{result.scenario}: {remark}", highlight=False)
    console.print(f"{report.machine}; load by {report.generator}", highlight=False, style="dim")


def figures(report: Report) -> Table:
    """What was measured, a row a line."""
    table = Table(box=box.SIMPLE_HEAD, title="Figures", title_justify="left")
    table.add_column("scenario", no_wrap=True)
    table.add_column("of", no_wrap=True)
    for name in ("median", "±", "µs", "p50 ms", "p99 ms", "cores", "MiB"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in report.results:
        for position, line in enumerate(result.lines):
            table.add_row(
                result.scenario if position == 0 else "",
                line.label,
                f"{median(line.per_s):,.0f} {line.unit}",
                f"{spread(line.per_s):.0%}" if len(line.per_s) > 1 else "",
                _number(line.us, ",.1f"),
                _number(line.p50_ms, ".2f"),
                _number(line.p99_ms, ".2f"),
                _number(line.cores, ".2f"),
                _number(line.memory_mib, ",.0f"),
                end_section=position == len(result.lines) - 1,
            )
    return table


def indicators(report: Report, recorded: Report | None) -> Table:
    """What scenarios are judged by: the goals, and what was recorded."""
    before = {
        (result.scenario, ratio.name): ratio
        for result in (recorded.results if recorded else [])
        for ratio in result.indicators
    }
    table = Table(box=box.SIMPLE_HEAD, title="Judged by", title_justify="left")
    table.add_column("scenario", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name in ("now", "goal", "", "recorded", "change"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in report.results:
        for position, ratio in enumerate(result.indicators):
            old = before.get((result.scenario, ratio.name))
            table.add_row(
                result.scenario if position == 0 else "",
                ratio.name,
                f"{ratio.value:.2f}",
                _goal(ratio),
                {True: "[green]met[/]", False: "[yellow]missed[/]", None: ""}[ratio.met],
                "" if old is None else f"{old.value:.2f}",
                "" if old is None or not old.value or ratio.absolute else _change(ratio, old),
            )
    return table


def split_table(splits: Sequence[Split]) -> Table:
    """Where processor time goes: a row a layer, a column a load."""
    table = Table(box=box.SIMPLE_HEAD, title="Processor of a request, µs", title_justify="left")
    table.add_column("", no_wrap=True)
    for split in splits:
        table.add_column(split.label, justify="right", no_wrap=True)
    for name, cells in split_rows(splits):
        table.add_row(name, *cells)
    return table


def split_rows(splits: Sequence[Split]) -> Iterator[tuple[str, list[str]]]:
    """The rows of a table of splits, each with a cell for each of them."""
    for layer in Layer:
        figures = [split.us.get(layer.name.lower(), 0.0) for split in splits]
        if any(figures):
            yield layer.value, [f"{us:.1f}" if us else "" for us in figures]
    yield "all", [f"{split.server_us + split.store_us:.1f}" for split in splits]
    yield "of it in the store's process", [f"{split.store_us:.1f}" for split in splits]
    yield "waiting for the sync, of time", [f"{split.sync_us:.1f}" for split in splits]


def short(result: Result) -> Sequence[Line]:
    """Its lines or, where they are too many for a page, those that it is judged by."""
    if len(result.lines) <= LINES_MAX:
        return result.lines
    judged = tuple(ratio.name for ratio in result.indicators)
    return [line for line in result.lines if any(name.startswith(line.label) for name in judged)]


def goals(report: Report, peers: Report | None) -> Table:
    """Every goal with what was reached; those to the best peer are of an earlier run."""
    table = Table(box=box.SIMPLE_HEAD, title="Goals", title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name in ("measured", "goal", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for result in [*report.results, *(peers.results if peers else [])]:
        for ratio in result.indicators:
            if ratio.goal is not None:
                met = "[green]met[/]" if ratio.met else "[yellow]missed[/]"
                table.add_row(result.scenario, ratio.name, f"{ratio.value:.2f}", _goal(ratio), met)
    return table


def encode(report: Report) -> bytes:
    """The report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def write(file: Path, report: Report) -> None:
    """Keep the report as JSON, and its plots beside it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encode(report))
    file.with_suffix(".svg").write_text(plot(report), encoding="utf-8")
    splits = [split for result in report.results for split in result.splits]
    if splits:
        picture = split_plot(splits, f"{report.machine}; {report.made_at}")
        file.with_name(f"{file.stem}-split.svg").write_text(picture, encoding="utf-8")


def read(file: Path) -> Report | None:
    """A report written earlier, if there is one."""
    return msgspec.json.decode(file.read_bytes(), type=Report) if file.exists() else None


def _number(values: list[float], form: str) -> str:
    return format(median(values), form) if values else ""


def _busy(result: Result) -> Iterator[str]:
    for line in result.lines:
        cores = median(line.generator_cores)
        if cores > BUSY:
            yield f"the load took {cores:.2f} cores for {line.label}: it may be what binds"
    others = max((cores for line in result.lines for cores in line.other_cores), default=0.0)
    if others > DISTURBED:
        yield f"other programs took up to {others:.2f} cores meanwhile: measure again in quiet"


def _goal(ratio: Indicator) -> str:
    if ratio.goal is None:
        return ""
    return f"{'≤' if ratio.lower_is_better else '≥'} {ratio.goal:.3g}"


def _change(now: Indicator, recorded: Indicator) -> str:
    worse = worse_by(now, recorded)
    return f"{abs(worse):.0%} {'worse' if worse > 0 else 'better'}"


# -- the plot --------------------------------------------------------------------------------------

WIDTH = 920
LEFT = 250
BAR = 360
ROW = 22
GAP = 16
COLOURS = {"ceiling": "#9aa5b1", "C and SQLite": "#6b7785", "pullstatus": "#2f7ed8"}
OTHER = "#e0913a"


def plot(report: Report) -> str:
    """Bars of what was measured, as SVG: within a scenario, all on one scale."""
    return "\n".join(_plot(report)) + "\n"


def _plot(report: Report) -> Iterator[str]:
    rows = sum(len(short(result)) for result in report.results)
    height = 60 + rows * ROW + len(report.results) * (GAP + ROW)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">'
    )
    yield f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    y = 8
    for result in report.results:
        y += GAP + ROW
        yield _text(12, y - 6, f"{result.scenario}: {result.conditions}", "font-weight='bold'")
        longest = max((median(line.per_s) for line in short(result)), default=0.0)
        for line in short(result):
            figure = median(line.per_s)
            length = BAR * figure / longest if longest else 0
            colour = COLOURS.get(line.label, OTHER)
            yield _text(LEFT - 8, y + 15, line.label, "text-anchor='end'")
            yield (
                f'<rect x="{LEFT}" y="{y + 3}" width="{length:.1f}" height="{ROW - 6}"'
                f' fill="{colour}"/>'
            )
            tail = f"{figure:,.0f} {line.unit}"
            if line.us:
                tail += f", {median(line.us):,.0f} µs"
            if line.p99_ms:
                tail += f", p99 {median(line.p99_ms):.1f} ms"
            yield _text(LEFT + length + 8, y + 15, tail)
            y += ROW
    yield _text(12, y + GAP + 10, f"{report.machine}; {report.made_at}", "fill='#66717d'")
    yield "</svg>"


def _text(x: float, y: float, text: str, more: str = "fill='#1f2933'") -> str:
    return f"<text x='{x:.0f}' y='{y:.0f}' {more}>{escape(text)}</text>"


# -- where processor time goes ---------------------------------------------------------------------

SPLIT_LEFT = 130
SPLIT_BAR = 640
SPLIT_ROW = 46
NARROW = 30  # pixels, below which no figure fits in
LEGEND_COLUMNS = 3
LAYER_COLOURS = {
    Layer.SOCKETS: "#6b7785",
    Layer.HTTP: "#9aa5b1",
    Layer.CHECKS: "#2f7ed8",
    Layer.CALL: "#6fa8e8",
    Layer.RECORDS: "#a9cdf5",
    Layer.MAILBOX: "#3d9a6c",
    Layer.HAND_OVER: "#e0913a",
    Layer.PACKING: "#f2c063",
    Layer.VERBS: "#8a5fb5",
    Layer.SQL: "#b08bd4",
    Layer.LOG: "#d9c6ea",
}


def split_plot(splits: Sequence[Split], about: str) -> str:
    """A bar for each load, of its layers, as SVG: each as long as all, with its sum behind."""
    return "\n".join(_split_plot(splits, about)) + "\n"


def _split_plot(splits: Sequence[Split], about: str) -> Iterator[str]:
    legend = -(-len(Layer) // LEGEND_COLUMNS) * ROW
    height = 60 + len(splits) * SPLIT_ROW + legend + 2 * GAP
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">'
    )
    yield f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    yield _text(12, 24, "Processor time of a request, µs, both processes", "font-weight='bold'")
    y = 38
    for split in splits:
        yield from _split_bar(split, y)
        y += SPLIT_ROW
    y += GAP
    for place, layer in enumerate(Layer):
        column, row = place % LEGEND_COLUMNS, place // LEGEND_COLUMNS
        x = 12 + column * (WIDTH - 12) / LEGEND_COLUMNS
        top = y + row * ROW
        yield f'<rect x="{x:.0f}" y="{top}" width="14" height="14" fill="{LAYER_COLOURS[layer]}"/>'
        yield _text(x + 20, top + 12, layer.value)
    yield _text(12, y + legend + GAP, about, "fill='#66717d' font-size='11'")
    yield "</svg>"


def _split_bar(split: Split, y: float) -> Iterator[str]:
    whole = sum(split.us.values())
    yield _text(SPLIT_LEFT - 8, y + 20, split.label, "text-anchor='end'")
    x = float(SPLIT_LEFT)
    for layer in Layer:
        us = split.us.get(layer.name.lower(), 0.0)
        length = SPLIT_BAR * us / whole
        if not length:
            continue
        yield (
            f'<rect x="{x:.1f}" y="{y}" width="{length:.1f}" height="30"'
            f' fill="{LAYER_COLOURS[layer]}" stroke="#ffffff"/>'
        )
        if length >= NARROW:
            yield _text(x + length / 2, y + 20, f"{us:.1f}", "text-anchor='middle' fill='#1f2933'")
        x += length
    counted = split.server_us + split.store_us
    yield _text(x + 8, y + 14, f"{counted:,.0f} µs", "font-weight='bold'")
    if split.sync_us:
        waits = f"+ {split.sync_us:,.0f} µs of sync"
        yield _text(x + 8, y + 29, waits, "fill='#66717d' font-size='11'")
