"""The official Python SDK of API 3.0, unchanged but for the endpoint, against a running server."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from threading import Thread
from typing import Any, Final, NamedTuple, TypeAlias

import pytest
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.common.retry import StandardRetryer
from tencentcloud.sms.v20190711 import models as models_2019
from tencentcloud.sms.v20190711.sms_client import SmsClient as Client2019
from tencentcloud.sms.v20210111 import models as models_2021
from tencentcloud.sms.v20210111.sms_client import SmsClient as Client2021

from pullstatus.records import Kind
from tests.harness import REPLY, STATUS, App, Program, hours_around, reply, status
from tests.proxy import CuttingProxy

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp")

UTC8: Final = timezone(timedelta(hours=8))
SIGNATURES: Final = ("TC3-HMAC-SHA256", "HmacSHA1", "HmacSHA256")
METHODS: Final = ("POST", "GET")
APPS: Final = 20  # one for each test
PULLS: Final = {STATUS: "PullSmsSendStatus", REPLY: "PullSmsReplyStatus"}

# The SDK has no annotations.
Client: TypeAlias = Any
Answer: TypeAlias = Any
Make = Callable[..., Client]


class Version(NamedTuple):
    """What one version of the SDK calls things.

    Attributes:
        number: the member that names the application.
        begin: that of a question by number which says since when.
        hours: those of counts.
        hour: what an hour is there, a text or a number.
    """

    client: type
    models: Any
    number: str
    begin: str
    hours: tuple[str, str]
    hour: Callable[[int], object]


V2021: Final = Version(
    Client2021, models_2021, "SmsSdkAppId", "BeginTime", ("BeginTime", "EndTime"), str
)
V2019: Final = Version(
    Client2019, models_2019, "SmsSdkAppid", "SendDateTime", ("StartDateTime", "EndDataTime"), int
)
VERSIONS: Final = (V2021, V2019)


class Pairs(NamedTuple):
    """Two secret key pairs: one that may sign as we like it, one in any way.

    Attributes:
        apps: those that both may read.
    """

    usual: Credential
    free: Credential
    apps: list[App]


@pytest.fixture(scope="module")
def pairs(shared: Program) -> Pairs:
    apps = [shared.spare_app() for _ in range(APPS)]
    granted = [word for app in apps for word in ("--app", str(app.sdkappid))]

    def create(*flags: str) -> Credential:
        made = shared.cli("secret", "create", *granted, *flags)
        return Credential(made["secret_id"], made["secret_key"])

    return Pairs(create(), create("--v1", "--unsigned-payload"), apps)


@pytest.fixture
def app(pairs: Pairs) -> App:
    """One that no other test uses."""
    return pairs.apps.pop()


@pytest.fixture
def make(shared: Program, monkeypatch: pytest.MonkeyPatch) -> Make:
    """What makes a client of the SDK, as its documents say; by default for the server itself."""
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)

    def client(
        pair: Credential,
        version: Version = V2021,
        *,
        endpoint: str = f"{shared.host}:{shared.port}",
        method: str = "POST",
        signature: str = "TC3-HMAC-SHA256",
        unsigned: bool = False,
        retryer: StandardRetryer | None = None,
    ) -> Client:
        http = HttpProfile(protocol="http", endpoint=endpoint, reqMethod=method, reqTimeout=60)
        profile = ClientProfile(signature, http)
        profile.unsignedPayload = unsigned
        profile.retryer = retryer
        return version.client(pair, "ap-guangzhou", profile)

    return client


def ask(
    client: Client, action: str, app: App, members: Mapping[str, object], **headers: str
) -> Answer:
    """Have it make a call with these members, and return the answer that its caller gets.

    Args:
        headers: those that its caller sets, by names with underscores for dashes.
    """
    version = V2021 if isinstance(client, Client2021) else V2019
    request = getattr(version.models, f"{action}Request")()
    setattr(request, version.number, str(app.sdkappid))
    for name, value in members.items():
        setattr(request, name, value)
    if headers:
        request.headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return getattr(client, action)(request)


def pull(
    client: Client, app: App, limit: int = 100, *, key: str | None = None, **headers: str
) -> list[str]:
    """The serials of a page of statuses."""
    keyed = {} if key is None else {"Idempotency_Key": key}
    return serials(ask(client, PULLS[STATUS], app, {"Limit": limit}, **keyed, **headers))


def serials(answer: Answer) -> list[str]:
    return [record.SerialNo for record in answer.PullSmsSendStatusSet]


def told(answer: Answer) -> dict[str, object]:
    """Its members and their values."""
    return {name.removeprefix("_"): value for name, value in vars(answer).items()}


def error_of(
    call: Callable[..., object], *arguments: object, **named: object
) -> TencentCloudSDKException:
    with pytest.raises(TencentCloudSDKException) as raised:
        call(*arguments, **named)
    return raised.value


def test_it_is_understood_however_it_signs_and_sends(
    shared: Program, app: App, pairs: Pairs, make: Make
) -> None:
    ways = list(itertools.product(VERSIONS, METHODS, SIGNATURES, (False,)))
    ways += itertools.product(VERSIONS, METHODS, SIGNATURES[:1], (True,))
    shared.feed(app, [status(number) for number in range(len(ways))])
    found = []
    for version, method, signature, unsigned in ways:
        client = make(pairs.free, version, method=method, signature=signature, unsigned=unsigned)
        found += pull(client, app, 1)
    assert found == [f"8:{number}" for number in range(len(ways))]


def test_a_pair_has_to_allow_what_proves_less(
    shared: Program, app: App, pairs: Pairs, make: Make
) -> None:
    shared.feed(app, [status(1)])
    for weaker in ({"unsigned": True}, {"signature": "HmacSHA1"}, {"signature": "HmacSHA256"}):
        error = error_of(pull, make(pairs.usual, **weaker), app)
        assert error.get_code() == "AuthFailure.SignatureFailure"
        assert "not allowed for this SecretId" in error.get_message()
    assert pull(make(pairs.usual), app) == ["8:1"]


def test_a_token_and_no_signature_are_refused(
    shared: Program, app: App, pairs: Pairs, make: Make
) -> None:
    shared.feed(app, [status(1)])
    usual = pairs.usual
    passing = Credential(usual.secret_id, usual.secret_key, "a token")
    for method, signature in itertools.product(METHODS, SIGNATURES):
        client = make(passing, method=method, signature=signature)
        error = error_of(pull, client, app)
        assert error.get_code() == "AuthFailure.TokenFailure"
    client = make(usual)
    named = {"SmsSdkAppId": str(app.sdkappid), "Limit": 1}
    error = error_of(client.call_json, PULLS[STATUS], named, options={"SkipSign": True})
    assert error.get_code() == "AuthFailure.InvalidAuthorization"
    assert pull(client, app) == ["8:1"]


def test_each_version_hands_over_its_members(
    shared: Program, app: App, pairs: Pairs, make: Make
) -> None:
    """By pulls and by number, over POST and GET; an array even where there is nothing."""
    now_s = int(time.time())
    received = datetime.fromtimestamp(now_s, UTC8).strftime("%Y-%m-%d %H:%M:%S")
    shared.feed(app, [status(1, user_receive_time=received, ext="session 7")] * 2)
    shared.feed(app, [reply(1, time=now_s, text="😀 ё", extend="42")] * 2)
    number, e164 = "13800000001", "+8613800000001"
    ours = {"SerialNo": "8:1", "ReportStatus": "SUCCESS", "Description": "DELIVRD"}
    statuses = {
        V2021: ours
        | {"UserReceiveTime": now_s, "CountryCode": "86", "SessionContext": "session 7"}
        | {"SubscriberNumber": number, "PhoneNumber": e164},
        V2019: ours
        | {"UserReceiveTime": received, "UserReceiveUnixTime": now_s, "NationCode": "86"}
        | {"PurePhoneNumber": e164, "PhoneNumber": number},
    }
    number, e164 = "13900000001", "+8613900000001"
    ours = {"ExtendCode": "42", "ReplyContent": "😀 ё", "PhoneNumber": e164}
    replies = {
        V2021: ours
        | {"CountryCode": "86", "SubscriberNumber": number}
        | {"SignName": "Example", "ReplyTime": now_s},
        V2019: ours
        | {"NationCode": "86", "Sign": "Example"}
        | {"ReplyTime": received, "ReplyUnixTime": now_s},
    }
    kinds = ((STATUS, "PullSmsSendStatusSet", statuses), (REPLY, "PullSmsReplyStatusSet", replies))
    for version, method in ((V2021, "POST"), (V2019, "GET")):
        client = make(pairs.usual, version, method=method)
        for kind, member, expected in kinds:
            page = getattr(ask(client, PULLS[kind], app, {"Limit": 1}), member)
            assert [told(record) for record in page] == [expected[version]]
        for mobile, (kind, member, expected) in zip(("138", "139"), kinds, strict=True):
            of_one: dict[str, object] = {
                "PhoneNumber": f"+86{mobile}00000001",
                version.begin: now_s - 60,
            }
            of_one |= {"Offset": 0, "Limit": 9}
            found = ask(client, f"{PULLS[kind]}ByPhoneNumber", app, of_one)
            assert [told(record) for record in getattr(found, member)] == [expected[version]] * 2
    client = make(pairs.usual)
    assert pull(client, app) == []
    assert ask(client, PULLS[REPLY], app, {"Limit": 1}).PullSmsReplyStatusSet == []


@pytest.mark.parametrize("version", VERSIONS, ids=["2021", "2019"])
def test_counts_of_hours(
    shared: Program, app: App, pairs: Pairs, make: Make, version: Version
) -> None:
    """Hours are texts in one version, numbers in the other; nobody has told of sends."""
    shared.feed(app, [status(1), status(2, report_status="FAIL", errmsg="MK:0001")])
    hours = dict(zip(version.hours, map(version.hour, hours_around()), strict=True))
    client = make(pairs.usual, version)
    asked = {"Limit": 0, "Offset": 0} | hours
    answer = ask(client, "CallbackStatusStatistics", app, asked)
    assert told(answer.CallbackStatusStatistics) == {
        "CallbackCount": 2,
        "RequestSuccessCount": 2,
        "CallbackFailCount": 1,
        "CallbackSuccessCount": 1,
        "InternalErrorCount": 0,
        "InvalidNumberCount": 1,
        "ShutdownErrorCount": 0,
        "BlackListCount": 0,
        "FrequencyLimitCount": 0,
    }
    error = error_of(ask, client, "SendStatusStatistics", app, asked)
    assert error.get_code() == "UnsupportedOperation"


def test_its_errors_say_what_is_wrong(shared: Program, app: App, pairs: Pairs, make: Make) -> None:
    usual = pairs.usual
    wrong = make(Credential(usual.secret_id, "0" * 32))
    unknown = make(Credential(f"AKID{'0' * 32}", usual.secret_key))
    client = make(usual)
    calls: Sequence[tuple[Callable[[], object], str]] = [
        (lambda: pull(wrong, app), "AuthFailure.SignatureFailure"),
        (lambda: pull(unknown, app), "AuthFailure.SecretIdNotFound"),
        (
            lambda: pull(client, shared.spare_app()),
            "UnauthorizedOperation.SmsSdkAppIdVerifyFail",
        ),
        (lambda: pull(client, app, 101), "InvalidParameterValue"),
        (lambda: ask(client, PULLS[REPLY], app, {}), "MissingParameter"),
        (lambda: client.call_json("PullNothing", {}), "InvalidAction"),
        (
            lambda: ask(client, f"{PULLS[STATUS]}ByPhoneNumber", app, {"PhoneNumber": "1"}),
            "InvalidParameterValue.IncorrectPhoneNumber",
        ),
    ]
    for call, code in calls:
        error = error_of(call)
        assert error.get_code() == code
        assert error.get_message()
        assert error.get_request_id()


# --- one mailbox, two faces -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(Kind))
def test_a_page_over_one_face_is_gone_from_the_other(
    shared: Program, app: App, pairs: Pairs, make: Make, kind: Kind
) -> None:
    record, member = (
        (status, "PullSmsSendStatusSet") if kind is STATUS else (reply, "PullSmsReplyStatusSet")
    )
    shared.feed(app, [record(number) for number in range(8)])
    new, old = make(pairs.usual), make(pairs.usual, V2019, method="GET")
    found = []
    for client in (None, new, None, old):
        if client is None:
            found.append([each["mobile"] for each in shared.pull(app, kind, 2).data])
        else:
            page = getattr(ask(client, PULLS[kind], app, {"Limit": 2}), member)
            found.append([each.PhoneNumber[-11:] for each in page])
    first = 13800000000 if kind is STATUS else 13900000000
    assert found == [[str(first + at), str(first + at + 1)] for at in (0, 2, 4, 6)]
    assert shared.pull(app, kind).data == []


def test_a_key_means_one_page_over_both_faces(
    shared: Program, app: App, pairs: Pairs, make: Make
) -> None:
    shared.feed(app, [status(number) for number in range(4)])
    assert pull(make(pairs.usual), app, 2, key="page-1") == ["8:0", "8:1"]
    again = shared.pull(app, max=2, key="page-1")
    assert [record["sid"] for record in again.data] == ["8:0", "8:1"]
    assert [record["sid"] for record in shared.pull(app).data] == ["8:2", "8:3"]


# --- repeats --------------------------------------------------------------------------------------


def test_a_key_in_its_headers_brings_the_same_page(
    shared: Program, app: App, pairs: Pairs, make: Make
) -> None:
    """What the SDK writes into these headers itself, and says again with each call, does not."""
    shared.feed(app, [status(number) for number in range(6)])
    client = make(pairs.usual)
    assert [pull(client, app, 2, key="page-1") for _ in range(2)] == [["8:0", "8:1"]] * 2
    request = models_2021.PullSmsSendStatusRequest()
    request.SmsSdkAppId, request.Limit = str(app.sdkappid), 2
    request.headers = {"X-Of-The-Caller": "so that the SDK keeps its trace here"}
    pages = []
    traces = set()
    for _ in range(2):
        pages.append(serials(client.PullSmsSendStatus(request)))
        traces.add(request.headers["X-TC-TraceId"])
    assert len(traces) == 1
    assert pages == [["8:2", "8:3"], ["8:4", "8:5"]]


@pytest.mark.parametrize("method", METHODS)
def test_a_reader_in_its_headers_has_a_page_until_it_is_acknowledged(
    shared: Program, app: App, pairs: Pairs, make: Make, method: str
) -> None:
    """The SDK hides the pull's id; the operator finds that by the RequestId, which it shows."""
    shared.feed(app, [status(number) for number in range(6)])
    client = make(pairs.usual, method=method)
    page = ask(client, PULLS[STATUS], app, {"Limit": 2}, Pullstatus_Reader="billing")
    assert serials(page) == ["8:0", "8:1"]
    assert pull(client, app, 2, Pullstatus_Reader="billing") == ["8:0", "8:1"]
    assert pull(client, app, 2, Pullstatus_Reader="other") == ["8:2", "8:3"]
    [row] = shared.cli("pulls", "list", "--request-id", page.RequestId)
    done = {"Pullstatus_Reader": "billing", "Pullstatus_Ack": row["pull_id"]}
    assert pull(client, app, 2, **done, Pullstatus_Take="0") == []
    assert pull(client, app, 2, **done) == ["8:4", "8:5"]
    error = error_of(pull, client, app, 2, Pullstatus_Reader="other", Pullstatus_Ack=row["pull_id"])
    assert error.get_code() == "InvalidParameterValue"
    assert "Pullstatus-Ack" in error.get_message()


