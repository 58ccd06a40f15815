"""What the page on moving from API 3.0 has its reader write is run against the server."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.harness import PATIENCE_S, App, Program, statuses

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp")

HOW_TO: Final = Path(__file__).parents[2] / "docs" / "how-to"
PAGE: Final = (HOW_TO / "move-from-api-3.md").read_text("utf-8")

RUN: Final = """
const Run = Object.getPrototypeOf(async () => {}).constructor;
const { code, ...names } = JSON.parse(require("fs").readFileSync(0));
const found = [];
const store = async (...record) => { found.push(record); };
new Run("require", "store", ...Object.keys(names), code)(require, store, ...Object.values(names))
  .then(() => console.log(JSON.stringify(found)));
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def pair(shared: Program, app: App) -> dict[str, str]:
    made = shared.cli("secret", "create", "--app", str(app.sdkappid))
    shared.feed(app, statuses(3))
    return {name: made[name] for name in ("secret_id", "secret_key")}


def near(code: str, shared: Program, app: App, far: str, local: str) -> str:
    """The code for a service on this machine, as the page says, and for pages of two records."""
    assert far in code
    assert local in PAGE
    local = local.replace("127.0.0.1:8080", f"{shared.host}:{shared.port}")
    for one, other in ((far, local), ("Limit = 100", "Limit = 2"), ("Limit: 100", "Limit: 2")):
        code = code.replace(one, other)
    return code.replace("1400006666", str(app.sdkappid))


def test_python(shared: Program, app: App, pair: dict[str, str]) -> None:
    """The same key brings the same page again; another one the next."""
    code = near(
        blocks("python")[0],
        shared,
        app,
        'HttpProfile(endpoint="sms.example.com")',
        'HttpProfile(protocol="http", endpoint="127.0.0.1:8080")',
    )
    stored: list[tuple[object, ...]] = []
    for key in ("first", "first", "second"):
        exec(code, {**pair, "key": key, "store": lambda *record: stored.append(record)})
    page = [("8:1", "SUCCESS"), ("8:2", "SUCCESS")]
    assert stored == [*page, *page, ("8:3", "SUCCESS")]


def test_node(
    shared: Program, app: App, pair: dict[str, str], node: list[str], node_modules: Path
) -> None:
    code = near(
        blocks("javascript")[0],
        shared,
        app,
        '{ endpoint: "sms.example.com" }',
        '{ protocol: "http://", endpoint: "127.0.0.1:8080" }',
    )
    names = {"code": code, "secretId": pair["secret_id"], "secretKey": pair["secret_key"]}
    for expected in (["8:1", "8:2"], ["8:1", "8:2"]):
        done = subprocess.run(
            [node[0], "-e", RUN],
            env=os.environ | {"NODE_PATH": str(node_modules)},
            input=json.dumps({**names, "key": "node"}),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert [record[0] for record in json.loads(done.stdout)] == expected


def test_client(shared: Program, app: App, pair: dict[str, str]) -> None:
    code = blocks("python")[1].replace("1400006666", str(app.sdkappid))
    code = code.replace("https://sms.example.com", f"http://{shared.host}:{shared.port}")
    # It would follow the mailbox for ever.
    assert "delivery_statuses()" in code
    stored: list[tuple[Any, ...]] = []
    exec(
        code.replace("delivery_statuses()", "delivery_statuses(follow=False)"),
        {**pair, "store": lambda *record: stored.append(record)},
    )
    assert stored == [("8:1", True), ("8:2", True), ("8:3", True)]
