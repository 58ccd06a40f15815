"""Which of the three ways to keep a page a client has: a reader, a state file, or its memory."""

from __future__ import annotations

from os import PathLike
from typing import Unpack

from pullstatus.client.errors import InvalidArgument
from pullstatus.client.flow import Puller, PullerOptions
from pullstatus.client.readers import ReaderPuller
from pullstatus.client.state import KeptPuller


def open_puller(
    base_url: str,
    sdkappid: int | str,
    appkey: str,
    *,
    reader: str | None,
    state: str | PathLike[str] | None,
    keyed: bool | None,
    **options: Unpack[PullerOptions],
) -> Puller:
    """A `Puller` of the kind that these arguments ask for; they are those of `Client`.

    Raises:
        InvalidArgument: one of them is wrong, or they do not go together.
    """
    if reader is not None:
        if state is not None:
            raise InvalidArgument("reader and state do not go together: a reader keeps no keys")
        if keyed is not None:
            raise InvalidArgument("keyed is for clients without a reader, which needs no keys")
        return ReaderPuller(base_url, sdkappid, appkey, reader, **options)
    if state is not None:
        return KeptPuller(base_url, sdkappid, appkey, state, keyed=keyed, **options)
    return Puller(base_url, sdkappid, appkey, keyed=keyed, **options)
