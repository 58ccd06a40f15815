"""Pulls that wait for a record, on a running server: who is answered, when, and what it costs."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pullstatus.store import Gone, Page, Pull
from pullstatus.wire.api3 import signing
from tests.harness import (
    PATIENCE_S,
    STATUS,
    App,
    Program,
    Wire,
    ends_after_s,
    http_request,
    status,
    statuses,
    with_limits,
)

HELD = "pullstatus_pulls_held"
DROPPED = "pullstatus_pulls_dropped_total"
COUNT = 4000
LONG_S = 99  # the longest that can be asked for
KIB_MAX = 11  # 10, and what lies between them when others come in bursts


def held_request(app: App, max: int = 100, *, wait_s: int | None = 50, key: str = "") -> bytes:  # noqa: A002
    headers = [] if wait_s is None else [f"Pullstatus-Wait: {wait_s}"]
    headers += [f"Idempotency-Key: {key}"] * bool(key)
    return http_request("POST", *app.request(max=max), headers=headers)


@contextmanager
def held(program: Program, *requests: bytes) -> Iterator[list[Wire]]:
    """A connection for each request, in whose order the server has them."""
    with ExitStack() as stack:
        wires = []
        for count, request in enumerate(requests, 1 + int(program.metrics()[HELD])):
            wires.append(stack.enter_context(program.connect()))
            wires[-1].send(request)
            program.until(lambda count=count: program.metrics()[HELD] >= count)  # type: ignore[misc]
        yield wires


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """A server that nobody else's pulls are held by."""
    made = Program(tmp_path)
    made.set_aside(2)
    with made:
        yield made


def test_records_go_to_who_waits_in_order_of_arrival(program: Program) -> None:
    app = program.spare_app()
    with held(program, *[held_request(app)] * 3) as wires:
        for number, wire in enumerate(wires, 1):
            program.feed(app, [status(number)])
            assert wire.read().data == [status(number)]
        assert program.metrics()[HELD] == 0
    with held(program, *[held_request(app, max=2)] * 3) as wires:
        program.feed(app, statuses(5))
        pages = [wire.read().data for wire in wires]
        assert pages == [statuses(2), statuses(2, 3), statuses(1, 5)]


def test_time_over_is_an_empty_page_and_the_connection_goes_on(program: Program) -> None:
    app = program.spare_app()
    with program.connect() as wire:
        began = time.monotonic()
        wire.send(held_request(app, wait_s=1))
        assert wire.read().data == []
        assert time.monotonic() - began > 0.9
        program.feed(app, statuses(1))
        wire.send(held_request(app))
        assert wire.read().data == statuses(1)


def test_clients_without_headers_wait_where_their_application_is_set_to(tmp_path: Path) -> None:
    """Unless a client itself says otherwise."""
    program = Program(tmp_path)
    app = program.create_app()
    assert program.cli("app", "set", str(app.sdkappid), "--wait", "50")["wait"] == 50
    with program, held(program, held_request(app, wait_s=None)) as [wire]:
        assert program.exchange(held_request(app, wait_s=0)).data == []
        program.feed(app, statuses(1))
        assert wire.read().data == statuses(1)


@pytest.mark.parametrize("how", ["reset", "says no more", "killed", "behind another request"])
def test_a_peer_that_goes_takes_nothing(program: Program, how: str, tmp_path: Path) -> None:
    """And is let go at once; who is behind it in line gets what it would have taken."""
    app = program.spare_app()
    dropped = program.metrics()[DROPPED]
    if how == "killed":
        request = tmp_path / "request"
        request.write_bytes(held_request(app))
        code = "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2])))"
        code += "; s.sendall(open(sys.argv[3], 'rb').read()); s.recv(1)"
        client = subprocess.Popen(
            [sys.executable, "-c", code, program.host, str(program.port), str(request)]
        )
        program.until(lambda: program.metrics()[HELD] == 1)
        with held(program, held_request(app)) as [behind]:
            client.kill()
            client.wait()
            program.until(lambda: program.metrics()[HELD] == 1)
            program.feed(app, statuses(1))
            assert behind.read().data == statuses(1)
        return
    with held(program, held_request(app), held_request(app)) as [wire, behind]:
        if how == "behind another request":  # then nothing more is read of it, not even its end
            wire.send(held_request(app))
        if how == "reset":
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wire.close()
            program.until(lambda: program.metrics()[DROPPED] == dropped + 1)
        else:
            wire.socket.shutdown(socket.SHUT_WR)
        if how == "says no more":
            assert wire.read().data == []  # it may still listen
            assert wire.ended()
        if how != "behind another request":
            program.until(lambda: program.metrics()[HELD] == 1)
        program.feed(app, statuses(1))
        assert behind.read().data == statuses(1)
    assert program.waiting(app) == 0


