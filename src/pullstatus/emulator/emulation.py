"""The emulator's state and its verbs: feed, send, and what comes of a send later.

    send -> sent (remembered) -> pending (due later) -> append -> the mailbox, pulled like any other

Chance comes from the scenario's seed, one source for each purpose. Records reach the mailboxes by
the store's own verb.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import msgspec
import structlog

from pullstatus import limits
from pullstatus.apps import LiveApplication
from pullstatus.clock import wall_s
from pullstatus.emulator import sms
from pullstatus.emulator.applications import Applications
from pullstatus.emulator.carriers import (
    DELIVERED,
    Receipt,
    made_up_number,
    make_reply,
    make_sid,
    make_status,
    receipt_of,
)
from pullstatus.emulator.faults import Faults
from pullstatus.emulator.gateways import Gateways
from pullstatus.emulator.pushes import Pushes
from pullstatus.emulator.requests import Received
from pullstatus.emulator.scenario import Scenario, draw_s
from pullstatus.emulator.send import Detail, Message, Receiver, SendResult
from pullstatus.errors import InvalidRecord, InvalidSetting, Refused, StoreFull
from pullstatus.mailbox.following import pass_over
from pullstatus.records import Kind, Record, decode_array, encode, encode_all
from pullstatus.server.figures import Figures
from pullstatus.store import Append, Mailbox, Store

log = structlog.get_logger(__name__)

TICK_S = 0.25


class Sent(msgspec.Struct, frozen=True):
    """One SMS to one number, as an application handed it over, accepted or not.

    Attributes:
        call: `sendsms` or `sendmultisms2`.
        sdkappid: the application that sent it.
        time: when, in Unix seconds.
        text: as it reaches the handset, with its signature; as it was sent, or "", if it was
            refused before there was such a text. It, the number, `sign` and `params` end after
            `limits.SENT_CHARS_KEPT` characters, which only refused ones have.
        type: 0 normal, 1 marketing.
        result: 0 if it was accepted; `sid` and `fee` are there only then.
    """

    call: str
    sdkappid: int
    time: int
    nationcode: str
    mobile: str
    text: str
    type: int
    sign: str
    tpl_id: int | None
    params: tuple[str, ...]
    extend: str
    ext: str
    result: int
    errmsg: str
    sid: str = ""
    fee: int = 0


class _Source(NamedTuple):
    """Who sent, by which call."""

    call: str
    sdkappid: int


def _loop_s() -> float:
    """Seconds that nobody stops: `time.monotonic` may stand still in a test that freezes time."""
    return asyncio.get_running_loop().time()


class Emulation:
    """What the emulator knows, and what it does with it; within one event loop.

    Attributes:
        sdkappid: the application that is meant where none is named.
        appkeys: of each application.
        faults: what shall go wrong.
        pushes: what leaves for the scenario's callback.
        gateways: those of others, as they are played.
        sent: what was sent, oldest first.
        requests: what came in, oldest first.
    """

    def __init__(
        self,
        scenario: Scenario,
        store: Store,
        applications: Applications,
        figures: Figures,
        tickets: Callable[[], bytes],
        *,
        now_s: Callable[[], float] = wall_s,
        monotonic_s: Callable[[], float] = _loop_s,
    ) -> None:
        """Nothing has happened yet: see `reset`."""
        self.scenario = scenario
        self.store = store
        self.sdkappid = scenario.application.sdkappid
        self._applications = applications
        self.appkeys = {one.sdkappid: one.appkey for one in scenario.all_applications}
        self.now_s = now_s
        self._monotonic_s = monotonic_s
        self._figures = figures
        self._tickets = tickets
        self._templates = {template.id: template for template in scenario.templates}
        self._changed = asyncio.Event()
        self._order = itertools.count()
        self.pushes = Pushes(scenario.sends.callback)
        self.gateways = Gateways()
        self._begun = 0  # so many times
        self._resetting = asyncio.Lock()
        self._begin()

    def _begin(self) -> None:
        self._begun += 1
        scenario = self.scenario
        self.sent: deque[Sent] = deque(maxlen=limits.SENT_MAX)
        self.requests: deque[Received] = deque(maxlen=limits.REQUESTS_MAX)
        self._pending: list[tuple[float, int, Mailbox, Callable[[int], Record]]] = []
        self._sends_chance = scenario.chance("sends")
        self._traffic_chance = scenario.chance("traffic")
        self.faults = Faults(scenario.chance("faults"))
        self.faults.arm(*scenario.faults)
        self.pushes.begin(self.faults, scenario.chance("pushes"))
        self.gateways.forget()
        self._changed.set()

    async def reset(self) -> None:
        """Begin the scenario anew: empty mailboxes but for what is there at the start.

        One at a time: another waits, and begins anew once more.
        """
        async with self._resetting:
            self._begin()
            await self._applications.renew()
            # The room of what they had, which nobody sees any more.
            await pass_over(self.store)
            await self.store.purge(left_before_ms=self.now_ms() + 1)
            traffic = self.scenario.traffic
            await self._traffic(traffic.statuses_at_start, traffic.replies_at_start)

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return int(self.now_s() * 1000)

    def mailbox(self, kind: Kind, sdkappid: int | None = None) -> Mailbox:
        """An application's mailbox of one kind; the first one's if none is named.

        Raises:
            InvalidSetting: the scenario has no such application.
        """
        if sdkappid is not None and sdkappid not in self.appkeys:
            raise InvalidSetting(f"sdkappid: the scenario has no application {sdkappid}")
        return Mailbox(self.sdkappid if sdkappid is None else sdkappid, kind)

    def _mailboxes(self) -> Iterator[Mailbox]:
        for sdkappid in self.appkeys:
            for kind in Kind:
                yield Mailbox(sdkappid, kind)

    async def waiting(self, sdkappid: int) -> dict[Kind, int]:
        """How many records of each kind wait to be pulled by an application."""
        found = {row.mailbox.kind: row.waiting for row in await self.store.backlog(sdkappid)}
        return {kind: found.get(kind, 0) for kind in Kind}

    # -- records in ----------------------------------------------------------------------------

    async def append(self, mailbox: Mailbox, entries: Sequence[bytes]) -> None:
        """Put encoded records at the tail of a mailbox, a thousand at a time.

        Once the scenario has begun anew the rest is passed over.
        """
        begun = self._begun
        for start in range(0, len(entries), limits.INGEST_RECORDS_MAX):
            if self._begun != begun:
                return
            part = list(entries[start : start + limits.INGEST_RECORDS_MAX])
            await self.store.append(Append(mailbox, part, self.now_ms(), ticket=self._tickets()))
            self._figures.records_in[Kind(mailbox.kind)] += len(part)

    async def feed(
        self, mailbox: Mailbox, records: int | Sequence[Mapping[str, object]]
    ) -> list[bytes]:
        """Put records into a mailbox: so many made-up ones, or these.

        A member that is left out is made up: of a status so that `report_status`, `errmsg` and
        `description` fit those of them that are given.

        Returns:
            The records as a pull will return them.

        Raises:
            InvalidRecord: one breaks a rule; its place and the member are named. None was stored.
        """
        kind = Kind(mailbox.kind)
        if isinstance(records, int):
            records = [{}] * records
        merged = []
        for index, given in enumerate(records):
            if not isinstance(given, Mapping):
                raise InvalidRecord("record", "must be a JSON object", index)
            made_up = msgspec.to_builtins(self._made_up(kind, given))
            merged.append(made_up | dict(given))
        try:
            entries = encode_all(*decode_array(msgspec.json.encode(merged), kind))
        except (TypeError, ValueError) as error:  # what the caller gave is no JSON
            raise InvalidRecord("record", "must hold JSON values only") from error
        await self.append(mailbox, entries)
        return entries

    def _made_up(self, kind: Kind, given: Mapping[str, object] = MappingProxyType({})) -> Record:
        random = self._traffic_chance
        now_s = int(self.now_s())
        nationcode, mobile = made_up_number(random)
        if kind is Kind.DELIVERY_STATUS:
            receipt = self._receipt(given)
            return make_status(receipt, nationcode, mobile, make_sid(random, now_s), now_s)
        text = random.choice(self.scenario.replies.texts)
        return make_reply(text, nationcode, mobile, self.scenario.sends.sign, now_s)

    def _receipt(self, given: Mapping[str, object]) -> Receipt:
        """What chance says of a status, unless its members say it already."""
        outcomes, chance = self.scenario.outcomes, self._traffic_chance
        receipt = outcomes.receipt(chance)  # drawn either way: others get what they would
        match given:
            case {"errmsg": str(code)}:
                return receipt_of(code)
            case {"report_status": "SUCCESS"}:
                return receipt_of(DELIVERED)
            case {"report_status": "FAIL"} if receipt.delivered:
                return outcomes.failure(chance)
        return receipt

    async def _traffic(self, statuses: int, replies: int) -> None:
        counts = {Kind.DELIVERY_STATUS: statuses, Kind.REPLY: replies}
        begun = self._begun
        for mailbox in self._mailboxes():
            if self._begun != begun:
                return
            kind = Kind(mailbox.kind)
            made_up = (self._made_up(kind) for _ in range(counts[kind]))
            await self.append(mailbox, [encode(record) for record in made_up])

    async def run_traffic(self) -> None:
        """Make records up at the scenario's rates, until cancelled."""
        traffic = self.scenario.traffic
        rates = (traffic.statuses_per_s, traffic.replies_per_s)
        started, made = self._monotonic_s(), [0, 0]
        while any(rates):
            await asyncio.sleep(TICK_S)
            elapsed_s = self._monotonic_s() - started
            due = [int(rate * elapsed_s) - count for rate, count in zip(rates, made, strict=True)]
            with _losing_records():
                await self._traffic(*due)
            made = [count + more for count, more in zip(made, due, strict=True)]

    # -- sends ---------------------------------------------------------------------------------

    async def send(
        self, call: str, live: LiveApplication, message: Message, receivers: Sequence[Receiver]
    ) -> list[Detail]:
        """Take an application's message for some numbers; what comes of it follows when it is due.

        It is counted either way, as one who sends reports it.

        Raises:
            Refused: the message as a whole is at fault, and goes to nobody.
        """
        source = _Source(call, live.application.sdkappid)
        try:
            if len(self._pending) + 2 * len(receivers) > limits.PENDING_MAX:
                raise Refused(SendResult.FREQUENCY_POLICY, "too many sends are still on their way")
            text, sign = sms.compose(
                message, self._templates, self.scenario.sends.signs, self.scenario.sends.sign
            )
        except Refused as refusal:
            refused = [self._refuse(source, one, refusal, message) for one in receivers]
            await self._applications.count(live, refused, self.now_ms())
            raise
        details = [self._send(source, message, receiver, text, sign) for receiver in receivers]
        await self._deliver_due()  # at once, or another delivery has taken what is due
        await self._applications.count(live, details, self.now_ms())
        return details

    def _refuse(
        self,
        source: _Source,
        receiver: Receiver,
        refusal: Refused,
        message: Message,
        text: str = "",
        sign: str = "",
    ) -> Detail:
        detail = Detail(int(refusal.result), refusal.errmsg, receiver.mobile, receiver.nationcode)
        self._remember(source, detail, message, text, sign)
        return detail

    def _send(
        self, source: _Source, message: Message, receiver: Receiver, text: str, sign: str
    ) -> Detail:
        rule = self.scenario.rule(receiver.mobile)
        try:
            receiver.check()
            if rule is not None and rule.result is not None:
                raise Refused(rule.result, rule.errmsg or "refused by a rule of the scenario")
        except Refused as refusal:
            return self._refuse(source, receiver, refusal, message, text, sign)
        chance = self._sends_chance
        sid = make_sid(chance, int(self.now_s()))
        fee = sms.parts(text, receiver.nationcode)
        detail = Detail(0, "OK", receiver.mobile, receiver.nationcode, sid, fee)
        self._remember(source, detail, message, text, sign)

        # Drawn whether a rule overrides them or not, so that a rule for one number does not move
        # what the others get.
        receipt = self.scenario.outcomes.receipt(chance)
        delay_s = draw_s(self.scenario.sends.delay_s, chance)
        answers = chance.random() < self.scenario.replies.share
        answer = chance.choice(self.scenario.replies.texts)
        answer_delay_s = draw_s(self.scenario.replies.delay_s, chance)
        if rule is not None:
            receipt = rule.receipt() or receipt
            delay_s = delay_s if rule.delay_s is None else draw_s(rule.delay_s, chance)
        answers = answers and receipt.delivered
        if rule is not None and rule.reply is not None:
            answers, answer = True, rule.reply
        due = self._monotonic_s() + delay_s
        sdkappid = source.sdkappid
        self._promise_status(due, sdkappid, receipt, receiver, sid, message.ext)
        if answers:
            self._promise_reply(
                due + answer_delay_s, sdkappid, answer, receiver, sign, message.extend
            )
        return detail

    def _promise_status(
        self, due: float, sdkappid: int, receipt: Receipt, receiver: Receiver, sid: str, ext: str
    ) -> None:
        nationcode, mobile = receiver.nationcode, receiver.mobile
        self._promise(
            due,
            Mailbox(sdkappid, Kind.DELIVERY_STATUS),
            lambda now_s: make_status(receipt, nationcode, mobile, sid, now_s, ext),
        )

    def _promise_reply(
        self, due: float, sdkappid: int, text: str, receiver: Receiver, sign: str, extend: str
    ) -> None:
        nationcode, mobile = receiver.nationcode, receiver.mobile
        self._promise(
            due,
            Mailbox(sdkappid, Kind.REPLY),
            lambda now_s: make_reply(text, nationcode, mobile, sign, now_s, extend),
        )

    def _promise(self, due: float, mailbox: Mailbox, make: Callable[[int], Record]) -> None:
        heapq.heappush(self._pending, (due, next(self._order), mailbox, make))
        self._changed.set()

    def _remember(
        self, source: _Source, detail: Detail, message: Message, text: str, sign: str
    ) -> None:
        self.sent.append(
            Sent(
                call=source.call,
                sdkappid=source.sdkappid,
                time=int(self.now_s()),
                nationcode=_kept(detail.nationcode),
                mobile=_kept(detail.mobile),
                text=_kept(text or message.msg or ""),
                type=message.type,
                sign=_kept(sign or message.sign),
                tpl_id=message.tpl_id,
                params=_all_kept(message.params),
                extend=message.extend,
                ext=message.ext,
                result=detail.result,
                errmsg=detail.errmsg,
                sid=detail.sid,
                fee=detail.fee,
            )
        )

    async def run_deliveries(self) -> None:
        """Deliver what was promised when it is due, until cancelled."""
        while True:
            self._changed.clear()
            await self._deliver_due()
            wait_s = self._pending[0][0] - self._monotonic_s() if self._pending else None
            try:
                await asyncio.wait_for(self._changed.wait(), wait_s)
            except TimeoutError:
                continue

    async def _deliver_due(self) -> None:
        now = self._monotonic_s()
        begun, pending = self._begun, self._pending
        due: dict[Mailbox, list[bytes]] = {}
        while pending and pending[0][0] <= now:
            _, _, mailbox, make = heapq.heappop(pending)
            with _losing_records():
                due.setdefault(mailbox, []).append(encode(make(int(self.now_s()))))
        for mailbox, entries in due.items():
            if self._begun != begun:
                return
            if self.pushes.wanted:
                self.pushes.add(Kind(mailbox.kind), entries)
                continue
            with _losing_records():
                await self.append(mailbox, entries)


def _kept(text: str) -> str:
    return text[: limits.SENT_CHARS_KEPT]


def _all_kept(texts: Sequence[str]) -> tuple[str, ...]:
    """As many as there is room for; each counts for one more, since an empty one has its place."""
    kept, left = [], limits.SENT_CHARS_KEPT
    for text in texts:
        if left <= 0:
            break
        kept.append(text[:left])
        left -= len(text) + 1
    return tuple(kept)


@contextlib.contextmanager
def _losing_records() -> Iterator[None]:
    """Go on without records that nobody is told about.

    What a send or the scenario says may be none, and the temporary folder may be full.
    """
    try:
        yield
    except (InvalidRecord, StoreFull) as error:
        log.warning("made-up records lost", reason=str(error))
