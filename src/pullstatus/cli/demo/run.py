"""The demonstration itself: a server, traffic that flows into it, and what is to be seen of both.

    made-up records -> POST /callbacks/TOKEN -> a temporary store -> a signed pull -> the screen

The server runs in this process, on a store that is removed at the end; the traffic goes through
its HTTP doors like anybody's.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections import deque
from collections.abc import Coroutine
from http import HTTPStatus

import httpx
import msgspec
from rich.live import Live
from rich.text import Text

from pullstatus import apps, limits
from pullstatus.cli.acting import acting
from pullstatus.cli.demo import screen
from pullstatus.cli.demo.records import made_up_reply, made_up_status
from pullstatus.cli.serve import end
from pullstatus.cli.tables import console
from pullstatus.emulator.scenario import APPKEY, SDKAPPID
from pullstatus.errors import StoreFull
from pullstatus.records import Kind, encode
from pullstatus.server.serve import ServeOptions, Server
from pullstatus.store import open_store
from pullstatus.store.scratch import scratch_store
from pullstatus.wire.v5.pull import PULL_PATH, pull_request

TICK_S = 0.25
REPLY_SHARE = 0.2
FIRST = {Kind.DELIVERY_STATUS: 24, Kind.REPLY: 8}  # there at once, so that no page is empty
PAGE = {Kind.DELIVERY_STATUS: 8, Kind.REPLY: 4}  # how many are pulled for the screen
CURL_MAX = 3
CURL_FRESH_S = 540  # a signature is good for 600 s; a new one comes before the old one ends
SPAN_S = 5.0  # what rates are measured over
PLAIN_S = 10.0  # how often figures come where a line cannot be rewritten
PULL_YOURSELF = (
    "Pull the next ones yourself, in another terminal. The signature is good for ten\n"
    "minutes; each call takes the records that come next:\n"
)


async def run(host: str, port: int, rate: int, *, once: bool) -> None:
    """Serve and show, until either ends.

    Raises:
        InvalidSetting: the address cannot be listened on.
        StoreUnavailable: the temporary folder has no room.
    """
    with scratch_store("demo") as url:
        token = await _prepare(url)
        reserve_bytes = limits.SCRATCH_RESERVE_BYTES
        server = Server(ServeOptions(store=url, host=host, port=port, reserve_bytes=reserve_bytes))
        server.on_overdue = lambda: end(server)
        serving = asyncio.create_task(server.run())
        try:
            await _beside(serving, server.started.wait())
            if not serving.done():
                await _beside(serving, _Show(server, token, rate).run(once=once))
        finally:
            server.stop()
            await serving


async def _prepare(url: str) -> str:
    """Make the application and a token for its callbacks; returns the token's secret."""
    store = await open_store(url)
    try:
        by = acting()
        keyring = await apps.open_keyring(store, apps.masters_beside(url))
        await apps.create_application(store, SDKAPPID, by=by, keyring=keyring, appkey=APPKEY)
        _, secret = await apps.create_token(store, "demo", by=by, sdkappid=SDKAPPID)
    finally:
        await store.close()
    return secret


