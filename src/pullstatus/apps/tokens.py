"""Making, changing and revoking tokens, safe beside servers and each other.

Each function that changes something leaves an act of its `Operator` on record, in the same commit.
"""

from __future__ import annotations

import contextlib
from typing import Final

import msgspec

from pullstatus.apps.administration import find_application
from pullstatus.apps.operator import Operator
from pullstatus.apps.sealing import KEY_ID_BYTES, Keyring
from pullstatus.apps.uses import forget_uses
from pullstatus.apps.values import (
    TOKEN_MARKS,
    TOKEN_PREFIX,
    TOKENS,
    SignatureKey,
    Token,
    check_plain_name,
    check_sdkappid,
    check_signature_key,
    check_signature_scheme,
    ends_by,
    read_token,
    token_digest,
    token_mark,
    token_setting,
)
from pullstatus.apps.wrapping import check_sealing, guard
from pullstatus.errors import (
    AlreadyExists,
    InvalidSetting,
    SettingChanged,
    StoreCorrupt,
    UnknownApplication,
    UnknownToken,
)
from pullstatus.store import Change, Noted, Store


async def create_token(
    store: Store,
    name: str,
    *,
    by: Operator,
    sdkappid: int | None = None,
    not_after_ms: int | None = None,
    signature_key: str | None = None,
    signature_scheme: str = "",
    keyring: Keyring | None = None,
) -> tuple[Token, str]:
    """Make a token; returns it and its secret, which is not kept and cannot be shown again.

    Args:
        not_after_ms: when it ends to be good; None: never.
        signature_key: what requests under it are signed with, by gateways that sign; None: they
            need not be.
        signature_scheme: how, by the name that sources have for it; "": any way in which each
            request is.
        keyring: seals that for the store; not needed without one.

    Raises:
        InvalidSetting: the name is none, the key or its scheme is none, or it would have ended
            already.
        UnknownApplication: it is for an application that does not exist.
        AlreadyExists: a token has that name.
    """
    check_plain_name("a token's", name)
    if ends_by(not_after_ms, by.now_ms):
        raise InvalidSetting("a token ends in the future")
    owner = ""
    if sdkappid is not None:
        check_sdkappid(sdkappid)
        application = await find_application(store, sdkappid)
        if application is None:
            raise UnknownApplication(f"application {sdkappid} does not exist; create it first")
        owner = application.owner
    secret = TOKEN_PREFIX + by.random_hex(32)
    token = Token(name, token_digest(secret), by.now_ms, sdkappid, owner, not_after_ms)
    token, guards = _with_signature_key(token, signature_key, signature_scheme, keyring, by)
    if not await store.change(
        Change(token_setting(name), msgspec.json.encode(token), None),
        *guards,
        act=by.act("token create", name=name, sdkappid=sdkappid),
        ticket=by.ticket(),
    ):
        if keyring is not None:
            await check_sealing(store, keyring)
        raise AlreadyExists(f"a token named {name} exists; revoke it first, or choose another name")
    return token, secret


async def set_signature_key(
    store: Store,
    name: str,
    key: str | None,
    *,
    scheme: str = "",
    by: Operator,
    keyring: Keyring | None = None,
) -> Token:
    """Say what requests under a token are signed with; returns the token, its key sealed.

    Args:
        key: as the gateway shows it; None: they need not be signed any more.
        scheme: as that of `create_token`; "": that of the key before, if there was one.
        keyring: seals it for the store; None if there is none to seal.

    Raises:
        InvalidSetting: the key is none, or its scheme.
        UnknownToken: no token has that name.
        SettingChanged: somebody changed it, or the master key, meanwhile.
    """
    before = await store.setting(token_setting(name))
    if before is None or before.value is None:
        raise UnknownToken(_NO_TOKEN)
    token = read_token(before.name, before.value)
    if not scheme and token.signature is not None:
        scheme = token.signature.scheme
    token = msgspec.structs.replace(token, signature=None)
    token, guards = _with_signature_key(token, key, scheme, keyring, by)
    if not await store.change(
        Change(before.name, msgspec.json.encode(token), before.value),
        *guards,
        act=by.act("token set", name=name, sdkappid=token.sdkappid, signed=key is not None),
        ticket=by.ticket(),
    ):
        raise SettingChanged("this token was changed meanwhile; try again")
    return token


def _with_signature_key(
    token: Token, key: str | None, scheme: str, keyring: Keyring | None, by: Operator
) -> tuple[Token, list[Change]]:
    """A token with its key sealed, and what its commit rests on."""
    if key is None:
        return token, []
    assert keyring is not None
    signature = SignatureKey(
        by.random_hex(KEY_ID_BYTES),
        check_signature_key(key),
        scheme=check_signature_scheme(scheme),
    )
    signed = msgspec.structs.replace(token, signature=signature)
    return keyring.seal_token(signed, by.random_hex), [guard(keyring)]


_NO_TOKEN: Final = "no token has this name; `pullstatus token list` shows them"  # noqa: S105 - words


async def revoke_token(store: Store, name: str, *, by: Operator) -> None:
    """Make a token good for nothing.

    Raises:
        UnknownToken: none has that name.
        SettingChanged: somebody made it anew meanwhile.
    """
    before = await store.setting(token_setting(name))
    if before is None or before.value is None:
        raise UnknownToken(_NO_TOKEN)
    token = None
    with contextlib.suppress(StoreCorrupt):
        token = read_token(before.name, before.value)
    owner = {} if token is None else {"sdkappid": token.sdkappid}
    act = by.act("token revoke", name=name, **owner)
    if not await store.change(Change(before.name, None, before.value), act=act, ticket=by.ticket()):
        raise SettingChanged("this token was changed meanwhile; try again")
    if token is not None:  # of one that is damaged they stay
        await forget_uses(store, token_mark(token))


async def tokens(store: Store) -> list[tuple[Token, Noted | None]]:
    """All tokens, by name, and when each was used last, and from where."""
    found = [
        read_token(setting.name, setting.value)
        async for setting in store.settings(prefix=TOKENS)
        if setting.value is not None
    ]
    marks = await store.marks(TOKEN_MARKS)
    return [
        (token, marks.get(token_mark(token))) for token in sorted(found, key=lambda one: one.name)
    ]
