"""`pullstatus migrate` beside a server: what callers see, and what is at the target then."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Never

import pytest
from click.testing import CliRunner, Result

from pullstatus.cli import main
from pullstatus.cli import migrate as command
from pullstatus.errors import StoreUnavailable
from pullstatus.store import migration
from tests.harness import COMMAND, PATIENCE_S, REPLY, STATUS, App, Program, replies, statuses
from tests.store.jetstream import real
from tools.postgresql import PostgreSQL


def migrate(program: Program, target: str, *flags: str) -> Result:
    return CliRunner().invoke(main, ["migrate", "--from", program.store, "--to", target, *flags])


def new_place(program: Program, name: str = "moved.db") -> str:
    """A new store's URL, with the master key there."""
    file = program.folder / name
    shutil.copy2(program.folder / "mailboxes.db-master-key", f"{file}-master-key")
    return f"sqlite:///{file}"


def name_of(url: str) -> str:
    """What a store is called: the place, whoever connects to it, and how."""
    if url.startswith("jetstream:"):
        return url.partition("?")[0]
    return url.replace("postgres@", "")


def callback(program: Program, app: App, token: str, numbers: list[int]) -> int:
    body = [record for number in numbers for record in statuses(1, first=number)]
    return program.post(f"/callbacks/{token}", body).http_status


@pytest.fixture
def master_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of a store that lies in no folder, named to all."""
    key = tmp_path / "master-key"
    key.write_text(secrets.token_hex(32))
    key.chmod(0o600)
    monkeypatch.setenv("PULLSTATUS_MASTER_KEY_FILE", str(key))


@pytest.fixture
def database(postgresql: PostgreSQL, master_key: None) -> Iterator[str]:
    """An empty one."""
    with postgresql.database() as url:
        yield url


@pytest.fixture
def nodes(tmp_path: Path, master_key: None) -> Iterator[str]:
    """An empty store on nodes of JetStream."""
    with real.place(tmp_path) as url:
        yield url


def keyed() -> dict[str, str]:
    """For a server of its own: where the master key is."""
    return {"PULLSTATUS_MASTER_KEY_FILE": os.environ["PULLSTATUS_MASTER_KEY_FILE"]}


def test_a_served_store_becomes_another(tmp_path: Path) -> None:
    program = Program(tmp_path)
    becomes_another(program, lambda: new_place(program))


def test_a_file_becomes_a_database_beside_its_server(tmp_path: Path, database: str) -> None:
    program = Program(tmp_path, environment=keyed())

    def made() -> str:
        early = migrate(program, database)
        assert early.exit_code == 1
        assert "make one with `pullstatus store init`" in early.output
        done = CliRunner().invoke(main, ["store", "init", "--store", database])
        assert done.exit_code == 0, done.output
        return database

    becomes_another(program, made)


def test_a_database_becomes_a_file_beside_its_server(tmp_path: Path, database: str) -> None:
    program = Program(tmp_path, environment=keyed(), store=database)
    becomes_another(program, lambda: f"sqlite:///{tmp_path / 'moved.db'}")


def test_a_file_becomes_a_cluster_beside_its_server(tmp_path: Path, nodes: str) -> None:
    program = Program(tmp_path, environment=keyed())
    becomes_another(program, lambda: nodes)


def test_a_cluster_becomes_a_file_beside_its_server(tmp_path: Path, nodes: str) -> None:
    program = Program(tmp_path, environment=keyed(), store=nodes)
    becomes_another(program, lambda: f"sqlite:///{tmp_path / 'moved.db'}")


def becomes_another(program: Program, place: Callable[[], str]) -> None:
    """A server of it ends; what it knew, the other one's knows."""
    app = program.create_app()
    token = program.create_token("carrier", app=app)
    target = place()
    named = name_of(target)
    program.start()
    program.feed(app, statuses(50))
    program.feed(app, replies(5))
    assert callback(program, app, token, [101, 102]) == 200
    page = program.pull(app, max=10, key="page")
    reader = {"Pullstatus-Reader": "billing"}
    hand = program.post(*app.request(max=7), reader)

    moved = migrate(program, target, "--copy-only")
    assert moved.exit_code == 0, moved.output
    assert json.loads(moved.stdout)["switched"] is False
    assert program.pull(app, REPLY, max=2).data == replies(2)
    moved = migrate(program, target, "--reason", "a larger disk")
    assert moved.exit_code == 0, moved.output
    told = json.loads(moved.stdout)
    assert (told["switched"], told["to"]) == (True, named)
    assert (told["mailboxes"], told["entries"], told["pulls"]) == (2, 57, 3)

    assert program.process is not None
    assert program.process.wait(PATIENCE_S) == 70
    assert f"was moved to {named}" in program.log()
    program.kill()  # what the test has of it
    again = subprocess.run(
        [COMMAND, "serve", "--port", "0", "--store", program.store],
        env=program.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert again.returncode == 1
    assert f"was moved to {named}: use that one instead" in again.stderr
    refused = CliRunner().invoke(main, ["token", "create", "more", "--store", program.store])
    assert refused.exit_code == 1
    assert "use that one" in refused.output
    kept = program.folder / "of-the-old-one.db"
    refused = CliRunner().invoke(main, ["backup", str(kept), "--store", program.store])
    if not program.store.startswith("postgresql:"):  # which is not backed up by a command
        assert "use that one" in refused.output
    assert refused.exit_code == 1
    assert not kept.exists()

    old, program.store = program.store, target
    with program:
        repeat = program.pull(app, max=10, key="page")
        assert repeat.content == page.content
        given = program.post(*app.request(max=7), reader)
        assert given.content == hand.content
        assert given.header("pullstatus-pull-id") == hand.header("pullstatus-pull-id")
        before = program.waiting(app)
        assert callback(program, app, token, [101, 102]) == 200
        assert program.waiting(app) == before
        assert [record["sid"] for record in program.drain(app)] == [
            record["sid"] for record in [*statuses(33, first=18), *statuses(2, first=101)]
        ]
        assert program.drain(app, REPLY) == replies(3, first=3)
        assert program.cli("audit")["sound"]
    newest = program.cli("acts", "list", "--limit", "1")[0]
    assert (newest["action"], newest["reason"]) == ("migrate", "a larger disk")
    assert newest["detail"] == {"source": name_of(old), "target": named}
    program.store = old
    assert program.cli("acts", "list", "--limit", "1") == [newest]
    done = migrate(program, target)
    assert (done.exit_code, json.loads(done.stdout)["passes"]) == (0, 0)
    late = migrate(program, target, "--abandon")
    assert late.exit_code == 1
    assert "has been in use since" in late.output


def between_seal_and_switch(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], Awaitable[object]]
) -> None:
    real = migration._Move._finish

    async def finish(self: migration._Move) -> None:
        await work()
        await real(self)

    monkeypatch.setattr(migration._Move, "_finish", finish)


