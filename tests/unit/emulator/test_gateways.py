"""Gateways of others, as the emulator plays them: their calls are read by their rows."""

from __future__ import annotations

import asyncio
import random
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from pullstatus import limits
from pullstatus.emulator.gateways import Gateway, Gateways, Play, _request, _values, gateways
from pullstatus.emulator.scenario import convert
from pullstatus.errors import InvalidSetting
from pullstatus.receipts.reading import read
from pullstatus.receipts.reports import State
from pullstatus.receipts.request import Request
from pullstatus.receipts.signatures import fault, fault_of_reply, signs_requests
from pullstatus.receipts.source import builtin
from pullstatus.records import Kind
from pullstatus.steps import done

NOW_S = 1_764_320_460
PLAYED = sorted(gateways().items())
URL = "https://sms.example.com/in/TOKEN/x?ext=1#rc=5&rp=all"


def test_each_gateway_that_has_a_row_is_played() -> None:
    assert gateways().keys() == builtin().keys() - {"native"}


@pytest.mark.parametrize(("name", "gateway"), PLAYED, ids=[name for name, _ in PLAYED])
def test_what_a_gateway_is_played_to_send_is_read_by_its_row(name: str, gateway: Gateway) -> None:
    source, values = builtin()[name], _values(random.Random(7), NOW_S)
    for form, kind in ((gateway.status, Kind.DELIVERY_STATUS), (gateway.reply, Kind.REPLY)):
        if form is None:
            assert source.reply is None
            continue
        made = _request(Play(name, URL), form, values)
        query = urlsplit(made.url).query.encode()
        kinds = made.headers.get("content-type", "")
        reports = done(read(source, Request(made.method, query, kinds, made.body, NOW_S)))
        assert not reports.unread
        [report] = reports.reports
        assert report.kind is kind
        assert report.number.lstrip("+").endswith(values["mobile"].lstrip("+"))
        assert report.at_s in (None, NOW_S)
        if kind is Kind.REPLY:
            assert report.text == "yes"
        else:
            assert report.state is State.SUCCESS
    assert gateway.takes(source.answer.status, source.answer.body)
    body = source.answer.body if source.answer.reply is None else source.answer.reply
    assert gateway.takes(200, body)
    assert not gateway.takes(0, "")


@pytest.mark.parametrize(("name", "gateway"), PLAYED, ids=[name for name, _ in PLAYED])
def test_a_gateway_that_signs_does_so_with_the_key_it_is_given(name: str, gateway: Gateway) -> None:
    scheme = builtin()[name].signature
    play = Play(name, URL, key="theirs")
    if not scheme:
        with pytest.raises(InvalidSetting, match="key must be left out"):
            play.check()
        return
    values = _values(random.Random(7), NOW_S)
    for form in (gateway.status, gateway.reply):
        assert form is not None
        made = _request(play, form, values)
        assert "#" not in made.url
        plain = _request(Play(name, URL), form, values)
        if signs_requests(scheme):
            assert fault(scheme, made, "theirs") is None
            assert fault(scheme, made, "another") is not None
            assert fault(scheme, plain, "theirs") is not None
        elif form is gateway.reply:  # receipts are not signed
            [reply], [unsigned] = (parse_qs(each.body)[b"sms_reply"] for each in (made, plain))
            assert fault_of_reply(scheme, reply, "theirs") is None
            assert fault_of_reply(scheme, reply, "another") is not None
            assert fault_of_reply(scheme, unsigned, "theirs") is not None


@pytest.mark.parametrize(("forgets", "again"), [(False, 1), (True, 0)])
def test_a_call_that_is_in_the_air_when_all_are_forgotten_is_not_made_again(
    *, forgets: bool, again: int
) -> None:
    """It would come to whoever has begun something else meanwhile."""
    made = Gateways()

    async def answer(_request: httpx.Request) -> httpx.Response:
        if forgets:
            made.forget()
        return httpx.Response(503)

    async def play() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            made.play(Play("vonage", URL, replies=0, pace=1_000_000), random.Random(7), NOW_S)
            await made._call(http, *made._waiting.popleft())
            await asyncio.sleep(0.1)  # a pause of its gateway is less, at this pace

    asyncio.run(play())
    assert len(made._waiting) == again


async def pausing(made: Gateways, calls: int) -> None:
    """Have as many calls made, which are all refused and wait for their gateway's pause."""
    transport = httpx.MockTransport(lambda _request: httpx.Response(503))
    async with httpx.AsyncClient(transport=transport) as http:
        made.play(Play("vonage", URL, statuses=calls, replies=0), random.Random(7), NOW_S)
        while made._waiting:
            await made._call(http, *made._waiting.popleft())


