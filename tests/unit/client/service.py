"""A service that knows readers, as one table in memory; and whoever stands in its way."""

from __future__ import annotations

import json
from collections import defaultdict

import httpx

from pullstatus.store.readers import Given, Hand, decide
from pullstatus.wire.about import about
from tests.unit.client.conftest import SDKAPPID, status

ABOUT = httpx.Response(200, content=about("0.2.0"))


class Service:
    """Mailboxes whose pages stay in a reader's hand; called with requests.

    Attributes:
        acknowledged: the numbers of all records that were acknowledged, in that order.
        restored: it forgets what it gave, as after a restore.
    """

    def __init__(self, count: int = 0) -> None:
        self.acknowledged: list[int] = []
        self.in_hand: dict[tuple[int, str], list[int]] = {}
        self._epoch = 1
        self._tail = 0
        self._cursor: dict[int, int] = defaultdict(int)
        self._hands: dict[tuple[int, str], Hand] = defaultdict(Hand)
        self._given: dict[tuple[int, str], int] = {}
        self.feed(count)

    def feed(self, count: int) -> None:
        """As many records more, of either kind."""
        self._tail += count

    def release(self, kind: int, reader: str) -> None:
        """An operator takes the page in hand away, and hands it out again to whoever comes."""
        numbers = self.in_hand.pop((kind, reader))
        self._hands[kind, reader] = Hand()
        self._cursor[kind] = numbers[0] - 1

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Do and answer a pull."""
        body, headers = json.loads(request.content), request.headers
        assert "Idempotency-Key" not in headers
        return self.pull(
            body["type"],
            body["max"],
            headers["Pullstatus-Reader"],
            headers.get("Pullstatus-Ack"),
            takes=headers.get("Pullstatus-Take") != "0",
        )

    def pull(
        self, kind: int, count_max: int, reader: str, ack: str | None, *, takes: bool = True
    ) -> httpx.Response:
        """The same, read."""
        who = kind, reader
        hand = self._hands[who]
        seq, name = None, f"{SDKAPPID}-{kind}-"
        if ack is not None:
            assert ack.startswith(name)
            seq = int(ack.removeprefix(name))
        move = decide(hand, seq, takes=takes)
        if move is None:
            return _answer({"result": 1004, "errmsg": "Pullstatus-Ack is not in hand"}, {})
        if move.acknowledges:
            self.acknowledged += self.in_hand.pop(who)
            hand = Hand(None, hand.first_seq)
        if move.given is Given.NEXT:
            first = self._cursor[kind] + 1
            numbers = list(range(first, min(self._tail, first + count_max - 1) + 1))
            if numbers:
                self._cursor[kind] = numbers[-1]
                self.in_hand[who] = numbers
                self._given[who] = 0
                hand = Hand(first, hand.acked_seq)
        self._hands[who] = hand
        found = [] if move.given is Given.NOTHING else self.in_hand.get(who, [])
        told = {
            "Pullstatus-Waiting": str(self._tail - self._cursor[kind]),
            "Pullstatus-Reader": reader,
        }
        if found:
            told["Pullstatus-Pull-Id"] = f"{name}{found[0]}"
            self._given[who] += 1
            if self._given[who] > 1:
                told["Pullstatus-Given"] = str(self._given[who])
        data = [status(number) for number in found]
        return _answer({"result": 0, "count": len(data), "data": data}, told)


def _answer(members: dict[str, object], headers: dict[str, str]) -> httpx.Response:
    return httpx.Response(200, headers=headers, content=json.dumps(members).encode())
