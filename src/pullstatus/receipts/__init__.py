"""What carriers and gateways send us, turned into entries of a mailbox.

One small file a format, all pure: bytes in, `Receipts` out. They know records and nothing of HTTP,
applications or stores. A batch is taken as a whole or refused as a whole; of a callback what can be
read is read, and the rest is `Unread`.
"""

from __future__ import annotations

import msgspec

from pullstatus.records import Kind

__all__ = ["Receipts", "Unread"]


class Unread(msgspec.Struct, frozen=True):
    """What nobody could make records of: one part of a request, or all of it.

    raw     its bytes, as they came
    reason  what is wrong with it and what it must be; nothing of what it says
    member  which member is at fault, if it was one
    kind    what it was to be a record of, as far as that shows
    index   its place among the parts, from 0; None when it is the whole request
    """

    raw: bytes
    reason: str
    member: str | None = None
    kind: Kind | None = None
    index: int | None = None


class Receipts(msgspec.Struct, frozen=True):
    """Records of one kind, encoded, ready to be appended.

    kind          which of the application's two mailboxes they belong to
    entries       the records as `records.encode` gives them, in the order they came
    fingerprints  one for each entry, for formats whose sender repeats itself and has no request
                  key; None when a repeat is recognised by other means. A fingerprint is (the
                  record's own time in Unix seconds, or below zero a number by which what comes
                  together is remembered side by side; 16 bytes of BLAKE2b, and behind them those
                  by which it is known, too, where it is new: see `brief`)
    repaired      how many of the entries were not as they had to be, and were mended
    unread        what could not be read, in the order it came
    """

    kind: Kind
    entries: list[bytes]
    fingerprints: list[tuple[int, bytes]] | None = None
    repaired: int = 0
    unread: tuple[Unread, ...] = ()
