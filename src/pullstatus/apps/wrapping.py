"""Which master key a store's keys are sealed under, and how they come under another one.

They are appkeys, the secrets of pairs and what gateways sign with. The store says it itself, in a
setting. Whoever seals one commits it only while that says what he sealed under; so once it says
another id, none comes under the old one any more, and who goes through all of them once has them
all.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from pullstatus.apps import traces
from pullstatus.apps.masters import Masters, own
from pullstatus.apps.operator import Operator
from pullstatus.apps.sealing import MASTER_KEY_BYTES, Keyring, MasterKey, master_key_missing
from pullstatus.apps.settings import read_sealing
from pullstatus.apps.values import (
    APPLICATIONS,
    PAIRS,
    SEALING,
    TOKENS,
    AppKey,
    Application,
    Sealing,
    SecretPair,
    SignatureKey,
    Token,
    read_application,
    read_pair,
    read_token,
)
from pullstatus.errors import InvalidSetting, MasterKeyMissing, SettingChanged
from pullstatus.store import Act, Change, Noted, Store

STEP = 100  # applications, pairs or tokens in one commit
ALL_SEALED = "all-sealed"  # what is noted when no appkey lies readable, nor ever will


class MasterKeyState(msgspec.Struct, frozen=True):
    """A master key, and how it stands.

    Attributes:
        at_hand: whether the source has it.
        sealing: whether new keys are sealed under it.
        appkeys, secrets, signatures: how many are.
    """

    id: str
    at_hand: bool
    sealing: bool
    appkeys: int
    secrets: int
    signatures: int = 0


class Shut(msgspec.Struct, frozen=True):
    """What has keys under master keys that are not at hand: true if anything has.

    Attributes:
        applications, pairs, tokens: how many.
        masters: ids of those master keys.
    """

    applications: int = 0
    pairs: int = 0
    tokens: int = 0
    masters: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.masters)

    def __str__(self) -> str:
        counts = zip(
            ("application", "secret key pair", "token"),
            (self.applications, self.pairs, self.tokens),
            strict=True,
        )
        return " and ".join(f"{n:,} {what}{'s' if n > 1 else ''}" for what, n in counts if n)


async def open_keyring(store: Store, masters: Masters) -> Keyring:
    """The master keys of a store. Where nothing is sealed, a source of ours is made.

    Raises:
        MasterKeyMissing: the one that the store's keys are sealed under is not at hand.
        StoreRefused: the source cannot be read or made.
    """
    while True:
        sealing = await _sealing(store)
        found = await asyncio.to_thread(masters.read)
        if sealing is not None and sealing in (master.id for master in found):
            return Keyring(found, masters.place, sealing)
        if sealing is not None and _sealed((await _holders(store)).values()):
            raise MasterKeyMissing(f"{master_key_missing(sealing, masters.place)}; {_LOST}")
        found = found or await asyncio.to_thread(own(masters).make)
        keyring = Keyring(found, masters.place)
        before = None if sealing is None else _said(sealing)
        if await store.change(Change(SEALING, _said(keyring.sealing.id), before)):
            return keyring


_LOST: Final = "if it is lost for good, `pullstatus keys rewrap --lost` begins with another one"


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
            async with traces.removing(store, by):
                sealed = await _seal_all(store, keyring, by, by.act("keys seal"))
            break
    await store.mark({ALL_SEALED: Noted(by.now_ms)})
    return sealed


def _is_readable(name: str, value: bytes) -> bool:
    return not all(key.master for key in read_application(name, value).appkeys)


async def rewrap(
    store: Store, masters: Masters, *, by: Operator, drop_old: bool = False
) -> Keyring:
    """Bring all that is sealed under a new master key, or finish that; returns the keys at hand.

    Where the source is ours, a new key is made and put before the others; where it is not, its
    first key is the new one. What was cut off is finished by calling this again. Until all is done
    both keys are at hand, and a server that runs meanwhile notices nothing. The files are then to
    be written anew: see `traces`.

    Args:
        drop_old: take all others out of the source at the end; and if all is under the first one
            already, make no new one.

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
        async with traces.removing(store, by):
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

    What is sealed under that one stays as it is, and cannot be opened: each appkey and each secret
    key pair is to be replaced by a new one.

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
    """The master keys that a store needs, and those at hand; the newest at hand first."""
    sealing = await _sealing(store)
    at_hand = [master.id for master in await asyncio.to_thread(masters.read)]
    holders = (await _holders(store)).values()
    appkeys, secrets, signatures = counts = [
        Counter(key.master for one in holders for key in _keys(one) if isinstance(key, kind))
        for kind in (AppKey, SecretPair, SignatureKey)
    ]
    needed = set[str]().union(*counts, () if sealing is None else (sealing,))
    ids = dict.fromkeys([*at_hand, *sorted(needed - {""})])
    return [
        MasterKeyState(
            one, one in at_hand, one == sealing, appkeys[one], secrets[one], signatures[one]
        )
        for one in ids
    ]


