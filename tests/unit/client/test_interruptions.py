"""Exceptions that come into a call from outside end it as they are, and the client goes on."""

from __future__ import annotations

import gc
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType

import httpx
import pytest
from httpcore._synchronization import ThreadLock

from pullstatus import Client, DeliveryStatus, Kind
from pullstatus.client import flow
from pullstatus.client.flow import Follower
from pullstatus.client.interruptions import interruption
from tests.unit.client.conftest import Hands, page
from tests.unit.client.service import ABOUT, Service

PATIENCE_S = 60.0


class TimeLimitError(Exception):
    """As those of Celery and RQ: an ordinary exception of somebody else's."""


# --- which are from outside -----------------------------------------------------------------------


def _raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:  # noqa: BLE001 - it is looked at
        return caught


def _found(
    error: Exception, *, known_below: bool = True, handled: Exception | None = None
) -> Exception | None:
    return interruption(error, known_below=known_below, handled=handled)


def test_what_comes_from_below_is_told_from_what_does_not() -> None:
    for below in (httpx.ReadError("cut"), OSError("no"), socket.gaierror(), RuntimeError("odd")):
        assert _found(_raised(below)) is None
    limit = _raised(TimeLimitError())
    assert _found(limit) is limit
    assert _found(_raised(httpx.ReadError("cut"), limit)) is limit
    # A transport of the caller's own may raise whatever it likes.
    assert _found(limit, known_below=False) is None


def test_what_our_caller_handles_right_now_is_not_of_this_call() -> None:
    handled = TimeLimitError()
    error = httpx.ReadError("cut")
    error.__context__ = handled
    assert _found(error) is handled
    assert _found(error, handled=handled) is None


class _Callable:
    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        raise TimeoutError("time is up")

    def method(self, _number: int, _frame: FrameType | None) -> None:
        raise TimeoutError("time is up")


@pytest.fixture(params=[_Callable(), _Callable().method], ids=["callable", "method"])
def handler(request: pytest.FixtureRequest) -> Iterator[Callable[[int, object], None]]:
    try:
        before = signal.signal(signal.SIGUSR1, request.param)
    except ValueError:
        pytest.skip("signals are for the main thread")
    yield request.param
    signal.signal(signal.SIGUSR1, before)


def test_what_a_handler_raises_is_from_outside_whatever_its_class(
    handler: Callable[[int, object], None],
) -> None:
    with pytest.raises(TimeoutError) as caught:
        handler(signal.SIGUSR1, None)
    for known_below in (False, True):
        assert _found(caught.value, known_below=known_below) is caught.value
        taken_for_lost = _raised(httpx.ReadTimeout("late"), caught.value)
        assert _found(taken_for_lost, known_below=known_below) is caught.value


# --- what they do ---------------------------------------------------------------------------------

LIMITED = """
import signal, sys
from pullstatus import Client

class TimeLimitError(Exception):
    pass

def ring(_signal, _frame):
    raise {"own": TimeLimitError, "python": TimeoutError}[sys.argv[2]]("time is up")

signal.signal(signal.SIGALRM, ring)
client = Client(sys.argv[1], 1400006666, "key", keyed=True)

def is_ended():
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        next(client.delivery_statuses())
    except (TimeLimitError, TimeoutError) as error:
        assert str(error) == "time is up"
        (claim,) = client._puller.claims._claims
        assert claim.free and claim.next.in_doubt  # the next pull asks with the same key
        return True

assert is_ended()
try:
    raise TimeLimitError("another")
except TimeLimitError:
    assert is_ended()
"""


@pytest.mark.parametrize("raised", ["own", "python"])
def test_a_signals_exception_ends_a_pull_whatever_its_class(raised: str) -> None:
    """The service is silent, and the iterator would wait for it without end."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        program = [sys.executable, "-c", LIMITED, url, raised]
        subprocess.run(program, check=True, timeout=PATIENCE_S)


def test_exceptions_of_a_callers_own_transport_become_ours(client: Hands) -> None:
    client.over(TimeLimitError("odd"), page(1, waiting=0), keyed=True)
    assert len(client.pull()) == 1
    assert len(set(client.keys)) == 1


def _interrupted(
    work: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., object]:
    """As if a signal came just when this was done."""

    def then_rung(*arguments: object, **named: object) -> object:
        monkeypatch.undo()
        work(*arguments, **named)
        raise KeyboardInterrupt

    return then_rung


@pytest.mark.parametrize("reader", [None, "billing"])
@pytest.mark.parametrize("at", ["take", "ask", "batch"])
def test_a_page_that_was_in_nobodys_hand_yet_comes_to_the_next_caller(
    client: Hands, monkeypatch: pytest.MonkeyPatch, reader: str | None, at: str
) -> None:
    if reader is None:
        client.over(*[page(1, waiting=0)] * (1 if at == "take" else 2), keyed=True)
    else:
        client.about = [ABOUT]
        client.over(reader=reader)
        client.service = Service(1)
    puller = client.client._puller
    place, name = {
        "take": (puller.claims, "take"),
        "ask": (Follower, "_hand_over"),
        "batch": (flow, "Batch"),
    }[at]
    monkeypatch.setattr(place, name, _interrupted(getattr(place, name), monkeypatch))
    with pytest.raises(KeyboardInterrupt):
        client.batches().next()
    gc.collect()
    with client.batches().one() as batch:
        assert [record.sid for record in batch if isinstance(record, DeliveryStatus)] == ["8:1"]
    assert len(puller.claims._claims) == 0
    if reader is None:
        assert len({*client.keys}) == 1
    client._script.clear()


class _Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        content = page(1, waiting=0).content
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Pullstatus-Waiting", "0")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def base_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Service)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class _Struck:
    """A lock that a signal's exception leaves held: it comes when the lock was just taken."""

    def __init__(self, error: BaseException) -> None:
        self._lock = threading.Lock()
        self._error = error

    def __enter__(self) -> None:
        self._lock.acquire()
        raise self._error

    def __exit__(self, *_error: object) -> None:
        self._lock.release()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TimeLimitError()])
def test_a_lock_that_was_left_held_below_holds_up_nobody(
    base_url: str, error: BaseException
) -> None:
    client = Client(base_url, 1400006666, "key", keyed=True)
    assert len(client.pull(Kind.REPLY)) == 1
    pool = client._connections.http._transport._pool  # type: ignore[attr-defined]
    pool._optional_thread_lock = _Struck(error)
    with pytest.raises(type(error)):
        client.pull(Kind.REPLY)
    pages = []

    def go_on() -> None:
        pages.append(client.pull(Kind.REPLY))
        client.close()

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert len(pages) == 1
    assert not thread.is_alive()


@pytest.mark.parametrize("at", range(1, 5))
def test_an_exception_where_a_lock_was_just_taken_below_leaves_none_held(
    base_url: str, at: int
) -> None:
    client = Client(base_url, 1400006666, "key", keyed=True)
    ended: list[BaseException | None] = []
    taken: list[FrameType] = []

    def ring(frame: FrameType, event: str, _value: object) -> None:
        if event == "return" and frame.f_code is ThreadLock.__enter__.__code__:
            taken.append(frame)
            if len(taken) == at:
                raise KeyboardInterrupt

    def pull() -> None:
        sys.setprofile(ring)
        try:
            client.pull(Kind.REPLY)
            ended.append(None)
        except KeyboardInterrupt as error:
            ended.append(error)
        sys.setprofile(None)
        client.pull(Kind.REPLY)
        client.close()

    thread = threading.Thread(target=pull, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert len(ended) == 1
