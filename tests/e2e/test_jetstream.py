"""Two servers over one cluster: what is said to one is known to the other, whichever node dies."""

from __future__ import annotations

from pathlib import Path

from tests.harness import STATUS, Program, statuses
from tests.store.engines import cluster
from tests.store.jetstream import real


def test_two_servers_and_a_node_that_dies_are_one_service(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    with real.place(tmp_path) as url:
        one = Program(folders[0], environment=environment, store=url)
        other = Program(
            folders[1], "--workers", "2", environment=environment, store=url, token=one.token
        )
        with one, other:
            app = one.create_app()
            assert other.pull(app).result == 0
            sent = statuses(250)
            assert one.ingest(app, STATUS, sent, Idempotency_Key="b").http_status == 200
            assert other.ingest(app, STATUS, sent, Idempotency_Key="b").http_status == 200
            first = other.pull(app, key="k")
            assert len(first.data) == 100
            stream = f"{url.partition('?')[0].rpartition('/')[2]}_0"
            cluster().leader(stream).kill()
            try:
                one.until(lambda: one.pull(app, key="k").content == first.content)
                cluster().leader(stream)  # from now on whoever is asked can tell
                rest = [*other.pull(app, key="l").data, *one.pull(app, key="m").data]
                assert one.pull(app).data == other.pull(app).data == []
            finally:
                cluster().heal()
            assert {record["sid"] for record in [*first.data, *rest]} == {
                record["sid"] for record in sent
            }
            one.cli("app", "disable", str(app.sdkappid))
            other.until(lambda: other.pull(app).result != 0)
            assert other.http.get("/metrics").status_code == 200
        assert one.cli("store", "new-epoch", "--reason", "tried") == {"epoch": 2}
        assert one.cli("audit")["sound"]
        assert len(one.cli("pulls", "list", "--sdkappid", str(app.sdkappid))) == 3


def test_a_backup_beside_a_server_becomes_another_store(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    file = str(tmp_path / "backup.db")
    with real.place(tmp_path) as url, real.place(tmp_path) as other:
        program = Program(tmp_path, environment=environment, store=url)
        with program:
            app = program.create_app()
            program.feed(app, statuses(150))
            assert len(program.pull(app).data) == 100
            assert program.cli("backup", file)["backup"] == file
            assert len(program.drain(app)) == 50
        restored = Program(tmp_path, environment=environment, store=other, token=program.token)
        assert restored.cli("restore", file)["epoch"] == 2
        with restored:
            assert len(restored.drain(app)) == 50
        assert restored.cli("audit")["sound"]
        pulls = restored.cli("pulls", "list", "--sdkappid", str(app.sdkappid))
        assert sorted(each["records"] for each in pulls) == [50, 100]
