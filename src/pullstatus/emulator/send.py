"""The two send calls, read and answered: `sendsms` to one number, `sendmultisms2` to up to 200.

Only the emulator answers them. They are read in the order of `wire.v5.pull`, with the receivers
in between, since those are signed:

    parse_send       sdkappid, random, a JSON object, sig, time, tel
      (admission)    the application may call, `fitting_send`, `check_time`
    request.message  text or template, and whom it may go to

Source: Tencent Cloud SMS v5, "Send SMS" and "Send SMS to many"; protocol.md sections 3, 8.3, 9.4
and 9.5.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.errors import Refused
from pullstatus.json import ascii_json
from pullstatus.wire.v5.codes import Result
from pullstatus.wire.v5.signature import fitting
from pullstatus.wire.v5.signed import (
    SignedRequest,
    bad,
    read_body,
    read_integer,
    read_query,
    read_sig,
    read_time,
)

__all__ = [
    "MAINLAND",
    "SENDMULTISMS2_PATH",
    "SENDSMS_PATH",
    "Detail",
    "Message",
    "Receiver",
    "SendRequest",
    "SendResult",
    "accepted",
    "accepted_many",
    "ext_of",
    "fitting_send",
    "parse_send",
    "refused",
]

SENDSMS_PATH: Final = "/v5/tlssmssvr/sendsms"
SENDMULTISMS2_PATH: Final = "/v5/tlssmssvr/sendmultisms2"

MAINLAND: Final = "86"
"""The calling code whose numbers are not international."""


class SendResult(enum.IntEnum):
    """What `result` says of a send only, as far as we say it; protocol.md section 8.3 has more.

    `wire.v5.codes.Result` has the codes of all calls.
    """

    BAD_SIGN = 1012
    FREQUENCY_POLICY = 1013
    TEMPLATE_MISMATCH = 1014
    TEXT_TOO_LONG = 1017
    MIXED_COUNTRIES = 1034
    PARAM_TOO_LONG = 1036
    PARAM_NOT_A_CODE = 1038
    TOO_MANY_NUMBERS = 1046
    URL_IN_PARAM = 1048


class Receiver(msgspec.Struct, frozen=True):
    """A number as it was sent, which need not be one."""

    nationcode: str
    mobile: str

    def check(self) -> None:
        """Refuse (1016) what can't be a number."""
        if not _is_digits(self.nationcode, limits.NATIONCODE_DIGITS_MAX):
            raise Refused(
                Result.BAD_MOBILE, 'nationcode must be a calling code in digits, without "+"'
            )
        if self.nationcode == MAINLAND:
            if not (_is_digits(self.mobile, 11) and len(self.mobile) == 11):
                raise Refused(Result.BAD_MOBILE, "a mobile of nationcode 86 has 11 digits")
        elif not _is_digits(self.mobile, limits.MOBILE_DIGITS_MAX):
            raise Refused(
                Result.BAD_MOBILE, "mobile must be the number in digits, without its nationcode"
            )


class Message(msgspec.Struct, frozen=True):
    """What is to be sent: a text of one's own, or a template and what goes into it.

    type    0 normal, 1 marketing
    msg     the text; None with a template
    tpl_id  the template; None with a text
    params  for the template's places
    sign    the signature before the text, without its brackets; "" for the default one
    extend  digits behind the sender's number, or ""
    ext     the sender's session text, returned in answers and statuses
    """

    type: int
    msg: str | None
    tpl_id: int | None
    params: tuple[str, ...]
    sign: str
    extend: str
    ext: str


_NOTHING: Final = msgspec.Raw()


class _Body(msgspec.Struct, frozen=True):
    sig: msgspec.Raw = _NOTHING
    time: msgspec.Raw = _NOTHING
    tel: msgspec.Raw = _NOTHING
    type: msgspec.Raw = _NOTHING
    msg: msgspec.Raw = _NOTHING
    tpl_id: msgspec.Raw = _NOTHING
    params: msgspec.Raw = _NOTHING
    sign: msgspec.Raw = _NOTHING
    extend: msgspec.Raw = _NOTHING
    ext: msgspec.Raw = _NOTHING


class _Tel(msgspec.Struct):
    nationcode: msgspec.Raw = _NOTHING
    mobile: msgspec.Raw = _NOTHING


class SendRequest(SignedRequest, frozen=True):
    """A send as it was sent, unproven.

    receivers  in the body's order, which is the order they are signed in
    body       the other members as JSON text, unread until `message`
    """

    receivers: tuple[Receiver, ...]
    body: _Body

    def message(self) -> Message:
        """Return what is to be sent; checks what is wrong with the call as a whole.

        Raises:
            Refused: 1004, a member is missing, ill-typed or out of range; 1046, more than
                `limits.RECEIVERS_MAX` receivers; 1034, mainland numbers beside international ones.
        """
        if len(self.receivers) > limits.RECEIVERS_MAX:
            raise Refused(
                SendResult.TOO_MANY_NUMBERS, f"tel holds over {limits.RECEIVERS_MAX} numbers"
            )
        if len({receiver.nationcode == MAINLAND for receiver in self.receivers}) > 1:
            raise Refused(
                SendResult.MIXED_COUNTRIES, "tel mixes mainland and international numbers"
            )
        body = self.body
        tpl_id, msg, kind = None, None, 0
        if _is_there(body.tpl_id):
            tpl_id = read_integer(bytes(body.tpl_id), -1)
            if tpl_id < 0:
                raise bad("tpl_id must be an integer, the template's number")
        else:
            msg = _text(body.msg, "msg")
            if not msg:
                raise bad("msg must be in the body, or tpl_id and params")
            kind = read_integer(bytes(body.type), -1) if _is_there(body.type) else 0
            if kind not in {0, 1}:
                raise bad("type must be 0 (normal) or 1 (marketing)")
        extend = _text(body.extend, "extend")
        if extend and not _is_digits(extend, limits.EXTEND_DIGITS_MAX):
            raise bad(f'extend must be up to {limits.EXTEND_DIGITS_MAX} digits, or ""')
        ext = _text(body.ext, "ext")
        if len(ext) > limits.EXT_CHARS_MAX:
            raise bad(f"ext must have at most {limits.EXT_CHARS_MAX} characters")
        return Message(
            kind, msg, tpl_id, _params(body.params), _text(body.sign, "sign"), extend, ext
        )


