"""`serve --workers`: several processes that are one server to whoever talks to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from pullstatus import limits
from pullstatus.mailbox.done import Task, note
from pullstatus.store import open_store
from pullstatus.version import VERSION
from tests.harness import (
    COMMAND,
    LASTING,
    PATIENCE_S,
    REPLY,
    STATUS,
    App,
    Program,
    Record,
    Wire,
    http_request,
    replies,
    statuses,
    with_limits,
    with_values,
)

WORKERS = 2
PATIENT = with_values(
    {
        # No failed try is forgotten while others are made, however long that takes.
        "limits.FAILED_TRIES_PER_MINUTE": limits.FAILED_TRIES_PER_MINUTE / 60,
        "server.workers.fleet.ANSWER_S": PATIENCE_S,
    },
    workers={"limits.HEADER_DEADLINE_S": 3600, "server.workers.ledger.LOCK_S": PATIENCE_S},
)
"""A command whose figures are those of all, and whose workers wait for who is slow."""


def lines(program: Program, event: str) -> list[dict[str, Any]]:
    """What the log says of one event."""
    found = [json.loads(line) for line in program.log().splitlines()]
    return [line for line in found if line["event"] == event]


def workers_of(program: Program) -> dict[int, int]:
    """The process of each worker, by its number."""
    return {line["worker"]: line["process"] for line in lines(program, "worker started")}


def worker_of(program: Program, wire: Wire) -> int:
    """Which worker has this connection, once one has accepted it: whose file its socket is."""
    near = f":{program.port:04X}"
    far = f":{wire.socket.getsockname()[1]:04X}"

    def accepted() -> int | None:
        rows = map(str.split, Path("/proc/net/tcp").read_text(encoding="ascii").splitlines())
        sockets = {
            f"socket:[{row[9]}]" for row in rows if row[1].endswith(near) and row[2].endswith(far)
        }
        for number, process in workers_of(program).items():
            if sockets & set(map(_target, Path(f"/proc/{process}/fd").glob("*"))):
                return number
        return None

    return program.until(accepted)  # type: ignore[return-value]


def _target(file: Path) -> str:
    try:
        return str(file.readlink())
    except OSError:
        return ""


@contextlib.contextmanager
def connected(program: Program) -> Iterator[dict[int, Wire]]:
    """A connection to each worker, by its number."""
    with contextlib.ExitStack() as stack:
        found: dict[int, Wire] = {}

        def all_have() -> bool:
            # Several at once: each worker takes one at a time.
            for wire in [stack.enter_context(program.connect()) for _ in range(4)]:
                found.setdefault(worker_of(program, wire), wire)
            return len(found) == WORKERS

        program.until(all_have)
        yield found


def pull_over(wire: Wire, app: App, *headers: str, max: int = 100) -> list[Record]:  # noqa: A002
    target, body = app.request(max=max)
    wire.send(http_request("POST", target, body, headers))
    return wire.read().data


def post_over(wire: Wire, program: Program, app: App, records: list[Record]) -> None:
    sent = [f"Authorization: Bearer {program.token}", "Content-Type: application/json"]
    target = f"/ingest/{app.sdkappid}/{STATUS.path}"
    wire.send(http_request("POST", target, json.dumps(records).encode(), sent))
    assert wire.read().http_status == 200


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("workers")
    made = Program(folder, "--workers", str(WORKERS), command=PATIENT)
    made.set_aside(6)
    with made:
        yield made


@pytest.fixture
def wires(program: Program) -> Iterator[dict[int, Wire]]:
    with connected(program) as found:
        yield found


def test_it_is_one_server(program: Program) -> None:
    assert len(program.processes()) == 2 + WORKERS, "and one process of the store"
    assert len(set(workers_of(program).values())) == WORKERS
    app = program.spare_app()
    program.feed(app, statuses(150))
    program.feed(app, replies(3))
    assert program.drain(app) == statuses(150)
    assert program.drain(app, REPLY) == replies(3)


def test_what_one_has_accepted_the_other_hands_out_at_once(
    program: Program, wires: dict[int, Wire]
) -> None:
    app = program.spare_app()
    for number in range(1, 301):
        one, other = (wires[1], wires[2])[:: 1 if number % 2 else -1]
        assert pull_over(other, app) == []
        post_over(one, program, app, statuses(1, number))
        assert pull_over(other, app) == statuses(1, number)


def test_an_application_is_known_to_all_once_it_is_made(
    program: Program, wires: dict[int, Wire]
) -> None:
    app = program.create_app()
    for wire in wires.values():
        assert pull_over(wire, app) == []
    program.cli("app", "disable", str(app.sdkappid))
    for wire in wires.values():
        target, body = app.request()

        def refused(wire: Wire = wire, request: bytes = http_request("POST", target, body)) -> bool:
            wire.send(request)
            return wire.read().result != 0

        program.until(refused)


def test_a_pull_that_waits_has_what_comes_to_another(
    program: Program, wires: dict[int, Wire]
) -> None:
    app = program.spare_app()
    for number, (one, other) in enumerate([(1, 2), (2, 1)] * 3, 1):
        target, body = app.request()
        wires[one].send(http_request("POST", target, body, ["Pullstatus-Wait: 50"]))
        program.until(partial(_held, program, 1))
        post_over(wires[other], program, app, statuses(1, number))
        assert wires[one].read().data == statuses(1, number)


def _held(program: Program, count: int) -> bool:
    return program.metrics()["pullstatus_pulls_held"] == count


def test_pulls_that_wait_have_their_turn_whichever_worker_holds_them(
    program: Program, wires: dict[int, Wire]
) -> None:
    """Who came first has what comes first, and the next what that one leaves."""
    app = program.spare_app()
    with contextlib.ExitStack() as stack:
        waiting: list[Wire] = []
        while len(waiting) < 6:
            wire = stack.enter_context(program.connect())
            target, body = app.request(max=1)
            wire.send(http_request("POST", target, body, ["Pullstatus-Wait: 50"]))
            waiting.append(wire)
            program.until(partial(_held, program, len(waiting)))
        # One that is still to ask the store would be quicker than those that sleep. What its worker
        # sends is done in order, so behind this all sleep.
        other = program.spare_app()
        for wire in wires.values():
            post_over(wire, program, other, statuses(1))
        for number in (1, 2):
            post_over(wires[number], program, app, statuses(1, number))
            assert waiting.pop(0).read().data == statuses(1, number)
        post_over(wires[1], program, app, statuses(4, 3))
        for number, wire in enumerate(waiting, 3):
            assert wire.read().data == statuses(1, number)


def test_figures_are_those_of_all(program: Program, wires: dict[int, Wire]) -> None:
    app = program.spare_app()
    before = program.metrics()
    for number, wire in wires.items():
        for _ in range(number):
            post_over(wire, program, app, statuses(10))
            assert len(pull_over(wire, app)) == 10
    post_over(wires[1], program, app, statuses(2))
    after = program.metrics()

    def more(name: str) -> float:
        return after[name] - before[name]

    assert more('pullstatus_records_in_total{kind="delivery-statuses"}') == 32
    assert more('pullstatus_records_out_total{kind="delivery-statuses"}') == 30
    assert more('pullstatus_pulls_total{result="0"}') == 3
    assert more('pullstatus_request_seconds_count{call="pull"}') == 3
    assert more('pullstatus_batches_total{door="ingest",status="200"}') == 4
    # Of the workers, and what others have done by then: the follower, and all that goes by a clock.
    assert 7 <= more("pullstatus_commit_operations_sum") < 2 * 7, "each is counted once"
    worst = f'{{kind="delivery-statuses",sdkappid="{app.sdkappid}"}}'
    assert after[f"pullstatus_application_waiting{worst}"] == 2
    assert more("pullstatus_commit_seconds_count") == more("pullstatus_commit_operations_count")
    assert after["process_cpu_seconds_total"] >= before["process_cpu_seconds_total"]
    assert after["process_resident_memory_bytes"] > WORKERS * 20 * 2**20
    assert after["pullstatus_workers"] == WORKERS
    assert after["pullstatus_connections"] >= WORKERS


def test_an_application_has_its_rate_once(program: Program, wires: dict[int, Wire]) -> None:
    app = program.spare_app()
    program.cli("app", "set", str(app.sdkappid), "--rate", "1")
    target, body = app.request()
    request = http_request("POST", target, body)

    def limited() -> bool:
        refusing = set()  # each worker takes the setting in by itself
        for _ in range(6):
            for number, wire in wires.items():
                wire.send(request)
                if wire.read().result == 60007:
                    refusing.add(number)
        return refusing == wires.keys()

    program.until(limited)
    began_s = time.monotonic()
    admitted = 0
    while time.monotonic() - began_s < 2:
        for wire in wires.values():
            wire.send(request)
            admitted += wire.read().result == 0
    assert admitted <= time.monotonic() - began_s + 1


def test_failed_tries_are_counted_once_over_all(program: Program, wires: dict[int, Wire]) -> None:
    """An address has its twenty from all workers together; then its answers are late."""
    app = program.spare_app()
    target, body = App(app.sdkappid, "0" * 32).request()
    request = http_request("POST", target, body)
    before = program.metrics()["pullstatus_failed_tries_late_total"]
    for _ in range(limits.FAILED_TRIES_MAX // WORKERS + 4):
        for wire in wires.values():
            wire.send(request)
            assert wire.read().result == 1001
    figures = program.metrics()
    assert figures["pullstatus_failed_tries_late_total"] - before >= 1
    assert figures['pullstatus_failed_tries_kept{of="addresses"}'] == 1
    program.until(lambda: lines(program, "many failed tries of an address"))


def test_a_signature_that_comes_again_to_another_is_counted(
    program: Program, wires: dict[int, Wire]
) -> None:
    app = program.spare_app()
    before = program.metrics()["pullstatus_pulls_signed_again_total"]
    target, body = app.request()
    for wire in wires.values():
        wire.send(http_request("POST", target, body))
        assert wire.read().data == []
    assert program.metrics()["pullstatus_pulls_signed_again_total"] - before == WORKERS - 1


def test_usr1_and_hup_go_through_the_parent(program: Program) -> None:
    assert program.process is not None
    program.process.send_signal(signal.SIGHUP)
    program.until(lambda: lines(program, "reloaded"))
    program.process.send_signal(signal.SIGUSR1)
    program.until(lambda: lines(program, "state"))
    for process in program.processes()[1:]:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            os.kill(process, number)
    app = program.create_app()
    assert program.pull(app).result == 0
    assert program.metrics()["pullstatus_workers_ended_total"] == 0


# --- deaths ---------------------------------------------------------------------------------------


def _started(program: Program, count: int) -> Callable[[], bool]:
    return lambda: len(lines(program, "worker started")) >= count


def test_a_worker_that_dies_is_replaced_and_the_others_go_on(tmp_path: Path) -> None:
    made = Program(tmp_path, "--workers", str(WORKERS), command=PATIENT)
    with made as program, connected(program) as wires:
        app = program.create_app()
        post_over(wires[1], program, app, statuses(3))
        program.until(lambda: program.metrics()["pullstatus_workers"] == WORKERS)
        counted = program.metrics()['pullstatus_records_in_total{kind="delivery-statuses"}']
        assert counted == 3
        os.kill(workers_of(program)[1], signal.SIGKILL)
        assert wires[1].ended()
        assert pull_over(wires[2], app) == statuses(3)
        post_over(wires[2], program, app, statuses(2, 4))
        program.until(_started(program, WORKERS + 1))
        with connected(program) as anew:
            assert pull_over(anew[1], app) == statuses(2, 4)
        figures = program.metrics()
        assert figures["pullstatus_workers_ended_total"] == 1
        assert figures['pullstatus_records_in_total{kind="delivery-statuses"}'] == 5
        [ended] = lines(program, "worker ended")
        assert (ended["worker"], ended["status"]) == (1, -signal.SIGKILL)


def test_a_worker_that_cannot_open_what_the_others_have_open_does_not_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as its source of master keys is away; and what is not in that it tells itself."""
    vault, keys, away = (tmp_path / name for name in ("vault", "keys", "away"))
    vault.write_text(f"#!/bin/sh\n[ -e {away} ] && exit 1\ncat {keys}\n")
    vault.chmod(0o700)
    keys.write_text("ab" * 32)
    monkeypatch.setenv("PULLSTATUS_MASTER_KEY_COMMAND", str(vault))
    flags = ("--workers", str(WORKERS), "--master-key-command", str(vault))
    program = Program(tmp_path, *flags)
    app = program.create_app()  # so all have its key open from the start
    with program:
        away.touch()
        os.kill(workers_of(program)[1], signal.SIGKILL)
        program.until(lambda: lines(program, "worker cannot start"))
        for _ in range(4):
            with program.connect() as wire:
                assert pull_over(wire, app) == []
        keys.write_text("cd" * 32)
        away.unlink()
        program.until(_started(program, WORKERS + 1))
        program.until(lambda: lines(program, "appkey not opened"))
        told = lines(program, "appkey not opened")
        assert [(line["worker"], line["sdkappid"]) for line in told] == [(1, app.sdkappid)]