async def _beside(serving: asyncio.Task[None], work: Coroutine[object, object, object]) -> None:
    """Do `work`, but no longer than the server runs."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({serving, task}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class _Show:
    """What happens while the server runs: the traffic, the page, the figures."""

    def __init__(self, server: Server, token: str, rate: int) -> None:
        self._server = server
        self._door = f"/callbacks/{token}"
        self._rate = rate
        self._chance = random.Random()  # noqa: S311 - made-up records
        self._console = console()
        self._client: httpx.AsyncClient

    async def run(self, *, once: bool) -> None:
        """Show everything; without `once`, go on until cancelled or the server stops.

        Raises:
            OSError: there is no connection to the server, though it is there.
        """
        try:
            # Whatever proxy or certificates the environment names, this is for our own address.
            async with httpx.AsyncClient(
                base_url=self._server.address,
                timeout=30,
                trust_env=False,
                verify=False,  # noqa: S501 - nothing is encrypted # nosec B501
            ) as self._client:
                await self._show_all(once=once)
        except* (httpx.TransportError, AttributeError) as errors:
            # The server shuts its door before it ends; then, and only then, this is no fault. The
            # library below stumbles over a connection that ends while it is being made.
            if self._server.routes.ready:
                raise OSError(f"it cannot reach its own server: {errors.exceptions[0]}") from errors

    async def _show_all(self, *, once: bool) -> None:
        self._introduce()
        await self._send(FIRST)
        for kind in Kind:
            await self._show_page(kind)
        if once:
            self._show_command(
                "The next pull as a command. This server ends now, so it is only to be read;\n"
                "without --once the server stays, and records keep coming:\n"
            )
            return
        self._show_command(PULL_YOURSELF)
        self._console.print("Ctrl-C ends the demo.\n")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._feed())
            tasks.create_task(self._show_figures())

    # -- the traffic -----------------------------------------------------------------------------

    async def _feed(self) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        sent = 0
        while True:
            await asyncio.sleep(TICK_S)
            # A machine that was busy elsewhere catches up in steps that fit into one callback.
            due = min(int(self._rate * (loop.time() - started)) - sent, limits.INGEST_RECORDS_MAX)
            replies = sum(self._chance.random() < REPLY_SHARE for _ in range(due))
            with contextlib.suppress(StoreFull):  # what fits is shown on
                await self._send({Kind.DELIVERY_STATUS: due - replies, Kind.REPLY: replies})
            sent += due

    async def _send(self, counts: dict[Kind, int]) -> None:
        """Call back as Tencent does: statuses in an array, each reply by itself."""
        now_s = int(time.time())
        statuses = [
            encode(made_up_status(self._chance, now_s)) for _ in range(counts[Kind.DELIVERY_STATUS])
        ]
        bodies = [b"[%b]" % b",".join(statuses)] if statuses else []
        bodies += [encode(made_up_reply(self._chance, now_s)) for _ in range(counts[Kind.REPLY])]
        for answer in await asyncio.gather(
            *(self._client.post(self._door, content=body) for body in bodies)
        ):
            if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
                raise StoreFull(
                    "the temporary folder has too little room; set TMPDIR to one with some MB"
                )
            answer.raise_for_status()

    # -- the screen ------------------------------------------------------------------------------

    def _introduce(self) -> None:
        self._console.print(
            Text.assemble(
                ("pullstatus", "bold"),
                " listens on ",
                (self._server.address, "bold"),
                ", with a temporary store.",
            )
        )
        self._console.print(
            f"  in   POST /callbacks/TOKEN: {self._rate} made-up records a second\n"
            f"  out  POST {PULL_PATH}, signed with the documented example's key:\n"
            f"       sdkappid {SDKAPPID}, appkey {APPKEY}\n"
        )

    async def _show_page(self, kind: Kind) -> None:
        path, body = _signed(kind, PAGE[kind])
        answer = await self._client.post(path, content=body)
        page = msgspec.json.decode(answer.content)
        title = (
            f"{kind.path}: type {kind:d}, max {PAGE[kind]} -> result {page['result']},"
            f" count {page['count']}, {answer.headers['pullstatus-waiting']} more wait"
        )
        table = screen.status_table if kind is Kind.DELIVERY_STATUS else screen.reply_table
        self._console.print(Text(title, "bold"))
        self._console.print(table(page["data"]))
        self._console.print()

    def _show_command(self, introduction: str) -> None:
        line = screen.curl_line(self._server.address, *_signed(Kind.DELIVERY_STATUS, CURL_MAX))
        self._console.print(introduction)
        # Unwrapped: the terminal may break the line, a copy of it must not be broken.
        self._console.print(Text(line, "cyan"), soft_wrap=True)
        self._console.print()

    async def _show_figures(self) -> None:
        loop = asyncio.get_running_loop()
        started = commanded = plain = loop.time()
        samples: deque[screen.Sample] = deque(maxlen=int(SPAN_S / TICK_S) + 1)
        with contextlib.ExitStack() as stack:
            live = None
            if self._console.is_terminal:
                live = stack.enter_context(Live(console=self._console, auto_refresh=False))
            while self._server.routes.ready:
                now = loop.time()
                samples.append(await self._sample(now))
                figures = screen.figures_line(samples[0], samples[-1], now - started)
                line = Text(figures, no_wrap=True, overflow="ellipsis")
                if now - commanded > CURL_FRESH_S:
                    commanded = now
                    self._show_command(PULL_YOURSELF)
                if live is not None:
                    live.update(line, refresh=True)
                elif now >= plain:
                    plain += PLAIN_S
                    self._console.print(line)
                await asyncio.sleep(TICK_S)

    async def _sample(self, now_s: float) -> screen.Sample:
        store = self._server.store
        of = (await store.totals()).of.values()
        return screen.Sample(
            now_s,
            sum(sums.accepted for sums in of),
            sum(sums.handed_out for sums in of),
            sum(sums.waiting for sums in of),
            (await store.engine()).commits,
        )


def _signed(kind: Kind, count_max: int) -> tuple[str, bytes]:
    random_text = str(secrets.randbelow(10**10))
    return pull_request(SDKAPPID, APPKEY, kind, count_max, random_text, int(time.time()))
