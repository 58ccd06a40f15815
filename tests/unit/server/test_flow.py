"""Flow control: what it tells its transport, and who waits until it can be written to."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest

from pullstatus.server.flow import Flow


def test_transport_is_told_once() -> None:
    transport = Mock(spec=asyncio.Transport)
    flow = Flow(transport)
    flow.resume_reading()
    for _ in range(2):
        flow.pause_reading()
    assert flow.read_paused
    for _ in range(2):
        flow.resume_reading()
    assert [call[0] for call in transport.method_calls] == ["pause_reading", "resume_reading"]


@pytest.mark.parametrize(
    ("asked", "ends"),
    [
        ([], "resume_reading"),
        (["pause_reading"], None),
        (["pause_reading", "resume_reading"], "resume_reading"),
    ],
)
def test_what_is_asked_while_reading_is_put_off_is_had_behind_it(
    asked: list[str], ends: str | None
) -> None:
    transport = Mock(spec=asyncio.Transport)
    transport.is_closing.return_value = False
    flow = Flow(transport)
    for _ in range(2):
        flow.put_off_reading()
    for name in asked:
        getattr(flow, name)()
    assert [call[0] for call in transport.method_calls] == ["pause_reading"]
    flow.go_on_reading()
    assert [call[0] for call in transport.method_calls if call[0] != "is_closing"][1:] == [
        name for name in [ends] if name
    ]
    transport.reset_mock()
    flow.go_on_reading()
    flow.pause_reading()
    flow.resume_reading()
    assert len(transport.method_calls) == (2 if ends else 1)


def test_what_was_paused_before_stays_so() -> None:
    transport = Mock(spec=asyncio.Transport)
    flow = Flow(transport)
    flow.pause_reading()
    flow.put_off_reading()
    flow.go_on_reading()
    assert [call[0] for call in transport.method_calls] == ["pause_reading"]


def test_a_transport_that_closes_is_not_read_on() -> None:
    transport = Mock(spec=asyncio.Transport)
    transport.is_closing.return_value = True
    flow = Flow(transport)
    flow.put_off_reading()
    flow.go_on_reading()
    transport.resume_reading.assert_not_called()


def test_writers_wait_until_there_is_room() -> None:
    async def run() -> None:
        flow = Flow(Mock(spec=asyncio.Transport))
        await flow.drain()
        for _ in range(2):
            flow.pause_writing()
            waiting = [asyncio.ensure_future(flow.drain()) for _ in range(2)]
            await asyncio.sleep(0)
            assert flow.write_paused
            assert not any(each.done() for each in waiting)
            flow.resume_writing()
            await asyncio.gather(*waiting)
        assert not flow.write_paused

    asyncio.run(run())
