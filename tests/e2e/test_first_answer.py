"""The first thing a client hears is lost: with our server it knows, with others it does no harm."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pullstatus import AnswerLost, AsyncClient, Client, Kind, limits
from tests.foreign import ROOTS, Foreign
from tests.harness import PATIENCE_S, ROOT, App, Program, statuses
from tests.proxy import CuttingProxy

Records = list[dict[str, Any]]
Pull = Callable[[str, App], Records]

PAGE = (
    b'{"result":0,"errmsg":"ok","type":0,"count":1,"data":[{"sid":"8:1"}]}'  # as the old service's
)


@pytest.fixture
def proxy(shared: Program) -> Iterator[CuttingProxy]:
    with CuttingProxy(shared.host, shared.port) as proxy:
        yield proxy


def pull(address: str, app: App) -> Records:
    with Client(address, app.sdkappid, app.appkey, sleep=lambda _s: None) as client:
        return [record.members for record in client.pull(Kind.DELIVERY_STATUS)]


def pull_async(address: str, app: App) -> Records:
    async def run() -> Records:
        async with AsyncClient(
            address, app.sdkappid, app.appkey, sleep=lambda _s: asyncio.sleep(0)
        ) as client:
            return [record.members for record in await client.pull(Kind.DELIVERY_STATUS)]

    return asyncio.run(run())


both = pytest.mark.parametrize("pulled", [pull, pull_async])


@both
def test_first_answers_cut_anywhere_lose_nothing(
    shared: Program, app: App, proxy: CuttingProxy, pulled: Pull
) -> None:
    """That of the first pull, that of the question before it, or both; at any place."""
    for size in (0, 1, 16, 17, 60, 150, 200, 230, 300, 1000):
        for cuts in ((None, size), (size,), (size, size), (size, size, size, None, size)):
            shared.feed(app, statuses(5))
            proxy.cut(*cuts, *[None] * 9)
            assert pulled(proxy.address, app) == statuses(5), cuts
            assert shared.waiting(app) == 0
            proxy.cut_no_more()
    assert proxy.cuts > 50


class _Enough(Exception):
    """The program follows its mailbox for ever; a test doesn't."""


def test_the_program_of_the_readme_sees_all_though_its_first_answer_is_cut(
    shared: Program, app: App, proxy: CuttingProxy
) -> None:
    [program] = re.findall(
        r"(?ms)^```python\n(import pullstatus\n.*?)^```$", (ROOT / "README.md").read_text()
    )
    program = program.replace("http://127.0.0.1:8080", proxy.address)
    program = program.replace("1400006666", str(app.sdkappid))
    shared.feed(app, statuses(100))
    seen: list[str] = []

    def save(sid: str, *_more: object) -> None:
        seen.append(sid)
        if len(seen) == 100:
            raise _Enough

    proxy.cut(None, 20)
    with pytest.raises(_Enough):
        exec(program, {"save": save, "appkey": app.appkey})
    assert seen == [record["sid"] for record in statuses(100)]
    assert proxy.cuts == 1


@pytest.mark.parametrize("root", ROOTS)
@both
def test_a_service_that_is_not_ours_is_asked_once(
    pulled: Pull, root: str, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ABOUT_WAIT_S", 0.2)
    with Foreign(root, [PAGE]) as service:
        began = time.monotonic()
        assert pulled(service.address, app) == [{"sid": "8:1"}]
        assert time.monotonic() - began < PATIENCE_S / 2, "it would never have answered"
        assert service.asked == ["GET", "POST"]


@both
def test_a_service_that_is_not_ours_is_never_pulled_twice(pulled: Pull, app: App) -> None:
    with Foreign("404", [None]) as service:
        with pytest.raises(AnswerLost) as caught:
            pulled(service.address, app)
        assert caught.value.may_have_consumed
        assert service.asked == ["GET", "POST"]
