"""Tables: whatever the terminal's width, no cell is cut."""

import io
import re
import sys

import pytest

from pullstatus.cli.output import print_rows
from pullstatus.cli.tables import fitting

ROWS = [
    {"mailbox": "1400006666/delivery-statuses", "waiting": 7, "erased": 0, "aside": 12},
    {"mailbox": "1400006667/replies", "waiting": 1234567, "erased": 0, "aside": 0},
]
COLUMNS = list(ROWS[0])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(
    monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, object]], width: int, wraps: str = ""
) -> str:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    print_rows(rows, as_json=False, columns=list(rows[0]), empty="none", wraps=wraps)
    return re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue())


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (200, COLUMNS),
        (52, COLUMNS),
        (51, ["mailbox", "waiting", "aside"]),  # nothing was erased, so that goes first
        (44, ["mailbox", "waiting", "aside"]),
        (43, ["mailbox", "waiting"]),
        (36, ["mailbox"]),
        (10, ["mailbox"]),
    ],
)
def test_columns_that_say_nothing_go_first_then_from_the_right(
    width: int, columns: list[str]
) -> None:
    assert fitting(ROWS, COLUMNS, width) == columns


@pytest.mark.parametrize("width", range(10, 120, 7))
def test_no_cell_is_cut(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    text = shown(monkeypatch, [*map(dict, ROWS)], width)
    lines = text.partition("No room")[0].splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in text
    first = "".join(line[: max(28, width)].split("  ")[0].strip() for line in lines[2:])
    assert "1400006666/delivery-statuses" in first
    for column in COLUMNS:
        assert column in "".join(text.split("\n"))


def test_what_was_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, [*map(dict, ROWS)], 40)
    assert text.endswith("No room for erased, aside: a wider terminal or --json shows them.\n")
    assert "No room" not in shown(monkeypatch, [*map(dict, ROWS)], 80)


def test_free_text_takes_the_lines_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, object]] = [{"mailbox": "1/replies", "problem": "one word " * 20}]
    text = shown(monkeypatch, rows, 40, wraps="problem")
    assert text.count("word") == 20
    assert "No room" not in text


def test_figures_stand_right(monkeypatch: pytest.MonkeyPatch) -> None:
    head, _, one, other = shown(monkeypatch, [*map(dict, ROWS)], 80).splitlines()
    end = head.index("waiting") + len("waiting")
    assert one[end - 2 : end] == " 7"
    assert other[:end].endswith("1234567")


def test_text_of_strangers_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "[red]x[/]" in shown(monkeypatch, [{"key": "[red]x[/]", "records": 1}], 80)
