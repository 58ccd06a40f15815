"""Flow control: what it tells its transport, and who waits until it can be written to."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

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
