"""Nothing that a stranger wrote steers a terminal."""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.table import Table
from rich.text import Text

import pullstatus
from pullstatus.cli import main as commands
from pullstatus.cli.output import print_json, print_rows
from pullstatus.cli.tables import console
from pullstatus.terminal import visible


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


ATTACK = "a\x1b[2J\x9b31m\u202egnp.exe\r\x07\x7f\u2066b\udc80"


def test_what_steers_is_spelt_out_and_all_else_stays() -> None:
    assert visible("收到 👨‍👩‍👧 é\n[red]") == "收到 👨‍👩‍👧 é\n[red]"
    assert visible("\x1b[2J\u202e") == "\\u001b[2J\\u202e"
    assert visible("\udc80") == "\\udc80"
    for point in range(0x10000):
        character = chr(point)
        if unicodedata.category(character) in ("Cc", "Cs") and character != "\n":
            assert visible(character) == f"\\u{point:04x}"
        if unicodedata.bidirectional(character) in {
            *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        }:
            assert visible(character) != character


def test_it_is_the_same_json() -> None:
    text = json.dumps({"text": ATTACK[:-1]}, ensure_ascii=False)
    assert json.loads(visible(text)) == {"text": ATTACK[:-1]}


def test_tables_and_json_on_a_terminal_are_harmless(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    rows = [{"key": ATTACK, "list": [ATTACK, "two\nlines"]}]
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    for column in ("key", "list"):
        print_rows(rows, as_json=False, columns=[column], empty="none")
    print_json([{"key": ATTACK[:-1]}])
    shown = capsys.readouterr().out
    assert visible(shown) == shown
    assert "two\\nlines" in shown


def test_console_shows_what_strangers_wrote_at_any_depth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    table = Table("column")
    table.add_row(f"{ATTACK}[/][link=http://x.example]y:smile:")
    shown = console()
    shown.print(table)
    shown.print(Text(ATTACK, "red"), ATTACK)
    plain = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue())
    assert visible(plain) == plain
    assert "[/][link=http://x.example]y:smile:" in plain
    assert "\x1b[31m" in terminal.getvalue()  # what we colour is coloured


@pytest.mark.parametrize(
    "arguments",
    [
        [f"{ATTACK}"],
        [f"--{ATTACK}"],
        ["audit", "--store", f"sqlite:////nowhere/{ATTACK}/file"],
        ["app", "import", f"/nowhere/{ATTACK}"],
        ["app", "list", "--sort", ATTACK],
        ["serve", "--config", f"/nowhere/{ATTACK}"],
        ["verify", "--url", "http://127.0.0.1", "--body", ATTACK, "--appkey-file", f"/{ATTACK}"],
    ],
)
def test_errors_on_a_terminal_are_harmless(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    with pytest.raises(SystemExit) as ended:
        commands.main(arguments, "pullstatus")
    assert ended.value.code in (1, 2)
    _, error, said = terminal.getvalue().partition("Error: ")  # before it stands the bar
    assert error
    assert visible(said) == said


DOORS = {"output.py", "tables.py"} | {"surroundings.py", "lazy.py"}  # which are loaded before those


def test_what_an_option_may_be_is_a_list() -> None:
    """Click sets its lines off with tabs."""
    done = CliRunner().invoke(commands, ["push", "-"])
    assert "Choose from:\n    delivery-status,\n    reply" in done.stderr
    assert "u0009" not in done.stderr


def test_whatever_commands_print_goes_through_one_door() -> None:
    folder = Path(pullstatus.__file__).parent / "cli"
    found = [
        f"{file.relative_to(folder)}:{node.lineno}"
        for file in sorted(folder.rglob("*.py"))
        if file.name not in DOORS
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Call)
        and re.fullmatch(
            r"(click\.s?echo(_via_pager)?|print|(\w+\.)*Console|sys\.std(out|err)\..*write.*)",
            ast.unparse(node.func),
        )
    ]
    assert found == []
