"""The keys of an application: a new one beside the old, and the end of one.

At each moment one is good, from now until the last one begins: a change that would leave a time
without one is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.apps.administration import change_application
from pullstatus.apps.operator import Operator
from pullstatus.apps.sealing import KEY_ID_BYTES, Keyring
from pullstatus.apps.uses import forget_uses
from pullstatus.apps.values import (
    KEY_END,
    AppKey,
    Application,
    check_appkey,
    ends_by,
    key_mark,
    key_marks,
)
from pullstatus.errors import AlreadyExists, InvalidSetting, StoreRefused
from pullstatus.store import Noted, Store


class Rotation(msgspec.Struct, frozen=True):
    """What became of the keys of an application.

    Attributes:
        application: with the keys that are live now.
        key: the new one, if there is one.
        ended: the newest of those before, if that ended and an older one stayed.
    """

    application: Application
    key: AppKey | None
    ended: AppKey | None


async def rotate_key(
    store: Store,
    sdkappid: int,
    *,
    by: Operator,
    keyring: Keyring,
    appkey: str | None = None,
    drop_old: bool = False,
    not_before_ms: int = 0,
    old_until_ms: int | None = None,
) -> Rotation:
    """Give an application a new key, or finish that.

    The key before stays good beside the new one. With `drop_old` it ends: of two live keys the
    older one does and no new one is made, since by then clients sign with the newest; if that can
    be opened, or it is good for nothing, and both end.

    At most `limits.APPKEYS_LIVE_MAX` are live. So of the keys before, only the newest stays; or the
    one that is good and used, where the newest is not: a rotation that was cut off, so that nobody
    has seen its key, may be repeated. A use is known a minute later.

    Args:
        not_before_ms: when the new key begins to be good.
        old_until_ms: when the key before ends by itself.

    Raises:
        UnknownApplication: there is none of that number.
        InvalidSetting: `appkey` is none, or would end the newest key; or before the last key begins
            there would be a time without a good one; or the key before is to have ended by now.
        AlreadyExists: `appkey` is live already.
    """
    if ends_by(old_until_ms, by.now_ms):
        raise InvalidSetting(
            "--old-until names a time to come; --drop-old ends the old key at once"
        )
    made = by.random_hex(limits.APPKEY_CHARS // 2) if appkey is None else check_appkey(appkey)
    key = AppKey(made, by.now_ms, by.random_hex(KEY_ID_BYTES), not_before_ms=max(0, not_before_ms))
    used = await store.marks(key_marks(sdkappid))

    def opened(live: AppKey) -> str:
        """The digits of a live key; none if nobody can read them any more."""
        try:
            return keyring.open(sdkappid, live).lower()
        except StoreRefused:  # its master key is lost, or it is damaged
            return ""

    def same(live: AppKey) -> bool:
        """Whether a live key is this one, however its digits are spelt."""
        return opened(live) == made.lower()

    ended: AppKey | None = None

    def rotate(application: Application) -> Application:
        nonlocal ended
        ended = None
        newest, *older = application.appkeys
        if drop_old and (same(newest) or (older and appkey is None and opened(newest))):
            return msgspec.structs.replace(application, appkeys=(newest,))
        for live in application.appkeys:
            if same(live):
                raise AlreadyExists(_live_already(application, live))
        if drop_old and older and opened(newest):
            raise InvalidSetting(
                "two keys are live, so --drop-old with another --appkey would end the newest one;"
                f" {_end_older(application)} first"
            )
        kept = () if drop_old else _staying(application, used, by.now_ms)
        ended = newest if kept and newest not in kept else None
        if old_until_ms is not None:
            kept = tuple(msgspec.structs.replace(old, not_after_ms=old_until_ms) for old in kept)
        return msgspec.structs.replace(application, appkeys=(key, *kept))

    action = "app rotate-key"
    changed = await _change_keys(
        store, sdkappid, rotate, by=by, action=action, keyring=keyring, gap=_GAP_IN_ROTATION
    )
    made_one = key.id in (live.id for live in changed.appkeys)
    return Rotation(changed, key if made_one else None, ended)


def _staying(
    application: Application, used: Mapping[str, Noted], now_ms: int
) -> tuple[AppKey, ...]:
    """Which of its keys stay beside a new one: those that are good and used, then the newest."""

    def needless(key: AppKey) -> tuple[bool, bool]:
        return not key.good(now_ms), key_mark(application.sdkappid, key) not in used

    return tuple(sorted(application.appkeys, key=needless)[: limits.APPKEYS_LIVE_MAX - 1])


_GAP_IN_ROTATION: Final = (
    "the old key would end before the new one begins, and every call be refused until then: have"
    " the new one begin earlier (--not-before) or the old one end later (--old-until), or leave"
    " --drop-old out"
)
_GAP_IN_DROPPING: Final = (
    "this is the only live key that is good, now or until the next one begins: make another with"
    " `pullstatus app rotate-key` first, or refuse all calls with `pullstatus app disable`"
)


async def drop_key(
    store: Store, sdkappid: int, ends_with: str, *, by: Operator, keyring: Keyring | None = None
) -> Application:
    """End one of an application's keys.

    Args:
        keyring: opens the keys, to compare more digits than are readable of them: `END_CHARS`.

    Raises:
        UnknownApplication: there is none of that number.
        InvalidSetting: no live key ends so, or several do, or it is the only one that is
            good, now or until the next one begins.
    """
    if KEY_END.fullmatch(ends_with) is None:
        raise InvalidSetting(f"the end of a key is 1 to {limits.APPKEY_CHARS} hexadecimal digits")

    def digits(key: AppKey) -> str:
        return key.ends_with if keyring is None else keyring.open(sdkappid, key)

    def drop(application: Application) -> Application:
        kept = [
            key
            for key in application.appkeys
            if not digits(key).lower().endswith(ends_with.lower())
        ]
        found = len(application.appkeys) - len(kept)
        if not found:
            raise InvalidSetting(
                f"no live key of application {sdkappid} ends so; `pullstatus app show` lists them"
            )
        if found == 1 and not kept:
            raise InvalidSetting(_GAP_IN_DROPPING)
        if found > 1:
            raise InvalidSetting(f"{found} live keys end so: give more of its digits")
        return msgspec.structs.replace(application, appkeys=tuple(kept))

    return await _change_keys(
        store, sdkappid, drop, by=by, action="app drop-key", gap=_GAP_IN_DROPPING
    )


async def _change_keys(
    store: Store,
    sdkappid: int,
    change: Callable[[Application], Application],
    *,
    by: Operator,
    action: str,
    gap: str,
    keyring: Keyring | None = None,
) -> Application:
    """Change an application's keys, and forget when those that end with it were used.

    Args:
        gap: what to say if one is good now, and there would be a time before all have begun in
            which none is.

    Raises:
        InvalidSetting: that would be so.
    """

    def without_gap(application: Application) -> Application:
        after = change(application)
        if _good(application, by.now_ms) and not _good_until_all_begin(after, by.now_ms):
            raise InvalidSetting(gap)
        return after

    after = await change_application(
        store, sdkappid, without_gap, by=by, action=action, keyring=keyring
    )
    live = {key_mark(sdkappid, key) for key in after.appkeys}
    await forget_uses(store, key_marks(sdkappid), live)
    return after


def _good(application: Application, at_ms: int) -> bool:
    """Whether any of its keys is."""
    return any(key.good(at_ms) for key in application.appkeys)


def _good_until_all_begin(application: Application, now_ms: int) -> bool:
    """Whether at each moment one of its keys is good, from now until the last one begins.

    Where one ends another must be good, or there would be none until one begins.
    """
    last_ms = max((key.not_before_ms for key in application.appkeys), default=0)
    ends_ms = (key.not_after_ms for key in application.appkeys)
    moments = [now_ms, *(end for end in ends_ms if end is not None and now_ms < end <= last_ms)]
    return all(_good(application, moment) for moment in moments)


def _live_already(application: Application, key: AppKey) -> str:
    text = "this appkey is live already; leave --appkey out for a new one"
    if len(application.appkeys) == 1:
        return f"{text}, or use it: it is the only one"
    if key is application.appkeys[0]:
        return f"{text}; to end the one before it, {_end_older(application)}"
    return f"{text}; it is the older one: {_end_older(application)} ends it"


def _end_older(application: Application) -> str:
    end = application.appkeys[-1].ends_with
    return f"`pullstatus app drop-key {application.sdkappid} --ends-with {end}`"
