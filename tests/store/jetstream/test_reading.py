"""Answers of replicas that are slow, behind, or lose something on the way; without any node."""

import asyncio
import gc
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
import pytest

from pullstatus.errors import StoreUnavailable
from pullstatus.store.jetstream import reading
from pullstatus.store.jetstream.links import Answer, NoAnswer
from pullstatus.store.jetstream.reading import Reading
from pullstatus.store.jetstream.wire import Message

Asked = tuple[str, dict[str, Any]]
Answering = Callable[[], Coroutine[Any, Any, list[Answer]]]


class Script:
    """Stands for connections: each question gets the next of these answers.

    Attributes:
        asked: what was asked, in order: of whom, and what.
    """

    def __init__(self, *answers: Answering) -> None:
        self._answers = list(answers)
        self.asked: list[Asked] = []

    async def link(self, _turn: int, _patience_s: float) -> "Script":
        return self

    async def ask(self, subject: str, data: bytes, *, patience_s: float) -> Answer:
        [answer] = await self.gather(subject, data, patience_s=patience_s, bytes_max=0)
        return answer

    async def gather(
        self, subject: str, data: bytes, *, patience_s: float, bytes_max: int
    ) -> list[Answer]:
        self.asked.append((subject.split(".")[2], msgspec.json.decode(data)))
        return await self._answers.pop(0)()


def at_once(*answers: Answer) -> Answering:
    async def answer() -> list[Answer]:
        return list(answers)

    return answer


async def never() -> list[Answer]:
    await asyncio.Event().wait()
    return []


async def not_at_all() -> list[Answer]:
    raise NoAnswer("it is lost")


def message(sequence: int, before: int = 0, subject: str = "x.c") -> Answer:
    headers = {"Nats-Subject": subject, "Nats-Sequence": str(sequence)}
    return Answer(headers | {"Nats-Last-Sequence": str(before)}, b"%d" % sequence)


def end(last: int, newest: int = 0) -> Answer:
    headers = {"Status": "204", "Nats-Last-Sequence": str(last), "Nats-Num-Pending": "0"}
    return Answer(headers | {"Nats-UpTo-Sequence": str(newest)}, b"")


NOTHING = Answer({"Status": "404"}, b"")
LED = b'{"message":{"subject":"x.c","seq":7,"data":"Nw=="}}'


def sequences(messages: Sequence[Message]) -> list[int]:
    return [one.sequence for one in messages]


def over(script: Script) -> Reading:
    return Reading(script)  # type: ignore[arg-type]


async def following(script: Script) -> list[int]:
    return sequences(await over(script).following("x", "x.c", 1, count=9))


pytestmark = pytest.mark.anyio


async def test_the_first_of_two_answers_is_taken() -> None:
    script = Script(never, at_once(message(7)))
    found = await over(script).last("x", "x.c")
    assert found == Message("x.c", 7, b"7")
    assert [whom for whom, _ in script.asked] == ["DIRECT", "DIRECT"]


async def test_an_answer_that_is_lost_has_the_next_one_asked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "SOON_S", 1000.0)
    script = Script(not_at_all, not_at_all, at_once(Answer({}, LED)))
    assert await over(script).last("x", "x.c") == Message("x.c", 7, b"7")
    assert [whom for whom, _ in script.asked] == ["DIRECT", "DIRECT", "STREAM"]


async def test_a_leader_is_asked_alone_where_it_must_be() -> None:
    script = Script(not_at_all, at_once(Answer({}, LED)))
    assert await over(script).last("x", "x.c", leader=True) == Message("x.c", 7, b"7")
    assert [whom for whom, _ in script.asked] == ["STREAM", "STREAM"]


