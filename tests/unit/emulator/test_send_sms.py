"""The send call of API 3.0: what is read of its parameters, and what is answered."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.emulator.send import Detail, Message, Receiver
from pullstatus.emulator.send_sms import answered, read_message, read_receivers, split
from pullstatus.errors import ActionRefused
from pullstatus.wire.api3.requests import Version

V2021, V2019 = Version.V2021, Version.V2019


def parameters(**members: object) -> dict[str, msgspec.Raw]:
    """As `Request.parameters` has those of a JSON body."""
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in members.items()}


def refused(**members: object) -> ActionRefused:
    sent = parameters(**({"PhoneNumberSet": ["+8613800000000"], "TemplateId": "1"} | members))
    with pytest.raises(ActionRefused) as caught:
        _read(sent)
    return caught.value


def _read(sent: dict[str, msgspec.Raw]) -> None:
    read_receivers(sent)
    read_message(sent, V2021)


@pytest.mark.parametrize(
    ("number", "nationcode", "mobile"),
    [
        ("+8613711112222", "86", "13711112222"),
        ("008613711112222", "86", "13711112222"),
        ("8613711112222", "86", "13711112222"),
        ("13711112222", "86", "13711112222"),
        ("+12025550100", "1", "2025550100"),
        ("+447700900123", "44", "7700900123"),
        ("+85251234567", "852", "51234567"),
        ("+3545551234", "354", "5551234"),
        ("+79161234567", "7", "9161234567"),
        ("2025550100", "", "2025550100"),
        ("+", "", "+"),
        ("+86 137", "", "+86 137"),
        ("+٨٦١٣٧", "", "+٨٦١٣٧"),
    ],
)
def test_number_is_split_behind_its_calling_code(number: str, nationcode: str, mobile: str) -> None:
    assert split(number) == Receiver(nationcode, mobile)


@given(st.text(max_size=24) | st.from_regex(r"\+[0-9]{1,20}", fullmatch=True))
def test_whatever_is_split_is_a_number_or_has_no_code(number: str) -> None:
    one = split(number)
    if one.nationcode:
        assert (one.nationcode + one.mobile).isdigit()
        assert number.endswith(one.mobile)
    else:
        assert one.mobile == number


@pytest.mark.parametrize(
    ("version", "names"), [(V2021, ("TemplateId", "SignName")), (V2019, ("TemplateID", "Sign"))]
)
def test_message_is_read_by_the_names_of_its_version(
    version: Version, names: tuple[str, str]
) -> None:
    template_id, sign_name = names
    sent = parameters(
        **{
            template_id: "7839",
            sign_name: "腾讯云",
            "TemplateParamSet": ["123456", 5],
            "ExtendCode": "42",
            "SessionContext": "session 7",
            "SenderId": "",
            "Unknown": {},
        }
    )
    assert read_message(sent, version) == Message(
        0, None, 7839, ("123456", "5"), "腾讯云", "42", "session 7"
    )


def test_lists_of_a_form_are_numbered() -> None:
    """As version 1 of the signature, and a GET, send them."""
    sent = parameters(
        **{
            "PhoneNumberSet.0": "+8613800000000",
            "PhoneNumberSet.1": "+8613800000001",
            "PhoneNumberSet.3": "beyond a gap",
            "TemplateId": "1",
            "TemplateParamSet.0": "a",
        }
    )
    assert [one.mobile for one in read_receivers(sent)] == ["13800000000", "13800000001"]
    assert read_message(sent, V2021).params == ("a",)


@pytest.mark.parametrize(
    ("members", "code", "word"),
    [
        ({"PhoneNumberSet": []}, "MissingParameter.EmptyPhoneNumberSet", "PhoneNumberSet"),
        ({"PhoneNumberSet": None}, "MissingParameter.EmptyPhoneNumberSet", "PhoneNumberSet"),
        ({"PhoneNumberSet": "+861"}, "InvalidParameterValue", "PhoneNumberSet must"),
        ({"PhoneNumberSet": [{}]}, "InvalidParameterValue", "PhoneNumberSet must"),
        ({"PhoneNumberSet": ["1"] * 201}, "LimitExceeded.PhoneNumberCountLimit", "over 200"),
        (
            {"PhoneNumberSet": ["+8613800000000", "+12025550100"]},
            "UnsupportedOperation.ContainDomesticAndInternationalPhoneNumber",
            "mixes",
        ),
        ({"TemplateId": None}, "MissingParameter", "TemplateId is missing"),
        ({"TemplateId": "x"}, "InvalidParameterValue", "TemplateId must"),
        ({"TemplateId": "9" * 19}, "InvalidParameterValue", "TemplateId must"),
        ({"ExtendCode": "x"}, "InvalidParameterValue", "ExtendCode must"),
        ({"SessionContext": "x" * 1025}, "InvalidParameterValue", "SessionContext must"),
        ({"SignName": []}, "InvalidParameterValue", "SignName must"),
        ({"TemplateParamSet": {}}, "InvalidParameterValue", "TemplateParamSet must"),
    ],
)
def test_parameter_that_is_wrong_is_named(members: dict[str, Any], code: str, word: str) -> None:
    error = refused(**members)
    assert error.error_code == code
    assert word in error.message


def test_answer_tells_what_became_of_each_number() -> None:
    receivers = [split("+8613800000000"), split("+12025550100"), split("bad"), split("+3545551234")]
    details = [
        Detail(0, "OK", "13800000000", "86", "8:a", 2),
        Detail(1015, "unsubscribed", "2025550100", "1"),
        Detail(1016, "no number", "bad", ""),
        Detail(70000, "whatever", "5551234", "354"),
    ]
    read = json.loads(answered(receivers, details, "session é", "id-1"))
    assert read["Response"]["RequestId"] == "id-1"
    first, *others = read["Response"]["SendStatusSet"]
    assert first == {
        "SerialNo": "8:a",
        "PhoneNumber": "+8613800000000",
        "Fee": 2,
        "SessionContext": "session é",
        "Code": "Ok",
        "Message": "send success",
        "IsoCode": "CN",
    }
    assert [(one["PhoneNumber"], one["Code"], one["SerialNo"], one["Fee"]) for one in others] == [
        ("+12025550100", "FailedOperation.PhoneNumberInBlacklist", "", 0),
        ("bad", "InvalidParameterValue.IncorrectPhoneNumber", "", 0),
        ("+3545551234", "InternalError.OtherError", "", 0),
    ]


def test_a_number_that_is_none_is_not_blamed_for_what_else_is_wrong() -> None:
    """Code and text say the same: the first thing that is wrong."""
    receivers = [Receiver("", "bad")] * 2
    details = [Detail(1016, "no number", "bad", ""), Detail(1012, "the sign is short", "bad", "")]
    number, sign = json.loads(answered(receivers, details, "", "id-1"))["Response"]["SendStatusSet"]
    assert "PhoneNumberSet must hold numbers" in number["Message"]
    assert (sign["Code"], sign["Message"]) == (
        "FailedOperation.SignatureIncorrectOrUnapproved",
        "the sign is short",
    )
