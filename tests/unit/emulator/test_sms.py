"""What an SMS says and what it costs."""

from __future__ import annotations

import pytest

from pullstatus.emulator.send import Message
from pullstatus.emulator.sms import Template, compose, parts
from pullstatus.errors import Refused

CODE = Template(id=1, text="{1} is your code, good for {2} minutes", code=True)
ORDER = Template(id=2, text="Dear {1}")
TEMPLATES = {template.id: template for template in (CODE, ORDER)}


def text(msg: str, sign: str = "") -> Message:
    return Message(0, msg, None, (), sign, "", "")


def template(tpl_id: int, *params: str, sign: str = "") -> Message:
    return Message(0, None, tpl_id, params, sign, "", "")


@pytest.mark.parametrize(
    ("message", "said", "sign"),
    [
        (text("【Acme】hi"), "【Acme】hi", "Acme"),
        (text("hi【Acme】"), "hi【Acme】", "Acme"),
        (text("hi"), "【Example】hi", "Example"),
        (
            template(1, "123456", "5"),
            "【Example】123456 is your code, good for 5 minutes",
            "Example",
        ),
        (template(2, "Ann", sign="Acme"), "【Acme】Dear Ann", "Acme"),
        (template(2, "{1}{2}"), "【Example】Dear {1}{2}", "Example"),
    ],
)
def test_sms_has_its_signature_in_front_and_its_places_filled(
    message: Message, said: str, sign: str
) -> None:
    assert compose(message, TEMPLATES, (), "Example") == (said, sign)


def test_without_templates_any_is_taken_for_its_parameters() -> None:
    assert compose(template(99, "a", "b"), {}, (), "Example") == ("【Example】a b", "Example")


@pytest.mark.parametrize(
    ("message", "result"),
    [
        (text("【】hi"), 1012),
        (text("【A】hi"), 1012),
        (text("【ABCDEFGHIJKLM】hi"), 1012),
        (text("【Other】hi"), 1012),
        (template(3), 1014),
        (template(2), 1014),
        (template(2, "a", "b"), 1014),
        (text("x" * 495), 1017),
        (template(2, "x" * 13), 1036),
        (template(1, "1234567", "5"), 1038),
        (template(1, "code", "5"), 1038),
        (template(2, "www.a.cn"), 1048),
    ],
)
def test_refusals_have_the_documented_code(message: Message, result: int) -> None:
    with pytest.raises(Refused) as caught:
        compose(message, TEMPLATES, ("Example", "Acme"), "Example")
    assert caught.value.result == result


@pytest.mark.parametrize(
    ("said", "nationcode", "fee"),
    [
        ("x" * 70, "86", 1),
        ("x" * 71, "86", 2),
        ("短" * 134, "86", 2),
        ("短" * 135, "86", 3),
        ("👍" * 35, "86", 1),
        ("👍" * 36, "86", 2),
        ("x" * 160, "1", 1),
        ("x" * 161, "1", 2),
        ("x" * 306, "1", 2),
        ("€" * 81, "1", 2),
        ("【Acme】" + "x" * 152, "1", 1),
        ("【Acme】" + "x" * 153, "1", 2),
        ("短" * 71, "1", 2),
        ("", "86", 1),
    ],
)
def test_fee_is_the_number_of_parts(said: str, nationcode: str, fee: int) -> None:
    assert parts(said, nationcode) == fee
