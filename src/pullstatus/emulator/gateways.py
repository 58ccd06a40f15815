"""Gateways of others, played: made-up callbacks of one are thrown at a URL, and again as it does.

    gateways.toml -> calls -> URL -> what it takes for success, or a pause and the same call again

Whoever configures such a gateway tries his address so, with no account there.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import tomllib
from collections import deque
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Annotated, Final, Literal
from urllib.parse import urldefrag, urlencode

import httpx
import msgspec
import structlog
from msgspec import Meta

from pullstatus import limits
from pullstatus.client.errors import InvalidArgument
from pullstatus.client.route import check_address
from pullstatus.emulator.carriers import made_up_number
from pullstatus.emulator.receivers import UNREACHABLE, call_receiver
from pullstatus.errors import InvalidSetting
from pullstatus.receipts.signatures import Signed, sign
from pullstatus.receipts.source import builtin
from pullstatus.records import UTC8

__all__ = ["Gateway", "Gateways", "Play", "gateways"]

log = structlog.get_logger(__name__)

TIMEOUT_S: Final = 15.0

CallKind = Literal["status", "reply"]


class Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a callback looks like; one of them is there."""

    query: dict[str, str] = {}
    form: dict[str, str] = {}
    json: str = ""


class Gateway(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one calls: see `gateways.toml`.

    Attributes:
        taken: HTTP statuses that are success to it; none: any is.
        says: a pattern of the body that has to come with them.
        final: HTTP statuses after which it does not call again, whatever `again` says.
        reply: none: it sends no replies.
        reply_pauses, reply_tries: of replies; none: `pauses` and `tries` are of both.
    """

    taken: frozenset[int]
    again: Literal["failures", "unavailable", "unreachable"]
    pauses: tuple[float, ...]
    tries: int
    status: Form
    reply: Form | None = None
    says: str | None = None
    final: frozenset[int] = frozenset()
    reply_pauses: tuple[float, ...] = ()
    reply_tries: int = 0

    def takes(self, status: int, body: str) -> bool:
        """Whether an answer is success to it."""
        if status == UNREACHABLE or (self.taken and status not in self.taken):
            return False
        return self.says is None or re.fullmatch(self.says, body.strip(), re.DOTALL) is not None

    def calls_again(self, kind: CallKind, status: int, tries: int) -> bool:
        """Whether it calls again after a failure, having called so often."""
        most = (kind == "reply" and self.reply_tries) or self.tries
        if tries >= most or status in self.final:
            return False
        if self.again == "unreachable":
            return status == UNREACHABLE
        return self.again == "failures" or status in (UNREACHABLE, 429) or status >= 500

    def pause_s(self, kind: CallKind, tries: int) -> float:
        """How long it waits then."""
        pauses = (kind == "reply" and self.reply_pauses) or self.pauses
        return pauses[min(tries, len(pauses)) - 1]


@cache
def gateways() -> dict[str, Gateway]:
    """Those that can be played, by the name of their source."""
    text = (files("pullstatus.emulator") / "gateways.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, Gateway])


class Play(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /emulator/gateways`.

    Attributes:
        gateway: whose callbacks.
        url: where to: as it would be configured there.
        statuses, replies: so many of each; None: one, if it sends replies.
        pace: how many times faster than the gateway it calls again.
        key: what it signs with, as its row says; "": it signs nothing.
    """

    gateway: str
    url: Annotated[str, Meta(max_length=limits.PLAYED_URL_CHARS_MAX)]
    statuses: Annotated[int, Meta(ge=0, le=limits.INGEST_RECORDS_MAX)] = 1
    replies: Annotated[int, Meta(ge=0, le=limits.INGEST_RECORDS_MAX)] | None = None
    pace: Annotated[float, Meta(ge=1, le=1_000_000)] = 1
    key: Annotated[str, Meta(max_length=limits.SIGNATURE_KEY_CHARS_MAX)] = ""

    def check(self) -> Gateway:
        """Whose calls these are.

        Raises:
            InvalidSetting: nobody's, or they cannot be made.
        """
        gateway = gateways().get(self.gateway)
        if gateway is None:
            raise InvalidSetting(f"gateway must be one of {', '.join(gateways())}")
        try:
            address = check_address(self.url, "url")
        except InvalidArgument as error:
            raise InvalidSetting(error.what) from None
        if address.scheme not in ("http", "https"):
            raise InvalidSetting("url must begin with http:// or https://")
        if self.replies and gateway.reply is None:
            raise InvalidSetting(f"replies must be 0: {self.gateway} sends none")
        if self.key and not self.scheme:
            raise InvalidSetting(f"key must be left out: {self.gateway} signs nothing")
        return gateway

    @property
    def scheme(self) -> str:
        """How its gateway signs; "": it does not."""
        return builtin()[self.gateway].signature


class Call(msgspec.Struct):
    """One callback, and what has become of it.

    Attributes:
        http_status: of the last answer; 0: none came. None: it was not made yet.
        state: "taken" and "given up" are its ends.
    """

    gateway: str
    kind: CallKind
    sid: str
    tries: int = 0
    http_status: int | None = None
    state: Literal["waits", "taken", "given up"] = "waits"


class Gateways:
    """What is played; within one event loop."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Call, Play, Signed]] = deque()
        self._pausing: dict[int, tuple[asyncio.TimerHandle, Call]] = {}  # those tried first first
        self._order = itertools.count()
        self._more = asyncio.Event()
        self._forgotten = 0
        self.calls: deque[Call] = deque(maxlen=limits.PUSHES_MAX)

    def play(self, play: Play, chance: random.Random, now_s: int) -> list[Call]:
        """Have callbacks made, soon; returns them.

        Of more than `limits.PUSHES_MAX` that are not at their end the newest are, and those that
        wait to be made again are given up first.

        Raises:
            InvalidSetting: they cannot be.
        """
        gateway = play.check()
        replies = 1 if play.replies is None else play.replies
        made: list[Call] = []
        for form, count in ((gateway.status, play.statuses), (gateway.reply, replies)):
            for _ in range(0 if form is None else count):
                assert form is not None
                values = _values(chance, now_s)
                call = Call(
                    play.gateway, "reply" if form is gateway.reply else "status", values["sid"]
                )
                made.append(call)
                self._waiting.append((call, play, _request(play, form, values)))
        while len(self._waiting) + len(self._pausing) > limits.PUSHES_MAX:
            self._give_up_oldest()
        self.calls.extend(made)
        self._more.set()
        return made

    def _give_up_oldest(self) -> None:
        if self._pausing:
            timer, call = self._pausing.pop(next(iter(self._pausing)))
            timer.cancel()
        else:
            call = self._waiting.popleft()[0]
        call.state = "given up"

    def forget(self) -> None:
        """Make no further call, and know of none."""
        for timer, _ in self._pausing.values():
            timer.cancel()
        self._pausing.clear()
        self.calls.clear()
        self._waiting.clear()
        self._forgotten += 1

    async def run(self) -> None:
        """Make the calls, until cancelled; each again when its gateway would."""
        await self._more.wait()  # what a client reads of the environment may be wrong
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as http:
            while True:
                self._more.clear()
                while self._waiting:
                    await self._call(http, *self._waiting.popleft())
                await self._more.wait()

    async def _call(self, http: httpx.AsyncClient, call: Call, play: Play, request: Signed) -> None:
        gateway = gateways()[call.gateway]
        forgotten = self._forgotten
        call.tries += 1
        call.http_status, body, _ = await call_receiver(
            http, request.method, request.url, request.headers, request.body
        )
        if forgotten != self._forgotten:
            return  # it was in the air then
        if gateway.takes(call.http_status, body):
            call.state = "taken"
        elif gateway.calls_again(call.kind, call.http_status, call.tries):
            pause_s = gateway.pause_s(call.kind, call.tries) / play.pace
            order = next(self._order)
            again = (order, call, play, request)
            timer = asyncio.get_running_loop().call_later(pause_s, self._again, *again)
            self._pausing[order] = (timer, call)
        else:
            call.state = "given up"
        # The address is in no log: it holds a token.
        log.info("called", gateway=call.gateway, http_status=call.http_status, state=call.state)

    def _again(self, order: int, call: Call, play: Play, request: Signed) -> None:
        del self._pausing[order]
        self._waiting.append((call, play, request))
        self._more.set()


def _request(play: Play, form: Form, values: dict[str, str]) -> Signed:
    """One callback as it is sent, and sent again."""
    url = urldefrag(play.url).url  # what stands behind # is for the gateway
    if form.query:
        query = urlencode(_filled(form.query, values))
        made = Signed("GET", f"{url}{'&' if '?' in url else '?'}{query}", {}, b"")
    elif form.form:
        body = urlencode(_filled(form.form, values)).encode()
        made = Signed("POST", url, {"content-type": "application/x-www-form-urlencoded"}, body)
    else:
        body = _fill(form.json, values).encode()
        made = Signed("POST", url, {"content-type": "application/json"}, body)
    if not play.key:
        return made
    return sign(play.scheme, made, play.key, now_s=int(values["at_s"]), nonce=values["id"])


def _filled(members: dict[str, str], values: dict[str, str]) -> dict[str, str]:
    return {name: _fill(text, values) for name, text in members.items()}


def _fill(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _values(chance: random.Random, now_s: int) -> dict[str, str]:
    nationcode, mobile = made_up_number(chance)
    serial = chance.getrandbits(62)
    utc = datetime.fromtimestamp(now_s, UTC)
    return {
        "number": nationcode + mobile,
        "mobile": mobile if nationcode == "86" else f"+{nationcode}{mobile}",
        "nationcode": nationcode,
        "national": mobile,
        "id": f"{chance.getrandbits(128):032x}",
        "serial": str(serial),
        "sid": f"sid-{serial:x}",
        "at_s": str(now_s),
        "at": datetime.fromtimestamp(now_s, UTC8).strftime("%Y-%m-%d %H:%M:%S"),
        "utc": utc.strftime("%Y-%m-%d %H:%M:%S"),
        "iso": utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
