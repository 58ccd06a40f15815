"""Long work leaves a round of the loop to everybody else between two slices."""

from __future__ import annotations

import asyncio
import time

import pytest

from pullstatus import limits
from pullstatus.server.slices import Slices
from pullstatus.steps import Steps


def long(name: str, said: list[str], count: int) -> Steps[str]:
    """Steps of more than a slice each."""
    for _ in range(count):
        said.append(name)
        until = time.perf_counter() + 1.5 * limits.SLICE_S
        while time.perf_counter() < until:
            pass
        yield
    return name


def test_between_two_slices_everybody_else_has_a_round() -> None:
    said: list[str] = []

    async def main() -> None:
        async def others() -> None:
            while True:
                said.append("others")
                await asyncio.sleep(0)

        beside = asyncio.create_task(others())
        assert await Slices().do(long("a", said, 4), 1) == "a"
        beside.cancel()

    asyncio.run(main())
    assert "aa" not in "".join("a" if word == "a" else "." for word in said)
    assert said.count("a") == 4


def test_owners_have_their_slices_in_turn() -> None:
    """However much work each has."""
    said: list[str] = []

    async def main() -> None:
        shared = Slices()
        work = [shared.do(long("much", said, 3), "much") for _ in range(6)]
        work.append(shared.do(long("little", said, 3), "little"))
        await asyncio.gather(*work)

    asyncio.run(main())
    begun = said.index("little")  # with the first slices of all, each at once
    assert begun == 6
    later = said[begun + 1 :]
    assert later.index("little") <= 2
    assert max(at for at, name in enumerate(later) if name == "little") <= 5


def test_of_long_work_one_slice_is_done_in_a_round() -> None:
    """Whatever made it ready came to all of them in one."""
    said: list[str] = []

    async def main() -> None:
        async def others() -> None:
            while True:
                said.append(".")
                await asyncio.sleep(0)

        shared = Slices()
        beside = asyncio.create_task(others())
        work = [shared.do(long("a", said, 1), owner, long=True) for owner in (1, 1, 2, 2)]
        assert await asyncio.gather(*work) == ["a"] * 4
        beside.cancel()

    asyncio.run(main())
    assert "aa" not in "".join(said)
    assert said.count("a") == 4


def test_short_work_is_done_at_once() -> None:
    def short() -> Steps[int]:
        yield
        return 1

    with pytest.raises(StopIteration) as end:
        Slices().do(short(), None).send(None)
    assert end.value.value == 1


def test_work_that_was_cancelled_holds_up_nobody() -> None:
    said: list[str] = []

    async def main() -> None:
        shared = Slices()
        first = asyncio.create_task(shared.do(long("a", said, 9), "a"))
        second = asyncio.create_task(shared.do(long("b", said, 3), "b"))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == "b"

    asyncio.run(main())
    assert said.count("b") == 3


def test_work_beyond_one_slice_is_left_where_it_may_not_wait() -> None:
    said: list[str] = []
    assert Slices().in_one(long("a", said, 9)) is None
    assert said == ["a"]
    assert Slices().in_one(long("b", said, 0)) == "b"


def test_a_slice_is_as_long_as_the_clock_says() -> None:
    """Whatever else the machine does: where time stands still, all is done at once."""
    said: list[str] = []
    assert Slices(lambda: 0.0).in_one(long("a", said, 3)) == "a"
    with pytest.raises(StopIteration):
        Slices(lambda: 0.0).do(long("b", said, 3), None).send(None)
