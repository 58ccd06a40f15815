"""The records that loads are made of, each unlike all others, as carriers' are.

What repeats in real ones repeats here as often, and what is random there is random here, so that
they compress as real ones do: numbers within the carriers' prefixes, ids of letters and digits,
codes by how often each is seen, times in about the order of arrival. Shares are those of
transactional traffic, where some 97 of 100 arrive; the codes are the documented ones.

A record is made of its number alone. Imports nothing of ours, as it is also read where neither the
product nor the bench is installed.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from hashlib import blake2b

BEGAN_S = 1_772_409_600  # 2026-03-02 00:00:00, as the clock of the records says
PER_S = 300  # records that begin their way in a second of that clock
WAY_S = (1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7, 9, 14, 38)  # until the receipt is there

_PREFIXES = (
    "134 135 136 137 138 139 147 150 151 152 157 158 159 178 182 183 184 187 188 195 197 198"  # CM
    " 130 131 132 145 155 156 166 175 176 185 186 196 133 149 153 173 177 180 181 189 191 199"
)
_ABROAD = (b"852", b"853", b"886", b"65", b"60", b"1", b"44", b"81")
_STATES = (  # (of 65,536, errmsg, description)
    (63_570, b"DELIVRD", b"delivered"),
    (560, b"MK:0001", b"number does not exist"),
    (330, b"UNDELIV", b"suspended or switched off"),
    (230, b"MI:0024", b"suspended or switched off"),
    (200, b"EXPIRED", b"no answer in time"),
    (160, b"MK:0010", b"out of reach"),
    (110, b"1", b"number does not exist"),
    (90, b"DB:0141", b"on a blacklist, or unsubscribed"),
    (70, b"REJECTD", b"refused for its content"),
    (60, b"UNDELIV_601", b"suspended or switched off"),
    (56, b"54", b"suspended or switched off"),
    (40, b"MK:0005", b"handset full, faulty or without SMS"),
    (30, b"MX:0003", b"too many to this number"),
    (30, b"UNKNOWN", b"unknown error at the carrier"),
)
_PLACES = [
    (b"SUCCESS" if code == b"DELIVRD" else b"FAIL", code, text)
    for share, code, text in _STATES
    for _ in range(share // 2)
]
_STARTS = [prefix.encode() for prefix in _PREFIXES.split()]
_DIGITS = bytes(48 + number % 10 for number in range(256))
_LETTERS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ALPHABET = bytes(_LETTERS[number % 62] for number in range(256))
_FORM = (
    b'{"user_receive_time":"%b","nationcode":"%b","mobile":"%b",'
    b'"report_status":"%b","errmsg":"%b","description":"%b","sid":"8:%b%b"}'
)
_EXAMPLE = (
    b'{"user_receive_time":"2015-10-17 08:03:04","nationcode":"86","mobile":"138%08d",'
    b'"report_status":"SUCCESS","errmsg":"DELIVRD","description":"delivered",'
    b'"sid":"8:aIt9bcbZ%011x20170104"}'
)


def record(number: int) -> bytes:
    """A delivery status unlike those of other numbers, encoded: some 193 bytes."""
    chance = blake2b(number.to_bytes(8, "big"), digest_size=40).digest()
    sent_s = BEGAN_S + number // PER_S
    state, code, text = _PLACES[int.from_bytes(chance[:4], "big") % len(_PLACES)]
    nation, start = b"86", _STARTS[chance[4] % len(_STARTS)]
    if chance[5] < 5:  # of 256
        nation, start = _ABROAD[chance[4] % len(_ABROAD)], b""
    return _FORM % (
        _clock(sent_s + WAY_S[chance[6] % len(WAY_S)]),
        nation,
        start + chance[8:16].translate(_DIGITS),
        state,
        code,
        text,
        chance[16:35].translate(_ALPHABET),
        _day(sent_s),
    )


_ALIYUN = (
    b'{"phone_number":"%b","send_time":"%b","report_time":"%b","success":%b,"err_code":"%b",'
    b'"err_msg":"%b","sms_size":"1","biz_id":"%b^0","out_id":"8:%b"}'
)


def aliyun(number: int) -> bytes:
    """The same as another gateway writes it: Aliyun, some 217 bytes.

    Its id is made of a clock, with that in front, as those of many gateways are.
    """
    at_ms = 1000 * (BEGAN_S + number // PER_S)
    return _aliyun(number, b"%d" % (at_ms << 21 | number % PER_S))


def aliyun_at_random(number: int) -> bytes:
    """The same with an id that tells nothing, as those of some gateways."""
    return _aliyun(number, blake2b(b"%d" % number, digest_size=9).hexdigest().encode())


def _aliyun(number: int, biz_id: bytes) -> bytes:
    told = record(number).split(b'"')[3::4]
    received, _, mobile, state, code, text, sid = told
    success = b"true" if state == b"SUCCESS" else b"false"
    sent = _clock(BEGAN_S + number // PER_S)
    return _ALIYUN % (mobile, sent, received, success, code, text, biz_id, sid)


def example(number: int) -> bytes:
    """The documented example, with another number and sid: 193 bytes, which nearly all repeat."""
    return _EXAMPLE % (number % 10**8, number * 0x9E3779B1 & (1 << 44) - 1)


def as_array(count: int, first: int = 0, make: Callable[[int], bytes] = record) -> bytes:
    """So many records as a JSON array, counted from `first`."""
    return b"[%b]" % b",".join(map(make, range(first, first + count)))


@functools.lru_cache(maxsize=1024)
def _clock(at_s: int) -> bytes:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at_s)).encode()


@functools.lru_cache(maxsize=64)
def _day(at_s: int) -> bytes:
    return time.strftime("%Y%m%d", time.gmtime(at_s)).encode()