def test_a_wait_in_its_headers_is_heard(
    shared: Program, app: App, pairs: Pairs, make: Make
) -> None:
    """A pull of an empty mailbox is answered by what comes, long before it has waited so long."""
    waiting = shared.metrics()["pullstatus_pulls_held"]

    def feed() -> None:
        shared.until(lambda: shared.metrics()["pullstatus_pulls_held"] > waiting)
        shared.feed(app, [status(1)])

    feeder = Thread(target=feed, daemon=True)
    feeder.start()
    assert pull(make(pairs.usual), app, Pullstatus_Wait="50") == ["8:1"]
    feeder.join()


def test_its_retryer_loses_pages_without_a_key(
    shared: Program, app: App, pairs: Pairs, make: Make
) -> None:
    """After one lost answer it calls twice more, and raises the first error: that is the SDK.

    It has no cure but a key, and nothing here can tell its repeats from calls that are meant.
    """
    shared.feed(app, [status(number) for number in range(8)])
    with CuttingProxy(shared.host, shared.port) as proxy:
        client = _retrying(make, pairs, proxy)
        proxy.cut(0)
        error = error_of(pull, client, app, 2)
        assert error.get_code() == "ClientNetworkError"
        assert proxy.requests == 3
    assert pull(make(pairs.usual), app, 2) == ["8:6", "8:7"]


@pytest.mark.parametrize(
    "header",
    [{"Idempotency_Key": "page-1"}, {"Pullstatus_Reader": "billing"}],
    ids=["key", "reader"],
)
def test_its_retryer_loses_nothing_with_a_key_or_as_a_reader(
    shared: Program, app: App, pairs: Pairs, make: Make, header: dict[str, str]
) -> None:
    """All three attempts get one page, and so does the next call. A reader has no key to keep."""
    shared.feed(app, [status(number) for number in range(4)])
    with CuttingProxy(shared.host, shared.port) as proxy:
        client = _retrying(make, pairs, proxy)
        proxy.cut(0)
        error = error_of(pull, client, app, 2, **header)
        assert error.get_code() == "ClientNetworkError"
        assert proxy.requests == 3
        assert pull(client, app, 2, **header) == ["8:0", "8:1"]
    assert pull(make(pairs.usual), app) == ["8:2", "8:3"]


def _retrying(make: Make, pairs: Pairs, proxy: CuttingProxy) -> Client:
    at_once = StandardRetryer(backoff_fn=lambda _attempt: 0)
    return make(pairs.usual, endpoint=proxy.address.removeprefix("http://"), retryer=at_once)
