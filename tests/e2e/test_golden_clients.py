"""Official clients of the call, unchanged but for the address, pull from a running server.

They were written for the original service and are deployed; what they can't read, we may not send.
How the Node one gets here is said in conftest.py. A server answers usual requests in another way
than unusual ones, so they pull from one that does, and from one that answers all in one way.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from qcloudsms_py import SmsMobileStatusPuller, SmsStatusPuller

from pullstatus.records import Kind
from pullstatus.wire.v5.pull import PULL_PATH
from pullstatus.wire.v5.query import QUERY_PATH
from tests.e2e.conftest import master_key
from tests.harness import (
    CAREFUL,
    COMMAND,
    PATIENCE_S,
    REPLY,
    STATUS,
    App,
    Program,
    Record,
    reply,
    status,
)
from tests.store.jetstream import real
from tools.postgresql import PostgreSQL

GOLDEN = Path(__file__).with_name("golden")

Pull = Callable[[App, Kind, int], dict[str, Any]]
"""What an SDK hands its caller for a pull: the answer as an object of its language."""

Look = Callable[[App, Kind, str, int], dict[str, Any]]
"""The same for a question about one number of nationcode 86, by all times."""

EVER = (0, 4_000_000_000)

DELIVERED = [
    status(1, description="用户短信接收成功", sid="8:aIt9bcbZHdse7kBZuqi20170104"),
    status(2, report_status="FAIL", errmsg="MK:0001", description="number does not exist"),
    status(3, report_status="FAIL", errmsg="-37", description="", ext="session 7"),
    status(4, nationcode="1", mobile="2025550100", member_nobody_knows={"a": [1, None]}),
]
REPLIED = [
    reply(1, text="TD", extend="42"),
    reply(2, text='😀 "quoted" \\ \u2028 \x00 ё', sign="腾讯云"),
    reply(3, text=""),
]


@pytest.fixture(
    scope="module",
    params=[
        ((COMMAND,), (), None),
        ((COMMAND,), ("--workers", "2"), None),
        ((COMMAND,), ("--workers", "2"), "postgresql"),
        ((COMMAND,), ("--workers", "2"), "jetstream"),
        (CAREFUL, (), None),
    ],
    ids=["one process", "workers", "workers over PostgreSQL", "workers over JetStream", "careful"],
)
def shared(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    postgresql: PostgreSQL,
) -> Iterator[Program]:
    """A server for the clients, who cannot see how it answers, and whether it is several."""
    command, flags, engine = request.param
    folder = tmp_path_factory.mktemp("golden")
    with contextlib.ExitStack() as stack:
        store = None
        if engine == "postgresql":
            store = stack.enter_context(postgresql.database())
        elif engine == "jetstream":
            store = stack.enter_context(real.place(folder))
        named = stack.enter_context(master_key(folder)) if store else None
        program = Program(folder, *flags, command=command, store=store, environment=named)
        program.set_aside(20)
        yield stack.enter_context(program)


# --- Python ---------------------------------------------------------------------------------------


@pytest.fixture
def python_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    # Since Python 3.9 json.loads refuses the argument that this SDK passes, after the answer came.
    monkeypatch.setattr(
        "qcloudsms_py.httpclient.json",
        SimpleNamespace(loads=lambda text, encoding: json.loads(text.decode(encoding))),
    )

    # The newer the Python, the more pieces a request leaves in; a server may get them in one.
    monkeypatch.setattr(http.client.HTTPConnection, "_send_output", _send_in_one)


@pytest.fixture
def python_sdk(shared: Program, python_mended: None) -> Pull:
    def pull(app: App, kind: Kind, max_: int) -> dict[str, Any]:
        puller = SmsStatusPuller(app.sdkappid, app.appkey)
        call = puller.pull_callback if kind is STATUS else puller.pull_reply
        answer: dict[str, Any] = call(max_, url=f"http://{shared.host}:{shared.port}{PULL_PATH}")
        return answer

    return pull


@pytest.fixture
def python_look(shared: Program, python_mended: None) -> Look:
    def look(app: App, kind: Kind, mobile: str, max_: int) -> dict[str, Any]:
        puller = SmsMobileStatusPuller(app.sdkappid, app.appkey)
        call = puller.pull_callback if kind is STATUS else puller.pull_reply
        url = f"http://{shared.host}:{shared.port}{QUERY_PATH}"
        answer: dict[str, Any] = call("86", mobile, *EVER, max_, url=url)
        return answer

    return look


def _send_in_one(
    connection: Any,  # noqa: ANN401 - one of http.client
    message_body: bytes,
    encode_chunked: bool = False,
) -> None:
    assert not encode_chunked
    lines, connection._buffer = connection._buffer, []
    connection.send(b"\r\n".join([*lines, b"", message_body]))


# --- Node -----------------------------------------------------------------------------------------


Node = Callable[..., dict[str, Any]]
"""Runs a script of `golden` with arguments, against the server; what the SDK hands its caller."""


@pytest.fixture
def run_node(shared: Program, node: list[str], node_modules: Path) -> Node:
    def run(script: str, *arguments: str) -> dict[str, Any]:
        preload = ["--require", str(GOLDEN / "elsewhere.cjs")]
        done = subprocess.run(
            [node[0], *preload, str(GOLDEN / script), *arguments],
            env=os.environ
            | {"NODE_PATH": str(node_modules), "HOST": shared.host, "PORT": str(shared.port)},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["http_status"] == 200
        answer: dict[str, Any] = told["data"]
        return answer

    return run


@pytest.fixture
def node_sdk(run_node: Node) -> Pull:
    def pull(app: App, kind: Kind, max_: int) -> dict[str, Any]:
        call = "pullCallback" if kind is STATUS else "pullReply"
        return run_node("pull.cjs", str(app.sdkappid), app.appkey, call, str(max_))

    return pull


@pytest.fixture
def node_look(run_node: Node) -> Look:
    def look(app: App, kind: Kind, mobile: str, max_: int) -> dict[str, Any]:
        call = "pullCallback" if kind is STATUS else "pullReply"
        given = json.dumps(["86", mobile, *EVER, max_])
        named = ("SmsMobileStatusPuller", call, given)
        return run_node("send.cjs", str(app.sdkappid), app.appkey, *named)

    return look


# --- both -----------------------------------------------------------------------------------------


@pytest.fixture(params=["python_sdk", "node_sdk"])
def sdk(request: pytest.FixtureRequest) -> Pull:
    found: Pull = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(("kind", "records"), [(STATUS, DELIVERED), (REPLY, REPLIED)])
def test_sdk_pulls_every_member_of_every_record(
    shared: Program, app: App, sdk: Pull, kind: Kind, records: list[Record]
) -> None:
    shared.feed(app, records)
    answer = sdk(app, kind, 2)
    assert answer == {
        "result": 0,
        "errmsg": "ok",
        "type": int(kind),
        "count": 2,
        "data": records[:2],
    }
    for got, sent in zip(sdk(app, kind, 100)["data"], records[2:], strict=True):
        assert {name: (type(got[name]), got[name]) for name in got} == {
            name: (type(sent[name]), sent[name]) for name in sent
        }
    empty = sdk(app, kind, 100)
    assert (empty["result"], empty["count"], empty["data"]) == (0, 0, [])


def test_sdk_sees_the_code_of_a_refusal(shared: Program, app: App, sdk: Pull) -> None:
    for caller, max_, result in (
        (App(app.sdkappid, "0" * 32), 10, 1001),
        (App(1_300_000_000, app.appkey), 10, 1019),
        (app, 101, 1004),
    ):
        answer = sdk(caller, STATUS, max_)
        assert answer["result"] == result
        assert isinstance(answer["errmsg"], str)


def test_sdk_drains_a_long_queue_in_order(shared: Program, app: App, sdk: Pull) -> None:
    records = [status(number) for number in range(250)]
    shared.feed(app, records)
    pages = [sdk(app, STATUS, 100)["data"] for _ in range(4)]
    assert [len(page) for page in pages] == [100, 100, 50, 0]
    assert [record for page in pages for record in page] == records


@pytest.fixture(params=["python_look", "node_look"])
def look(request: pytest.FixtureRequest) -> Look:
    found: Look = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(("kind", "records"), [(STATUS, DELIVERED), (REPLY, REPLIED)])
def test_sdk_finds_one_number_and_takes_nothing(
    shared: Program, app: App, look: Look, kind: Kind, records: list[Record]
) -> None:
    shared.feed(app, records)
    expected = {"result": 0, "errmsg": "ok", "type": int(kind), "count": 1, "data": records[:1]}
    mobile = str(records[0]["mobile"])
    assert look(app, kind, mobile, 10) == expected
    assert shared.pull(app, kind).data == records
    assert look(app, kind, mobile, 10) == expected
    assert look(app, kind, "13700000000", 10)["data"] == []
    assert look(app, kind, "number", 10)["result"] == 1016
    assert look(app, kind, mobile, 101)["result"] == 1004
