"""Questions about messages: of any replica, which may be behind, or of a stream's leader.

Nodes share out what is asked of replicas, a paused node included. So whoever gets no answer soon
asks again, beside the first question, which falls to another replica, and at last to the leader;
the first answer is taken.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from pullstatus.errors import StoreUnavailable
from pullstatus.store.jetstream.api import Fault
from pullstatus.store.jetstream.links import Answer, Links, NoAnswer, NobodyThere
from pullstatus.store.jetstream.wire import SUBJECTS_MAX, Message

SOON_S: Final = 0.1  # from one question to the next one beside it
READ_S: Final = 2.0  # for one question
GIVE_UP_S: Final = 20.0  # longer than an election takes
PAUSE_S: Final = 0.1
ROUNDS: Final = 3  # questions beside one another
READS_MAX: Final = 256  # of a process at once; each may bring some MiB
LASTS_BYTES_MAX: Final = 32 << 20
MESSAGE_BYTES_MAX: Final = 8 << 20  # more than nodes take, as they should be set up

NOT_FOUND: Final = "404"
TOO_MANY: Final = "413"
END: Final = "204"
NO_MESSAGE: Final = 10037

T = TypeVar("T")
Ask = Callable[[int], Awaitable[T]]


class _Stored(msgspec.Struct):
    subject: str
    seq: int
    data: bytes = b""


class _Found(msgspec.Struct):
    message: _Stored | None = None
    error: Fault | None = None


_FOUND: Final = msgspec.json.Decoder(_Found)  # see `nodes`


class Reading:
    """Reads over the connections of a process, in their event loop."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._turns = itertools.count()
        self._room = asyncio.Semaphore(READS_MAX)
        self._there: dict[str, str] = {}  # by stream

    async def last(self, stream: str, subject: str, *, leader: bool = False) -> Message | None:
        """See `Bus.last`."""
        return await self._one(stream, {"last_by_subj": subject}, leader=leader)

    async def lasts(
        self, stream: str, subjects: Sequence[str], *, at_least: int = 0
    ) -> dict[str, Message]:
        """See `Bus.lasts`.

        Raises:
            ValueError: it would be more subjects than a node answers at once.
        """
        if len(subjects) > SUBJECTS_MAX:
            raise ValueError("too many subjects at once")
        if not subjects:
            return {}
        found = await self._until_answered(
            [partial(self._lasts, stream, subjects, at_least)] * ROUNDS
        )
        return {message.subject: message for message in found}

    async def _lasts(
        self, stream: str, subjects: Sequence[str], at_least: int, turn: int
    ) -> list[Message]:
        """What one replica has.

        How far it is stands at the end of an answer, and a replica that has nothing of what is
        asked for has none. So one that is to be not behind is asked for something else, too, which
        is there.
        """
        beside = [await self._something(stream, turn)] if at_least else []
        query = {"multi_last": [*subjects, *beside], "max_bytes": LASTS_BYTES_MAX}
        messages, end = await self._several(stream, query, turn, LASTS_BYTES_MAX)
        if end.status == TOO_MANY or end.headers.get("Nats-Num-Pending", "0") != "0":
            raise ValueError("too many subjects, or bytes of them, at once")
        if not at_least:
            return messages
        if end.status == NOT_FOUND:
            self._there.pop(stream, None)  # it was removed meanwhile, or this replica is far behind
        if int(end.headers.get("Nats-UpTo-Sequence", 0)) < at_least:
            raise NoAnswer("a replica is behind")
        return [
            message
            for message in messages
            if message.subject not in beside or any(_fits(message.subject, one) for one in subjects)
        ]

    async def _something(self, stream: str, turn: int) -> str:
        """A subject that has a message: that of the newest one, when it was looked for."""
        if stream not in self._there:
            newest = await self._of_leader(stream, b'{"last_by_subj":">"}', turn)
            if newest is None:
                raise NoAnswer("there is nothing in a stream")
            self._there[stream] = newest.subject
        return self._there[stream]

    async def following(
        self,
        stream: str,
        subject: str,
        sequence: int,
        *,
        count: int,
        bytes_max: int = 1 << 20,
        leader: bool = False,
    ) -> list[Message]:
        """See `Bus.following`."""
        if leader:
            return await self._following_of_leader(stream, subject, sequence, count, bytes_max)
        return await self._following(stream, subject, sequence, count, bytes_max)

    async def _following(
        self, stream: str, subject: str, sequence: int, count: int, bytes_max: int
    ) -> list[Message]:
        query = {
            "seq": max(sequence, 1),
            "next_by_subj": subject,
            "batch": count,
            "max_bytes": bytes_max,
        }

        async def ask(turn: int) -> list[Message]:
            messages, _ = await self._several(stream, query, turn, bytes_max)
            return messages

        return await self._until_answered([ask] * ROUNDS)

    async def _following_of_leader(
        self, stream: str, subject: str, sequence: int, count: int, bytes_max: int
    ) -> list[Message]:
        """A leader tells messages one by one, so it is asked how far they go, and what is missing.

        What a replica has it has without a gap, so who has the last of them has all.
        """
        if count == 1:
            return await self._next_of_leader(stream, subject, sequence)
        newest = await self._one(stream, {"last_by_subj": subject}, leader=True)
        found: list[Message] = []
        while newest is not None and sequence <= newest.sequence:
            left = count - len(found)
            more = await self._following(stream, subject, sequence, left, bytes_max)
            more = more or await self._next_of_leader(stream, subject, sequence)
            found += more
            bytes_max -= sum(len(message.data) for message in more)
            if not more or len(found) >= count or bytes_max <= 0:
                break
            sequence = more[-1].sequence + 1
        return found

    async def _next_of_leader(self, stream: str, subject: str, sequence: int) -> list[Message]:
        query = {"seq": max(sequence, 1), "next_by_subj": subject}
        message = await self._one(stream, query, leader=True)
        return [] if message is None else [message]

    async def _one(self, stream: str, query: dict[str, Any], *, leader: bool) -> Message | None:
        data = msgspec.json.encode(query)
        replica = partial(self._of_replica, stream, data)
        lead = partial(self._of_leader, stream, data)
        return await self._until_answered([lead] if leader else [*[replica] * (ROUNDS - 1), lead])

    async def _of_replica(self, stream: str, query: bytes, turn: int) -> Message | None:
        link = await self._links.link(turn, READ_S)
        answer = await link.ask(f"$JS.API.DIRECT.GET.{stream}", query, patience_s=READ_S)
        return None if answer.status == NOT_FOUND else _message(answer)

    async def _of_leader(self, stream: str, query: bytes, turn: int) -> Message | None:
        link = await self._links.link(turn, READ_S)
        answer = await link.ask(f"$JS.API.STREAM.MSG.GET.{stream}", query, patience_s=READ_S)
        found = _FOUND.decode(answer.data)
        if found.message is not None:
            return Message(found.message.subject, found.message.seq, found.message.data)
        if found.error is not None and found.error.err_code == NO_MESSAGE:
            return None
        raise NoAnswer(found.error.description if found.error else "it is no answer")

    async def _several(
        self, stream: str, query: dict[str, Any], turn: int, bytes_max: int
    ) -> tuple[list[Message], Answer]:
        """Messages that one replica tells one behind the other, and how it ends them.

        Raises:
            NoAnswer: not all of them came.
        """
        link = await self._links.link(turn, READ_S)
        *answers, end = await link.gather(
            f"$JS.API.DIRECT.GET.{stream}",
            msgspec.json.encode(query),
            patience_s=READ_S,
            bytes_max=bytes_max + MESSAGE_BYTES_MAX,
        )
        if end.status not in (END, NOT_FOUND, TOO_MANY):
            raise NoAnswer("a node does not know what is asked")
        messages = [_message(answer) for answer in answers]
        # Each tells the one before it, the first one 0, and the end the last: a hole is seen. Of no
        # message at all the end may tell none.
        told = [answer.headers.get("Nats-Last-Sequence", "0") for answer in (*answers, end)]
        if told != ["0", *[str(message.sequence) for message in messages]]:
            raise NoAnswer("some of it is lost")
        return messages, end

    async def _until_answered(self, asks: Sequence[Ask[T]]) -> T:
        """The first answer to any of these; all of them are asked again until there is one.

        Raises:
            StoreUnavailable: there was none.
        """
        loop = asyncio.get_running_loop()
        due_s = loop.time() + GIVE_UP_S
        async with self._room:
            while True:
                try:
                    return await self._first(asks)
                except (NoAnswer, NobodyThere):
                    if loop.time() > due_s:
                        raise StoreUnavailable("the cluster does not answer") from None
                await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.5))  # noqa: S311

    async def _first(self, asks: Sequence[Ask[T]]) -> T:
        """The first answer to these, of which each is asked when those before say nothing soon."""
        asked: set[asyncio.Future[T]] = set()
        try:
            for number, ask in enumerate(asks, 1):
                question = asyncio.ensure_future(ask(next(self._turns)))
                question.add_done_callback(_hear)
                asked.add(question)
                soon_s = SOON_S if number < len(asks) else None
                while asked:
                    done, asked = await asyncio.wait(
                        asked, timeout=soon_s, return_when=asyncio.FIRST_COMPLETED
                    )
                    for one in done:
                        if not isinstance(one.exception(), NoAnswer | NobodyThere):
                            return one.result()
                    if not done or soon_s is not None:
                        break
            raise NoAnswer("of any")
        finally:
            for one in asked:
                one.cancel()


def _hear(asked: asyncio.Future[T]) -> None:
    """What becomes of one that nobody waits for any more is no news for a log."""
    if not asked.cancelled():
        asked.exception()


def _fits(subject: str, pattern: str) -> bool:
    """Whether a subject is one of a pattern: `*` stands for a word, `>` at the end for some."""
    words, wanted = subject.split("."), pattern.split(".")
    if wanted[-1] == ">" and len(words) >= len(wanted):
        words, wanted = words[: len(wanted) - 1], wanted[:-1]
    return len(words) == len(wanted) and all(
        there in (word, "*") for word, there in zip(words, wanted, strict=True)
    )


def _message(answer: Answer) -> Message:
    try:
        headers = answer.headers
        return Message(headers["Nats-Subject"], int(headers["Nats-Sequence"]), answer.data)
    except (KeyError, ValueError):
        raise NoAnswer("it is no message") from None