def test_a_worker_of_another_version_than_its_server_does_not_serve(tmp_path: Path) -> None:
    """As where another one is installed by now, and the server is yet to be started anew."""
    other = with_values({"server.workers.fleet.VERSION": "0.0.7"})
    program = Program(tmp_path, "--workers", str(WORKERS), command=other)
    with pytest.raises(AssertionError), program:
        pass
    assert f"the server is version 0.0.7, and {VERSION} is installed by now" in program.log()


def test_a_worker_that_hangs_is_replaced_but_none_of_a_server_that_was_stopped(
    tmp_path: Path,
) -> None:
    silent_s = 4  # for the parent, which alone judges
    command = with_limits(WORKER_SILENT_S=silent_s)
    program = Program(tmp_path, "--workers", str(WORKERS), command=command)
    with program:
        app = program.create_app()
        with connected(program) as wires:
            post_over(wires[1], program, app, statuses(3))
            os.kill(workers_of(program)[1], signal.SIGSTOP)
            assert pull_over(wires[2], app) == statuses(3)
            program.until(_started(program, WORKERS + 1))
            assert wires[1].ended()
            post_over(wires[2], program, app, statuses(2, 4))
        hung = lines(program, "worker hangs")
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for process in program.processes():  # the parent first
                os.kill(process, number)
            if number == signal.SIGSTOP:
                time.sleep(silent_s + 1)
        with connected(program) as wires:
            assert pull_over(wires[1], app) == statuses(2, 4)
            assert lines(program, "worker hangs") == hung
            os.kill(workers_of(program)[2], signal.SIGSTOP)
            program.until(_started(program, WORKERS + len(hung) + 1))
        ended = program.metrics()["pullstatus_workers_ended_total"]
        hung = lines(program, "worker hangs")
        assert len(hung) == ended
    assert {line["worker"] for line in hung} == {1, 2}, "one that the machine kept may be twice"
    assert {line["status"] for line in lines(program, "worker ended")} == {-signal.SIGKILL}


