"""Making, changing and removing applications and tokens, safe beside servers and each other.

A number may have several owners, one after the other. None gets what was another's: `delete` and
`create` erase what waits, in commits that are refused once the number has a new owner; a batch or
page is known again by its key only to the owner whose it was.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pullstatus import limits
from pullstatus.apps.values import (
    APPLICATIONS,
    TOKEN_PREFIX,
    TOKENS,
    AppKey,
    Application,
    Token,
    application_setting,
    check_appkey,
    check_sdkappid,
    check_token_name,
    read_application,
    read_token,
    token_digest,
    token_setting,
)
from pullstatus.errors import (
    AlreadyExists,
    InvalidSetting,
    SettingChanged,
    UnknownApplication,
    UnknownToken,
)
from pullstatus.records import Kind
from pullstatus.store import Change, Discard, Mailbox, Outcome, Setting, Store, While

RandomHex = Callable[[int], str]  # so many random bytes, as hex digits


async def create_application(
    store: Store,
    sdkappid: int,
    *,
    now_ms: int,
    random_hex: RandomHex,
    appkey: str | None = None,
    pull: bool = True,
) -> Application:
    """Make an application, with a key of its own unless one is given.

    Raises:
        InvalidSetting: the number or the key is none.
        AlreadyExists: it is there.
    """
    check_sdkappid(sdkappid)
    key = AppKey(check_appkey(appkey) if appkey is not None else random_hex(16), now_ms)
    application = Application(sdkappid, (key,), now_ms, pull=pull, owner=random_hex(8))
    while True:
        before = await _application(store, sdkappid)
        if before.value is not None:
            raise AlreadyExists(f"application {sdkappid} exists")
        try:
            # What a removal that was cut off has left.
            await _erase(store, sdkappid, before, now_ms)
        except SettingChanged:
            continue
        tails = {row.mailbox.kind: row.accepted for row in await store.backlog(sdkappid)}
        if any(tails.values()):
            former = tuple(tails.get(kind, 0) for kind in Kind)
            application = msgspec.structs.replace(application, former=former)
        encoded = msgspec.json.encode(application)
        if await store.change_all([Change(before.name, encoded, None, before.revision)]):
            return application


async def change_application(
    store: Store, sdkappid: int, change: Callable[[Application], Application]
) -> Application:
    """Replace an application by what `change` makes of it; safe beside other changes.

    Raises:
        UnknownApplication: there is none of that number.
    """
    while True:
        before = await _application(store, sdkappid)
        if before.value is None:
            raise UnknownApplication(f"application {sdkappid} does not exist")
        after = change(read_application(before.name, before.value))
        encoded = msgspec.json.encode(after)
        if encoded == before.value or await store.change(
            before.name, encoded, expected=before.value
        ):
            return after


async def rotate_key(
    store: Store,
    sdkappid: int,
    *,
    now_ms: int,
    random_hex: RandomHex,
    appkey: str | None = None,
    drop_old: bool = False,
) -> Application:
    """Give an application a new key; the one before stays good beside it, unless `drop_old`.

    Of the keys before, only the newest stays: at most `limits.APPKEYS_LIVE_MAX` are live.
    """
    key = AppKey(check_appkey(appkey) if appkey is not None else random_hex(16), now_ms)

    def rotate(application: Application) -> Application:
        if any(old.appkey.lower() == key.appkey.lower() for old in application.appkeys):
            raise AlreadyExists("this appkey is live already; leave --appkey out for a new one")
        kept = () if drop_old else application.appkeys[: limits.APPKEYS_LIVE_MAX - 1]
        return msgspec.structs.replace(application, appkeys=(key, *kept))

    return await change_application(store, sdkappid, rotate)


async def delete_application(
    store: Store, sdkappid: int, *, now_ms: int, erase: bool = False
) -> int:
    """Remove an application; returns how many waiting entries that erased.

    From the commit on that removes it nothing gets into its mailboxes any more. One that was cut
    off behind that is finished by calling this again.

    Args:
        erase: also when entries wait for it: they are erased, on record in the journal.

    Raises:
        UnknownApplication: there was never one of that number.
        InvalidSetting: entries wait, and not `erase`; nothing was removed.
        SettingChanged: somebody made or changed it meanwhile.
    """
    before = await _application(store, sdkappid)
    if not before.revision:
        raise UnknownApplication(f"application {sdkappid} does not exist")
    if not erase:
        await _check_none_waits(store, sdkappid)
    gone = before
    if before.value is not None:
        if not await store.change(before.name, None, expected=before.value):
            raise SettingChanged(f"application {sdkappid} was changed meanwhile; try again")
        gone = await _application(store, sdkappid)
        if gone.value is not None:
            raise SettingChanged(f"application {sdkappid} was made anew meanwhile")
        if not erase:
            try:
                await _check_none_waits(store, sdkappid)
            except InvalidSetting:
                # Records came between the look and the removal, and nobody said to erase any.
                await store.change(before.name, before.value, expected=None)
                raise
    return await _erase(store, sdkappid, gone, now_ms)


async def applications(store: Store) -> list[Application]:
    """All applications, by number."""
    return sorted(
        (
            read_application(setting.name, setting.value)
            for setting in await store.settings()
            if setting.value is not None and setting.name.startswith(APPLICATIONS)
        ),
        key=lambda application: application.sdkappid,
    )


async def create_token(
    store: Store, name: str, *, now_ms: int, random_hex: RandomHex, sdkappid: int | None = None
) -> tuple[Token, str]:
    """Make a token; returns it and its secret, which is not kept and cannot be shown again.

    Raises:
        InvalidSetting: the name is none.
        UnknownApplication: it is for an application that does not exist.
        AlreadyExists: a token has that name.
    """
    check_token_name(name)
    if sdkappid is not None:
        check_sdkappid(sdkappid)
        if (await _application(store, sdkappid)).value is None:
            raise UnknownApplication(f"application {sdkappid} does not exist; create it first")
    secret = TOKEN_PREFIX + random_hex(32)
    token = Token(name, token_digest(secret), now_ms, sdkappid)
    if not await store.change(token_setting(name), msgspec.json.encode(token), expected=None):
        raise AlreadyExists(f"a token named {name} exists; revoke it first, or choose another name")
    return token, secret


async def revoke_token(store: Store, name: str) -> None:
    """Make a token good for nothing.

    Raises:
        UnknownToken: none has that name.
        SettingChanged: somebody made it anew meanwhile.
    """
    before = await store.setting(token_setting(name))
    if before is None or before.value is None:
        raise UnknownToken("no token has this name; `pullstatus token list` shows them")
    if not await store.change(before.name, None, expected=before.value):
        raise SettingChanged("this token was changed meanwhile; try again")


async def tokens(store: Store) -> list[Token]:
    """All tokens, by name."""
    return sorted(
        (
            read_token(setting.name, setting.value)
            for setting in await store.settings()
            if setting.value is not None and setting.name.startswith(TOKENS)
        ),
        key=lambda token: token.name,
    )


async def _application(store: Store, sdkappid: int) -> Setting:
    """An application's setting; without a value when there is none, or none any more."""
    name = application_setting(sdkappid)
    return await store.setting(name) or Setting(name, None, 0)


async def _check_none_waits(store: Store, sdkappid: int) -> None:
    waiting = sum(row.waiting for row in await store.backlog(sdkappid))
    if waiting:
        raise InvalidSetting(
            f"{waiting} records wait for application {sdkappid}: pull them first, "
            "or say --erase to erase them"
        )


async def _erase(store: Store, sdkappid: int, gone: Setting, now_ms: int) -> int:
    """Erase what waits for an application that is gone; returns how many entries.

    Raises:
        SettingChanged: it is no longer gone, so what waits may be the new one's.
    """
    gone_still = While(gone.name, gone.revision)
    return sum(
        [
            await store.discard(
                Discard(Mailbox(sdkappid, kind), Outcome.ERASED, now_ms, while_set=gone_still)
            )
            for kind in Kind
        ]
    )
