"""`pullstatus bench` against a real server."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from pullstatus.cli import bench as command
from pullstatus.cli import load, main
from pullstatus.cli.load import Measured
from tests.harness import App, Program, statuses

wrk = pytest.mark.needs("wrk")


def bench(program: Program, app: App, *flags: str, token: str | None = None) -> Result:
    address = ["--url", f"http://{program.host}:{program.port}", "--sdkappid", str(app.sdkappid)]
    secrets = {"PULLSTATUS_APPKEY": app.appkey, "PULLSTATUS_TOKEN": token or program.token}
    return CliRunner().invoke(
        main, ["bench", *address, "--seconds", "1", "--connections", "4", *flags], env=secrets
    )


@wrk
def test_bench_measures_and_leaves_nothing_behind(shared: Program) -> None:
    app = shared.create_app()
    shared.feed(app, statuses(3))
    done = bench(shared, app, "--consume", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["measure"] for row in rows] == [
        "posts of 1 record",
        "posts of 100 records",
        "pages of 100 records",
        "pulls of nothing",
    ]
    for row in rows:
        assert row["requests_per_s"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert rows[2]["records_per_s"] == pytest.approx(100 * rows[2]["requests_per_s"], rel=0.01)
    assert shared.waiting(app) == 0


@wrk
def test_pages_that_were_not_full_do_not_count(
    shared: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mailbox that runs dry answers faster; more is laid ready instead, up to a bound."""
    app = shared.create_app()
    measured = load.run

    def run(address: str, what: load.Load, seconds: float, due: float | None = None) -> Measured:
        if not what.requests[0].path.startswith("/ingest/"):
            return measured(address, what, seconds, due)
        shared.drain(app)
        shared.feed(app, statuses(150))  # a page to look at, and half a page
        return Measured(seconds, 1, 1, 0, 0, 1.0, 1.0, 1.0)

    monkeypatch.setattr(load, "run", run)
    monkeypatch.setattr(command, "FILL_S_MAX", 1.0)
    done = bench(shared, app, "--consume")
    assert done.exit_code == 1
    assert "laid ready" in done.stderr


def test_bench_asks_before_it_takes_records_out(shared: Program, app: App) -> None:
    shared.feed(app, statuses(3))
    done = bench(shared, app)
    assert done.exit_code == 2
    assert "--consume" in done.stderr
    assert shared.waiting(app) == 3


@wrk
def test_bench_tells_a_refusal(shared: Program, app: App) -> None:
    done = bench(shared, app, "--consume", token="pst_wrong")
    assert done.exit_code == 1
    assert "answered 401" in done.stderr


def test_bench_without_wrk_says_what_to_do(
    shared: Program, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "installed", lambda: False)
    done = bench(shared, app, "--consume")
    assert done.exit_code == 1
    assert "apt-get install wrk" in done.stderr


@pytest.mark.parametrize(
    ("flags", "appkey", "said"),
    [
        (["--url", "ftp://127.0.0.1"], None, "base_url"),
        (["--url", "http://[::1"], None, "base_url"),
        (["--url", "http://"], None, "base_url"),
        ([], " 0", "appkey"),
        ([], "", "appkey"),
    ],
)
def test_bench_written_wrongly_ends_with_2(
    shared: Program, app: App, flags: list[str], appkey: str | None, said: str
) -> None:
    wrong = App(app.sdkappid, app.appkey if appkey is None else appkey)
    done = bench(shared, wrong, "--consume", *flags)
    assert done.exit_code == 2
    assert said in done.stderr
