"""`/openapi.json`: a running server answers as its document says, and only so.

Schemathesis makes the requests, from the document alone: what it allows, what breaks it in one
place, methods that it does not have. It runs in an environment of its own,
and makes the same ones each time.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from pullstatus.server.serve import Server
from tests.harness import REPLY, App, Program, made

EXAMPLES = 15
PATIENCE_S = 600  # of one run, which takes ten seconds of a processor
REPLIES, STATUSES = "/ingest/{sdkappid}/replies", "/ingest/{sdkappid}/delivery-statuses"
SENDS = "/ingest/{sdkappid}/sends"
CALLBACK = "/callbacks/{token}"
INBOUND = "/in/{token}/{source}"
FED = {REPLIES, STATUSES, SENDS, CALLBACK, INBOUND}
"""What records go to."""
CONFIGURATION = """
[parameters]
"path.sdkappid" = %(sdkappid)d
"path.token" = "%(token)s"

[checks]
# A key may have come before with another batch. The array that is too long is a 413.
positive_data_acceptance.expected-statuses = ["2xx", 422]
negative_data_rejection.expected-statuses = ["4xx"]

[[operations]]
# Nothing is refused for what it says, nor for the name that it comes under.
include-path = "/in/{token}/{source}"
warnings = false
checks.negative_data_rejection.enabled = false

[[operations]]
# No expression knows the calendar: of 30 February the server alone says what is wrong.
include-path = "/ingest/{sdkappid}/delivery-statuses"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 422]

[[operations]]
# Nor of the last 400 days, so that most made-up hours are refused.
include-path = "/ingest/{sdkappid}/sends"
warnings = false
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 422]
"""

Document = dict[str, Any]


def schemathesis(
    folder: Path, program: Program, app: App, document: Document, *flags: str
) -> subprocess.CompletedProcess[str]:
    """Try a server by a document, with the token of all applications and one for callbacks."""
    token = program.create_token(folder.name[-32:].strip("_"), app=app)
    configuration = folder / "schemathesis.toml"
    configuration.write_text(CONFIGURATION % {"sdkappid": app.sdkappid, "token": token})
    described = folder / "openapi.json"
    described.write_text(json.dumps(document))
    return subprocess.run(
        [
            made("contract") / "bin" / "st",
            f"--config-file={configuration}",
            "run",
            described,
            f"--url=http://{program.host}:{program.port}",
            f"--header=Authorization: Bearer {program.token}",
            "--phases=coverage,fuzzing",
            f"--max-examples={EXAMPLES}",
            f"--request-timeout={PATIENCE_S}",
            "--generation-deterministic",
            "--suppress-health-check=all",  # they are about the machine's speed
            "--continue-on-failure",
            "--no-color",
            *flags,
        ],
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def told(done: subprocess.CompletedProcess[str]) -> str:
    """What it found, without the bodies."""
    return "\n".join(line[:300] for line in done.stdout.splitlines()[-300:]) + done.stderr


def described(program: Program) -> Document:
    document = program.http.get("/openapi.json").json()
    assert isinstance(document, dict)
    return document


def test_all_answers_are_as_the_document_says(tmp_path: Path, shared: Program, app: App) -> None:
    begins = len(shared.log())
    done = schemathesis(tmp_path, shared, app, described(shared))
    assert done.returncode == 0, told(done)
    assert "Tested: 11" in done.stdout, told(done)
    assert "Warnings:" not in done.stdout, told(done)  # as of schemas that nothing fits
    log = shared.log()[begins:]
    assert "Traceback" not in log
    assert '"status":500' not in log.replace(" ", "")
    assert shared.drain(app)
    assert shared.drain(app, REPLY)


def without_a_status(document: Document) -> None:
    del document["paths"][REPLIES]["post"]["responses"]["401"]


def without_a_header(document: Document) -> None:
    problem = document["paths"][REPLIES]["post"]["responses"]["400"]
    problem["headers"]["Pullstatus-Nothing"] = {"required": True, "schema": {"type": "string"}}


def with_a_wider_record(document: Document) -> None:
    del document["components"]["schemas"]["Reply"]["properties"]["mobile"]["pattern"]


def with_a_narrower_answer(document: Document) -> None:
    answer = document["paths"][REPLIES]["post"]["responses"]["200"]
    answer["content"]["application/json"]["schema"] = {"required": ["stored"]}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (
            [without_a_status, without_a_header, with_a_wider_record],
            {
                "Undocumented status code",
                "Missing required response headers",
                "Schema-valid request rejected",
            },
        ),
        ([with_a_narrower_answer], {"Response violates schema"}),
    ],
    ids=["another request and refusals", "another answer"],
)
def test_a_document_that_says_something_else_is_found_out(
    tmp_path: Path,
    shared: Program,
    app: App,
    changes: list[Callable[[Document], None]],
    found: set[str],
) -> None:
    """As many lies at once as do not hide each other: most of a run is its start."""
    document = described(shared)
    for change in changes:
        change(document)
    done = schemathesis(
        tmp_path, shared, app, document, f"--include-path={REPLIES}", "--phases=coverage"
    )
    assert done.returncode == 1, told(done)
    assert set(re.findall(r"(?m)^- ST\d+ (.*)$", done.stdout)) == found, told(done)


def test_a_listener_describes_what_it_answers(tmp_path: Path) -> None:
    """Of two listeners each its own calls, and of one both."""
    watching = {"/healthz", "/readyz", "/metrics"}

    async def paths(server: Server) -> list[set[str]]:
        found = []
        for address in filter(None, (server.address, server.admin_address)):
            async with httpx.AsyncClient(
                base_url=address, trust_env=False, timeout=PATIENCE_S
            ) as client:
                described = {*(await client.get("/openapi.json")).json()["paths"]}
                for path in described - FED:
                    assert (await client.get(path)).status_code == 200
                found.append(described)
        return found

    program = Program(tmp_path)

    async def ask() -> None:
        async with program.inside() as server:
            [every] = await paths(server)
        async with program.inside(admin=("127.0.0.1", 0)) as server:
            public, admin = await paths(server)
        assert every == public | admin == public | watching
        assert public == FED | {"/", "/openapi.json"}
        assert admin == watching | {"/openapi.json"}

    asyncio.run(ask())