def parse_send(query: bytes, body: bytes, *, many: bool) -> SendRequest:
    """Read a send, up to what its signature covers.

    Args:
        query: the query string as it came, without "?".
        body: the body as it came.
        many: the call is `sendmultisms2`, whose `tel` is an array.

    Raises:
        Refused: as `wire.v5.pull.parse_pull` says; and 1004, `tel` is not of the right shape.
    """
    sdkappid, random = read_query(query)
    members = read_body(body, _decode_body)
    sig = read_sig(bytes(members.sig))
    time, time_text = read_time(bytes(members.time))
    receivers = _receivers(bytes(members.tel), many=many)
    return SendRequest(sdkappid, random, sig, time, time_text, receivers, members)


def ext_of(body: bytes) -> str:
    """Return a body's `ext`, which is in every answer; "" if it can't be read."""
    try:
        return _text(read_body(body, _decode_body).ext, "ext")[: limits.EXT_CHARS_MAX]
    except Refused:
        return ""


# --- the signature --------------------------------------------------------------------------------


def fitting_send(
    sig: str, appkeys: Iterable[str], random: str, time: str | int, mobiles: Iterable[str]
) -> int | None:
    """The place of the appkey that a send's signature fits, as `signature.fitting` tells.

    It is made as a pull's is, with the mobiles at the end of its text.

    Args:
        mobiles: without their nationcodes, in the order of the body.
    """
    return fitting(sig, appkeys, random, f"{time}&mobile={','.join(mobiles)}")


# --- answers --------------------------------------------------------------------------------------


class Detail(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one number of many; `sid` and `fee` only if it was accepted."""

    result: int
    errmsg: str
    mobile: str
    nationcode: str
    sid: str = ""
    fee: int = 0


def accepted(ext: str, sid: str, fee: int) -> bytes:
    """Return the answer to an accepted `sendsms`."""
    return _encode({"result": 0, "errmsg": "OK", "ext": ext, "sid": sid, "fee": fee})


def accepted_many(ext: str, details: Sequence[Detail]) -> bytes:
    """Return the answer to a `sendmultisms2` that was looked at number by number."""
    return _encode({"result": 0, "errmsg": "OK", "ext": ext, "detail": details})


def refused(result: int, errmsg: str, ext: str) -> bytes:
    """Return the answer to a send that was refused as a whole."""
    return _encode({"result": int(result), "errmsg": errmsg, "ext": ext})


def _encode(answer: dict[str, object]) -> bytes:
    return ascii_json(msgspec.json.encode(answer))


# --- the body -------------------------------------------------------------------------------------

_decode_body: Final[Callable[[bytes], _Body]] = msgspec.json.Decoder(_Body).decode
_decode_tel: Final = msgspec.json.Decoder(_Tel).decode
_decode_tels: Final = msgspec.json.Decoder(list[_Tel]).decode
_decode_raws: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_str: Final = msgspec.json.Decoder(str).decode


def _receivers(token: bytes, *, many: bool) -> tuple[Receiver, ...]:
    try:
        tels = _decode_tels(token) if many else [_decode_tel(token)]
    except msgspec.DecodeError:  # also of nothing, and of JSON that is no object
        tels = []
    if not tels:
        shape = "an array of objects" if many else "an object"
        raise bad(f"tel must be {shape} with nationcode and mobile")
    return tuple(
        Receiver(_text(tel.nationcode, "nationcode"), _text(tel.mobile, "mobile")) for tel in tels
    )


def _params(raw: msgspec.Raw) -> tuple[str, ...]:
    if not _is_there(raw):
        return ()
    try:
        values = _decode_raws(bytes(raw))
    except msgspec.DecodeError:
        raise bad("params must be an array of strings") from None
    return tuple(_text(value, "params") for value in values)


def _is_there(raw: msgspec.Raw) -> bool:
    return bytes(raw) not in {b"", b"null"}


def _text(raw: msgspec.Raw, member: str) -> str:
    """Return what a string says, or a number spells: callers pass telephone numbers as either."""
    token = bytes(raw)
    if token[:1] == b'"':
        return _decode_str(token)
    if token in {b"", b"null"}:
        return ""
    if token[:1] in b"-0123456789":
        return token.decode()
    raise bad(f"{member} must be a string")


def _is_digits(text: str, digits_max: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= digits_max