def test_callers_of_a_sealed_store_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are refused as by any store that can't now; a failure opens it again."""
    program = Program(tmp_path)
    app = program.create_app()
    token = program.create_token("carrier", app=app)
    target = new_place(program)
    seen: dict[str, Any] = {}

    def call() -> None:
        seen["batch"] = program.ingest(app, STATUS, statuses(1, first=500))
        seen["callback"] = callback(program, app, token, [500])
        seen["page"] = program.pull(app)
        seen["nothing"] = program.pull(app, REPLY)
        seen["health"] = program.http.get("/healthz").status_code
        seen["metrics"] = program.http.get("/metrics").status_code

    async def fail() -> Never:
        await asyncio.to_thread(call)
        raise StoreUnavailable("the target's disk is gone")

    with program:
        program.feed(app, statuses(5))
        assert program.pull(app, REPLY).data == []  # from memory, from now on
        with monkeypatch.context() as patched:
            between_seal_and_switch(patched, fail)
            failed = migrate(program, target)
        assert failed.exit_code == 1
        assert "the target's disk is gone" in failed.output
        assert seen["batch"].http_status == 503
        assert int(seen["batch"].header("retry-after")) > 0
        assert "moved" in seen["batch"].json["detail"]
        assert target not in seen["batch"].content.decode()
        assert seen["callback"] == 503
        assert (seen["page"].result, seen["nothing"].result) == (1007, 1007)
        assert (seen["health"], seen["metrics"]) == (200, 200)
        assert callback(program, app, token, [500]) == 200
        assert [record["sid"] for record in program.drain(app)] == [
            *(record["sid"] for record in statuses(5)),
            "8:500",
        ]
        assert migrate(program, target, "--abandon").exit_code == 0
        program.feed(app, statuses(1))


def test_a_store_in_the_making_is_refused_by_serve_until_it_is_ready(tmp_path: Path) -> None:
    """As a supervisor would have it, which starts the new server again and again."""
    program = Program(tmp_path)
    program.create_app()
    target = new_place(program)
    assert migrate(program, target, "--copy-only").exit_code == 0
    early = subprocess.run(
        [COMMAND, "serve", "--port", "0", "--store", target],
        env=program.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert early.returncode == 1
    assert f"is being filled from {program.store}" in early.stderr
    assert migrate(program, target).exit_code == 0
    program.store = target
    with program:
        pass


def test_what_is_written_wrongly(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.create_app()
    target = f"sqlite:///{tmp_path / 'moved.db'}"
    for flags, said in (
        (["--abandon", "--copy-only"], "--abandon goes with neither"),
        (["--damaged", "1400000001"], "a mailbox is named"),
        (["--damaged", "x/replies"], "a mailbox is named"),
    ):
        wrong = migrate(program, target, *flags)
        assert (wrong.exit_code, said in wrong.output) == (2, True), wrong.output
    for flags, said in (
        ([], "which is not in"),  # the master key
        (["--abandon"], "there is nothing to abandon"),
    ):
        wrong = migrate(program, target, *flags)
        assert (wrong.exit_code, said in wrong.output) == (1, True), wrong.output
    assert migrate(program, program.store).exit_code == 1
    assert migrate(program, "nosuch://x").exit_code == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    """So that what it does at its end, opening the source again, is done."""
    ended = []

    async def work() -> None:
        os.kill(os.getpid(), number)
        try:
            await asyncio.sleep(PATIENCE_S)
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    with pytest.raises(SystemExit) as exit_:
        command._run(work())
    assert exit_.value.code == 130
    assert ended == [number]
