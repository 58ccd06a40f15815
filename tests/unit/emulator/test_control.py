"""The emulator's door is for programs: a page of the web that a browser has open gets nothing."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from pullstatus.emulator import control
from pullstatus.emulator.control import is_foreign
from tests.harness import ROOT
from tests.unit.emulator.test_application import emulated


def scope(**headers: str) -> dict[str, Any]:
    return {"headers": [(name.encode(), value.encode()) for name, value in headers.items()]}


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8080",
        "localhost:8080",
        "[::1]:8080",
        "192.0.2.7",
        "emulator:8080",
        "",
        "a.localhost",
    ],
)
def test_programs_are_let_in_by_whatever_name_they_know(host: str) -> None:
    assert not is_foreign(scope(host=host))
    assert not is_foreign(scope(host=host, origin=f"http://{host}"))


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8080", "https://attacker.example"),
        ("127.0.0.1:8080", "http://127.0.0.1:3000"),
        ("127.0.0.1:8080", "http://localhost:8080"),
        ("127.0.0.1:8080", "null"),
        ("127.0.0.1:8080", ""),
        ("attacker.example:8080", None),  # a name that was made to lead here
        ("attacker.example:8080", "http://attacker.example:8080"),
        ("127.0.0.1.attacker.example", None),
        ("attacker.example.", None),
        ("[x", None),  # no host at all
        ("[x", "http://[x"),
    ],
)
def test_pages_of_other_places_are_not(host: str, origin: str | None) -> None:
    headers = {"host": host} | ({} if origin is None else {"origin": origin})
    assert is_foreign(scope(**headers))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/emulator/reset"),
        ("POST", "/emulator/faults"),
        ("GET", "/emulator/requests"),
        ("DELETE", "/emulator/sent"),
        ("GET", "/emulator"),
    ],
)
def test_a_foreign_request_changes_and_tells_nothing(method: str, path: str) -> None:
    served = emulated()
    answer = asyncio.run(served.ask(method, path, b"[]", [("origin", "https://attacker.example")]))
    assert answer is not None
    assert answer.http_status == 403
    assert answer.json["title"] == "Foreign origin"


def test_reference_has_a_row_for_every_call_of_the_door() -> None:
    source = Path(control.__file__).read_text("utf-8")
    routes = re.findall(r'Route\("(/emulator[^"]*)"[^)]*?(?:methods=\["(\w+)"\])?\)', source)
    text = (ROOT / "docs/reference/emulator.md").read_text("utf-8").partition("## Sends")[0]
    rows = re.findall(r"^\| \[([^]]*/emulator[^]]*)\]", text, re.MULTILINE)
    told = {
        (method, row.rpartition(" ")[2].strip("`"))
        for row in rows
        for method in re.findall("GET|POST|DELETE", row)
    }
    assert {(method or "GET", path) for path, method in routes} == told
