"""Writes what the documents take from the program: `make docs`; a test compares.

A page holds such a part between two comments,

    <!-- from the code: limits -->
    ...
    <!-- end -->

and `PARTS` says who writes it. What is shown on a console is run; see `consoles`.
"""

from __future__ import annotations

import ast
import asyncio
import re
import tempfile
from collections.abc import Iterator
from inspect import getsource
from pathlib import Path
from types import ModuleType
from typing import Final

import click
import httpx
from prometheus_client.parser import text_string_to_metric_families

from pullstatus import limits
from pullstatus.cli import main
from pullstatus.clock import wall_ms
from pullstatus.receipts import repair
from pullstatus.records import MEMBERS, Kind
from pullstatus.server import connection_state, logs
from pullstatus.server.serve import ServeOptions, Server
from pullstatus.store import Append, Mailbox
from pullstatus.wire.v5 import codes
from tools import client, connection, consoles, dashboard, figures, licences, log_events

ROOT: Final = Path(__file__).parents[1]
PART: Final = re.compile(
    r"(<!-- from the code: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->\n)", re.DOTALL
)
COLUMNS: Final = 88


def commands() -> str:
    """Every command with its help, as it is printed."""
    return "\n".join(
        f"\n## `{context.command_path}`\n\n```text\n{context.get_help()}\n```"
        for context in _walk(main, "pullstatus")
    )


def bounds() -> str:
    """Every constant of `limits`: its name, its value and its docstring."""
    rows = [
        f"| `{name}` | {getattr(limits, name):,} | {said} |" for name, said in _documented(limits)
    ]
    return "\n".join(["", "| name | value | what it bounds, and why |", "|---|---:|---|", *rows])


def results() -> str:
    """Every code of `Result`: its number, its name and its docstring."""
    rows = [
        f"| {codes.Result[name]:d} | `{name}` | {said} |"
        for name, said in _documented(codes, "Result")
    ]
    return "\n".join(["", "| `result` | name | |", "|---:|---|---|", *rows])


def metrics() -> str:
    """Every metric a server shows: its name, type, labels and help text."""
    rows = []
    for family in text_string_to_metric_families(asyncio.run(_scrape())):
        total = "_total" if family.type == "counter" else ""
        labels = sorted({label for sample in family.samples for label in sample.labels})
        shown = ", ".join(f"`{label}`" for label in labels) or "-"
        rows.append(
            f"| `{family.name}{total}` | {family.type} | {shown} | {family.documentation} |"
        )
    return "\n".join(["", "| name | type | labels | |", "|---|---|---|---|", *rows])


def repairs() -> str:
    """The table of what is mended in callbacks, as `receipts.repair` begins with it."""
    assert repair.__doc__ is not None
    return "\n" + "\n".join(line for line in repair.__doc__.splitlines() if line.startswith("|"))


def members(kind: Kind) -> str:
    """The members of a kind of record: what each must be, and what it is."""
    rows = [
        f"| `{member.name}` | {'yes' if member.required else 'no'} (D) | {member.text} |"
        for member in MEMBERS[kind]
    ]
    return "\n".join(["", "| name | required | |", "|---|---|---|", *rows])


def phases() -> str:
    """Every phase of a connection: its name, what it is, its time."""
    rows = []
    for name, said in _documented(connection_state, "Phase"):
        time = connection_state.TIME.get(connection_state.Phase(name))
        shown = f"`{time}`, {getattr(limits, time)} s" if time else "-"
        rows.append(f"| **{name}** | {said} | {shown} |")
    return "\n".join(["", "| phase | | its time |", "|---|---|---|", *rows])


def events() -> str:
    """Every event of a connection."""
    rows = [
        f"| {name} | {said} |"
        for inside in ("Event", "Effect")
        for name, said in _documented(connection_state, inside)
    ]
    return "\n".join(["", "| | |", "|---|---|", *rows])


def nginx() -> str:
    """The file that is handed out, whole."""
    site = (ROOT / "dist/nginx/pullstatus.conf").read_text(encoding="utf-8")
    return f"\n```nginx\n{site}```"


PARTS: Final = {
    "client": client.reference,
    "cluster": figures.cluster,
    "commands": commands,
    "connection-events": events,
    "connection-phases": phases,
    "connection-picture": connection.picture,
    "connection-table": connection.table,
    "figures": figures.figures,
    "goals": figures.goals,
    "split": figures.split,
    "licences": licences.table,
    "limits": bounds,
    "log-events": log_events.table,
    "results": results,
    "metrics": metrics,
    "nginx": nginx,
    "delivery-status": lambda: members(Kind.DELIVERY_STATUS),
    "reply": lambda: members(Kind.REPLY),
    "repairs": repairs,
}


def pages() -> Iterator[tuple[Path, str, str]]:
    """Every page: its path, its text, and what that should be."""
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]):
        text = path.read_text(encoding="utf-8")
        yield path, text, consoles.renewed(PART.sub(_renewed, text))
    drawn = ROOT / "dist/grafana.json"
    yield drawn, drawn.read_text(encoding="utf-8"), dashboard.rendered()


def _renewed(part: re.Match[str]) -> str:
    return f"{part[1]}{PARTS[part['name']]()}\n\n{part[3]}"


# --- the command line -----------------------------------------------------------------------------


def _walk(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[click.Context]:
    context = click.Context(
        command, parent, info_name=name, terminal_width=COLUMNS, **command.context_settings
    )
    context.max_content_width = COLUMNS
    yield context
    if isinstance(command, click.Group):
        for below in sorted(command.commands):
            yield from _walk(command.commands[below], below, context)


# --- constants and their docstrings ---------------------------------------------------------------


def _documented(module: ModuleType, inside: str = "") -> Iterator[tuple[str, str]]:
    """Every constant of a module, or of a class in it, with the text that follows it."""
    body = ast.parse(getsource(module)).body
    for statement in body:
        if isinstance(statement, ast.ClassDef) and statement.name == inside:
            body = statement.body
    for statement, after in zip(body, [*body[1:], None], strict=True):
        name = _assigned(statement)
        if name is None or not name.isupper():
            continue
        said = after.value if isinstance(after, ast.Expr) else None
        if not isinstance(said, ast.Constant):
            raise TypeError(f"{module.__name__}: {name} has no docstring after it")
        yield name, " ".join(str(said.value).split())


def _assigned(statement: ast.stmt) -> str | None:
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
            return name
        case _:
            return None


# --- a server's own words -------------------------------------------------------------------------


async def _scrape() -> str:
    logs.configure("error")
    with tempfile.TemporaryDirectory() as folder:
        server = Server(ServeOptions(store=f"sqlite:///{folder}/docs.db", port=0))
        serving = asyncio.create_task(server.run())
        await server.started.wait()
        async with httpx.AsyncClient(base_url=server.address, trust_env=False) as client:
            # Labels show once there is something to tell under them.
            await client.post("/callbacks/none")
            await server.store.append(Append(Mailbox(1, Kind.REPLY), [b"{}"], wall_ms()))
            text = (await client.get("/metrics")).text
        server.stop()
        await serving
    return text


if __name__ == "__main__":
    for path, _, text in pages():
        path.write_text(text, encoding="utf-8")
