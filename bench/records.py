"""The records that loads are made of: the documented example, with another number and sid in each.

Imports nothing, as it is also read where neither the product nor the bench is installed.
"""

from __future__ import annotations

TEMPLATE = (
    b'{"user_receive_time":"2015-10-17 08:03:04","nationcode":"86","mobile":"138%08d",'
    b'"report_status":"SUCCESS","errmsg":"DELIVRD","description":"delivered",'
    b'"sid":"8:aIt9bcbZ%011x20170104"}'
)


def record(number: int) -> bytes:
    """A delivery status unlike those of other numbers, encoded: 193 bytes."""
    return TEMPLATE % (number % 10**8, number * 0x9E3779B1 & (1 << 44) - 1)


def as_array(count: int) -> bytes:
    """So many of them as a JSON array."""
    return b"[%b]" % b",".join(map(record, range(count)))
