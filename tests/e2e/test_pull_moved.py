"""`pullstatus pull` of a service that has another address than when its page was asked for."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from pullstatus.cli import main
from pullstatus.client.keys import NextPage
from pullstatus.consumer.sqlite import SqliteTarget
from pullstatus.consumer.state import Source
from pullstatus.consumer.targets import FileTarget, Target
from pullstatus.records import Kind
from tests.harness import App, Program, statuses

READER = "pull-0123456789abcdef"
COUNT = 3
TARGETS = ("out.ndjson", "out.csv", "sqlite:///out.db")


def opened(to: str, source: Source) -> Target:
    if to.startswith("sqlite"):
        return SqliteTarget(Path("out.db"), source)
    return FileTarget(Path(to), source)


def count_of(to: str) -> int:
    """How many records are there."""
    if to.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect("out.db")) as database:
            [(count,)] = database.execute("SELECT count(*) FROM delivery_statuses")
            return int(count)
    return len(Path(to).read_text("utf-8").splitlines()) - to.endswith(".csv")


@pytest.mark.parametrize("to", TARGETS)
def test_page_that_was_asked_for_at_the_old_address_comes_at_the_new_one(
    shared: Program, app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    monkeypatch.chdir(tmp_path)
    was = Source("http://old.test", app.sdkappid, Kind.DELIVERY_STATUS)
    with contextlib.closing(opened(to, was)) as target:
        target.read_as(READER)
        target.ask(NextPage("", 100, time.time()))
    shared.feed(app, statuses(COUNT))

    def pull(*more: str) -> Result:
        url = f"http://{shared.host}:{shared.port}"
        words = ["pull", "--type", "delivery-status", "--to", to, "--url", url, *more]
        words += ["--sdkappid", str(app.sdkappid)]
        return CliRunner().invoke(main, words, env={"PULLSTATUS_APPKEY": app.appkey})

    refused = pull()
    assert refused.exit_code == 1
    assert "asked for at http://old.test: give that --url once more; or --moved" in refused.stderr
    assert shared.waiting(app) == COUNT
    done = pull("--moved")
    assert (done.exit_code, done.stderr) == (0, "")
    assert count_of(to) == COUNT
    assert pull().exit_code == 0
    source = msgspec.structs.replace(was, url=f"http://localhost:{shared.port}")
    with contextlib.closing(opened(to, source)) as target:
        assert target.known.reader == READER
