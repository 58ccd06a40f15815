"""The send call of API 3.0, `SendSms`, read and answered: a template, to up to 200 numbers.

Only the emulator answers it. Its parameters are read once it has been let in; what comes of them is
what comes of a v5 send. What is wrong with one number, or with the text, is told number by number,
as the service does it.

Source: the official SDKs of versions 2019-07-11 and 2021-01-11; protocol.md sections 9.4 and 11.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.emulator.send import MAINLAND, Detail, Message, Receiver, SendResult
from pullstatus.emulator.twins import OTHER, TWINS
from pullstatus.errors import ActionRefused
from pullstatus.json import ascii_json
from pullstatus.wire.api3.codes import Code
from pullstatus.wire.api3.requests import Action, Version
from pullstatus.wire.v5.codes import Result

__all__ = ["SEND_SMS", "answered", "read_message", "read_receivers", "split"]

SEND_SMS: Final = Action("SendSms", None, None)

_NAMES: Final = {
    Version.V2021: ("TemplateId", "SignName"),
    Version.V2019: ("TemplateID", "Sign"),
}
_LISTED: Final = limits.RECEIVERS_MAX + 1  # of a form's list, to see that there are too many

Parameters = Mapping[str, msgspec.Raw]

_decode_raws: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_str: Final = msgspec.json.Decoder(str).decode


def read_receivers(parameters: Parameters) -> Sequence[Receiver]:
    """Return the numbers of `PhoneNumberSet`; what is none has no calling code.

    Raises:
        ActionRefused: there are none, too many, or mainland numbers beside others.
    """
    numbers = _texts(parameters, "PhoneNumberSet")
    if not numbers:
        raise ActionRefused("MissingParameter.EmptyPhoneNumberSet", "PhoneNumberSet is empty")
    if len(numbers) > limits.RECEIVERS_MAX:
        raise ActionRefused(
            TWINS[SendResult.TOO_MANY_NUMBERS],
            f"PhoneNumberSet holds over {limits.RECEIVERS_MAX} numbers",
        )
    receivers = [split(number) for number in numbers]
    if len({one.nationcode == MAINLAND for one in receivers if one.nationcode}) > 1:
        raise ActionRefused(
            TWINS[SendResult.MIXED_COUNTRIES],
            "PhoneNumberSet mixes mainland and international numbers",
        )
    return receivers


def read_message(parameters: Parameters, version: Version) -> Message:
    """Return what is to be sent.

    Raises:
        ActionRefused: a parameter is missing, ill-typed or too long; it is named.
    """
    template_id, sign_name = _NAMES[version]
    template = _text(parameters, template_id)
    if not template:
        raise ActionRefused(Code.MISSING, f"{template_id} is missing")
    if not template.isascii() or not template.isdigit() or len(template) > 18:
        raise _bad(f"{template_id} must be the number of a template, in digits")
    extend = _text(parameters, "ExtendCode")
    if extend and re.fullmatch(rf"[0-9]{{1,{limits.EXTEND_DIGITS_MAX}}}", extend) is None:
        raise _bad(f"ExtendCode must be up to {limits.EXTEND_DIGITS_MAX} digits")
    session = _text(parameters, "SessionContext")
    if len(session) > limits.EXT_CHARS_MAX:
        raise _bad(f"SessionContext must have at most {limits.EXT_CHARS_MAX} characters")
    return Message(
        type=0,
        msg=None,
        tpl_id=int(template),
        params=tuple(_texts(parameters, "TemplateParamSet")),
        sign=_text(parameters, sign_name),
        extend=extend,
        ext=session,
    )


def answered(
    receivers: Sequence[Receiver], details: Sequence[Detail], session: str, request_id: str
) -> bytes:
    """Return the answer: what became of each number."""
    statuses = [
        {
            "SerialNo": detail.sid,
            "PhoneNumber": f"+{one.nationcode}{one.mobile}" if one.nationcode else one.mobile,
            "Fee": detail.fee,
            "SessionContext": session,
            "Code": TWINS.get(detail.result, OTHER) if detail.result else "Ok",
            "Message": _message(one, detail),
            "IsoCode": "" if detail.result else _ISO.get(one.nationcode, "DEF"),
        }
        for one, detail in zip(receivers, details, strict=True)
    ]
    response = {"SendStatusSet": statuses, "RequestId": request_id}
    return ascii_json(msgspec.json.encode({"Response": response}))


def _message(receiver: Receiver, detail: Detail) -> str:
    if detail.result == Result.BAD_MOBILE and not receiver.nationcode:  # in this face's words
        return 'PhoneNumberSet must hold numbers with "+" and their calling code'
    return detail.errmsg if detail.result else "send success"


# --- numbers --------------------------------------------------------------------------------------

_NUMBER: Final = re.compile(r"(?:\+|00)([1-9][0-9]{3,})")
_MAINLAND: Final = re.compile(r"(?:86)?(1[0-9]{10})")

# Calling codes: of one digit, of two, and all others have three (ITU-T E.164).
_CODE: Final = re.compile(r"[17]|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|[0-9]{3}")
_ISO: Final = {"86": "CN", "1": "US", "44": "GB", "49": "DE", "81": "JP", "852": "HK"}
"""Countries of some; the service says DEF of those that it does not know."""


def split(number: str) -> Receiver:
    """The parts of a number with "+" or 00 and calling code, or of a mainland one without.

    Of what is neither, the calling code is "".
    """
    mainland = _MAINLAND.fullmatch(number)
    if mainland is not None:
        return Receiver(MAINLAND, mainland[1])
    whole = _NUMBER.fullmatch(number)
    if whole is None or not number.isascii():
        return Receiver("", number)
    code = _CODE.match(whole[1])
    assert code is not None
    return Receiver(code[0], whole[1][code.end() :])


# --- parameters -----------------------------------------------------------------------------------


def _texts(parameters: Parameters, name: str) -> list[str]:
    """A list of texts: an array, or, of a form or a query, `NAME.0`, `NAME.1` and so on."""
    token = bytes(parameters.get(name, b""))
    if token in {b"", b"null"}:
        return [_said(value, name) for value in _listed(parameters, name)]
    try:
        values = _decode_raws(token)
    except msgspec.DecodeError:
        raise _bad(f"{name} must be an array of strings") from None
    return [_said(bytes(value), name) for value in values]


def _listed(parameters: Parameters, name: str) -> Iterator[bytes]:
    for place in itertools.islice(itertools.count(), _LISTED):
        token = parameters.get(f"{name}.{place}")
        if token is None:
            return
        yield bytes(token)


def _text(parameters: Parameters, name: str) -> str:
    token = bytes(parameters.get(name, b""))
    return "" if token in {b"", b"null"} else _said(token, name)


def _said(token: bytes, name: str) -> str:
    """What a string says, or an integer spells."""
    if token[:1] == b'"':
        return _decode_str(token)
    if token.isdigit():
        return token.decode()
    raise _bad(f"{name} must be of strings")


def _bad(message: str) -> ActionRefused:
    return ActionRefused(Code.INVALID_VALUE, message)
