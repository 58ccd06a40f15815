"""What a stored record is found and counted by, read back: few of its members, of either kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from pullstatus.records import utc8_s
from pullstatus.store import Run


class Fields(msgspec.Struct, gc=False):
    """Members that one kind of record does not have are empty, or 0."""

    nationcode: str = ""
    mobile: str = ""
    sid: str = ""
    errmsg: str = ""
    report_status: str = ""
    user_receive_time: str = ""
    time: int = 0

    @property
    def own_s(self) -> int:
        """The record's own time, in Unix seconds.

        Raises:
            ValueError: it is no time, as that of no record is.
        """
        return utc8_s(self.user_receive_time) if self.user_receive_time else self.time


_decode: Final = msgspec.json.Decoder(Fields).decode
_decode_all: Final = msgspec.json.Decoder(list[Fields]).decode


def read(entry: bytes) -> Fields | None:
    """The fields of an entry; None: it is no record."""
    try:
        return _decode(entry)
    except msgspec.DecodeError:
        return None


def read_run(run: Run) -> Sequence[Fields] | None:
    """Those of all entries of a run; None: one of them is no record, and nobody knows which."""
    try:
        found = _decode_all(b"[%b]" % run.data)
    except msgspec.DecodeError:
        return None
    return found if len(found) == len(run.seqs) else None
