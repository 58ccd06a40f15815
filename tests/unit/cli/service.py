"""A service for tests of commands: the mailbox's rules in a few lines, answering httpx."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx

from pullstatus.store.readers import Given, Hand, decide
from pullstatus.wire.about import about

Record = dict[str, Any]

OLDER = b'{"name":"pullstatus","version":"0.1.0","features":["idempotency-key"]}'


class Service:
    """One mailbox; like ours, like our first version (`readers` False), or `keyed` False: not ours.

    `step` is called at each instant of a pull: before it is carried out, and after.

    Attributes:
        down: nobody can connect.
        hold: the next pull is held up on its way, and its caller gets no answer.
        pulled: each page that was taken.
        asked: the headers of each pull.
        epoch: goes on with each restore.
        hands: how each reader stands.
    """

    def __init__(
        self,
        records: list[Record],
        *,
        keyed: bool,
        readers: bool = False,
        step: Callable[[], None] = lambda: None,
    ) -> None:
        self.records = records
        self.keyed = keyed
        self.readers = readers
        self.step = step
        self.hold = False
        self.down = False
        self.held: list[httpx.Request] = []
        self.pulled: list[list[Record]] = []
        self.asked: list[httpx.Headers] = []
        self.epoch = 1
        self.hands: dict[str, Hand] = {}
        self._cursor = 0
        self._pages: dict[str, bytes] = {}
        self._in_hand: dict[str, tuple[str, bytes]] = {}

    @property
    def waiting(self) -> int:
        """How many are left."""
        return len(self.records) - self._cursor

    def arrive(self) -> None:
        """Carry out what was held up."""
        while self.held:
            self(self.held.pop())

    def release(self, reader: str) -> None:
        """An operator takes the page in hand away, as if it had been acknowledged."""
        self.hands[reader] = Hand(None, self.hands[reader].first_seq)
        del self._in_hand[reader]

    def restore(self, cursor: int) -> None:
        """From a backup that was made when so many were handed out, and no reader was there."""
        self.epoch += 1
        self._cursor = cursor
        self.hands.clear()
        self._in_hand.clear()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            raise httpx.ConnectError("refused")
        if request.method == "GET":
            said = about("1") if self.readers else OLDER if self.keyed else b"<html>"
            return httpx.Response(200 if self.keyed else 404, content=said)
        if self.hold:
            self.hold = False
            self.held.append(request)
            raise httpx.ReadTimeout("late")
        self.step()
        self.asked.append(request.headers)
        told = {"Pullstatus-Waiting": ""} if self.keyed else {}
        if "Pullstatus-Reader" in request.headers:
            assert self.readers
            told, content = self._read(request)
        else:
            content = self._by_key(request)
        self.step()
        if "Pullstatus-Waiting" in told:
            told["Pullstatus-Waiting"] = str(self.waiting)
        return httpx.Response(200, headers=told, content=content)

    def _by_key(self, request: httpx.Request) -> bytes:
        key = request.headers["Idempotency-Key"]
        content = self._pages.get(key) if self.keyed else None
        if content is None:
            content = self._take(json.loads(request.content)["max"])
            if b'"data": []' not in content:
                self._pages[key] = content
        return content

    def _read(self, request: httpx.Request) -> tuple[dict[str, str], bytes]:
        assert "Idempotency-Key" not in request.headers
        reader, ack = request.headers["Pullstatus-Reader"], request.headers.get("Pullstatus-Ack")
        hand = self.hands.get(reader, Hand())
        move = decide(hand, None if ack is None else self._seq(ack), takes=True)
        if move is None:
            return {}, b'{"result":1004,"errmsg":"Pullstatus-Ack is no page in this hand"}'
        if move.acknowledges:
            hand = Hand(None, hand.first_seq)
            del self._in_hand[reader]
        if move.given is Given.NEXT:
            first = self._cursor + 1
            content = self._take(json.loads(request.content)["max"])
            if self._cursor >= first:
                hand = Hand(first, hand.acked_seq)
                self._in_hand[reader] = self._name(first), content
        self.hands[reader] = hand
        told = {"Pullstatus-Waiting": "", "Pullstatus-Reader": reader}
        if reader not in self._in_hand:
            return told, b'{"result":0,"errmsg":"ok","count":0,"data":[]}'
        name, content = self._in_hand[reader]
        return {**told, "Pullstatus-Pull-Id": name}, content

    def _name(self, seq: int) -> str:
        return f"1400006666-1-{seq}" + (f"-{self.epoch}" if self.epoch > 1 else "")

    def _seq(self, name: str) -> int:
        """Its number, and none of another epoch."""
        seq = int(name.split("-")[2])
        return seq if name == self._name(seq) else -1

    def _take(self, count_max: int) -> bytes:
        data = self.records[self._cursor : self._cursor + count_max]
        self._cursor += len(data)
        self.pulled.append(data)
        return json.dumps({"result": 0, "errmsg": "ok", "count": len(data), "data": data}).encode()
