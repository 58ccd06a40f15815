"""Which master key a store's appkeys are sealed under, and how they come under another one.

The store says it itself, in a setting. Whoever seals an appkey commits it only while that says what
he sealed under; so once it says another id, no appkey comes under the old one any more, and who
goes through all of them once has them all.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from pullstatus.apps import traces
from pullstatus.apps.masters import Masters, own
from pullstatus.apps.operator import Operator
from pullstatus.apps.sealing import MASTER_KEY_BYTES, Keyring, MasterKey, master_key_missing
from pullstatus.apps.values import (
    APPLICATIONS,
    SEALING,
    Application,
    Sealing,
    read_application,
    read_sealing,
)
from pullstatus.errors import InvalidSetting, SettingChanged
from pullstatus.store import Act, Change, Noted, Store

STEP = 100  # applications in one commit
ALL_SEALED = "all-sealed"  # what is noted when no appkey lies readable, nor ever will


class MasterKeyState(msgspec.Struct, frozen=True):
    """A master key, and how it stands.

    Attributes:
        at_hand: whether the source has it.
        sealing: whether new appkeys are sealed under it.
        appkeys: how many are.
    """

    id: str
    at_hand: bool
    sealing: bool
    appkeys: int


async def open_keyring(store: Store, masters: Masters) -> Keyring:
    """The master keys of a store. Where nothing is sealed, a source of ours is made.

    Raises:
        MasterKeyMissing: the one that the store's appkeys are sealed under is not at hand.
        StoreRefused: the source cannot be read or made.
    """
    while True:
        sealing = await _sealing(store)
        found = await asyncio.to_thread(masters.read)
        if sealing is not None and sealing in (master.id for master in found):
            return Keyring(found, masters.place, sealing)
        if sealing is not None and _sealed((await _applications(store)).values()):
            raise master_key_missing(sealing, masters.place)
        found = found or await asyncio.to_thread(own(masters).make)
        keyring = Keyring(found, masters.place)
        before = None if sealing is None else _said(sealing)
        if await store.change(Change(SEALING, _said(keyring.sealing.id), before)):
            return keyring


def guard(keyring: Keyring) -> Change:
    """Goes with every commit of what `keyring` has sealed: nobody has changed the key meanwhile."""
    said = _said(keyring.sealing.id)
    return Change(SEALING, said, said)


async def check_sealing(store: Store, keyring: Keyring) -> None:
    """Say so if a commit was refused by `guard`.

    Raises:
        SettingChanged: another master key is sealed under now.
    """
    if await _sealing(store) != keyring.sealing.id:
        raise SettingChanged("the master key was changed meanwhile; try again")


async def seal_readable(store: Store, masters: Masters, *, by: Operator) -> int:
    """Seal what lies readable in the store; returns of how many applications appkeys did.

    Only 0.1.0 wrote such, so this is looked for once: the store notes when nothing was left of it.
    The files are then to be written anew: see `traces`.

    Raises:
        MasterKeyMissing, StoreRefused: as `open_keyring`, if there is anything to seal.
    """
    if await store.marks(ALL_SEALED):
        return 0
    sealed = 0
    async for setting in store.settings(prefix=APPLICATIONS):
        if setting.value is not None and _is_readable(setting.name, setting.value):
            keyring = await open_keyring(store, masters)
            await traces.mark(store)
            sealed = await _seal_all(store, keyring, by, by.act("keys seal"))
            break
    await store.mark({ALL_SEALED: Noted(by.now_ms)})
    return sealed


def _is_readable(name: str, value: bytes) -> bool:
    return not all(key.master for key in read_application(name, value).appkeys)


async def rewrap(
    store: Store, masters: Masters, *, by: Operator, drop_old: bool = False
) -> Keyring:
    """Bring all appkeys under a new master key, or finish that; returns the keys at hand then.

    Where the source is ours, a new key is made and put before the others; where it is not, its
    first key is the new one. What was cut off is finished by calling this again. Until all is done
    both keys are at hand, and a server that runs meanwhile notices nothing. The files are then to
    be written anew: see `traces`.

    Args:
        drop_old: take all others out of the source at the end; and if the appkeys are all under the
            first one already, make no new one.

    Raises:
        MasterKeyMissing, StoreRefused: as `open_keyring`; and a source that is not ours is to be
            written.
        SettingChanged: somebody else changes the master key.
    """
    if drop_old:
        own(masters)
    keyring = await open_keyring(store, masters)
    found = await asyncio.to_thread(masters.read)
    newest, *others = found
    under_newest = Keyring(found, masters.place, newest.id)
    unfinished = newest.id != keyring.sealing.id or bool(await _due(store, under_newest))
    if not unfinished and not (drop_old and others):
        newest = MasterKey(bytes.fromhex(by.random_hex(MASTER_KEY_BYTES)))
        await asyncio.to_thread(own(masters).replace, found, (newest, *found))
        found = (newest, *found)
        unfinished = True
    if unfinished:
        await traces.mark(store)
        act = by.act("keys rewrap", master_key=newest.id)
        if newest.id != keyring.sealing.id:
            said = Change(SEALING, _said(newest.id), _said(keyring.sealing.id))
            if not await store.change(said, act=act, ticket=by.ticket()):
                raise SettingChanged("somebody else changes the master key; try again")
        keyring = Keyring(found, masters.place, newest.id)
        await _seal_all(store, keyring, by, act)
    if drop_old:
        await asyncio.to_thread(own(masters).replace, found, (newest,))
        keyring = Keyring((newest,), masters.place)
    return keyring


async def begin_anew(store: Store, masters: Masters, *, by: Operator) -> Keyring:
    """Seal under another master key, since the one that was is lost; returns what is at hand.

    Appkeys that are sealed under that one stay as they are, and cannot be opened: each is to be
    replaced by a new one.

    Raises:
        InvalidSetting: it is at hand.
        StoreRefused: the source cannot be read or made.
        SettingChanged: somebody else changes the master key.
    """
    sealing = await _sealing(store)
    found = await asyncio.to_thread(masters.read)
    if sealing is None or sealing in (master.id for master in found):
        raise InvalidSetting(f"the master key of this store is in {masters.place}: it is not lost")
    found = found or await asyncio.to_thread(own(masters).make)
    keyring = Keyring(found, masters.place)
    act = by.act("keys rewrap", master_key=keyring.sealing.id, lost=sealing)
    said = Change(SEALING, _said(keyring.sealing.id), _said(sealing))
    if not await store.change(said, act=act, ticket=by.ticket()):
        raise SettingChanged("somebody else changes the master key; try again")
    await _seal_all(store, keyring, by, act)
    return keyring


async def master_keys(store: Store, masters: Masters) -> list[MasterKeyState]:
    """The master keys that a store's appkeys need, and those at hand; the newest at hand first."""
    sealing = await _sealing(store)
    at_hand = [master.id for master in await asyncio.to_thread(masters.read)]
    used = Counter(
        key.master
        for one in (await _applications(store)).values()
        for key in one.appkeys
        if key.master
    )
    if sealing is not None:
        used[sealing] += 0
    ids = dict.fromkeys([*at_hand, *sorted(used)])
    return [MasterKeyState(one, one in at_hand, one == sealing, used[one]) for one in ids]


