"""What a server's log tells, as its source says it: each event, its levels and its members."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).parents[1] / "src/pullstatus"
FILES: Final = (*sorted((SOURCE / "server").rglob("*.py")), SOURCE / "cli/serve.py")
LEVELS: Final = ("debug", "info", "warning", "error", "critical")
ASKING: Final = "*who asks*"
_ASKERS: Final = ("whose", "_whose", "known")  # what is called, or named, that tells of them
_TRACE: Final = "exc_info"


def table() -> str:
    """A row for each event."""
    levels: dict[str, dict[str, None]] = {}
    members: dict[str, dict[str, None]] = {}
    for level, event, names in sorted(_told(), key=lambda told: told[1]):
        levels.setdefault(event, {})[level] = None
        members.setdefault(event, {}).update(dict.fromkeys(names))
    rows = [
        f"| `{event}` | {', '.join(sorted(levels[event], key=LEVELS.index))} |"
        f" {', '.join(members[event])} |"
        for event in levels
    ]
    return "\n".join(["", "| event | level | members |", "|---|---|---|", *rows])


def _told() -> Iterator[tuple[str, str, list[str]]]:
    """Level, event and members of each line that may be written."""
    for file in FILES:
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _of_a_function(function)


def _of_a_function(function: ast.AST) -> Iterator[tuple[str, str, list[str]]]:
    for node in ast.walk(function):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="log"), attr=level),
                args=[ast.Constant(value=str() as event), *_],
            ):
                members = [name for each in node.keywords for name in _members(each, function)]
                if level == "exception" or _TRACE in members:
                    level, members = "error", [*members, "`exception`"]
                yield level, event, [name for name in members if name != _TRACE]


def _members(given: ast.keyword, function: ast.AST) -> Iterator[str]:
    """What a keyword of the call stands for: itself, who asks, or a dictionary made just before."""
    if given.arg is not None:
        yield given.arg if given.arg == _TRACE else f"`{given.arg}`"
        return
    names = [node.id for node in ast.walk(given.value) if isinstance(node, ast.Name)]
    names += [node.attr for node in ast.walk(given.value) if isinstance(node, ast.Attribute)]
    if any(name in _ASKERS for name in names):
        yield ASKING
        return
    yield from _keys(given.value)
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AugAssign(target=ast.Name(id=name)):
                if name in names:
                    yield from _keys(node.value)


def _keys(value: ast.AST) -> Iterator[str]:
    for node in ast.walk(value):
        if isinstance(node, ast.Dict):
            for key in node.keys:
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield f"`{key.value}`"