async def test_messages_of_a_leader_come_from_a_replica_as_far_as_it_has_them() -> None:
    """Those that it lacks are the leader's, who says how far they go, each by itself."""
    missing = at_once(NOTHING)
    one = LED.replace(b"7", b"4").replace(b"Nw", b"NA")
    script = Script(
        *(at_once(Answer({}, LED)), at_once(message(1), message(3, 1), end(3))),
        *(missing, at_once(Answer({}, one)), at_once(message(7), end(7))),
    )
    found = await over(script).following("x", "x.c", 1, count=9, leader=True)
    assert sequences(found) == [1, 3, 4, 7]
    leader = [kind == "STREAM" for kind, _ in script.asked]
    assert leader == [True, False, False, True, False]
    assert [query.get("seq") for _, query in script.asked] == [None, 1, 4, 4, 5]


async def test_a_leader_that_has_nothing_says_so() -> None:
    script = Script(at_once(Answer({}, b'{"error":{"err_code":10037}}')))
    assert await over(script).last("x", "x.c", leader=True) is None


async def test_a_fault_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "GIVE_UP_S", 0.0)
    script = Script(at_once(Answer({}, b'{"error":{"err_code":10009}}')))
    with pytest.raises(StoreUnavailable):
        await over(script).last("x", "x.c", leader=True)


@pytest.mark.parametrize(
    "lossy",
    [
        [message(3), message(7, 5), end(7)],
        [message(3), message(5, 3), end(7)],
        [message(5, 3), end(5)],
        [message(3), Answer({}, b"?"), end(3)],
        [Answer({"Status": "408"}, b"")],
    ],
)
async def test_a_hole_among_messages_is_seen(lossy: list[Answer]) -> None:
    script = Script(at_once(*lossy), at_once(message(3), message(5, 3), message(7, 5), end(7)))
    assert await following(script) == [3, 5, 7]


async def test_nothing_is_an_answer() -> None:
    assert await following(Script(at_once(NOTHING))) == []
    assert await over(Script(at_once(NOTHING))).lasts("x", ["x.c"]) == {}


async def test_a_replica_that_is_behind_is_not_believed() -> None:
    led = at_once(Answer({}, LED))
    behind = at_once(message(7), end(7, newest=8))
    current = at_once(message(9), end(9, newest=9))
    script = Script(led, behind, current)
    found = await over(script).lasts("x", ["x.c"], at_least=9)
    assert sequences(list(found.values())) == [9]


async def test_how_far_a_replica_is_shows_beside_something_that_is_there() -> None:
    led, away = at_once(Answer({}, LED)), at_once(Answer({}, LED.replace(b"x.c", b"x.d")))
    current = at_once(message(9, subject="x.d"), end(9, newest=9))
    script = Script(led, at_once(NOTHING), away, current)
    assert await over(script).lasts("x", ["x.none"], at_least=9) == {}
    asked = [query["multi_last"] for whom, query in script.asked if whom == "DIRECT"]
    assert asked == [["x.none", "x.c"], ["x.none", "x.d"]]


async def test_what_is_there_beside_may_be_asked_for() -> None:
    script = Script(at_once(Answer({}, LED)), at_once(message(9), end(9, newest=9)))
    assert list(await over(script).lasts("x", ["x.*"], at_least=9)) == ["x.c"]


async def test_questions_beside_one_another_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """And those that ask for something else first are no two of them."""
    monkeypatch.setattr(reading, "READS_MAX", 1)
    script = Script(at_once(Answer({}, LED)), *[at_once(message(9), end(9, newest=9))] * 4)
    over_it = over(script)
    asked = [over_it.lasts("x", ["x.c"], at_least=9) for _ in range(4)]
    assert len(await asyncio.wait_for(asyncio.gather(*asked), 60)) == 4


async def test_nobody_is_told_of_questions_that_fail_together_with_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "SOON_S", 0)
    monkeypatch.setattr(reading, "ROUNDS", 20)  # the answer is hardly ever looked at last
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, about: told.append(about))
    all_asked = asyncio.Event()

    async def fails() -> list[Answer]:
        await all_asked.wait()
        return await not_at_all()

    async def answers() -> list[Answer]:
        await all_asked.wait()
        return [message(7)]

    async def fails_last() -> list[Answer]:
        all_asked.set()
        return await fails()

    assert await over(Script(*18 * [fails], answers, fails_last)).last("x", "x.c") is not None
    await asyncio.sleep(0)
    gc.collect()
    assert not told