async def shut_keys(store: Store, masters: Masters) -> Shut:
    """What of a store cannot be opened with the master keys at hand.

    Raises:
        StoreRefused: the source cannot be read.
    """
    found = await asyncio.to_thread(masters.read)
    return _shut((await _holders(store)).values(), found)


def check_opens(
    settings: Iterable[tuple[str, bytes]], masters: Masters, *, lost: bool = False
) -> Shut:
    """Prove that a store with these settings can be served with the master keys at hand.

    Args:
        lost: also if that is only so when it has begun with another one: see `begin_anew`.

    Returns:
        What of it cannot be opened all the same.

    Raises:
        MasterKeyMissing: the one that it seals under is not at hand.
        StoreCorrupt: a setting is damaged.
        StoreRefused: the source cannot be read.
    """
    named = dict(settings)
    holders = [_read(*each) for each in named.items() if each[0].startswith(_HOLDERS)]
    if SEALING not in named or not _sealed(holders):
        return Shut()
    sealing = read_sealing(SEALING, named[SEALING]).id
    found = masters.read()
    if not lost and sealing not in (master.id for master in found):
        raise master_key_missing(sealing, masters.place)
    if found:
        keyring = Keyring(found, masters.place)
        for holder in holders:
            keyring.check(holder)
    return _shut(holders, found)


_Holder: TypeAlias = Application | SecretPair | Token
_HOLDERS: Final = (APPLICATIONS, PAIRS, TOKENS)  # what the names of their settings begin with


def _sealed(holders: Iterable[_Holder]) -> bool:
    """Whether any key of theirs is."""
    return any(key.master for holder in holders for key in _keys(holder))


def _keys(holder: _Holder) -> Sequence[AppKey | SecretPair | SignatureKey]:
    if isinstance(holder, Token):
        return () if holder.signature is None else (holder.signature,)
    return holder.appkeys if isinstance(holder, Application) else (holder,)


def _shut(holders: Iterable[_Holder], found: Iterable[MasterKey]) -> Shut:
    at_hand = {"", *(master.id for master in found)}
    kinds, lacking = Counter[type[_Holder]](), set[str]()
    for holder in holders:
        if missing := {key.master for key in _keys(holder)} - at_hand:
            kinds[type(holder)] += 1
            lacking |= missing
    return Shut(kinds[Application], kinds[SecretPair], kinds[Token], tuple(sorted(lacking)))


def _read(name: str, value: bytes) -> _Holder:
    if name.startswith(TOKENS):
        return read_token(name, value)
    return read_pair(name, value) if name.startswith(PAIRS) else read_application(name, value)


async def _due(store: Store, keyring: Keyring) -> list[str]:
    """Names of the settings that hold keys to be brought under this master key."""
    return [
        name
        for name, holder in (await _holders(store)).items()
        if any(map(keyring.reseals, _keys(holder)))
    ]


async def _seal_all(store: Store, keyring: Keyring, by: Operator, act: Act) -> int:
    """Go through all of them until none holds a key that is not under this master key."""
    total = 0
    while names := await _due(store, keyring):
        for start in range(0, len(names), STEP):
            total += await _seal_step(store, names[start : start + STEP], keyring, by, act)
    return total


async def _seal_step(
    store: Store, names: list[str], keyring: Keyring, by: Operator, act: Act
) -> int:
    """Seal the keys that some hold, in one commit unless one of them is changed meanwhile."""
    changes = []
    for name in names:
        setting = await store.setting(name)
        if setting is not None and setting.value is not None:
            value = msgspec.json.encode(_resealed(_read(name, setting.value), keyring, by))
            changes.append(Change(name, value, setting.value))
    if not changes:
        return 0
    if await store.change(guard(keyring), *changes, act=act, ticket=by.ticket()):
        return len(changes)
    await check_sealing(store, keyring)
    return 0


def _resealed(holder: _Holder, keyring: Keyring, by: Operator) -> _Holder:
    if isinstance(holder, Token):
        return keyring.seal_token(holder, by.random_hex)
    if isinstance(holder, Application):
        return keyring.seal_all(holder, by.random_hex)
    return keyring.seal_pair(holder, by.random_hex)


async def _holders(store: Store) -> Mapping[str, _Holder]:
    """All that holds keys, by the name of its setting."""
    return {
        setting.name: _read(setting.name, setting.value)
        for prefix in _HOLDERS
        async for setting in store.settings(prefix=prefix)
        if setting.value is not None
    }


async def _sealing(store: Store) -> str | None:
    """Id of the master key that the store's keys are sealed under; None if none is."""
    setting = await store.setting(SEALING)
    return (
        None
        if setting is None or setting.value is None
        else read_sealing(SEALING, setting.value).id
    )


def _said(master_id: str) -> bytes:
    return msgspec.json.encode(Sealing(master_id))
