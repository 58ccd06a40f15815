"""What a client is made of: the face by which it speaks, and the way it keeps a page."""

from __future__ import annotations

import re
from os import PathLike
from typing import Final, Unpack

from pullstatus import limits
from pullstatus.client.arguments import check_appkey, check_base_url, check_sdkappid
from pullstatus.client.errors import InvalidArgument
from pullstatus.client.faces import Face
from pullstatus.client.faces.api3 import Api3
from pullstatus.client.faces.v5 import V5
from pullstatus.client.flow import Puller, PullerOptions
from pullstatus.client.readers import ReaderPuller
from pullstatus.client.state import KeptPuller
from pullstatus.wire.v5.pull import PULL_PATH

_SECRET_ID: Final = re.compile(rf"[!-+\--.0-~]{{1,{limits.SECRET_ID_CHARS_MAX}}}")


def open_puller(
    base_url: str,
    sdkappid: int | str,
    appkey: str | None,
    *,
    secret_id: str | None,
    secret_key: str | None,
    reader: str | None,
    state: str | PathLike[str] | None,
    keyed: bool | None,
    **options: Unpack[PullerOptions],
) -> Puller:
    """A `Puller` of the kind that these arguments ask for; they are those of `Client`.

    Raises:
        InvalidArgument: one of them is wrong, or they do not go together.
    """
    base_url = check_base_url(base_url).removesuffix(PULL_PATH)
    face = _open_face(base_url, check_sdkappid(sdkappid), appkey, secret_id, secret_key)
    if reader is not None:
        if state is not None:
            raise InvalidArgument("reader and state do not go together: a reader keeps no keys")
        if keyed is not None:
            raise InvalidArgument("keyed is for clients without a reader, which needs no keys")
        return ReaderPuller(base_url, face, reader, **options)
    if state is not None:
        return KeptPuller(base_url, face, state, keyed=keyed, **options)
    return Puller(base_url, face, keyed=keyed, **options)


def _open_face(
    base_url: str,
    sdkappid: int,
    appkey: str | None,
    secret_id: str | None,
    secret_key: str | None,
) -> Face:
    if secret_id is None and secret_key is None:
        check_appkey(appkey)
        return V5(sdkappid, appkey or "")
    if appkey is not None:
        raise InvalidArgument("appkey is for the old call, secret_id and secret_key for API 3.0")
    check_pair(secret_id, secret_key)
    return Api3(base_url, sdkappid, secret_id or "", secret_key or "")


def check_pair(secret_id: object, secret_key: object) -> None:
    """Refuse what can be no key pair of API 3.0 (InvalidArgument)."""
    if not isinstance(secret_id, str) or _SECRET_ID.fullmatch(secret_id) is None:
        raise InvalidArgument(
            f"secret_id must be 1 to {limits.SECRET_ID_CHARS_MAX} visible ASCII characters without"
            ' "/" and ","'
        )
    check_appkey(secret_key, "secret_key")