@pytest.mark.parametrize("how", ["reset", "close", "half"])
def test_a_peer_that_goes_is_noticed_behind_a_request_that_it_has_sent(
    program: Program, how: str
) -> None:
    """That one is not read before the pull is answered."""
    app = program.spare_app()
    with program.connect() as wire:
        wire.send(held_request(app) + http_request("GET", "/healthz"))
        program.until(lambda: program.metrics()[HELD] == 1)
        gone_s = time.monotonic()
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if how == "half":
            wire.socket.shutdown(socket.SHUT_WR)
            assert wire.read().data == []
        else:
            wire.close()  # with its file, or the system keeps it open
        program.until(lambda: program.metrics()[HELD] == 0)
        assert time.monotonic() - gone_s < 40, "it was noticed when the 50 seconds were over"
    program.feed(app, statuses(1))
    assert program.pull(app).data == statuses(1)


def test_a_stop_answers_all_at_once_and_takes_nothing(program: Program) -> None:
    app, other = program.spare_app(), program.spare_app()
    requests = [held_request(app), held_request(other), held_request(app, key="k")]
    with held(program, *requests) as wires:
        assert program.process is not None
        program.process.terminate()
        # Of the ten seconds it has, and the fifty they had.
        assert ends_after_s(program.process) < 8
        assert [wire.read().data for wire in wires] == [[], [], []]
        assert program.stop() == 0


def test_what_comes_by_another_door_wakes_too(program: Program) -> None:
    app = program.spare_app()
    program.feed(app, statuses(1))
    pulled = program.pull(app)
    with held(program, held_request(app)) as [wire]:
        program.cli(
            "redeliver",
            "--pull",
            str(pulled.header("pullstatus-pull-id")),
            "--reason",
            "test",
            "--yes",
        )
        assert wire.read().data == statuses(1)


def test_a_key_stands_for_the_page_that_a_held_pull_brings(program: Program) -> None:
    app = program.spare_app()
    with held(program, held_request(app, key="k")) as [wire]:
        program.feed(app, statuses(1))
        assert wire.read().data == statuses(1)
        wire.send(held_request(app, key="k"))
        assert wire.read().data == statuses(1)


@pytest.mark.parametrize("header", ["Idempotency-Key: k", "Pullstatus-Reader: r"])
def test_two_held_pulls_of_one_caller_bring_the_same_page(program: Program, header: str) -> None:
    """As where the first connection is dead, and only we do not know yet."""
    app = program.spare_app()
    asked = [
        http_request("POST", *app.request(), headers=[f"Pullstatus-Wait: {wait_s}", header])
        for wait_s in (50, 8)
    ]
    with held(program, *asked) as [first, second]:
        program.feed(app, statuses(1))
        assert first.read().data == statuses(1)
        assert second.read().data == statuses(1)
        second.send(held_request(app, wait_s=1))
        assert second.read().data == []


def test_a_held_pull_of_a_strict_application_is_no_repeat_of_itself(tmp_path: Path) -> None:
    program = Program(tmp_path)
    app = program.create_app()
    program.cli("app", "set", str(app.sdkappid), "--strict", "on")
    request = held_request(app)
    with program, held(program, request) as [wire]:
        assert program.exchange(request).result == 1001
        program.feed(app, statuses(1))
        assert wire.read().data == statuses(1)


@pytest.mark.parametrize(("commands", "result"), [("disable", 1020), ("delete create", 1001)])
def test_what_an_application_may_no_more_its_held_pull_may_not(
    program: Program, commands: str, result: int
) -> None:
    """Nor does one of a former owner of the number get what is the next one's."""
    app = program.spare_app()
    with held(program, held_request(app)) as [wire]:
        for command in commands.split():
            program.cli("app", command, str(app.sdkappid))
        program.until(lambda: program.ingest(app, STATUS, statuses(1)).http_status == 200)
        assert wire.read().result == result
    assert program.waiting(app) == 1


