"""The send calls to the byte: what is signed, what is read, what is refused, what is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pullstatus import limits
from pullstatus.emulator import send
from pullstatus.emulator.send import Detail, Receiver, SendRequest
from pullstatus.errors import Refused

APPKEY = "5f03a35d00ee52a21327ab048186a2c4"
RANDOM = "7226249334"
TIME = 1457336869
QUERY = f"sdkappid=1400006666&random={RANDOM}".encode()
ONE = {"nationcode": "86", "mobile": "13788888888"}
TWO = {"nationcode": "86", "mobile": "13788888889"}


def body(**changes: object) -> bytes:
    """A documented body; members given as `...` are left out."""
    members: dict[str, object] = {
        "tel": ONE,
        "type": 0,
        "msg": "【Example】your code is 1234",
        "sig": "ecab4881ee80ad3d76bb1da68387428ca752eb885e52621a3129dcf4d9bc4fd4",
        "time": TIME,
        "extend": "",
        "ext": "",
    }
    members |= changes
    return json.dumps({name: value for name, value in members.items() if value is not ...}).encode()


def parse(*, many: bool = False, **changes: object) -> SendRequest:
    return send.parse_send(QUERY, body(**changes), many=many)


def refusal(changes: dict[str, Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        parse(**changes).message()
    assert caught.value.errmsg.isascii()
    return caught.value


# --- the signature --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mobiles", "sig"),
    [
        (["13788888888"], "ecab4881ee80ad3d76bb1da68387428ca752eb885e52621a3129dcf4d9bc4fd4"),
        (
            ["13788888888", "13788888889"],
            "be66bb4aeb54701ed0637d0996a0b75111d5b8eda9b3a71bdc579a3d26f3edfb",
        ),
        ([""], "7e843ec0475b2782508a07824bfd150a750e19d4fa5297d721fed46892ca971d"),
    ],
)
def test_signature_is_the_documented_one_over_the_mobiles(mobiles: list[str], sig: str) -> None:
    assert send.fitting_send(sig, [APPKEY], RANDOM, TIME, mobiles) == 0
    assert send.fitting_send(sig.upper(), [APPKEY], RANDOM, str(TIME), mobiles) == 0
    assert send.fitting_send(sig, [APPKEY], RANDOM, TIME, [*mobiles, "13788888880"]) is None
    assert send.fitting_send(sig, [APPKEY], RANDOM, TIME, ["1"]) is None


def test_documented_bodies_are_signed_over_the_numbers_in_their_order() -> None:
    for many, tel in ((False, ONE), (True, [TWO, ONE])):
        request = parse(many=many, tel=tel)
        mobiles = [receiver.mobile for receiver in request.receivers]
        assert mobiles == [one["mobile"] for one in (tel if isinstance(tel, list) else [tel])]
    request = parse()
    place = send.fitting_send(
        request.sig, [APPKEY], request.random, request.time_text, ["13788888888"]
    )
    assert place == 0


# --- reading --------------------------------------------------------------------------------------


def test_text_and_template_are_read_as_they_were_sent() -> None:
    message = parse(type=1, extend="42", ext="session 7").message()
    assert (message.type, message.msg, message.tpl_id) == (1, "【Example】your code is 1234", None)
    assert (message.extend, message.ext) == ("42", "session 7")
    message = parse(msg=..., type=..., tpl_id="7839", params=["1", 5], sign="Example").message()
    assert (message.msg, message.tpl_id, message.params, message.sign) == (
        None,
        7839,
        ("1", "5"),
        "Example",
    )


def test_numbers_may_be_json_numbers() -> None:
    """An official SDK hands on what its caller gave, and signs it as text."""
    request = parse(many=True, tel=[{"nationcode": 86, "mobile": 13788888888}])
    assert request.receivers == (Receiver("86", "13788888888"),)


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({"sig": ...}, 1003),
        ({"time": "x"}, 1004),
        ({"tel": ...}, 1004),
        ({"tel": None}, 1004),
        ({"tel": [ONE]}, 1004),
        ({"tel": "13788888888"}, 1004),
        ({"tel": ONE, "many": True}, 1004),
        ({"tel": [], "many": True}, 1004),
        ({"tel": [ONE, 5], "many": True}, 1004),
        ({"tel": {"nationcode": "86", "mobile": ["1"]}}, 1004),
        ({"msg": ...}, 1004),
        ({"msg": ""}, 1004),
        ({"msg": {}}, 1004),
        ({"type": 2}, 1004),
        ({"type": True}, 1004),
        ({"tpl_id": "x"}, 1004),
        ({"tpl_id": 1, "params": "x"}, 1004),
        ({"tpl_id": 1, "params": [{}]}, 1004),
        ({"extend": "a"}, 1004),
        ({"extend": "1" * (limits.EXTEND_DIGITS_MAX + 1)}, 1004),
        ({"ext": "x" * (limits.EXT_CHARS_MAX + 1)}, 1004),
        ({"tel": [ONE, {"nationcode": "1", "mobile": "2025550100"}], "many": True}, 1034),
        ({"tel": [ONE] * 201, "many": True}, 1046),
    ],
)
def test_refusals_have_the_documented_code(changes: dict[str, Any], result: int) -> None:
    assert refusal(changes).result == result


def test_two_hundred_numbers_pass() -> None:
    assert parse(many=True, tel=[ONE] * 200).message().msg


def test_members_may_be_left_out_or_null() -> None:
    message = parse(type=None, extend=None, ext=..., sign=None, params=None).message()
    assert (message.type, message.extend, message.ext) == (0, "", "")


@pytest.mark.parametrize(
    ("nationcode", "mobile", "good"),
    [
        ("86", "13788888888", True),
        ("1", "2025550100", True),
        ("86", "1378888888", False),
        ("86", "+8613788888", False),
        ("86", "", False),
        ("", "13788888888", False),
        ("+86", "13788888888", False),
        ("44", "7700 900123", False),
        ("44", "1" * (limits.MOBILE_DIGITS_MAX + 1), False),
        ("44", "٣٤٥٦٧", False),
    ],
)
def test_number_is_digits_and_eleven_of_them_on_the_mainland(
    nationcode: str, mobile: str, good: bool
) -> None:
    receiver = Receiver(nationcode, mobile)
    if good:
        receiver.check()
        return
    with pytest.raises(Refused) as caught:
        receiver.check()
    assert caught.value.result == 1016


# --- answers --------------------------------------------------------------------------------------


def test_answers_are_the_documented_ones() -> None:
    assert send.accepted("", "8:ILTeyellu5hzuoNc7Rw20180329", 1) == (
        b'{"result":0,"errmsg":"OK","ext":"","sid":"8:ILTeyellu5hzuoNc7Rw20180329","fee":1}'
    )
    assert send.refused(1014, "no", "号") == b'{"result":1014,"errmsg":"no","ext":"\\u53F7"}'
    details = [
        Detail(0, "OK", "13788888888", "86", "8:x", 2),
        Detail(1016, "malformed", "1", "86"),
    ]
    assert json.loads(send.accepted_many("e", details)) == {
        "result": 0,
        "errmsg": "OK",
        "ext": "e",
        "detail": [
            {
                "result": 0,
                "errmsg": "OK",
                "mobile": "13788888888",
                "nationcode": "86",
                "sid": "8:x",
                "fee": 2,
            },
            {"result": 1016, "errmsg": "malformed", "mobile": "1", "nationcode": "86"},
        ],
    }


@pytest.mark.parametrize(
    ("data", "ext"),
    [
        (b'{"ext":"session"}', "session"),
        (b'{"ext":5}', "5"),
        (b'{"ext":{}}', ""),
        (b"{}", ""),
        (b"[", ""),
        (b"\xff", ""),
    ],
)
def test_ext_of_any_body_can_be_answered(data: bytes, ext: str) -> None:
    assert send.ext_of(data) == ext
