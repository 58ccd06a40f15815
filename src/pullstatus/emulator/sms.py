"""What an SMS says and what it costs: signature, template, length, parts.

Pure. Refusals are those of protocol.md section 8.3 that follow from the request alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.emulator.send import MAINLAND, Message, SendResult
from pullstatus.errors import Refused

__all__ = ["Template", "compose", "parts"]

_PLACE: Final = re.compile(r"\{([0-9]+)\}")
_SIGNED: Final = re.compile("^【(.*?)】|【([^【】]*)】$", re.DOTALL)
_URL: Final = re.compile(r"https?://|\bwww\.", re.IGNORECASE)

# GSM 03.38: one septet each, and those that take two.
_GSM: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_DOUBLE: Final = frozenset("\f^{}\\[~]|€")


class Template(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text with places {1}, {2} and so on.

    id    the `tpl_id` of a send
    text  without the signature
    code  its places take verification codes only: 0 to 6 digits each
    """

    id: int
    text: str
    code: bool = False

    def __post_init__(self) -> None:
        places = set(_PLACE.findall(self.text))
        if places != {str(place) for place in range(1, len(places) + 1)}:
            raise ValueError("text must have the places {1}, {2} and so on, and none left out")

    @property
    def params(self) -> int:
        """How many it takes."""
        return len(set(_PLACE.findall(self.text)))

    def fill(self, params: tuple[str, ...]) -> str:
        """The text with its places filled.

        Raises:
            Refused: 1014, not as many parameters as places; 1038, one of them is no code.
        """
        if self.params != len(params):
            raise Refused(
                SendResult.TEMPLATE_MISMATCH,
                f"the template takes {self.params} params, not {len(params)}",
            )
        if self.code and not all(re.fullmatch(r"[0-9]{0,6}", param) for param in params):
            raise Refused(
                SendResult.PARAM_NOT_A_CODE, "params of a code template must be 0 to 6 digits"
            )
        return _PLACE.sub(lambda place: params[int(place[1]) - 1], self.text)


def compose(
    message: Message,
    templates: Mapping[int, Template],
    signs: Collection[str],
    default_sign: str,
) -> tuple[str, str]:
    """The SMS as it reaches the handset, its signature in front, and that signature.

    Args:
        templates: by id; without any, every `tpl_id` is taken for the parameters with blanks
            between them.
        signs: the approved signatures; empty: any of a proper length.
        default_sign: goes in front of what has none.

    Raises:
        Refused: 1012, 1014, 1017, 1036, 1038 or 1048.
    """
    if message.msg is None:
        text, sign = _fill(message, templates), message.sign or default_sign
    elif found := _SIGNED.search(message.msg):
        text, sign = message.msg, found[1] or found[2] or ""
    else:
        text, sign = message.msg, default_sign
    _check_sign(sign, signs)
    if f"【{sign}】" not in text:
        text = f"【{sign}】{text}"
    if len(text) > limits.SMS_CHARS_MAX:
        raise Refused(
            SendResult.TEXT_TOO_LONG,
            f"the SMS has {len(text)} characters with its signature, over {limits.SMS_CHARS_MAX}",
        )
    return text, sign


def parts(text: str, nationcode: str) -> int:
    """How many parts are billed: 70 characters in one, 67 in each of several.

    Abroad, the signature's brackets go out as [ and ], and a text in the GSM alphabet has room for
    160, or 153 in each of several.
    """
    if nationcode != MAINLAND:
        text = text.replace("【", "[").replace("】", "]")
    one, each, size = 70, 67, len(text.encode("utf-16-le")) // 2
    if nationcode != MAINLAND and set(text) <= _GSM | _GSM_DOUBLE:
        one, each = 160, 153
        size = len(text) + sum(character in _GSM_DOUBLE for character in text)
    return 1 if size <= one else -(-size // each)


def _fill(message: Message, templates: Mapping[int, Template]) -> str:
    for param in message.params:
        if len(param) > limits.PARAM_CHARS_MAX:
            raise Refused(
                SendResult.PARAM_TOO_LONG,
                f"a param has {len(param)} characters, over {limits.PARAM_CHARS_MAX}",
            )
        if _URL.search(param):
            raise Refused(SendResult.URL_IN_PARAM, "a param holds a URL")
    if not templates:
        return " ".join(message.params)
    assert message.tpl_id is not None
    template = templates.get(message.tpl_id)
    if template is None:
        raise Refused(SendResult.TEMPLATE_MISMATCH, "no template has this tpl_id")
    return template.fill(message.params)


def _check_sign(sign: str, signs: Collection[str]) -> None:
    if not limits.SIGN_CHARS_MIN <= len(sign) <= limits.SIGN_CHARS_MAX:
        raise Refused(
            SendResult.BAD_SIGN,
            f"the signature must have {limits.SIGN_CHARS_MIN} to {limits.SIGN_CHARS_MAX}"
            " characters",
        )
    if signs and sign not in signs:
        raise Refused(SendResult.BAD_SIGN, "the signature is not approved")
