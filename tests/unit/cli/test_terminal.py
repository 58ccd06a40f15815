"""Nothing that a stranger wrote steers a terminal."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest

from pullstatus.cli.output import print_json, print_rows
from pullstatus.consumer.terminal import visible

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
