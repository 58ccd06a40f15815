"""An emulator beside a test: in a thread with an event loop of its own.

with EmulatorThread() as emulator:
    emulator.feed(3)
    emulator.faults.add("cut", call="pullstatus")
    ... pull from emulator.base_url ...
    assert emulator.sent == []
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

import msgspec
import structlog
from structlog.typing import Processor

from pullstatus.emulator.calls import Call
from pullstatus.emulator.emulation import Emulation, Sent
from pullstatus.emulator.faults import Armed, Fault, FaultName
from pullstatus.emulator.requests import Received
from pullstatus.emulator.run import EmulatorServer, emulate
from pullstatus.emulator.scenario import Scenario, convert, read_scenario
from pullstatus.records import Kind

__all__ = ["EmulatorThread", "ThreadFaults"]

T = TypeVar("T")

START_S = 60.0  # far more than a start takes, on any machine
STOP_S = 60.0  # likewise


class _Log:
    """structlog, set up to print nothing while any emulator of this process runs.

    Else it prints, into what the test at hand captures. Where the application has set it up, or
    does so meanwhile, it stays as that has it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._processors: list[Processor] = []

    def __enter__(self) -> None:
        with self._lock:
            self._running += 1
            if not structlog.is_configured():
                self._processors = [structlog.stdlib.render_to_log_kwargs]
                structlog.configure(
                    processors=self._processors,
                    wrapper_class=structlog.stdlib.BoundLogger,
                    logger_factory=structlog.stdlib.LoggerFactory(),
                )

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._running -= 1
            if not self._running and structlog.get_config()["processors"] is self._processors:
                structlog.reset_defaults()


_LOG: Final = _Log()