@pytest.mark.parametrize("victim", ["store", "parent"])
def test_the_end_of_the_store_or_of_the_parent_ends_all(tmp_path: Path, victim: str) -> None:
    program = Program(tmp_path, "--workers", str(WORKERS))
    program.start()
    assert program.process is not None
    processes = program.processes()
    [store] = set(processes[1:]) - set(workers_of(program).values())
    os.kill(store if victim == "store" else processes[0], signal.SIGKILL)
    status = program.process.wait(PATIENCE_S)
    assert status == (70 if victim == "store" else -signal.SIGKILL)
    program.until(lambda: not any(map(_lives, processes[1:])))
    program._gone()
    with program:  # and nothing of them is in the way of the next
        assert program.metrics()["pullstatus_workers"] == WORKERS


def _lives(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return False


def test_a_stop_answers_what_all_have_begun(tmp_path: Path) -> None:
    program = Program(tmp_path, "--workers", str(WORKERS), command=LASTING)
    with program, connected(program) as wires:
        app = program.create_app()
        target, body = app.request()
        for wire in wires.values():
            wire.send(http_request("POST", target, body, ["Pullstatus-Wait: 50"]))
        program.until(partial(_held, program, WORKERS))
        assert program.process is not None
        program.process.terminate()
        for wire in wires.values():
            assert wire.read().data == [], "those that wait are let go"
            assert wire.ended()
        assert program._gone() == 0
    [stopped] = lines(program, "stopped")
    assert stopped["failed"] is False


def test_health_and_figures_are_where_admin_says_and_nowhere_else(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    flags = ("--admin", "127.0.0.1:0", "--tls-certificate", str(certificate), "--tls-key", str(key))
    program = Program(tmp_path, "--workers", str(WORKERS), *flags)
    program.start()
    try:
        admin = lines(program, "started")[0]["admin"]
        with httpx.Client(base_url=admin, trust_env=False, timeout=PATIENCE_S) as client:
            assert client.get("/readyz").status_code == 200
            assert "pullstatus_workers 2.0" in client.get("/metrics").text
        unproven = ssl.create_default_context()
        unproven.check_hostname, unproven.verify_mode = False, ssl.CERT_NONE
        url = f"https://{program.host}:{program.port}"
        with httpx.Client(
            base_url=url, verify=unproven, trust_env=False, timeout=PATIENCE_S
        ) as client:
            assert client.get("/").status_code == 200
            assert client.get("/metrics").status_code == 404
        assert program.process is not None
        program.process.send_signal(signal.SIGHUP)
        [reloaded] = program.until(lambda: lines(program, "reloaded"))
        assert reloaded["changed"] == []
    finally:
        assert program.stop() == 0


def test_connections_of_all_are_bounded_together(tmp_path: Path) -> None:
    """By as many files as one process may have; but for one, if two come at the same moment."""
    files = limits.DESCRIPTORS_KEPT + limits.CONNECTIONS_RESERVED + 20
    command = ("/bin/sh", "-c", f'ulimit -n {files}; exec "$0" "$@"', COMMAND)
    flags = ("--workers", str(WORKERS), "--admin", "127.0.0.1:0")
    program = Program(tmp_path, *flags, command=command)
    with program, contextlib.ExitStack() as stack:
        assert 20 <= _served_of(40, program, stack) <= 20 + WORKERS - 1
        for process in workers_of(program).values():
            os.kill(process, signal.SIGKILL)
        program.until(_started(program, 2 * WORKERS))
        assert _served_of(20, program, stack) == 20, "those of the dead count no more"


def _served_of(count: int, program: Program, stack: contextlib.ExitStack) -> int:
    """How many of so many new connections are served; they stay open."""
    wires = [stack.enter_context(program.connect()) for _ in range(count)]
    for wire in wires:
        wire.send(http_request("GET", "/"))
    return sum(not _refused(wire) for wire in wires)


def _refused(wire: Wire) -> bool:
    try:
        return wire.socket.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("flags", [(), ("--workers", str(WORKERS))], ids=["alone", "workers"])
def test_the_first_figures_know_when_the_store_was_seen_to(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """Else each start looks for a while as if there were no backup."""
    program = Program(tmp_path, *flags)

    async def see_to() -> None:
        store = await open_store(program.store)
        await note(store, Task.BACKUP, 1_000)
        await note(store, Task.AUDIT, 2_000)
        await store.close()

    asyncio.run(see_to())
    with program:
        found = program.metrics()
    assert found["pullstatus_backup_timestamp_seconds"] == 1
    assert found["pullstatus_audit_timestamp_seconds"] == 2
