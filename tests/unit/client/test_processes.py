"""What crosses from one process to another: a forked client, exceptions and records.

Forks happen in a program of their own: pytest's workers have threads.
"""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path

import httpx
import pytest
from rich.pretty import pretty_repr

import pullstatus
from pullstatus import (
    AnswerMalformed,
    AsyncClient,
    BatchRefused,
    CallRefused,
    Client,
    ClientError,
    ClockSkewed,
    DeliveryStatus,
    InvalidArgument,
    Kind,
    Page,
    PullstatusError,
    Reply,
)
from pullstatus import errors as fundamental
from pullstatus.client import errors
from pullstatus.client.records import read_record
from tests.harness import ROOT, clean_environment
from tests.harness import made as environment

PAGE = b'{"result":0,"errmsg":"ok","type":1,"count":0,"data":[]}'


class _Service(BaseHTTPRequestHandler):
    """Notes over which connection, and under which key, each call comes."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append(self.client_address[1])  # type: ignore[attr-defined]
        self.server.keys.append(self.headers["Idempotency-Key"])  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAGE)))
        self.send_header("Pullstatus-Waiting", "0")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Service)
    server.daemon_threads = True
    server.seen = []  # type: ignore[attr-defined]
    server.keys = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


BLOCKING = """
import os, sys
from random import Random
from pullstatus import Client, Kind

with Client(sys.argv[1], 1400006666, "key", random=Random(7)) as client:
    client.pull(Kind.REPLY)
    for _ in range(2):
        child = os.fork()
        if not child:
            with client:
                client.pull(Kind.REPLY)
                client.pull(Kind.REPLY)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        client.pull(Kind.REPLY)
"""
AWAITING = """
import asyncio, os, sys
from pullstatus import AsyncClient, Kind

async def pull(times):
    for _ in range(times):
        await client.pull(Kind.REPLY)

client = AsyncClient(sys.argv[1], 1400006666, "key")
asyncio.run(pull(3))
for _ in range(2):
    child = os.fork()
    if not child:
        asyncio.run(pull(2))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize("program", [BLOCKING, AWAITING], ids=["sync", "async"])
def test_each_process_has_connections_of_its_own(
    service: ThreadingHTTPServer, program: str
) -> None:
    """As gunicorn does with an application that was loaded before the workers were forked."""
    url = f"http://127.0.0.1:{service.server_port}"
    subprocess.run([sys.executable, "-W", "error", "-c", program, url], check=True, timeout=60)
    seen: list[int] = service.seen  # type: ignore[attr-defined]
    assert len(seen) == 7
    parents = seen[0]
    assert seen.count(parents) == 3
    assert sorted(seen.count(port) for port in set(seen)) == [2, 2, 3]
    # A key is kept until it has brought a page. Under the same one, two would be handed the same.
    keys: list[str] = service.keys  # type: ignore[attr-defined]
    assert len({*zip(seen, keys, strict=True)}) == len(set(keys)) == 3


CLOSING = """
import os, signal, sys
from pullstatus import Client, InvalidArgument, Kind

url, state, then = sys.argv[1:]
client = Client(url, 1400006666, "key", state=state, keyed=True)
sync = os.fsync

def stop(_signal, _frame):
    client.close()
    other = os.open(state + ".other", os.O_RDWR | os.O_CREAT)  # may have its number
    if then == "ends":
        sys.exit(7)

def synced(file):
    os.fsync = sync
    signal.raise_signal(signal.SIGTERM)
    sync(file)

signal.signal(signal.SIGTERM, stop)
os.fsync = synced
try:
    client.pull(Kind.REPLY)
except InvalidArgument as error:
    assert "closed" in str(error)
    assert not os.path.getsize(state + ".other")
    Client(url, 1400006666, "key", state=state).close()
    sys.exit(7)
"""


