"""An engine that brings a log has group commit, its bound and its failures, over either channel."""

from __future__ import annotations

import asyncio
import math
import os
import re
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pullstatus import limits
from pullstatus.errors import OutcomeUnknown, StoreFailed, StoreFull, StoreRefused, StoreUnavailable
from pullstatus.store.gathering import committer, process
from pullstatus.store.gathering.committer import Committer
from pullstatus.store.gathering.process import ProcessChannel
from pullstatus.store.gathering.thread import ThreadChannel
from pullstatus.store.gathering.writer import Channel, Writer
from tests.harness import PATIENCE_S
from tests.store.build import STATUSES, append, pull
from tests.store.gathering.memory import BOX, open_memory

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]


def command_line(number: int) -> bytes:
    return Path(f"/proc/{number}/cmdline").read_bytes()


@pytest.fixture(params=["thread", "process"])
async def writer(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Writer]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the process imports the log from here
    channel: Channel
    if request.param == "thread":
        channel = ThreadChannel(Committer(open_memory()))
    else:
        channel = await ProcessChannel.open(open_memory)
    writer = Writer(channel, None)
    yield writer
    await writer.close()


async def test_the_log_works_where_the_channel_says(
    writer: Writer, request: pytest.FixtureRequest
) -> None:
    assert writer.waiting == {BOX: 1}
    process = int((await writer.submit(pull(STATUSES))).data)
    assert (process == os.getpid()) == (request.node.callspec.params["writer"] == "thread")


async def test_what_comes_together_shares_commits(writer: Writer) -> None:
    answers = [writer.submit(append(STATUSES, [b"1", b"2"])) for _ in range(400)]
    assert await asyncio.gather(*answers) == [2] * 400
    assert writer.report.figures.operations == 400
    assert writer.report.figures.commits < 100
    assert writer.waiting == {BOX: 801}


@pytest.mark.parametrize("odd", [{"address": "\ud800"}, {"key": "a\udfff"}, {"at_ms": 2**70}])
async def test_what_messagepack_cannot_say_is_sent_all_the_same(
    writer: Writer, odd: dict[str, Any]
) -> None:
    """And each has the answer that is its own: reports answer in order."""
    asked: list[asyncio.Future[Any]] = [
        writer.submit(append(STATUSES, [b"1"])),
        writer.submit(msgspec.structs.replace(pull(STATUSES), **odd)),
        writer.submit(append(STATUSES, [b"2", b"3"])),
    ]
    first, page, last = await asyncio.wait_for(asyncio.gather(*asked), PATIENCE_S)
    assert (first, page.count, last) == (1, 2, 2)


async def test_what_cannot_be_sent_gives_nobody_the_answer_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reports answer in order; so nothing is answered any more."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    told: list[BaseException] = []
    writer = Writer(await ProcessChannel.open(open_memory), told.append)
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: raised.append(type(context["exception"]))
    )
    lacking = msgspec.structs.replace(pull(STATUSES), address=object())  # which is a mistake
    asked: list[asyncio.Future[Any]] = [writer.submit(lacking)]
    asked.append(writer.submit(append(STATUSES, [b"1"])))
    answers = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 60)
    assert [type(answer) for answer in answers] == [OutcomeUnknown] * 2
    assert raised == [TypeError]
    assert [type(failure) for failure in told] == [StoreFailed]
    await writer.close()


async def test_who_waits_for_what_comes_is_woken_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it would wait, whether something is due or not."""
    monkeypatch.setattr(committer, "NOTICE_S", 3600.0)
    log = open_memory()
    writer = Writer(ThreadChannel(Committer(log)), None)
    for log.due_s in (math.inf, 1800.0):
        for _ in range(2):
            asked = writer.submit(append(STATUSES, [b"1"]))
            assert await asyncio.wait_for(asked, PATIENCE_S) == 1
    await asyncio.wait_for(writer.close(), PATIENCE_S)


async def test_what_waits_is_bounded(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STORE_PENDING_MAX", 10)
    answers = [writer.submit(append(STATUSES, [b"1"])) for _ in range(10)]
    with pytest.raises(StoreUnavailable):
        writer.submit(append(STATUSES, [b"1"]))
    assert await asyncio.gather(*answers) == [1] * 10
    assert await writer.submit(append(STATUSES, [b"1"])) == 1


async def test_an_error_that_no_future_takes_is_told_and_holds_up_nobody() -> None:
    """A future refuses a StopIteration; those behind it would wait for ever."""
    log = open_memory()
    log.fails["commit"] = StopIteration()
    writer = Writer(ThreadChannel(Committer(log)), None)
    answers = [writer.submit(append(STATUSES, [b"1"])) for _ in range(2)]
    told = await asyncio.wait_for(asyncio.gather(*answers, return_exceptions=True), 60)
    assert [type(answer) for answer in told] == [RuntimeError] * 2
    del log.fails["commit"]
    assert await writer.submit(append(STATUSES, [b"1"])) == 1
    await writer.close()


async def test_closing_has_committed_what_was_submitted(writer: Writer) -> None:
    answer = writer.submit(append(STATUSES, [b"1"]))
    await writer.close()
    assert await answer == 1
    with pytest.raises(StoreUnavailable):
        writer.submit(append(STATUSES, [b"1"]))


async def test_closing_waits_no_longer_than_it_may_for_a_log_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    channel = await ProcessChannel.open(partial(open_memory, hangs=True))
    writer = Writer(channel, None)
    monkeypatch.setattr(process, "END_S", 0.3)
    answer = asyncio.ensure_future(writer.submit(append(STATUSES, [b"1"])))
    await asyncio.wait_for(writer.close(), PATIENCE_S)
    with pytest.raises(OutcomeUnknown):
        await answer
    assert channel._process.returncode == -signal.SIGKILL


async def test_a_refusal_to_open_is_told_from_the_other_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with pytest.raises(StoreRefused, match="not safe"):
        await ProcessChannel.open(partial(open_memory, refusal=StoreRefused("not safe")))


@pytest.mark.parametrize(
    "refusal",
    [StoreFailed("may not"), StoreUnavailable("not now"), StoreFull("full"), OutcomeUnknown("?")],
)
async def test_whatever_keeps_a_log_from_being_opened_is_told_from_the_other_process(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    refusal: BaseException,
) -> None:
    """As it is of one in this process; and that one prints nothing."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with pytest.raises(type(refusal), match=re.escape(str(refusal))):
        await ProcessChannel.open(partial(open_memory, refusal=refusal))
    assert capfd.readouterr() == ("", "")


@pytest.mark.anew
async def test_what_opens_the_log_is_not_in_the_list_of_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may hold a password."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    channel = await ProcessChannel.open(partial(open_memory, secret="s3cret"))
    shown = command_line(channel._process.pid)
    channel.start(lambda _report: None)
    await channel.close()
    assert b"worker" in shown
    assert b"s3cret" not in shown
