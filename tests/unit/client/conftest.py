"""Both clients through one pair of hands, over a service made of a list of answers.

`client` in a test is a `Hands`: it makes a blocking or an async client (every test runs with both)
over a fake transport, and calls it the same way whichever it is. Pauses are not slept but noted.
What is asked by `GET /` is noted apart from the pulls, and answered as by a service not ours.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import httpx
import pytest

from pullstatus import (
    AsyncBatches,
    AsyncClient,
    Batch,
    Batches,
    Client,
    DeliveryStatus,
    Kind,
    Page,
    Reply,
    Statistics,
)

NOW_S = 1_457_336_869.0
BASE_URL = "https://yun.tim.qq.com"
SDKAPPID = 1400006666
APPKEY = "5f03a35d00ee52a21327ab048186a2c4"
KEYED = {"Pullstatus-Waiting": "0"}

Say = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]
Record = DeliveryStatus | Reply


@pytest.fixture(autouse=True)
def _client_log(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a server in this process, of another test, has made of the root logger."""
    caplog.set_level(logging.INFO, "pullstatus")


def status(number: int) -> dict[str, Any]:
    return {
        "user_receive_time": "2015-10-17 08:03:04",
        "nationcode": "86",
        "mobile": f"138{number:08d}",
        "report_status": "SUCCESS",
        "errmsg": "DELIVRD",
        "description": "delivered",
        "sid": f"8:{number}",
    }


def page(
    *numbers: int,
    waiting: int | None = None,
    pull_id: str | None = None,
    **members: Any,  # noqa: ANN401 - any JSON
) -> httpx.Response:
    """A page with these delivery statuses; with `waiting`, from a service that knows keys."""
    headers = {}
    if waiting is not None:
        headers["Pullstatus-Waiting"] = str(waiting)
    if pull_id is not None:
        headers["Pullstatus-Pull-Id"] = pull_id
    data = [status(number) for number in numbers]
    body = {"result": 0, "errmsg": "ok", "type": 0, "count": len(data), "data": data} | members
    return httpx.Response(200, headers=headers, content=json.dumps(body).encode())


def refusal(result: object, errmsg: str = "no", **headers: str) -> httpx.Response:
    """A refusal as the service words it."""
    content = json.dumps({"result": result, "errmsg": errmsg}).encode()
    return httpx.Response(200, headers=headers, content=content)


class Hands:
    """One client of either kind, and the service it talks to."""

    def __init__(self, colour: str) -> None:
        self.colour = colour
        self.requests: list[httpx.Request] = []
        self.looks: list[httpx.Request] = []
        self.about: list[Say] = [httpx.Response(404)]  # the last of them again and again
        self.pauses: list[float] = []
        self.client: Client | AsyncClient
        self.service: Say | None = None  # what answers pulls when the script has come to its end
        self._script: list[Say] = []
        self._loop = asyncio.new_event_loop()

    def over(
        self,
        *script: Say,
        base_url: str = BASE_URL,
        appkey: str | None = APPKEY,
        **options: Any,  # noqa: ANN401 - the client's own
    ) -> Hands:
        """Make the client; the service says these things in turn."""
        self._script = list(script)
        settings: dict[str, Any] = {"clock": lambda: NOW_S, "random": Random(1), **options}
        transport = httpx.MockTransport(self._answer)
        if self.colour == "sync":
            self.client = Client(
                base_url,
                SDKAPPID,
                appkey,
                transport=transport,
                sleep=self.pauses.append,
                **settings,
            )
        else:
            self.client = AsyncClient(
                base_url, SDKAPPID, appkey, transport=transport, sleep=self._rest, **settings
            )
        return self

    def also(self, *script: Say) -> None:
        """The service will say these things after the others."""
        self._script += script

    @property
    def left(self) -> int:
        """How much of the script nobody asked for."""
        return len(self._script)

    @property
    def keys(self) -> list[str]:
        """The key of each request."""
        return [request.headers["Idempotency-Key"] for request in self.requests]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The body of each request."""
        return [json.loads(request.content) for request in self.requests]

    def pull(self, kind: Kind = Kind.DELIVERY_STATUS, **options: Any) -> Page[Record]:  # noqa: ANN401 - the client's own
        if isinstance(self.client, Client):
            return self.client.pull(kind, **options)
        return self._loop.run_until_complete(self.client.pull(kind, **options))

    def find(self, kind: Kind = Kind.DELIVERY_STATUS, **options: Any) -> tuple[Record, ...]:  # noqa: ANN401 - the client's own
        asked = {"mobile": "13800000001", "nationcode": "86", **options}
        if isinstance(self.client, Client):
            return self.client.find(kind, **asked)
        return self._loop.run_until_complete(self.client.find(kind, **asked))

    def statistics(self, **options: Any) -> Statistics:  # noqa: ANN401 - the client's own
        if isinstance(self.client, Client):
            return self.client.statistics(**options)
        return self._loop.run_until_complete(self.client.statistics(**options))

    def features(self) -> frozenset[str] | None:
        if isinstance(self.client, Client):
            return self.client.features()
        return self._loop.run_until_complete(self.client.features())

    def batches(self, kind: Kind = Kind.DELIVERY_STATUS, **options: Any) -> Following:  # noqa: ANN401 - the client's own
        if kind is Kind.DELIVERY_STATUS:
            return Following(self.client.delivery_statuses(**options), self._loop)
        return Following(self.client.replies(**options), self._loop)

    def shut(self) -> None:
        """Close the client."""
        if isinstance(self.client, Client):
            self.client.close()
        else:
            self._loop.run_until_complete(self.client.aclose())

    def close(self) -> None:
        self.shut()
        self._loop.close()

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            self.looks.append(request)
            said = self.about.pop(0) if len(self.about) > 1 else self.about[0]
        else:
            self.requests.append(request)
            if self._script:
                said = self._script.pop(0)
            elif self.service is not None:
                said = self.service
            else:
                pytest.fail("the service was asked once too often")
        if isinstance(said, Exception):
            raise said
        if isinstance(said, httpx.Response):
            # A new one each time: a response belongs to the client that has read it.
            return httpx.Response(said.status_code, headers=said.headers, content=said.content)
        return said(request)

    def forked(self) -> None:
        """As if this process had been forked from the one that has made the client."""
        self.client._connections.process = -1

    async def _rest(self, s: float) -> None:
        self.pauses.append(s)


class Following:
    """An iterator of batches of either kind."""

    def __init__(
        self, batches: Batches[Record] | AsyncBatches[Record], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._batches = batches
        self._loop = loop

    def next(self) -> Batch[Record] | None:
        """The next batch, None at the end."""
        if isinstance(self._batches, Batches):
            return next(self._batches, None)
        try:
            return self._loop.run_until_complete(self._batches.__anext__())
        except StopAsyncIteration:
            return None

    def one(self) -> Batch[Record]:
        """The next batch, which is there."""
        batch = self.next()
        assert batch is not None
        return batch

    def drain(self) -> Iterable[list[str]]:
        """All batches to the end, each acknowledged; their sids."""
        while (batch := self.next()) is not None:
            with batch:
                yield [record.sid for record in batch if isinstance(record, DeliveryStatus)]


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest) -> Iterable[Hands]:
    hands = Hands(request.param)
    hands.over()
    yield hands
    assert hands.left == 0, "the service had more to say"
    hands.close()
