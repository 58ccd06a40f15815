"""`pullstatus reindex`: what is derived of records is made anew, beside a running server."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner

from pullstatus.cli import main
from tests.harness import App, Program, status, statuses


def counts(program: Program, app: App) -> Any:  # noqa: ANN401 - JSON
    return program.cli("stats", str(app.sdkappid), "--from", "2h", "--json")["all"]


def test_what_is_derived_is_made_anew(shared: Program, app: App) -> None:
    """Counts and what is found stay, and it is on record; going on drops nothing."""
    number = str(app.sdkappid)
    shared.feed(app, [*statuses(120), status(777, sid="8:777")])
    shared.pull(app)
    before = counts(shared, app)
    assert before["receipts"] == 121
    done = shared.cli("reindex", "--sdkappid", number, "--reason", "a test")
    assert done["records"] in range(122)  # a server may have followed some of them meanwhile
    [found] = shared.cli("find", "--sid", "8:777", "--app", number, "--json")
    assert found["first"] == 121
    assert shared.cli("reindex", "--sdkappid", number, "--resume") == {"records": 0}
    assert counts(shared, app) == before
    acts = shared.cli("acts", "list", "--sdkappid", number, "--json")
    assert ("reindex", "a test") in [(act["action"], act["reason"]) for act in acts]
    assert shared.cli("audit", "--json")["sound"]


def test_an_application_that_there_is_not_is_not_made_anew(shared: Program) -> None:
    done = CliRunner().invoke(main, ["reindex", "--sdkappid", "7", "--store", shared.store])
    assert done.exit_code == 1
    assert "application 7 does not exist" in done.output