def held_action(pair: dict[str, str], app: App) -> bytes:
    """A pull by API 3.0."""
    body = json.dumps({"SmsSdkAppId": str(app.sdkappid), "Limit": 100}).encode()
    headers = {
        b"content-type": b"application/json",
        b"host": b"mailbox.test",
        b"x-tc-action": b"PullSmsSendStatus",
        b"x-tc-version": b"2021-01-11",
        b"x-tc-timestamp": b"%d" % time.time(),
    }
    request = signing.Request("POST", b"", headers, body)
    headers[b"authorization"] = signing.sign(request, pair["secret_id"], pair["secret_key"])
    headers[b"pullstatus-wait"] = b"50"
    del headers[b"host"]  # every request has it
    lines = [f"{name.decode()}: {value.decode()}" for name, value in headers.items()]
    return http_request("POST", "/", body, lines)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("revoke", "AuthFailure.SecretIdNotFound"),
        ("disable", "AuthFailure.SecretIdNotFound"),
        ("set --app {other}", "UnauthorizedOperation.SmsSdkAppIdVerifyFail"),
        ("set --v1 on", ""),
    ],
)
def test_what_a_pair_may_no_more_its_held_pull_may_not(
    program: Program, command: str, code: str
) -> None:
    app, other = program.spare_app(), program.spare_app()
    pair = program.cli("secret", "create", "--app", str(app.sdkappid))
    with held(program, held_action(pair, app)) as [wire]:
        verb, *more = command.format(other=other.sdkappid).split()
        program.cli("secret", verb, pair["secret_id"], *more)
        program.feed(app, statuses(1))
        told = wire.read().json["Response"]
    assert told.get("Error", {}).get("Code", "") == code
    assert program.waiting(app) == (1 if code else 0)


def test_a_held_pull_of_a_key_that_is_dropped_gets_nothing(program: Program) -> None:
    app = program.spare_app()
    with held(program, held_request(app)) as [wire]:
        program.cli("app", "rotate-key", str(app.sdkappid), "--drop-old")
        program.feed(app, statuses(1))
        assert wire.read().result == 1001
    assert program.waiting(app) == 1


async def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_held_pulls_cost_no_look_at_the_store(tmp_path: Path) -> None:
    """Nor does an arrival cost more than one."""
    program = Program(tmp_path)
    app, other = program.create_app(), program.create_app()
    looks: list[Pull] = []

    async def run() -> None:
        async with program.inside() as server, program.client() as client:
            take = server.store.pull

            async def counted(operation: Pull, gone: Gone | None = None) -> Page:
                looks.append(operation)
                return await take(operation, gone)

            server.store.pull = counted  # type: ignore[method-assign]

            async def pull(each: App) -> int:
                target, body = each.request()
                wait = {"Pullstatus-Wait": "50"}
                answer = await client.post(target, content=body, headers=wait)
                return len(answer.json()["data"])

            pulls = [asyncio.create_task(pull(each)) for each in [app, other] * 20]
            await until(lambda: server.routes.held.count == len(pulls))
            assert len(looks) == len(pulls)
            looks.clear()
            await asyncio.sleep(1)
            assert looks == []
            answer = await client.post(
                f"/ingest/{app.sdkappid}/delivery-statuses",
                json=statuses(1),
                headers={"Authorization": f"Bearer {program.token}"},
            )
            assert answer.status_code == 200
            done, rest = await asyncio.wait(pulls, return_when=asyncio.FIRST_COMPLETED)
            assert [each.result() for each in done] == [1]
            assert len(looks) == 1
            server.stop()
            assert await asyncio.gather(*rest) == [0] * 39
            assert len(looks) == 1

    asyncio.run(run())


def memory_kib(process: int) -> int:
    text = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    [line] = [line for line in text.splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1])


def test_held_pulls_take_little_memory(tmp_path: Path) -> None:
    """Of the server, with all that a connection takes; fewer where files that may be open are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = COUNT + 500
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, enough)), hard))
    count = min(COUNT, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500)
    app = App(1, "")

    async def hold(program: Program) -> None:
        assert program.process is not None
        wires = []

        async def connect() -> None:
            reader, writer = await asyncio.open_connection(program.host, program.port)
            writer.write(held_request(app, wait_s=LONG_S))
            wires.append((reader, writer))

        await connect()
        await asyncio.to_thread(program.until, lambda: program.metrics()[HELD] == 1)
        before = memory_kib(program.process.pid)
        while len(wires) <= count:
            await asyncio.gather(*(connect() for _ in range(50)))
        await asyncio.to_thread(program.until, lambda: program.metrics()[HELD] == len(wires))
        each_kib = (memory_kib(program.process.pid) - before) / (len(wires) - 1)
        program.process.send_signal(signal.SIGTERM)
        for reader, writer in wires:
            assert (await reader.read(15)).startswith(b"HTTP/1.1 200")
            writer.close()
        assert each_kib < KIB_MAX

    try:
        program = Program(tmp_path, command=with_limits(PULL_WAIT_S_MAX=LONG_S))
        app = program.create_app()
        with program:
            asyncio.run(asyncio.wait_for(hold(program), LONG_S))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