class EmulatorThread:
    """A running emulator; a context manager. Its methods may be called from any thread.

    All but `start` and `stop` raise RuntimeError while it does not run.

    Attributes:
        base_url: `http://127.0.0.1:PORT`.
        sdkappid, appkey: of its first application.
        secret_id, secret_key: what calls of API 3.0 are signed with, for all of them.
        appkeys: by sdkappid, of all of them.
        faults: what shall go wrong.
    """

    def __init__(self, scenario: Path | str | Mapping[str, object] | None = None) -> None:
        """Nothing runs yet: see `start`.

        Args:
            scenario: path of a TOML file, or its members; None: no traffic, and what is sent is
                delivered before the send is answered.

        Raises:
            InvalidSetting: the scenario breaks a rule; the member is named.
        """
        if scenario is None:
            scenario = {"sends": {"delay_s": 0}}
        if isinstance(scenario, Mapping):
            self.scenario = convert(dict(scenario), Scenario, "scenario")
        else:
            self.scenario = read_scenario(Path(scenario))
        self.base_url = ""
        self.sdkappid = self.scenario.application.sdkappid
        self.appkey = self.scenario.application.appkey
        self.secret_id = self.scenario.secret.id
        self.secret_key = self.scenario.secret.key
        self.appkeys = {one.sdkappid: one.appkey for one in self.scenario.all_applications}
        self.faults = ThreadFaults(self._do)
        self._ready: Future[tuple[asyncio.AbstractEventLoop, EmulatorServer]] = Future()
        self._loop: asyncio.AbstractEventLoop
        self._server: EmulatorServer
        self._thread = threading.Thread(target=self._run, name="pullstatus-emulator", daemon=True)
        self._held = contextlib.ExitStack()  # while it runs

    # -- its life ------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start, and return once connections are accepted; once only.

        Raises:
            RuntimeError: it was started before.
        """
        if self._thread.ident is not None:
            raise RuntimeError("an emulator is started once: make another EmulatorThread")
        with contextlib.ExitStack() as held:
            held.enter_context(_LOG)
            self._thread.start()
            self._loop, self._server = self._ready.result(START_S)
            self._held = held.pop_all()
        self.base_url = self._server.address
        return self

    def stop(self) -> None:
        """Stop, and return once the thread has ended; nothing if it was not started."""
        if self._thread.ident is None:
            return
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._server.stop_now)
        self._thread.join(STOP_S)
        if self._thread.is_alive():
            raise TimeoutError(f"the emulator has not stopped for {STOP_S:.0f} seconds")
        self._held.close()

    def _run(self) -> None:
        def ready(server: EmulatorServer) -> None:
            self._ready.set_result((asyncio.get_running_loop(), server))

        try:
            with asyncio.Runner(loop_factory=_new_event_loop) as runner:
                runner.run(emulate(self.scenario, "127.0.0.1", 0, on_ready=ready))
        except BaseException as error:
            if self._ready.done():
                logging.getLogger(__name__).exception("the emulator has failed")
            else:
                self._ready.set_exception(error)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # -- what a test does with it --------------------------------------------------------------

    def feed(
        self,
        records: int | Sequence[Mapping[str, object]] = 1,
        *,
        type: Literal[0, 1] = 0,  # noqa: A002 - the wire's word
        sdkappid: int | None = None,
    ) -> list[dict[str, Any]]:
        """Put records into a mailbox, at its end.

        Args:
            records: how many made-up ones; or the records, of which members that are left out are
                made up.
            type: 0 delivery statuses, 1 replies.
            sdkappid: whose mailbox; the first application's otherwise.

        Returns:
            The records as a pull will return them.

        Raises:
            InvalidRecord: one breaks a rule; none was stored.
            InvalidSetting: the scenario has no such application.
        """
        mailbox = self._do(lambda emulation: emulation.mailbox(Kind(type), sdkappid))
        entries = self._await(lambda emulation: emulation.feed(mailbox, records))
        return [msgspec.json.decode(entry) for entry in entries]

    @property
    def sent(self) -> list[Sent]:
        """What applications sent, oldest first, accepted or not."""
        return self._do(lambda emulation: list(emulation.sent))

    @property
    def requests(self) -> list[Received]:
        """What came in, oldest first, whatever became of it."""
        return self._do(lambda emulation: list(emulation.requests))

    def waiting(
        self,
        *,
        type: Literal[0, 1] = 0,  # noqa: A002 - the wire's word
        sdkappid: int | None = None,
    ) -> int:
        """How many records wait to be pulled; of the first application if none is named."""

        def look(emulation: Emulation) -> Coroutine[Any, Any, dict[Kind, int]]:
            return emulation.waiting(emulation.mailbox(Kind(type), sdkappid).sdkappid)

        return self._await(look)[Kind(type)]

    def reset(self) -> None:
        """Begin the scenario anew: nothing sent, nothing on its way, no other faults."""
        self._await(lambda emulation: emulation.reset())

    def _await(self, work: Callable[[Emulation], Coroutine[Any, Any, T]]) -> T:
        if not self._thread.is_alive():
            raise RuntimeError(
                "the emulator does not run: use it within its with block, or behind start() and"
                " before stop()"
            )
        return asyncio.run_coroutine_threadsafe(work(self._server.emulation), self._loop).result()

    def _do(self, work: Callable[[Emulation], T]) -> T:
        async def run(emulation: Emulation) -> T:
            return work(emulation)

        return self._await(run)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop with a clock of its own.

    asyncio's asks `time.monotonic`, which freezegun stops in the tests of our users: no timer of
    the server would ever be due, and it would not even end.
    """
    try:
        import uvloop  # noqa: PLC0415 - not built for Windows
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class ThreadFaults:
    """What shall go wrong in an `EmulatorThread`. Iterating gives what is armed, oldest first."""

    def __init__(self, do: Callable[[Callable[[Emulation], Any]], Any]) -> None:
        self._do = do

    def add(
        self,
        fault: FaultName,
        *,
        call: Call | None = None,
        type: Literal[0, 1] | None = None,  # noqa: A002 - the wire's word
        **members: object,
    ) -> None:
        """Arm a fault; once, unless `count` or `probability` says otherwise.

        Args:
            fault: which one, as `emulator.faults` describes them.
            call: strikes this call only.
            type: strikes pulls of this type only.
            members: the others: `count`, `probability`, `nonempty`, `after_commit`, `delay_s`,
                `result`, `errmsg`, `http_status`, `bytes`, `bad`.

        Raises:
            InvalidSetting: a member is unknown, or does not fit; it is named.
        """
        named = {"fault": fault, "call": call, "type": type, **members}
        wanted = convert(named, Fault, "fault")
        self._do(lambda emulation: emulation.faults.arm(wanted))

    def clear(self) -> None:
        """Disarm all."""
        self._do(lambda emulation: emulation.faults.clear())

    @property
    def hits(self) -> int:
        """How many times any of them has struck."""
        return sum(armed.hits for armed in self)

    def __iter__(self) -> Iterator[Armed]:
        found: list[Armed] = self._do(
            lambda emulation: [msgspec.structs.replace(armed) for armed in emulation.faults.armed()]
        )
        return iter(found)

    def __len__(self) -> int:
        return len(list(iter(self)))
