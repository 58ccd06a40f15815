"""Classes are known to msgspec before there are threads.

It learns a class when it first meets it, and crashes the interpreter if a second thread meets the
class meanwhile (0.22.0): of programs in which eight threads first of all read state files of the
client, 8 of 60 ended in a segmentation fault. So a decoder is made where a module is imported; what
is decoded by a class in passing would be learned by whichever thread comes first.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pullstatus

PACKAGE = Path(pullstatus.__file__).parent
PLAIN = {"str", "int", "bool", "float", "bytes", "object", "list", "dict", "tuple", "Any", "Raw"}
"""What needs no learning: no class of ours, nor a container of one."""


def in_passing(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and class of each call of `decode` of msgspec's that names a class of ours."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("msgspec."):
            for word in call.keywords:
                names = {each.id for each in ast.walk(word.value) if isinstance(each, ast.Name)}
                if word.arg == "type" and names - PLAIN - {"msgspec"}:
                    yield call.lineno, ast.unparse(word.value)


def test_nothing_is_decoded_by_a_class_that_a_thread_would_have_to_learn() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: make a Decoder of {name} beside its class"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, name in in_passing(ast.parse(path.read_text()))
    ]
    assert found == []
