r"""The two records that a mailbox holds, under the wire's own names.

A carrier tells two things about an SMS: whether it arrived (`DeliveryStatus`) and what the person
wrote back (`Reply`). Both are frozen values that are valid or not built, so nothing downstream
checks them again. They are encoded once, when they enter: compact JSON of ASCII characters only,
`\uXXXX` for the rest, as the original service answered.

Members we do not know are kept beside the record as `Extra`: name to JSON text. The text is never
turned into numbers, so none gets rounded; it is only checked, compacted and escaped.

    values    the records and the rules for their members
    codec     records from JSON and to it
    outcomes  what the code of a delivery status means
    numbers   the telephone number of a record, however it is written
    hours     hours as the wire writes them

Source: protocol.md section 6.
"""

from __future__ import annotations

from pullstatus.records.codec import (
    AT_ONCE_BYTES,
    decode,
    decode_array,
    decode_in_steps,
    decode_lines_in_steps,
    encode,
    encode_all,
    encode_in_steps,
    read_rows,
    rows_of,
)
from pullstatus.records.values import (
    MEMBERS,
    TYPES,
    UTC8,
    DeliveryStatus,
    Extra,
    Kind,
    Member,
    Record,
    Reply,
    utc8_s,
)

__all__ = [
    "AT_ONCE_BYTES",
    "MEMBERS",
    "TYPES",
    "UTC8",
    "DeliveryStatus",
    "Extra",
    "Kind",
    "Member",
    "Record",
    "Reply",
    "decode",
    "decode_array",
    "decode_in_steps",
    "decode_lines_in_steps",
    "encode",
    "encode_all",
    "encode_in_steps",
    "read_rows",
    "rows_of",
    "utc8_s",
]
