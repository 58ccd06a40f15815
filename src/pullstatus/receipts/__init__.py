"""What carriers and gateways send us, turned into entries of a mailbox.

One small file a format, all pure: bytes in, `Receipts` out. They know records and nothing of HTTP,
applications or stores. A body is taken as a whole or refused as a whole.
"""

from __future__ import annotations

import msgspec

from pullstatus.records import Kind

__all__ = ["Receipts"]


class Receipts(msgspec.Struct, frozen=True):
    """Records of one kind, encoded, ready to be appended.

    kind          which of the application's two mailboxes they belong to
    entries       the records as `records.encode` gives them, in the order they came
    fingerprints  one for each entry, for formats whose sender repeats itself and has no request
                  key; None when a repeat is recognised by other means. A fingerprint is (the
                  record's own time in Unix seconds, 16 bytes of BLAKE2b)
    repaired      how many of the entries were not as they had to be, and were mended
    """

    kind: Kind
    entries: list[bytes]
    fingerprints: list[tuple[int, bytes]] | None = None
    repaired: int = 0
