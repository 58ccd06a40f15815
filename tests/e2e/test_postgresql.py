"""Two servers over one database: what is said to one is known to the other at once."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from pullstatus import limits
from tests.e2e.test_cli import good, run
from tests.harness import STATUS, Program, status, statuses
from tests.store.postgresql import roles
from tools.postgresql import PostgreSQL


def test_two_servers_are_one_service(
    tmp_path: Path, postgresql: PostgreSQL, environment: dict[str, str]
) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    with postgresql.database() as url:
        one = Program(folders[0], environment=environment, store=url)
        other = Program(folders[1], environment=environment, store=url, token=one.token)
        with one, other:
            app = one.create_app()
            assert other.pull(app).result == 0
            sent = statuses(250)
            assert one.ingest(app, STATUS, sent, Idempotency_Key="b").http_status == 200
            assert other.ingest(app, STATUS, sent, Idempotency_Key="b").http_status == 200
            first = other.pull(app, key="k")
            assert len(first.data) == 100
            assert one.pull(app, key="k").content == first.content
            other.kill()  # it holds nothing
            other.start()
            rest = [*other.pull(app).data, *one.pull(app).data]
            assert len(rest) == 150
            assert one.pull(app).data == other.pull(app).data == []
            assert {record["sid"] for record in [*first.data, *rest]} == {
                record["sid"] for record in sent
            }
            one.cli("app", "disable", str(app.sdkappid))
            other.until(lambda: other.pull(app).result != 0)
            assert one.http.get("/readyz").status_code == 200
            cared_for = {name for name in other.metrics() if name.endswith("_timestamp_seconds")}
            assert "pullstatus_audit_timestamp_seconds" in cared_for
            assert "pullstatus_backup_timestamp_seconds" not in cared_for, "none is ever noted"
        assert one.cli("audit")["sound"]
        assert len(one.cli("pulls", "list", "--sdkappid", str(app.sdkappid))) == 3
    warned = [json.loads(line) for line in one.log().splitlines() if "one server alone" in line]
    assert warned[0]["event"] == "not as safe as it could be"


def test_a_role_that_owns_nothing_serves_on_behind_an_erasure(
    tmp_path: Path, environment: dict[str, str], postgresql: PostgreSQL
) -> None:
    """And what it must leave in the tables their owner removes."""
    with postgresql.database() as url, psycopg.connect(url, autocommit=True) as admin:
        good(tmp_path, "store", "init", "--store", url)
        roles.make(admin)
        for grant in roles.grants():
            admin.execute(grant)
        program = Program(tmp_path, environment=environment, store=roles.named(url))
        with program:
            program.feed(program.create_app(), [status(1, mobile="13899991234")])
            words = ["erase", "--number", "+8613899991234", "--reason", "a", "--yes"]
            done = run(tmp_path, *words, "--store", program.store)
            assert done.exit_status == 3
            assert "as postgres, run `pullstatus rewrite`" in done.stderr
            program.restart()
            assert "store not written anew" in program.log()
            [found] = traces_told(tmp_path, program)
            assert "as the role that owns the tables" in found["fix"]
            good(tmp_path, "rewrite", "--store", url)
            assert traces_told(tmp_path, program) == []
        admin.execute(f"DROP OWNED BY {roles.SERVING}")


def traces_told(folder: Path, program: Program) -> list[dict[str, str]]:
    """What `doctor` says of traces."""
    found = json.loads(run(folder, "doctor", "--store", program.store, "--json").stdout)["findings"]
    return [each for each in found if each["check"] == "traces"]


def readiness(program: Program) -> set[tuple[int, str | None]]:
    """What `/readyz` says over several connections, so that each worker is asked."""
    found = set()
    for _ in range(12):
        answer = program.exchange(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        found.add((answer.http_status, answer.json.get("reason")))
    return found


@pytest.mark.parametrize("flags", [(), ("--workers", "2")], ids=["one", "workers"])
def test_a_database_that_is_gone_is_told_while_nobody_asks_for_anything(
    tmp_path: Path, environment: dict[str, str], flags: tuple[str, ...]
) -> None:
    """And that it is back; whether it has died or does not move."""
    silent, ready = {(503, "the store does not answer")}, {(200, None)}
    with PostgreSQL() as database, database.database() as url:
        program = Program(tmp_path, *flags, environment=environment, store=url)
        with program:
            assert readiness(program) == ready
            for go, come in ((database.kill, database.start), (database.pause, database.resume)):
                go()
                try:
                    program.until(lambda: readiness(program) == silent)
                    assert program.http.get("/healthz").status_code == 200
                    found = program.metrics(within_s=limits.STORE_WAIT_S - 1)
                    assert found["pullstatus_store_oldest_seconds"] > limits.STALLED_S
                    assert "pullstatus_mailboxes" not in found
                finally:
                    come()
                program.until(lambda: readiness(program) == ready)
            app = program.create_app()
            program.feed(app, statuses(3))
            assert len(program.drain(app)) == 3
