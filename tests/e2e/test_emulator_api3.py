"""API 3.0 against the emulator: the official Python SDK sends, waits for the report, and pulls."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.sms.v20190711 import models as models_2019
from tencentcloud.sms.v20190711.sms_client import SmsClient as Client2019
from tencentcloud.sms.v20210111 import models as models_2021
from tencentcloud.sms.v20210111.sms_client import SmsClient as Client2021

from pullstatus import limits
from pullstatus.emulator.scenario import SECRET_ID, SECRET_KEY
from pullstatus.emulator.thread import EmulatorThread
from pullstatus.records.hours import hour_of
from tests.harness import PATIENCE_S

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp")

SCENARIO = {
    "secret": {"v1": True},
    "sends": {"delay_s": 0},
    "templates": [{"id": 7839, "text": "{1} is your code", "code": True}],
    "rules": [
        {"mobile": "13800000001", "code": "MK:0001"},
        {"mobile": "13800000002", "result": 1015, "errmsg": "unsubscribed"},
        {"mobile": "1390000*", "reply": "TD"},
        {"mobile": "13800000003", "delay_s": 0.1},
    ],
    "replies": {"delay_s": 0},
}
FREE = {"secret": {"v1": True}, "sends": {"delay_s": 0}}


class Sdk:
    """The official client of one version, as its documents say; the SDK has no annotations."""

    def __init__(
        self,
        emulator: EmulatorThread,
        year: int = 2021,
        *,
        method: str = "POST",
        signature: str = "TC3-HMAC-SHA256",
    ) -> None:
        client, self._models = (
            (Client2021, models_2021) if year == 2021 else (Client2019, models_2019)
        )
        self._app = {"SmsSdkAppId" if year == 2021 else "SmsSdkAppid": str(emulator.sdkappid)}
        self._named = "TemplateId" if year == 2021 else "TemplateID"
        endpoint = emulator.base_url.removeprefix("http://")
        http = HttpProfile(protocol="http", endpoint=endpoint, reqMethod=method, reqTimeout=60)
        pair = Credential(emulator.secret_id, emulator.secret_key)
        self._client: Any = client(pair, "ap-guangzhou", ClientProfile(signature, http))

    def __call__(self, action: str, **members: object) -> dict[str, Any]:
        """What a call answers, as the SDK hands it over."""
        request = getattr(self._models, f"{action}Request")()
        request.from_json_string(json.dumps(self._app | members))
        answer = getattr(self._client, action)(request)
        told: dict[str, Any] = json.loads(answer.to_json_string())
        return told

    def send(self, *numbers: str, **members: object) -> list[dict[str, Any]]:
        """A send of template 7839 with a code."""
        said = {"TemplateParamSet": ["123456"], self._named: "7839", "SessionContext": "mine"}
        told = self("SendSms", PhoneNumberSet=list(numbers), **(said | members))
        found: list[dict[str, Any]] = told["SendStatusSet"]
        return found


@pytest.fixture(scope="module")
def shared_emulator() -> Iterator[EmulatorThread]:
    with EmulatorThread(SCENARIO) as running:
        yield running


@pytest.fixture
def emulator(shared_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch) -> EmulatorThread:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    shared_emulator.reset()
    return shared_emulator


def code_of(caught: pytest.ExceptionInfo[TencentCloudSDKException]) -> str:
    return str(caught.value.get_code())


@pytest.mark.parametrize("year", [2021, 2019])
def test_sdk_sends_waits_for_the_report_and_pulls_it(emulator: EmulatorThread, year: int) -> None:
    sdk = Sdk(emulator, year)
    [sent] = sdk.send("+8613800000003")
    assert sent == {
        "SerialNo": sent["SerialNo"],
        "PhoneNumber": "+8613800000003",
        "Fee": 1,
        "SessionContext": "mine",
        "Code": "Ok",
        "Message": "send success",
        "IsoCode": "CN",
    }
    assert emulator.sent[0].text == "【Example】123456 is your code"
    assert emulator.sent[0].call == "SendSms"
    deadline = time.monotonic() + PATIENCE_S
    found: list[Any] = []
    while not found:
        assert time.monotonic() < deadline
        found = sdk("PullSmsSendStatus", Limit=100)["PullSmsSendStatusSet"]
    [status] = found
    assert (status["SerialNo"], status["ReportStatus"]) == (sent["SerialNo"], "SUCCESS")
    assert status["Description"] == "DELIVRD"
    if year == 2021:
        assert status["SessionContext"] == "mine"
    assert sdk("PullSmsSendStatus", Limit=100)["PullSmsSendStatusSet"] == []


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("signature", ["TC3-HMAC-SHA256", "HmacSHA256"])
def test_sdk_sends_in_any_form(emulator: EmulatorThread, method: str, signature: str) -> None:
    sdk = Sdk(emulator, method=method, signature=signature)
    told = sdk.send("+8613800000000", "13800000001", "+8613800000002", "13x")
    assert [one["Code"] for one in told] == [
        "Ok",
        "Ok",
        "FailedOperation.PhoneNumberInBlacklist",
        "InvalidParameterValue.IncorrectPhoneNumber",
    ]
    pulled = sdk("PullSmsSendStatus", Limit=100)["PullSmsSendStatusSet"]
    assert [one["SerialNo"] for one in pulled] == [one["SerialNo"] for one in told[:2]]
    assert [one["Description"] for one in pulled] == ["DELIVRD", "MK:0001"]


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("signature", ["TC3-HMAC-SHA256", "HmacSHA256"])
def test_sdk_sends_to_as_many_as_it_may_in_any_form(
    emulator: EmulatorThread, method: str, signature: str
) -> None:
    """A form and a query have a parameter for each number."""
    sdk = Sdk(emulator, method=method, signature=signature)
    numbers = [f"+86139{place:08}" for place in range(limits.RECEIVERS_MAX)]
    assert {one["Code"] for one in sdk.send(*numbers)} == {"Ok"}
    assert len(emulator.sent) == limits.RECEIVERS_MAX
    if method == "POST":  # a query with one more is too long
        with pytest.raises(TencentCloudSDKException) as caught:
            sdk.send(*numbers, "+8613800000000")
        assert code_of(caught) == "LimitExceeded.PhoneNumberCountLimit"


def test_what_is_wrong_with_a_text_is_told_of_each_number(emulator: EmulatorThread) -> None:
    sdk = Sdk(emulator)
    told = sdk.send("+8613800000000", "+8613800000001", TemplateParamSet=["no code"])
    assert {one["Code"] for one in told} == {"InvalidParameterValue.TemplateParameterFormatError"}
    told = sdk.send("+8613800000000", TemplateId="1")
    assert told[0]["Code"] == "FailedOperation.TemplateIncorrectOrUnapproved"
    assert emulator.waiting() == 0
    with pytest.raises(TencentCloudSDKException) as caught:
        sdk.send("+8613800000000", "+12025550100")
    assert code_of(caught) == "UnsupportedOperation.ContainDomesticAndInternationalPhoneNumber"
    with pytest.raises(TencentCloudSDKException) as caught:
        sdk.send()
    assert code_of(caught) == "MissingParameter.EmptyPhoneNumberSet"


def test_sdk_asks_and_counts(emulator: EmulatorThread) -> None:
    sdk = Sdk(emulator)
    sent = sdk.send("+8613900001234", "+8613800000001", "+8613800000002")
    now_s = int(time.time())
    looked = sdk(
        "PullSmsSendStatusByPhoneNumber",
        PhoneNumber="+8613800000001",
        BeginTime=now_s - 60,
        Offset=0,
        Limit=100,
    )["PullSmsSendStatusSet"]
    assert [one["SerialNo"] for one in looked] == [sent[1]["SerialNo"]]
    [reply] = sdk("PullSmsReplyStatus", Limit=100)["PullSmsReplyStatusSet"]
    assert (reply["ReplyContent"], reply["PhoneNumber"]) == ("TD", "+8613900001234")
    hours = {
        "BeginTime": str(hour_of((now_s - 3600) * 1000)),
        "EndTime": str(hour_of((now_s + 3600) * 1000)),
        "Limit": 0,
        "Offset": 0,
    }
    counted = sdk("CallbackStatusStatistics", **hours)["CallbackStatusStatistics"]
    assert (counted["CallbackCount"], counted["CallbackSuccessCount"]) == (2, 1)
    assert counted["RequestSuccessCount"] == 2
    counted = sdk("SendStatusStatistics", **hours)["SendStatusStatistics"]
    assert counted == {"FeeCount": 2, "RequestCount": 3, "RequestSuccessCount": 2}


def test_calls_fail_on_demand_in_their_own_words(emulator: EmulatorThread) -> None:
    sdk = Sdk(emulator)
    emulator.faults.add("result", call="SendSms", result=1022, errmsg="enough for today")
    with pytest.raises(TencentCloudSDKException, match="enough for today") as caught:
        sdk.send("+8613800000000")
    assert code_of(caught) == "LimitExceeded.AppDailyLimit"
    emulator.faults.add("cut", nonempty=True, type=0)
    assert sdk("PullSmsSendStatus", Limit=100)["PullSmsSendStatusSet"] == []
    sdk.send("+8613900001234")
    assert len(sdk("PullSmsReplyStatus", Limit=100)["PullSmsReplyStatusSet"]) == 1
    with pytest.raises(TencentCloudSDKException):
        sdk("PullSmsSendStatus", Limit=100)
    assert emulator.waiting() == 0
    assert emulator.faults.hits == 2


def test_requests_are_told_with_their_action_and_code(emulator: EmulatorThread) -> None:
    sdk = Sdk(emulator)
    sdk.send("+8613800000000")
    with pytest.raises(TencentCloudSDKException):
        sdk("PullSmsSendStatus", Limit=101)
    Sdk(emulator, signature="HmacSHA256").send("+8613800000000")
    told = [(one.action, one.code, one.sdkappid) for one in emulator.requests]
    assert told == [
        ("SendSms", None, emulator.sdkappid),
        ("PullSmsSendStatus", "InvalidParameterValue", emulator.sdkappid),
        ("SendSms", None, emulator.sdkappid),
    ]


def test_secret_key_pair_is_of_the_scenario() -> None:
    with EmulatorThread(FREE) as emulator:
        assert (emulator.secret_id, emulator.secret_key) == (SECRET_ID, SECRET_KEY)
        # Without templates any is good, and its parameters are the text.
        assert Sdk(emulator).send("+12025550100", SignName="Acme")[0]["IsoCode"] == "US"
        assert emulator.sent[0].text == "【Acme】123456"
