"""The reference of the client: every public name with its signature and its docstring.

Docstrings are prose with `Args:`, `Attributes:`, `Returns:` and `Raises:`, each a list of
`name: text`; an indented block in the prose is code.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Final

import pullstatus
from pullstatus.client import errors

GROUPS: Final = (
    ("Clients", ("Client", "AsyncClient")),
    ("Pages and batches", ("Kind", "Page", "Batch", "Batches", "AsyncBatches")),
    ("Records", ("DeliveryStatus", "Reply")),
    ("Counts", ("Statistics",)),
)
SECTION: Final = re.compile(r"^(Args|Attributes|Returns|Raises):$")
ENTRY: Final = re.compile(r"^(\w+): (.*)$")


def reference() -> str:
    """All of it, as Markdown."""
    parts = []
    for title, names in GROUPS:
        parts += ["", f"## {title}"]
        for name in names:
            parts += _entry(name)
    parts += ["", "## Errors", "", "```text", _tree(), "```"]
    grouped = {name for _, names in GROUPS for name in names}
    for name in _by_depth({*pullstatus.__all__} - grouped):
        parts += _entry(name)
    return "\n".join(parts)


def _tree() -> str:
    drawn = re.search(r"(?s)    PullstatusError\n.*?\n\n", errors.__doc__ or "")
    assert drawn is not None
    return inspect.cleandoc(drawn[0])


def _by_depth(names: set[str]) -> list[str]:
    """Errors in the order of the tree."""
    return sorted(names, key=lambda name: _tree().index(name))


def _entry(name: str) -> Iterator[str]:
    found = getattr(pullstatus, name)
    yield from ("", f"### `{name}`", "")
    if issubclass(found, pullstatus.PullstatusError):
        if found is not pullstatus.PullstatusError:
            yield f"A `{found.__bases__[0].__name__}`, `code` is `{found.code}`."
            yield ""
    elif name in ("Client", "AsyncClient"):
        yield from ("```python", _signature(name, found), "```", "")
    yield from _described(inspect.getdoc(found) or "")
    if issubclass(found, pullstatus.PullstatusError):
        return
    for member, value in _members(found):
        if member.startswith("_") or not (said := inspect.getdoc(value)):
            continue
        if isinstance(value, property):
            yield from ("", f"#### `{name}.{member}`", "", *_described(said))
        elif inspect.isfunction(value):
            shown = _signature(f"{name}.{member}", value)
            prefix = "await " if inspect.iscoroutinefunction(value) else ""
            yield from ("", f"#### `{prefix}{shown}`", "", *_described(said))


def _members(found: type) -> Iterator[tuple[str, object]]:
    """Its own members, then those of its bases in the client."""
    for base in found.__mro__:
        if base.__module__.startswith("pullstatus."):
            yield from vars(base).items()


def _signature(name: str, value: object) -> str:
    """How it is called: names and defaults; types are in the annotations."""
    assert callable(value)
    shown = []
    star = False
    for parameter in inspect.signature(value).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            shown.append("*")
            star = True
        default = parameter.default
        if default is parameter.empty:
            shown.append(parameter.name)
        elif inspect.isroutine(default):
            module = (default.__module__ or "").partition(".")[0]
            shown.append(f"{parameter.name}={module}.{default.__name__}")
        else:
            shown.append(f"{parameter.name}={default!r}")
    return f"{name}({', '.join(shown)})"


def _described(docstring: str) -> Iterator[str]:
    """A docstring as Markdown."""
    section = ""
    code = False
    for line in docstring.splitlines():
        indented = line.startswith("    ")
        if code and line and not indented:
            yield from ("```", "")
            code = False
        if heading := SECTION.match(line):
            section = heading[1]
            yield from (f"*{section}*", "")
        elif section and indented and (entry := ENTRY.match(line[4:])):
            yield f"- `{entry[1]}`: {entry[2]}"
        elif section and line:
            yield f"  {line.strip()}"
        elif indented and not section:
            if not code:
                yield "```python"
                code = True
            yield line[4:]
        elif line or not code:
            yield line
    if code:
        yield "```"
