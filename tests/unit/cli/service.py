"""A service for tests of commands: the mailbox's rules in a few lines, answering httpx."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx

from pullstatus.wire.about import about

Record = dict[str, Any]


class Service:
    """One mailbox; `keyed` like ours, or like one that knows no Idempotency-Key.

    `step` is called at each instant of a pull: before it is carried out, and after.

    Attributes:
        down: nobody can connect.
        hold: the next pull is held up on its way, and its caller gets no answer.
    """

    def __init__(
        self, records: list[Record], *, keyed: bool, step: Callable[[], None] = lambda: None
    ) -> None:
        self.records = records
        self.keyed = keyed
        self.step = step
        self.hold = False
        self.down = False
        self.held: list[httpx.Request] = []
        self.pulled: list[list[Record]] = []
        self._cursor = 0
        self._pages: dict[str, bytes] = {}

    @property
    def waiting(self) -> int:
        """How many are left."""
        return len(self.records) - self._cursor

    def arrive(self) -> None:
        """Carry out what was held up."""
        while self.held:
            self(self.held.pop())

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            raise httpx.ConnectError("refused")
        if request.method == "GET":
            said = about("1") if self.keyed else b"<html>"
            return httpx.Response(200 if self.keyed else 404, content=said)
        if self.hold:
            self.hold = False
            self.held.append(request)
            raise httpx.ReadTimeout("late")
        self.step()
        key = request.headers["Idempotency-Key"]
        content = self._pages.get(key) if self.keyed else None
        if content is None:
            content = self._take(json.loads(request.content)["max"])
            if b'"data": []' not in content:
                self._pages[key] = content
        self.step()
        headers = {"Pullstatus-Waiting": str(self.waiting)} if self.keyed else {}
        return httpx.Response(200, headers=headers, content=content)

    def _take(self, count_max: int) -> bytes:
        data = self.records[self._cursor : self._cursor + count_max]
        self._cursor += len(data)
        self.pulled.append(data)
        return json.dumps({"result": 0, "errmsg": "ok", "count": len(data), "data": data}).encode()