def test_calls_that_wait_to_be_made_again_are_bounded_with_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that were made first are given up first."""
    monkeypatch.setattr(limits, "PUSHES_MAX", 3)
    made = Gateways()

    async def play() -> None:
        await pausing(made, 2)
        timers = [timer for timer, _ in made._pausing.values()]
        made.play(Play("vonage", URL, statuses=2, replies=0), random.Random(7), NOW_S)
        assert [timer.cancelled() for timer in timers] == [True, False]
        made.play(Play("vonage", URL, statuses=2, replies=0), random.Random(7), NOW_S)
        assert [timer.cancelled() for timer in timers] == [True, True]
        assert len(made._waiting) == 3

    asyncio.run(play())
    assert [call.state for call in made.calls] == ["waits"] * 3


def test_calls_that_wait_to_be_made_again_end_when_all_are_forgotten() -> None:
    made = Gateways()

    async def play() -> None:
        await pausing(made, 2)
        timers = [timer for timer, _ in made._pausing.values()]
        assert len(timers) == 2
        made.forget()
        assert all(timer.cancelled() for timer in timers)
        assert not made._pausing

    asyncio.run(play())


def test_an_address_that_is_too_long_is_refused() -> None:
    url = "https://sms.example.com/".ljust(limits.PLAYED_URL_CHARS_MAX + 1, "x")
    with pytest.raises(InvalidSetting, match="url"):
        convert({"gateway": "vonage", "url": url}, Play, "play")


@pytest.mark.parametrize(
    "url",
    ["http://xn--a/", "http://a..b/", "http://[::1", "http://h:99999/", "http://h /", "ftp://h"],
)
def test_an_address_that_none_can_call_is_refused(url: str) -> None:
    with pytest.raises(InvalidSetting, match="url"):
        Play("vonage", url).check()


def test_replies_of_a_gateway_that_sends_none_are_refused() -> None:
    assert Play("gupshup", URL).check().reply is None
    with pytest.raises(InvalidSetting, match="replies must be 0"):
        Play("gupshup", URL, replies=1).check()


@pytest.mark.parametrize(
    ("name", "http_status", "tries", "again"),
    [
        ("kannel", 503, 999, True),
        ("kannel", 503, 1000, False),
        ("jasmin", 503, 1, True),
        ("jasmin", 404, 1, False),
        ("jasmin", 503, 4, False),
        ("vonage", 0, 1, True),
        ("vonage", 429, 1, True),
        ("vonage", 401, 1, False),
        ("twilio", 503, 1, False),
        ("twilio", 0, 1, True),
        ("twilio", 0, 2, False),
        ("aliyun", 500, 3, True),
        ("aliyun", 500, 4, False),
        ("tencent", 503, 3, False),
        ("volcengine", 503, 10, True),
        ("huawei", 0, 1, False),
        ("infobip", 503, 20, True),
        ("infobip", 503, 21, False),
        ("sinch", 429, 15, True),
        ("sinch", 401, 1, False),
    ],
)
def test_a_gateway_calls_again_after_what_it_does(
    name: str, http_status: int, tries: int, again: bool
) -> None:
    assert gateways()[name].calls_again("status", http_status, tries) is again


def test_replies_of_some_have_times_of_their_own() -> None:
    """As each page says: of Yunpian receipts come 3 times more, replies 5 times."""
    yunpian, aliyun = gateways()["yunpian"], gateways()["aliyun"]
    assert [yunpian.calls_again("status", 503, tries) for tries in (3, 4)] == [True, False]
    assert [yunpian.calls_again("reply", 503, tries) for tries in (5, 6)] == [True, False]
    assert [yunpian.pause_s("status", tries) for tries in (1, 2, 3)] == [300] * 3
    assert [yunpian.pause_s("reply", tries) for tries in range(1, 6)] == [60] * 5
    assert [aliyun.calls_again("reply", 503, tries) for tries in (3, 4)] == [True, False]
    assert [aliyun.pause_s("reply", tries) for tries in (1, 2, 3)] == [60, 300, 600]


def test_pauses_are_those_of_the_gateway() -> None:
    assert [gateways()["aliyun"].pause_s("status", tries) for tries in (1, 2, 3)] == [60, 300, 600]
    assert gateways()["vonage"].pause_s("status", 50) == 900
    infobip, sinch = gateways()["infobip"], gateways()["sinch"]
    assert infobip.pauses == tuple(60 * (1 + n * n) for n in range(20))
    assert sum(infobip.pauses) == 41.5 * 3600
    assert sum(sinch.pauses) == 81_920


def test_a_body_is_part_of_what_some_take_for_success() -> None:
    assert gateways()["yunpian"].takes(200, "SUCCESS")
    assert not gateways()["yunpian"].takes(200, "OK")
    assert not gateways()["kannel"].takes(204, "")
    assert gateways()["tencent"].takes(200, '{"errmsg": "", "result": 0}')
    assert not gateways()["tencent"].takes(200, '{"result":01}')
    assert not gateways()["aliyun"].takes(200, '{"code":"OK"}')
    assert gateways()["huawei"].takes(503, "")
