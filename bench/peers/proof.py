"""That a peer does what it is measured for."""

from __future__ import annotations

import time

import msgspec

from bench.drain import ARRIVE_S
from bench.records import as_array, record
from bench.server import PAGE
from pullstatus.cli import load
from pullstatus.cli.load import LoadFailed, Request


def prove(address: str) -> None:
    """Have a peer show that it hands out what it accepted, all of it, once.

    Raises:
        LoadFailed: it does not.
    """
    given = [record(number) for number in range(3 * PAGE)]
    for first in range(0, len(given), PAGE):
        load.look(address, Request("/ingest/proof", as_array(PAGE, first)))
    taken: list[bytes] = []
    moved = time.monotonic()
    while len(taken) <= len(given) and time.monotonic() < moved + ARRIVE_S:
        answer = load.look(address, Request("/pull/proof", b'{"type":0,"max":70}'))
        page = msgspec.json.decode(answer.body, type=_Taken).data
        taken += page
        if page:
            moved = time.monotonic()
        elif len(taken) == len(given):
            break
    if sorted(map(bytes, taken)) != sorted(given):
        raise LoadFailed(f"{len(given)} records went in, {len(taken)} came out, or other ones")


class _Taken(msgspec.Struct):
    data: list[msgspec.Raw]
