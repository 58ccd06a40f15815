"""What the log tells is on its page: each event, its level and its members."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pullstatus.server.serve import ServeOptions
from tests.harness import ROOT, App, Program, http_request, statuses

ROW = re.compile(r"(?m)^\| `([^`]+)` \| ([a-z, ]+) \| (.*) \|$")
PAGE = (ROOT / "docs/reference/log.md").read_text(encoding="utf-8")
EVENTS = {event: (levels.split(", "), members) for event, levels, members in ROW.findall(PAGE)}
EACH = {"event", "level", "timestamp", "more"}
WHO = {"request", "address", "sdkappid", "token"}


def named(event: str) -> set[str]:
    """What a line of it may have."""
    _, members = EVENTS[event]
    settings = set(ServeOptions.__struct_fields__) if event == "started" else set()
    asking = WHO if "*who asks*" in members else set()
    return EACH | settings | asking | set(re.findall(r"`(\w+)`", members))


def test_what_a_server_tells_is_on_the_page(tmp_path: Path) -> None:
    program = Program(tmp_path)
    app = program.create_app()
    stranger = App(app.sdkappid, "0" * 32)
    with program:
        token = program.create_token("gateway", app=app)
        program.pull(stranger)
        program.post(f"/ingest/{app.sdkappid}/delivery-statuses", [])
        program.post(f"/callbacks/{token}", [*statuses(1), {"mobile": 5}])
        with program.connect() as wire:
            wire.send(http_request("GET", "/nowhere"))
            wire.read()
    lines = [json.loads(line) for line in program.log().splitlines()]
    told = {line["event"] for line in lines}
    assert {"started", "pull refused", "batch refused", "items parked", "stopped"} <= told
    assert told <= EVENTS.keys()
    for line in lines:
        assert line["level"] in EVENTS[line["event"]][0]
        assert line.keys() <= named(line["event"]), line
