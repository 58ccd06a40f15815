"""The text of an SMS from its bytes, by the coding that its gateway names or numbers.

Nothing here raises: a byte that means nothing in its coding becomes U+FFFD, since the text around
it is worth more than none.
"""

from __future__ import annotations

import codecs
import encodings
import pkgutil
import re
from collections.abc import Sequence
from encodings.aliases import aliases
from typing import Final

from pullstatus.json import whole_pairs

NO_SIGN: Final = "\ufffd"
"""Stands for what means nothing in its coding."""

NO_CHARSET: Final = "must be UTF-8, or in the charset that its Content-Type names"
"""What is wrong with a text of which `in_another_charset` is true."""

BINARY: Final = "binary"

_CODECS: Final = {
    "ascii": "ascii",
    "euckr": "euc_kr",
    "gb18030": "gb18030",
    "hebrew": "iso8859-8",
    "cyrillic": "iso8859-5",
    "latin1": "latin-1",
    "sjis": "shift_jis",
    "ucs2": "utf-16-be",  # pairs of surrogates occur in what is called UCS-2
    "utf8": "utf-8",
}
CODINGS: Final = (*_CODECS, "gsm7", BINARY)
"""Names of codings: GSM 7-bit with a character in each byte, and binary, which becomes its hex."""

# 3GPP TS 23.038, 6.2.1: the default alphabet, and what an escape makes of some of it.
_GSM7: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ"
    " !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_ESCAPE: Final = 0x1B
_ESCAPED: Final = dict(
    zip(b"\x0a\x14\x28\x29\x2f\x3c\x3d\x3e\x40\x65", "\f^{}\\[~]|€", strict=True)
)

_NUMBERED: Final = {
    1: "ascii",
    2: BINARY,
    3: "latin1",
    4: BINARY,
    5: "sjis",
    6: "cyrillic",
    7: "hebrew",
    8: "ucs2",
    14: "euckr",
    15: "gb18030",  # as gateways in China have it, after CMPP
}


def decoded(data: bytes, coding: str) -> str:
    """The text that bytes stand for.

    Args:
        coding: one of `CODINGS`, or what `coding_named` says.
    """
    if coding == BINARY:
        return data.hex()
    if coding == "gsm7":
        return _gsm7(data)
    codec = _CODECS.get(coding, coding)
    if codec == "utf-16" and not data.startswith((codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE)):
        codec = "utf-16-be"  # as RFC 2781 has it, 4.3, of what says nothing else
    text = data.decode(codec, "replace")
    if codec == "utf-8" and NO_SIGN in text:
        text = whole_pairs(data).decode(errors="replace")
    return _HALF.sub(NO_SIGN, text) if codec == "utf-7" else text  # the only one that can spell it


_HALF: Final = re.compile("[\ud800-\udfff]")
"""Of a pair of surrogates, which stands for nothing alone."""


def in_another_charset(data: bytes) -> bool:
    """Whether bytes that were to be UTF-8 are none, but can be GB18030 for as far as is looked at.

    Which charset it is they do not tell: those of Big5, EUC-KR and others can be GB18030, too. A
    text that was cut or damaged is none of these: more of it is UTF-8 than is not, or it has only
    one place that is not.
    """
    if _is(data, "utf-8"):
        return False
    first = _MORE_THAN_ASCII.search(data)
    assert first is not None
    start, stop = first.start(), first.start() + _LOOKED_AT_BYTES
    sample = whole_pairs(data[start:stop])
    text = sample.decode(errors="replace")
    lost = text.count(NO_SIGN)
    read = sum(character > "\x7f" for character in text) - lost
    return lost > max(1, read) and _is(sample, "gb18030", whole=stop >= len(data))


def _is(data: bytes, codec: str, *, whole: bool = True) -> bool:
    try:
        codecs.getincrementaldecoder(codec)().decode(data, final=whole)
    except UnicodeDecodeError:
        return False
    return True


_MORE_THAN_ASCII: Final = re.compile(rb"[\x80-\xff]")
_LOOKED_AT_BYTES: Final = 16 * 1024


def decoded_together(pieces: Sequence[bytes], coding: str) -> str:
    """The same of what was cut into pieces, be it within a character.

    Each is by itself if they say no more together: where some bytes of one are missing, all behind
    them would be read out of step.
    """
    whole = decoded(b"".join(pieces), coding)
    lost = whole.count(NO_SIGN)
    if not lost:
        return whole
    apart = "".join([decoded(piece, coding) for piece in pieces])
    return whole if lost < apart.count(NO_SIGN) else apart


def coding_named(charset: str) -> str:
    """The coding that goes by the name of a charset; "": none of a text does."""
    if len(charset) > _NAME_CHARS_MAX:
        return ""
    plain = charset.casefold().replace("-", "").replace("_", "")
    if plain in _BYTES:
        return BINARY
    if plain in _UCS2:
        return "utf-16"
    known = encodings.normalize_encoding(charset).lower()
    # Python remembers for ever what it is asked for; it also takes dots for underscores.
    if known not in _NAMES and known.replace(".", "_") not in _NAMES:
        return ""
    try:
        name = codecs.lookup(known).name
        b"a".decode(name, "replace")
    except (LookupError, UnicodeError, ValueError):  # no text encoding, or none at all
        return ""
    return "" if name in _NO_CHARSETS else name


_NAME_CHARS_MAX: Final = 40
"""Of the name of a charset (RFC 2978, 2.3)."""

_NAMES: Final = frozenset(
    [*aliases, *(module.name for module in pkgutil.iter_modules(encodings.__path__))]
)
"""Those that Python may know."""

_BYTES: Final = ("8bit", "binary", "octetstream", "unknown8bit")
"""What gateways, mail and IANA call a charset that is none."""

_UCS2: Final = ("csunicode", "iso10646ucs2", "ucs2")
"""What gateways and IANA call UTF-16 without pairs of surrogates; Python knows none of them."""

_NO_CHARSETS: Final = ("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape")
"""Python's, and nobody's; the time that the first two take grows with the square of a text."""


def coding_of(number: int, default: str = "gsm7") -> str:
    """The coding that SMPP's `data_coding` stands for (3GPP TS 23.038, 4, from 16 on).

    Args:
        default: what 0 means, which every link says for itself, and a number that means nothing.
    """
    if number >= 0xF0:
        return BINARY if number & 4 else "gsm7"
    if 0x10 <= number < 0x40:
        return ("gsm7", BINARY, "ucs2", default)[number >> 2 & 3]
    return _NUMBERED.get(number, default)


def _gsm7(data: bytes) -> str:
    found = []
    escaped = False
    for byte in data:
        if escaped:
            # What an escape makes nothing of is itself, as a telephone shows it.
            found.append(_ESCAPED.get(byte) or _plain(byte))
            escaped = False
        elif byte == _ESCAPE:
            escaped = True
        else:
            found.append(_plain(byte))
    return "".join(found)


def _plain(byte: int) -> str:
    return _GSM7[byte] if byte < len(_GSM7) else NO_SIGN
