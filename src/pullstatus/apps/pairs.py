"""Making, changing and revoking secret key pairs, safe beside servers and each other.

A pair is an account's: it may read the applications that it was granted, none by default, and each
only as long as that has the owner that it had then. So nothing is to be done to pairs when an
application is deleted or its number given to somebody else: their grants of it are void.

Each function that changes something takes the `Operator` that does it, as in `administration`.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.apps.administration import applications, find_application
from pullstatus.apps.operator import Operator, RandomHex
from pullstatus.apps.sealing import KEY_ID_BYTES, Keyring
from pullstatus.apps.uses import forget_uses
from pullstatus.apps.values import (
    PAIR_MARKS,
    PAIRS,
    SEALING,
    Application,
    Grant,
    SecretPair,
    check_granted,
    check_secret_id,
    check_secret_key,
    pair_mark,
    pair_setting,
    read_pair,
)
from pullstatus.apps.wrapping import check_sealing
from pullstatus.errors import (
    AlreadyExists,
    InvalidSetting,
    SettingChanged,
    UnknownApplication,
    UnknownSecret,
)
from pullstatus.store import Change, Noted, Setting, Store

LETTERS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM_BYTES: Final = 32  # 256 bits for 190: no letter is likelier than another by 1 in 2^65


class PairStanding(msgspec.Struct, frozen=True):
    """A secret key pair and how it stands.

    Attributes:
        live: numbers of the applications that it reads now.
        void: those that it was granted, and that are gone or have another owner.
        used: when it was used last, and from where; None: not that we know.
    """

    pair: SecretPair
    live: tuple[int, ...]
    void: tuple[int, ...]
    used: Noted | None


async def create_pair(
    store: Store,
    sdkappids: Sequence[int],
    *,
    by: Operator,
    keyring: Keyring,
    unsigned_payload: bool = False,
    v1: bool = False,
    secret_id: str | None = None,
    secret_key: str | None = None,
) -> SecretPair:
    """Make a secret key pair for some applications; returns it with its secret key, this once.

    Args:
        sdkappids: of the applications that it may read; each has `limits.PAIRS_LIVE_MAX` at most.
        keyring: seals the secret key for the store.
        secret_id, secret_key: those to use, of an account that is configured already; None: made
            at random.

    Raises:
        InvalidSetting: a value is none, or an application has its pairs already.
        UnknownApplication: one of them does not exist.
        AlreadyExists: this SecretId is there.
    """
    numbers = check_granted(sdkappids)
    made = SecretPair(
        f"AKID{random_letters(by.random_hex)}" if secret_id is None else check_secret_id(secret_id),
        (),
        by.now_ms,
        by.random_hex(KEY_ID_BYTES),
        random_letters(by.random_hex) if secret_key is None else check_secret_key(secret_key),
        unsigned_payload=unsigned_payload,
        v1=v1,
    )
    act = by.act("secret create", secret_id=made.id, sdkappids=numbers)
    while True:
        alone = await _alone(store)
        await check_sealing(store, keyring)
        before = await _setting(store, made.id)
        if before.value is not None:
            raise AlreadyExists("this SecretId exists; revoke it first, or use another one")
        pair = msgspec.structs.replace(made, grants=await _grants(store, numbers, made.id))
        sealed = msgspec.json.encode(keyring.seal_pair(pair, by.random_hex))
        change = Change(before.name, sealed, None, before.revision)
        if await store.change(alone, change, act=act, ticket=by.ticket()):
            return pair


async def change_pair(
    store: Store,
    secret_id: str,
    *,
    by: Operator,
    action: str = "secret set",
    sdkappids: Sequence[int] | None = None,
    **switches: bool,
) -> SecretPair:
    """Replace what a pair may do; what is not given stays. Returns it, sealed.

    Args:
        action: what this is on record as, if it changes anything.
        sdkappids: of all applications that it may read from now on.
        switches: `enabled`, `unsigned_payload`, `v1`.

    Raises:
        UnknownSecret: no pair has this SecretId.
        InvalidSetting, UnknownApplication: as by `create_pair`.
    """
    numbers = None if sdkappids is None else check_granted(sdkappids)
    while True:
        alone = await _alone(store)
        setting = await _setting(store, secret_id)
        before = _existing(setting)
        after = msgspec.structs.replace(before, **switches)
        if numbers is not None:
            after = msgspec.structs.replace(after, grants=await _grants(store, numbers, secret_id))
        if after == before:
            return before
        change = Change(setting.name, msgspec.json.encode(after), setting.value)
        named = before.sdkappids if numbers is None else numbers
        no_longer = [number for number in before.sdkappids if number not in named]
        gone = {"no_longer": no_longer} if no_longer else {}
        act = by.act(action, secret_id=secret_id, sdkappids=named, **gone, **switches)
        if await store.change(alone, change, act=act, ticket=by.ticket()):
            return after


async def revoke_pair(store: Store, secret_id: str, *, by: Operator) -> None:
    """Make a secret key pair good for nothing.

    Raises:
        UnknownSecret: no pair has this SecretId.
        SettingChanged: somebody changed it meanwhile.
    """
    before = await _setting(store, secret_id)
    pair = _existing(before)
    act = by.act("secret revoke", secret_id=secret_id, sdkappids=pair.sdkappids)
    if not await store.change(Change(before.name, None, before.value), act=act, ticket=by.ticket()):
        raise SettingChanged("this secret key pair was changed meanwhile; try again")
    await forget_uses(store, pair_mark(secret_id))


async def pairs(store: Store) -> list[PairStanding]:
    """All secret key pairs and how they stand, by when they were made."""
    marks = await store.marks(PAIR_MARKS)
    owned = {each.sdkappid: each for each in await applications(store) if not each.leaving}
    found = sorted(await _pairs(store), key=lambda pair: (pair.created_ms, pair.id))
    return [_standing(pair, owned, marks.get(pair_mark(pair.id))) for pair in found]


async def pair_standing(store: Store, secret_id: str) -> PairStanding:
    """One secret key pair and how it stands.

    Raises:
        UnknownSecret: no pair has this SecretId.
    """
    pair = _existing(await _setting(store, secret_id))
    owned = {number: await find_application(store, number) for number in pair.sdkappids}
    mark = pair_mark(secret_id)
    return _standing(pair, owned, (await store.marks(mark)).get(mark))


def _standing(
    pair: SecretPair, owned: Mapping[int, Application | None], used: Noted | None
) -> PairStanding:
    live = tuple(
        number
        for number in pair.sdkappids
        if (application := owned.get(number)) is not None and pair.grants_to(application)
    )
    void = tuple(number for number in pair.sdkappids if number not in live)
    return PairStanding(pair, live, void, used)


async def _grants(store: Store, numbers: Iterable[int], secret_id: str) -> tuple[Grant, ...]:
    """What lets a pair read these applications.

    Raises:
        UnknownApplication: one does not exist.
        InvalidSetting: one has all the pairs that it may, without this.
    """
    others = [pair for pair in await _pairs(store) if pair.id != secret_id]
    grants = []
    for number in numbers:
        application = await find_application(store, number)
        if application is None:
            raise UnknownApplication(f"application {number} does not exist; create it first")
        if sum(pair.grants_to(application) for pair in others) >= limits.PAIRS_LIVE_MAX:
            raise InvalidSetting(
                f"application {number} has {limits.PAIRS_LIVE_MAX} secret key pairs:"
                " `pullstatus secret list` shows them; revoke one first"
            )
        grants.append(Grant(number, application.owner))
    return tuple(grants)


async def _alone(store: Store) -> Change:
    """Goes with a commit that rests on which pairs there are: nobody has sealed one since.

    Every commit of a pair writes this setting, so of two that would be one too many one is refused.
    """
    setting = await store.setting(SEALING) or Setting(SEALING, None, 0)
    return Change(SEALING, setting.value, setting.value, setting.revision)


async def _pairs(store: Store) -> list[SecretPair]:
    return [
        read_pair(setting.name, setting.value)
        async for setting in store.settings(prefix=PAIRS)
        if setting.value is not None
    ]


async def _setting(store: Store, secret_id: str) -> Setting:
    """A pair's setting; without a value when there is none, or none any more."""
    name = pair_setting(secret_id)
    return await store.setting(name) or Setting(name, None, 0)


def _existing(setting: Setting) -> SecretPair:
    if setting.value is None:
        raise UnknownSecret("no pair has this SecretId; `pullstatus secret list` shows them")
    return read_pair(setting.name, setting.value)


def random_letters(random_hex: RandomHex) -> str:
    """Letters and digits made at random, as many as a SecretKey has."""
    number = int(random_hex(RANDOM_BYTES), 16)
    letters = []
    for _ in range(limits.SECRET_CHARS):
        number, place = divmod(number, len(LETTERS))
        letters.append(LETTERS[place])
    return "".join(letters)
