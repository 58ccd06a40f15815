"""What a stored record is found and counted by, read back: few of its members.

Of each kind only its own are looked at: a member that it does not have is its sender's, and may be
anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, TypeAlias

import msgspec

from pullstatus.records import Kind, utc8_s
from pullstatus.store import Run


class Status(msgspec.Struct, gc=False):
    """Those of a delivery status. A member that is missing is empty."""

    nationcode: str = ""
    mobile: str = ""
    sid: str = ""
    errmsg: str = ""
    report_status: str = ""
    user_receive_time: str = ""

    @property
    def own_s(self) -> int | None:
        """Its own time, in Unix seconds; None: it is no time, as that of no record is."""
        try:
            return utc8_s(self.user_receive_time)
        except ValueError:
            return None


class Reply(msgspec.Struct, gc=False):
    """Those of a reply, which has no `sid`."""

    nationcode: str = ""
    mobile: str = ""
    time: int = 0

    sid: ClassVar[str] = ""

    @property
    def own_s(self) -> int | None:
        """As `Status` has it."""
        return self.time


Fields: TypeAlias = Status | Reply

TYPES: Final[tuple[type[Status], type[Reply]]] = (Status, Reply)
"""Those of each kind."""

_decode: Final = tuple(msgspec.json.Decoder(fields).decode for fields in TYPES)
_decode_all: Final = tuple(
    msgspec.json.Decoder(list[fields]).decode  # type: ignore[valid-type]
    for fields in TYPES
)


def read(kind: Kind, entry: bytes) -> Fields | None:
    """The fields of an entry; None: it is no record."""
    try:
        return _decode[kind](entry)
    except msgspec.DecodeError:
        return None


def read_run(kind: Kind, run: Run) -> Sequence[Fields] | None:
    """Those of all entries of a run; None: one of them is no record, and nobody knows which."""
    try:
        found: Sequence[Fields] = _decode_all[kind](b"[%b]" % run.data)
    except msgspec.DecodeError:
        return None
    return found if len(found) == len(run.seqs) else None
