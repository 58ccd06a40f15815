"""No regular expression is one that a Python which we take matches wrongly.

Before 3.11.5 a group with a possessive repeat may match too much or too little (gh-106052): pages
of more than 16 KiB were no JSON to a client on Debian 12.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]")
POSSESSIVE_GROUP = re.compile(r"(?<!\\)\)(?:[*+?]|\{[0-9,]+\})\+")


def texts(source: str) -> Iterator[str]:
    """What is written where a pattern is compiled."""
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "re.compile":
            for node in ast.walk(call.args[0]):
                if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                    text = node.value
                    yield text if isinstance(text, str) else text.decode("latin-1")


def faulty(source: str) -> list[str]:
    return [text for text in texts(source) if POSSESSIVE_GROUP.search(CLASS.sub("x", text))]


@pytest.mark.parametrize("folder", ["src", "tools", "bench"])
def test_no_pattern_has_a_possessive_group(folder: str) -> None:
    sources = list((ROOT / folder).rglob("*.py"))
    assert any(list(texts(source.read_text(encoding="utf-8"))) for source in sources)
    assert [source for source in sources if faulty(source.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("pattern", ['r"(?:a|b)*+"', 'rb"(a){2,3}+"', 'rb"x" rb"(?:a)?+"'])
def test_one_that_has_is_found(pattern: str) -> None:
    assert faulty(f"import re\nre.compile({pattern})")
    assert not faulty('re.compile(r"[^a]++(?:a[^a]*+)*[)]+")')