@pytest.mark.parametrize("then", ["ends", "goes on"])
def test_a_signals_handler_may_close_a_client_that_writes_its_file(
    service: ThreadingHTTPServer, tmp_path: Path, then: str
) -> None:
    """Its own thread has the lock meanwhile. Whoever goes on is told that the client is closed."""
    arguments = [f"http://127.0.0.1:{service.server_port}", str(tmp_path / "a.state"), then]
    done = subprocess.run(
        [sys.executable, "-c", CLOSING, *arguments],
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (7, "")
    assert not service.keys, "it asks for nothing any more"  # type: ignore[attr-defined]


NESTED = """
import json, os, signal, sys
from pullstatus import AnswerLost, Client, Kind, StateFailed

url, state = sys.argv[1:]
client = Client(url, 1400006666, "key", state=state, keyed=True, attempts_max=1)
sync = os.fsync

def pull_too(_signal, _frame):
    try:
        client.pull(Kind.REPLY)
    except StateFailed as error:
        assert "is just being written" in str(error)
    else:
        sys.exit(3)

def synced(file):
    os.fsync = sync
    signal.raise_signal(signal.SIGUSR1)
    sync(file)

signal.signal(signal.SIGUSR1, pull_too)
os.fsync = synced
client.pull(Kind.DELIVERY_STATUS)
client.pull(Kind.REPLY)
"""


def test_a_signals_handler_pulls_nothing_while_the_file_is_written(
    service: ThreadingHTTPServer, tmp_path: Path
) -> None:
    """What it wrote of its own pull would be written over, and forgotten by whoever comes next."""
    url = f"http://127.0.0.1:{service.server_port}"
    subprocess.run(
        [sys.executable, "-c", NESTED, url, str(tmp_path / "a.state")], check=True, timeout=60
    )
    assert len(service.keys) == 2  # type: ignore[attr-defined]


LEFT = """
import os, signal, sys
from pullstatus import Client

def open_it():
    return Client("http://127.0.0.1:1", 1400006666, "key", state=sys.argv[1])

def fork():
    if not os.fork():
        os.write(tell, b".")
        os.close(writing)
        os.read(reading, 1)  # until this program has ended
        os._exit(0)
    os.read(told, 1)

reading, writing = os.pipe()
told, tell = os.pipe()
if sys.argv[2] == "closes":
    client = open_it()
    fork()
    client.close()
    open_it().close()
else:
    parent = os.fork()
    if not parent:
        client = open_it()
        fork()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    open_it().close()
"""


@pytest.mark.parametrize("parent", ["closes", "is killed"])
def test_a_forked_process_keeps_the_state_file_from_nobody(tmp_path: Path, parent: str) -> None:
    """It may live longer than the client of its parent, and need not know of that."""
    subprocess.run(
        [sys.executable, "-c", LEFT, str(tmp_path / "a.state"), parent], check=True, timeout=60
    )


POOL = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from pullstatus import Client, Kind

client = Client(sys.argv[1], 1400006666, "key")
client.pull(Kind.REPLY)

def work(_number):
    return len(client.pull(Kind.REPLY))

with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
    assert list(pool.map(work, range(4))) == [0] * 4
client.pull(Kind.REPLY)
"""


def test_a_pool_of_forked_processes_can_use_one_client(service: ThreadingHTTPServer) -> None:
    url = f"http://127.0.0.1:{service.server_port}"
    subprocess.run([sys.executable, "-c", POOL, url], check=True, timeout=60)
    seen: list[int] = service.seen  # type: ignore[attr-defined]
    assert len(seen) == 6
    assert seen.count(seen[0]) == 2
    assert seen[0] == seen[-1]


UNUSED = """
import asyncio, os, pathlib, sys
from random import Random
from pullstatus import AsyncClient, ClientError, InvalidArgument, Kind

url, path = sys.argv[1:]
client = AsyncClient(url, 1400006666, "key", random=Random(7))
keeper = AsyncClient(url, 1400006666, "key", state=path)

async def use():
    await client.pull(Kind.REPLY)
    await client.aclose()
    try:
        await keeper.pull(Kind.REPLY)
    except InvalidArgument as error:
        assert "forked" in str(error)
    else:
        raise AssertionError("the parent's state file was used")

for _ in range(2):
    child = os.fork()
    if not child:
        asyncio.run(use())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
child = os.fork()
if not child:
    asyncio.run(keeper.aclose())
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert pathlib.Path(path).read_bytes() == b""
"""


def test_a_fork_before_the_first_use_is_noticed_too(
    service: ThreadingHTTPServer, tmp_path: Path
) -> None:
    """As gunicorn --preload does with a client that a module makes and only requests use."""
    url = f"http://127.0.0.1:{service.server_port}"
    program = [sys.executable, "-W", "error", "-c", UNUSED, url, str(tmp_path / "keys")]
    subprocess.run(program, check=True, timeout=60)
    keys: list[str] = service.keys  # type: ignore[attr-defined]
    assert len(set(keys)) == len(keys) == 2


def test_threads_that_begin_at_once_in_a_forked_process_find_one_client() -> None:
    """As gunicorn --preload with threads has it: what one has asked for the next must not empty."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=PAGE))
    with Client("http://127.0.0.1", 1400006666, "key", keyed=True, transport=transport) as client:
        noticed: list[int] = []
        connections = client._connections
        open_new = connections._open

        def open_slowly() -> httpx.Client:
            for _ in range(100):
                time.sleep(0)  # the others run
            return open_new()

        connections._open = open_slowly
        connections._forked = lambda: noticed.append(connections.process)
        for _ in range(20):
            connections.process = -1
            begin = threading.Barrier(8)
            seen: list[httpx.Client] = []

            def pull(begin: threading.Barrier = begin, seen: list[httpx.Client] = seen) -> None:
                begin.wait()
                seen.append(client._mine())

            threads = [threading.Thread(target=pull) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(seen) == 8
            assert len(set(map(id, seen))) == 1
        assert noticed == [-1] * 20  # each time by one, and before others took it for theirs


LOOPS = """
import asyncio, sys
from pullstatus import AsyncClient, Kind

client = AsyncClient(sys.argv[1], 1400006666, "key")
for _ in range(3):
    asyncio.run(client.pull(Kind.REPLY))
"""


def test_an_async_client_goes_from_one_event_loop_to_the_next(
    service: ThreadingHTTPServer,
) -> None:
    """A connection belongs to its loop: module-level clients and several asyncio.run are common."""
    url = f"http://127.0.0.1:{service.server_port}"
    subprocess.run([sys.executable, "-c", LOOPS, url], check=True, timeout=60)
    assert len(service.seen) == 3  # type: ignore[attr-defined]


# --- exceptions -----------------------------------------------------------------------------------


def every_error() -> list[type[PullstatusError]]:
    found: list[type[PullstatusError]] = [PullstatusError]
    for kind in found:
        found += [below for below in kind.__subclasses__() if below not in found]
    return found


def made(kind: type[PullstatusError]) -> PullstatusError:
    """One with something in every attribute that it can have."""
    if issubclass(kind, errors.AnswerUnreadable):
        error: PullstatusError = kind("odd", http_status=502, content=b"\xff", fix="wait")
    elif issubclass(kind, errors.CallRefused):
        error = kind(1007, "no", fix="wait", may_have_consumed=True)
    elif issubclass(kind, BatchRefused):
        error = kind(400, "Invalid record", "record 3: mobile must be digits", 3)
    elif issubclass(kind, ClientError):
        error = kind("odd", fix="wait", may_have_consumed=True)
    elif issubclass(kind, fundamental.InvalidRecord):
        error = kind("mobile", "must be digits", 3)
    elif issubclass(kind, fundamental.Refused):
        error = kind(1001, "sig is wrong")
    elif issubclass(kind, fundamental.ActionRefused):
        error = kind("InvalidAction", "no such action")
    else:
        error = kind("odd")
    if isinstance(error, ClientError):
        error.key, error.retry_after_s = "mine", 2.5
    if isinstance(error, ClockSkewed):
        error.skew_s = 900.0
    error.add_note("seen by a test")
    return error


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_exception_survives_pickling(kind: type[PullstatusError]) -> None:
    error = made(kind)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is kind
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
    for again in (copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


def _refuse(kind: type[PullstatusError]) -> None:
    raise made(kind)


def test_exceptions_come_out_of_a_process_pool() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        for kind in (CallRefused, AnswerMalformed, BatchRefused, errors.NotConnected):
            with pytest.raises(kind) as caught:
                pool.submit(_refuse, kind).result(timeout=60)
            assert str(caught.value) == str(made(kind))


# --- records --------------------------------------------------------------------------------------

STATUS = {
    "user_receive_time": "2026-01-02 03:04:05",
    "nationcode": "86",
    "mobile": "13800000001",
    "report_status": "FAIL",
    "errmsg": "MK:0001",
    "description": "off",
    "sid": "8:1",
    "ext": "customer 4711",
    "new": {"a": [1]},
}
REPLY = {
    "nationcode": "86",
    "mobile": "13800000001",
    "text": "do not tell",
    "sign": "Example",
    "time": 1_767_000_000,
    "extend": "7",
}
PERSONAL = ("13800000001", "4711", "do not tell", "json")


def record(kind: Kind) -> DeliveryStatus | Reply:
    members = STATUS if kind is Kind.DELIVERY_STATUS else REPLY
    return read_record(json.dumps(members).encode(), dict(members), kind)


@pytest.mark.parametrize("kind", Kind)
def test_records_and_pages_survive_pickling(kind: Kind) -> None:
    page = Page(kind=kind, records=(record(kind),), key="mine", keyed=True, waiting=2)
    for one in (page, record(kind), kind):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(one, protocol)) == one
        assert copy.copy(one) == copy.deepcopy(one) == one
        assert hash(copy.deepcopy(one)) == hash(one)


FRAMEWORKS = """
from typing import Annotated

from fastapi import Body, FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, TypeAdapter, ValidationError

from pullstatus import DeliveryStatus, Kind, Reply
from pullstatus.client.records import read_record

MEMBERS = {"sid": "8:1", "mobile": "13800000001", "report_status": "FAIL", "new": {"deep": [1.5]}}
JSON = b'{"sid":"8:1","mobile":"13800000001","report_status":"FAIL","new":{"deep":[1.5]}}'
status = read_record(JSON, MEMBERS, Kind.DELIVERY_STATUS)
reply = read_record(b'{"text":"TD","time":7}', {"text": "TD", "time": 7}, Kind.REPLY)

app = FastAPI()

@app.get("/bare")
def bare():
    return {"one": status, "more": [status, reply]}

@app.get("/typed")
def typed() -> list[DeliveryStatus]:
    return [status]

@app.post("/taken")
def taken(one: Annotated[Reply, Body()]) -> Reply:
    assert isinstance(one, Reply) and one.time == 7
    return one

class Event(BaseModel):
    status: DeliveryStatus
    reply: Reply | None = None

class Row(BaseModel, from_attributes=True):
    sid: str
    delivered: bool

client = TestClient(app)
assert client.get("/bare").json() == {"one": MEMBERS, "more": [MEMBERS, dict(reply)]}
assert client.get("/typed").json() == [MEMBERS]
assert client.post("/taken", json=dict(reply)).json() == dict(reply)
assert client.post("/taken", json=[7]).status_code == 422
assert client.get("/openapi.json").status_code == 200
event = Event(status=status, reply=reply)
assert event.model_dump() == {"status": MEMBERS, "reply": dict(reply)}
assert Event.model_validate_json(event.model_dump_json()) == event
assert Row.model_validate(status) == Row(sid="8:1", delivered=False)
for wrong in (7, None, "x", [], reply):
    try:
        TypeAdapter(DeliveryStatus).validate_python(wrong)
    except ValidationError as error:
        assert "must be a record" in str(error)
    else:
        raise AssertionError(wrong)
"""


def test_web_frameworks_take_records_as_they_are() -> None:
    """In an environment of its own: the client needs none of them."""
    done = subprocess.run(
        [environment("examples") / "bin" / "python", "-W", "ignore", "-c", FRAMEWORKS],
        env=clean_environment() | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", Kind)
def test_a_record_is_ready_for_json(kind: Kind) -> None:
    """`dict(record)` is what encoders of web frameworks try; it is `members`."""
    found = record(kind)
    assert dict(found) == found.members == (REPLY if kind is Kind.REPLY else STATUS)
    assert json.loads(json.dumps(dict(found))) == found.members


@pytest.mark.parametrize("kind", Kind)
def test_what_shows_a_record_shows_no_personal_data(kind: Kind) -> None:
    found = record(kind)
    page = Page(kind=kind, records=(found,), key="mine", keyed=True)
    batch: pullstatus.Batch[DeliveryStatus | Reply] = pullstatus.Batch(page, 1, lambda **_: None)
    for shown in (found, page, batch, [found], {"page": page}):
        for text in (repr(shown), str(shown), f"{shown}", pretty_repr(shown)):
            assert not [word for word in PERSONAL if word in text], text
    assert ("8:1" if kind is Kind.DELIVERY_STATUS else "1767000000") in repr(found)
    assert "mine" in repr(page)


def test_user_agent_says_the_version() -> None:
    from pullstatus.client.flow import HEADERS

    assert HEADERS["User-Agent"] == f"pullstatus/{pullstatus.__version__}"


def test_an_async_client_says_that_it_needs_an_event_loop() -> None:
    asked = AsyncClient("http://127.0.0.1", 1400006666, "key").pull(Kind.REPLY)
    with pytest.raises(InvalidArgument, match="event loop of asyncio"):
        asked.send(None)
