"""Keys in a file: what a process leaves, the next one asks for."""

from __future__ import annotations

import errno
import gc
import logging
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from pullstatus import AnswerLost, InvalidArgument, KeyExpired, Kind, StateFailed
from pullstatus.client.slots import peek
from pullstatus.client.state import Kept, Owed, decode_state
from tests.unit.client.conftest import NOW_S, Hands, page

READ_TIMEOUT = httpx.ReadTimeout("nobody answers")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pages.state"


def crash(client: Hands) -> None:
    """The process ends without a word: all that is left is its file."""
    claims = client.client._puller.claims
    assert isinstance(claims, Kept)
    claims._let_go()
    claims.forsaken = True


def owed(file: Path) -> list[str]:
    state = peek(file, decode_state)
    return [] if state is None else [one.next_page.key for one in state.owed]


def test_a_page_is_in_the_file_before_it_is_asked_for(client: Hands, file: Path) -> None:
    client.over(state=file)
    asked: list[list[str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        content = file.read_bytes()
        asked.append([key for key in client.keys if key.encode() in content])
        return page(1, waiting=1, pull_id="1400006666-0-1")

    client.also(answer, answer)
    following = client.batches()
    following.one().ack()
    following.one()
    assert [len(keys) for keys in asked] == [1, 2]  # the older one is in the other slot
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_next_process_asks_with_the_same_key(client: Hands, file: Path) -> None:
    client.over(page(1, waiting=1), state=str(file), keyed=True)
    client.batches(max=7).one()
    crash(client)
    client.over(page(1, waiting=1), page(2, waiting=0), state=file, keyed=True)
    following = client.batches()
    for _ in range(2):
        following.one().ack()
    first, second, third = client.keys
    assert first == second != third
    assert [body["max"] for body in client.bodies] == [7, 7, 100]


def test_what_was_acknowledged_leaves_the_file_at_the_end(client: Hands, file: Path) -> None:
    client.over(page(1, waiting=0), page(2, waiting=0), state=file, keyed=True)
    client.batches().one().ack()
    assert len(peeked(client)) == 1  # until the next is asked for, or the end
    client.batches(Kind.REPLY).one()
    client.shut()
    assert owed(file) == [client.keys[1]]
    client.shut()


def peeked(client: Hands) -> list[Owed]:
    claims = client.client._puller.claims
    assert isinstance(claims, Kept)
    assert claims._slots.value is not None
    return claims._slots.value.owed


def test_a_failed_pull_is_gone_on_with(client: Hands, file: Path) -> None:
    client.over(READ_TIMEOUT, state=file, keyed=True, attempts_max=1)
    with pytest.raises(AnswerLost):
        client.pull()
    client.shut()
    client.over(page(waiting=0), page(1, waiting=0), state=file, keyed=True)
    assert not client.pull()
    crash(client)
    client.over(page(1, waiting=0), state=file, keyed=True)
    assert client.pull()
    assert len(set(client.keys)) == 1
    client._script.clear()


def test_a_page_of_yesterday_is_told(client: Hands, file: Path) -> None:
    client.over(page(1, waiting=1), state=file, keyed=True)
    client.batches().one()
    crash(client)
    client.over(page(2, waiting=0), state=file, keyed=True, clock=lambda: NOW_S + 86_401)
    with pytest.raises(KeyExpired) as caught:
        client.pull()
    assert caught.value.key == client.keys[0]
    assert client.pull()


def test_of_a_service_without_keys_the_log_says_what_may_be_lost(
    client: Hands, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client.over(page(1), state=file, keyed=False)
    client.batches(max=7).one()
    crash(client)
    client.over(page(2), page(3), state=file, keyed=False)
    with caplog.at_level(logging.WARNING, "pullstatus"):
        following = client.batches()
        following.one().ack()
        following.one()
    [line] = caplog.messages
    assert "up to 7 records may be lost" in line


def test_one_process_at_a_time(client: Hands, file: Path) -> None:
    client.over(state=file)
    with pytest.raises(InvalidArgument, match="in use by another process"):
        client.over(state=file)
    client.shut()
    client.over(state=file)


def test_a_client_that_is_dropped_lets_go_of_the_file(client: Hands, file: Path) -> None:
    with pytest.raises(InvalidArgument, match="timeout_s"):
        client.over(state=file, timeout_s=-1)
    gc.collect()
    client.over(state=file)
    client.over()
    gc.collect()
    client.over(state=file)


def test_a_forked_process_leaves_the_file_alone(client: Hands, file: Path) -> None:
    client.over(page(1, waiting=1), state=file, keyed=True)
    client.batches().one()
    before = file.read_bytes()
    client.forked()
    with pytest.raises(InvalidArgument, match="forked"):
        client.pull()
    client.shut()
    assert file.read_bytes() == before


def test_a_disk_that_is_full_stops_the_pull_before_it_is_sent(
    client: Hands, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.over(page(1, waiting=0), state=file, keyed=True)

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StateFailed, match="cannot be written") as caught:
            client.pull()
    assert not caught.value.may_have_consumed
    assert not client.requests
    assert client.pull()


@pytest.mark.parametrize("content", [b"something else", b'{"number":1}\n' * 700])
def test_a_file_of_somebody_else_is_refused(client: Hands, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(InvalidArgument, match="state: "):
        client.over(state=file)
    assert file.read_bytes() == content


@pytest.mark.parametrize("state", [7, "", "/nowhere/at/all", "\0", "\ud800"])
def test_a_path_that_is_none_is_refused(client: Hands, state: Any) -> None:  # noqa: ANN401
    with pytest.raises(InvalidArgument, match="state"):
        client.over(state=state)


def test_a_file_that_cannot_be_opened_is_told_with_the_way_out(client: Hands) -> None:
    """In the words of who reads it: here nobody has given a flag."""
    with pytest.raises(InvalidArgument) as caught:
        client.over(state="/nowhere/at/all")
    assert str(caught.value) == (
        "state: /nowhere/at/all cannot be opened: No such file or directory:"
        " give another path as state"
    )


def test_a_file_belongs_to_one_mailbox(client: Hands, file: Path) -> None:
    client.over(page(1, waiting=1), state=file, keyed=True, base_url="http://one.example")
    client.batches().one()
    crash(client)
    with pytest.raises(InvalidArgument, match="asked for at http://one"):
        client.over(state=file, base_url="http://two.example")
    client.over(page(1, waiting=1), state=file, keyed=True, base_url="http://one.example/")
    client.batches().one().ack()
    client.shut()
    client.over(state=file, base_url="http://two.example")


def test_more_pages_than_the_file_has_room_for(client: Hands, file: Path) -> None:
    client.over(*[page(1, waiting=1)] * 60, state=file, keyed=True)
    batches = []
    with pytest.raises(StateFailed, match="no room"):  # noqa: PT012 - those before it stay
        while True:
            batches.append(client.batches().one())
    assert len(batches) > 20
    batches.pop().ack()
    assert client.batches().one()
    client._script.clear()
