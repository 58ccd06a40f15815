"""Two servers over one database: what is said to one is known to the other at once."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest

from tests.harness import STATUS, Program, statuses
from tools.postgresql import PostgreSQL


def test_two_servers_are_one_service(
    tmp_path: Path, postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "master-key"
    key.write_text(secrets.token_hex(32))
    key.chmod(0o600)
    named = {"PULLSTATUS_MASTER_KEY_FILE": str(key)}
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    with postgresql.database() as url:
        one = Program(folders[0], environment=named, store=url)
        other = Program(folders[1], environment=named, store=url, token=one.token)
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
            assert other.http.get("/metrics").status_code == 200
        assert one.cli("audit")["sound"]
        assert len(one.cli("pulls", "list", "--sdkappid", str(app.sdkappid))) == 3
    warned = [json.loads(line) for line in one.log().splitlines() if "one server alone" in line]
    assert warned[0]["event"] == "not as safe as it could be"
