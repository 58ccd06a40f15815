"""What waits before a store: handed over in turn, dropped, refused, never taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pullstatus import limits
from pullstatus.errors import CallerGone, StoreUnavailable
from pullstatus.store import window as windows
from pullstatus.store.window import UnderWay, Waiting, Window

pytestmark = pytest.mark.anyio


class Shop:
    """A store that is handed operations and answers when it is told to. `a1` is of owner a."""

    def __init__(self, weight: Callable[[str], int] = lambda _operation: 0) -> None:
        self.handed: list[Waiting[str]] = []
        self.window: Window[str] = Window(
            self.handed.append, owner=lambda operation: operation[0], weight=weight
        )

    @property
    def has(self) -> str:
        return " ".join(waiting.operation for waiting in self.handed)

    def submit(self, operations: str) -> list[asyncio.Future[object]]:
        return [self.window.submit(operation) for operation in operations.split()]

    def answer(self, count: int) -> None:
        for _ in range(count):
            waiting = self.handed.pop(0)
            self.window.answered(waiting)
            if not waiting.future.done():
                waiting.future.set_result(waiting.operation)
        self.window.refill()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_WINDOW_OPERATIONS", 3)
    monkeypatch.setattr(limits, "STORE_WINDOW_BYTES", 100)
    monkeypatch.setattr(windows, "LOOK_S", 0.01)


async def test_no_more_is_handed_over_than_there_is_room_for() -> None:
    shop = Shop()
    shop.submit("a1 a2 a3 a4 a5")
    assert shop.has == "a1 a2 a3"
    shop.answer(1)
    assert shop.has == "a2 a3 a4"
    assert (shop.window.under_way().queued, shop.window.under_way().handed_over) == (1, 3)


async def test_owners_come_in_turn() -> None:
    shop = Shop()
    shop.submit("a1 a2 a3 a4 a5 a6 a7 b1")
    shop.answer(3)
    assert shop.has == "a4 b1 a5"


async def test_bytes_fill_it_too() -> None:
    shop = Shop(weight=lambda operation: int(operation[1:]))
    shop.submit("a60 a60 a1")
    assert shop.has == "a60 a60", "the one that goes over it goes, the next does not"
    assert shop.window.under_way().bytes == 121
    shop.answer(2)
    assert shop.has == "a1"
    assert shop.window.under_way().bytes == 1


async def test_one_that_is_larger_than_the_window_goes_alone() -> None:
    shop = Shop(weight=lambda operation: int(operation[1:]))
    shop.submit("a500 a500")
    assert shop.has == "a500"
    shop.answer(1)
    assert shop.has == "a500"


async def test_who_has_gone_is_never_handed_over() -> None:
    shop = Shop()
    shop.submit("a1 a2 a3")
    there = [True, True]
    gone = [shop.window.submit(f"b{n}", lambda _s, n=n: not there[n]) for n in range(2)]  # type: ignore[misc]
    there[0] = False
    shop.answer(3)
    assert shop.has == "b1"
    with pytest.raises(CallerGone):
        await gone[0]


async def test_who_has_gone_leaves_also_while_the_store_says_nothing() -> None:
    shop = Shop()
    shop.submit("a1 a2 a3")
    gone = shop.window.submit("b1", lambda waited_s: waited_s >= 0.01)
    with pytest.raises(CallerGone):
        await asyncio.wait_for(gone, 60)
    assert shop.window.under_way().queued == 0


async def test_what_nobody_waits_for_is_not_handed_over() -> None:
    shop = Shop()
    shop.submit("a1 a2 a3")
    [waits, stays] = shop.submit("b1 b2")
    waits.cancel()
    shop.answer(3)
    assert shop.has == "b2"
    assert not stays.done()


async def test_who_waited_too_long_is_refused_and_what_was_handed_over_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STORE_WAIT_S", 0.05)
    shop = Shop()
    handed = shop.submit("a1 a2 a3")
    waits = shop.submit("a4 b1")
    told = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 60)
    assert [type(each) for each in told] == [StoreUnavailable] * 2
    assert not any(future.done() for future in handed)
    shop.answer(3)
    assert shop.has == ""
    assert [await future for future in handed] == ["a1", "a2", "a3"]


async def test_too_much_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_PENDING_MAX", 5)
    shop = Shop()
    shop.submit("a1 a2 a3 a4 a5")
    with pytest.raises(StoreUnavailable):
        shop.submit("b1")
    shop.answer(1)
    shop.submit("b1")


async def test_a_store_that_failed_has_all_that_waits_refused() -> None:
    shop = Shop()
    shop.submit("a1 a2 a3")
    [waits] = shop.submit("a4")
    shop.window.refuse("it failed")
    with pytest.raises(StoreUnavailable, match="it failed"):
        await waits
    assert shop.has == "a1 a2 a3"


async def test_an_end_hands_over_what_waits() -> None:
    shop = Shop()
    shop.submit("a1 a2 a3 a4 a5")
    shop.window.flush()
    assert shop.has == "a1 a2 a3 a4 a5"


async def test_the_oldest_is_told_wherever_it_waits() -> None:
    loop = asyncio.get_running_loop()
    shop = Shop()
    assert shop.window.under_way() == UnderWay()
    shop.submit("a1 a2 a3")
    first_s = loop.time()
    await asyncio.sleep(0.05)
    last_s = loop.time()
    shop.submit("b1")
    assert shop.window.under_way().oldest_s >= last_s - first_s
    shop.answer(3)
    assert shop.window.under_way().oldest_s <= loop.time() - last_s