def check_opens(settings: Iterable[tuple[str, bytes]], masters: Masters) -> None:
    """Prove that a store with these settings can be served with the master keys at hand.

    Raises:
        MasterKeyMissing: the one that it seals under is not.
        StoreCorrupt: a setting is damaged.
        StoreRefused: the source cannot be read.
    """
    named = dict(settings)
    applications = [
        read_application(*pair) for pair in named.items() if pair[0].startswith(APPLICATIONS)
    ]
    if SEALING not in named or not _sealed(applications):
        return
    sealing = read_sealing(SEALING, named[SEALING]).id
    found = masters.read()
    if sealing not in (master.id for master in found):
        raise master_key_missing(sealing, masters.place)
    keyring = Keyring(found, masters.place, sealing)
    for application in applications:
        for key in application.appkeys:
            if key.master in keyring:
                keyring.open(application.sdkappid, key)


def _sealed(applications: Iterable[Application]) -> bool:
    """Whether any appkey of theirs is."""
    return any(key.master for application in applications for key in application.appkeys)


async def _due(store: Store, keyring: Keyring) -> list[str]:
    """Names of the settings of applications with keys to be brought under this master key."""
    return [
        name
        for name, one in (await _applications(store)).items()
        if any(map(keyring.reseals, one.appkeys))
    ]


async def _seal_all(store: Store, keyring: Keyring, by: Operator, act: Act) -> int:
    """Go through all applications until none has a key that is not under this master key."""
    total = 0
    while names := await _due(store, keyring):
        for start in range(0, len(names), STEP):
            total += await _seal_step(store, names[start : start + STEP], keyring, by, act)
    return total


async def _seal_step(
    store: Store, names: list[str], keyring: Keyring, by: Operator, act: Act
) -> int:
    """Seal the keys of some applications, in one commit unless one of them is changed meanwhile."""
    changes = []
    for name in names:
        setting = await store.setting(name)
        if setting is not None and setting.value is not None:
            sealed = keyring.seal_all(read_application(name, setting.value), by.random_hex)
            value = msgspec.json.encode(sealed)
            changes.append(Change(name, value, setting.value))
    if not changes:
        return 0
    if await store.change(guard(keyring), *changes, act=act, ticket=by.ticket()):
        return len(changes)
    await check_sealing(store, keyring)
    return 0


async def _applications(store: Store) -> Mapping[str, Application]:
    """All applications, by the name of their setting."""
    return {
        setting.name: read_application(setting.name, setting.value)
        async for setting in store.settings(prefix=APPLICATIONS)
        if setting.value is not None
    }


async def _sealing(store: Store) -> str | None:
    """Id of the master key that the store's appkeys are sealed under; None if none is."""
    setting = await store.setting(SEALING)
    return (
        None
        if setting is None or setting.value is None
        else read_sealing(SEALING, setting.value).id
    )


def _said(master_id: str) -> bytes:
    return msgspec.json.encode(Sealing(master_id))
