"""Secret key pairs: what is stored of them, whom they read, and what a server knows of them."""

from __future__ import annotations

import asyncio
import random
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from pullstatus import apps, limits
from pullstatus.apps import Keyring, LivePair, MasterKey, Operator, Registry, SecretPair
from pullstatus.apps.admission import NOBODY, Admission, PairCall
from pullstatus.apps.pairs import LETTERS, random_letters
from pullstatus.apps.rate import RateLimiter
from pullstatus.apps.values import Purpose, pair_mark, pair_setting, read_pair
from pullstatus.apps.wrapping import check_opens
from pullstatus.errors import (
    AlreadyExists,
    InvalidSetting,
    MasterKeyMissing,
    NotGranted,
    SettingChanged,
    SignatureWrong,
    StoreCorrupt,
    StoreUnavailable,
    UnknownApplication,
    UnknownSecret,
)
from pullstatus.store import Act, Change, Noted, Store, open_store
from tests.sealing import KEYRING, keyring_of, masters_of
from tests.store.build import acts_of

NOW_MS = 1_800_000_000_000
ID, KEY = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE", "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE"
OTHER_KEY = "x" * 32
NUMBER = 7

_seed = iter(range(1, 1 << 30))


def random_hex(size: int) -> str:
    """Of all bytes, so that no digit is always 0."""
    return (f"{next(_seed):08x}" * 8)[: 2 * size]


BY = Operator("me", NOW_MS, random_hex, "why")


def on_a_store(work: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
    """Over a store with applications 7 and 8."""

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = await open_store(f"sqlite:///{folder}/mailboxes.db")
            try:
                for number in (NUMBER, 8):
                    await create_application(store, number)
                await work(store)
            finally:
                await store.close()

    asyncio.run(run())


async def create_application(store: Store, number: int) -> None:
    await apps.create_application(store, number, by=BY, keyring=await keyring_of(store))


async def create(store: Store, *numbers: int, **given: Any) -> SecretPair:  # noqa: ANN401
    keyring = await keyring_of(store)
    return await apps.create_pair(store, numbers or (NUMBER,), by=BY, keyring=keyring, **given)


async def served(store: Store) -> Registry:
    registry = Registry(store, masters_of(store))
    await registry.begin()
    return registry


def call(sdkappid: int = NUMBER, secret_id: str = ID, key: str = KEY) -> PairCall:
    def proof(known: LivePair) -> None:
        if known.secret_key != key:
            raise SignatureWrong("wrong")

    now_s = NOW_MS // 1000
    return PairCall(secret_id, lambda: sdkappid, "192.0.2.1", proof, now_s, NOW_MS, Purpose.QUERY)


def admission(registry: Registry) -> Admission:
    return Admission(registry, RateLimiter(lambda: 0.0))


# --- making them ----------------------------------------------------------------------------------


def test_a_pair_is_made_at_random_and_its_secret_lies_sealed() -> None:
    async def work(store: Store) -> None:
        made = [await create(store, 8, NUMBER), await create(store)]
        for pair in made:
            assert re.fullmatch("AKID[0-9A-Za-z]{32}", pair.id)
            assert re.fullmatch("[0-9A-Za-z]{32}", pair.secret_key)
            assert pair == msgspec.structs.replace(pair, unsigned_payload=False, v1=False)
            assert pair.secret_key not in repr(pair)
        assert len({pair.id for pair in made} | {pair.secret_key for pair in made}) == 4
        assert made[0].sdkappids == (NUMBER, 8)
        stored = b"".join([one.value or b"" async for one in store.settings()])
        assert not any(pair.secret_key.encode() in stored for pair in made)
        known = (await served(store)).pairs
        assert {one.pair.id: one.secret_key for one in known.values()} == {
            pair.id: pair.secret_key for pair in made
        }
        [row] = [row for row in await acts_of(store) if made[0].id in row.act.detail]
        assert row.act.action == "secret create"
        assert not any(pair.secret_key in row.act.detail for row in await acts_of(store))

    on_a_store(work)


def test_every_letter_comes_as_often_as_another() -> None:
    chance = random.Random(1)
    made = [random_letters(lambda size: chance.randbytes(size).hex()) for _ in range(2000)]
    counts = Counter("".join(made))
    assert sorted(counts) == sorted(LETTERS)
    assert max(counts.values()) < 1.3 * min(counts.values())


def test_the_pair_of_an_account_that_is_configured_is_taken_over() -> None:
    async def work(store: Store) -> None:
        made = await create(store, secret_id=ID, secret_key=KEY, unsigned_payload=True, v1=True)
        assert (made.id, made.secret_key, made.unsigned_payload, made.v1) == (ID, KEY, True, True)
        with pytest.raises(AlreadyExists):
            await create(store, 8, secret_id=ID)
        for given in ({"secret_id": "AKID" + "x" * 31}, {"secret_key": KEY + " "}):
            with pytest.raises(InvalidSetting) as raised:
                await create(store, 8, **given)
            assert KEY not in str(raised.value)

    on_a_store(work)


def test_no_application_has_more_pairs_than_it_may() -> None:
    async def work(store: Store) -> None:
        first = await create(store)
        await create(store, NUMBER, 8)
        with pytest.raises(InvalidSetting, match=f"application {NUMBER} has 2"):
            await create(store, 8, NUMBER)
        other = await create(store, 8)
        with pytest.raises(InvalidSetting, match=f"application {NUMBER} has 2"):
            await apps.change_pair(store, other.id, by=BY, sdkappids=[NUMBER])
        await apps.change_pair(store, first.id, by=BY, sdkappids=[NUMBER])  # it has it already
        with pytest.raises(UnknownApplication):
            await create(store, 9)
        for none in ([], [0], range(1, limits.PAIR_APPLICATIONS_MAX + 2)):
            with pytest.raises(InvalidSetting):
                await apps.change_pair(store, other.id, by=BY, sdkappids=none)
        assert len(await apps.pairs(store)) == 3

    on_a_store(work)


def test_of_two_that_make_the_last_pair_at_once_one_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work(store: Store) -> None:
        await create(store)
        change, meanwhile = store.change, [lambda: create(store)]

        async def overtaken(*changes: Change, act: Act, ticket: bytes) -> bool:
            if meanwhile:
                await meanwhile.pop()()
            return await change(*changes, act=act, ticket=ticket)

        monkeypatch.setattr(store, "change", overtaken)
        with pytest.raises(InvalidSetting):
            await create(store)
        assert len(await apps.pairs(store)) == 2

    on_a_store(work)


def test_what_a_pair_may_is_changed_on_record() -> None:
    async def work(store: Store) -> None:
        await create(store, secret_id=ID, secret_key=KEY)
        count = len(await acts_of(store))
        changed = await apps.change_pair(store, ID, by=BY, sdkappids=[8], v1=True)
        assert (changed.sdkappids, changed.v1) == ((8,), True)
        await apps.change_pair(store, ID, by=BY, sdkappids=[8], v1=True)
        await apps.change_pair(store, ID, by=BY, action="secret disable", enabled=False)
        assert [(row.act.action, row.act.detail) for row in (await acts_of(store))[count:]] == [
            (
                "secret set",
                f'{{"secret_id":"{ID}","sdkappids":[8],"no_longer":[{NUMBER}],"v1":true}}',
            ),
            ("secret disable", f'{{"secret_id":"{ID}","sdkappids":[8],"enabled":false}}'),
        ]
        registry = await served(store)
        assert registry.pairs[ID].secret_key == KEY
        with pytest.raises(UnknownSecret):
            await admission(registry).admit(call(8))
        await apps.change_pair(store, ID, by=BY, action="secret enable", enabled=True)
        await admission(registry).admit(call(8))
        with pytest.raises(NotGranted):
            await admission(registry).admit(call(NUMBER))

    on_a_store(work)


def test_what_a_pair_lets_in_rests_on_that_and_on_the_application() -> None:
    async def work(store: Store) -> None:
        await create(store, secret_id=ID, secret_key=KEY)
        for _ in range(2):
            registry = await served(store)
            before = await admission(registry).admit(call())
            known = registry.applications[NUMBER]
            assert (before.while_set, known.while_proven) == (known.while_set, None)
            for held in (before.while_set, before.while_proven):
                assert held is not None
                setting = await store.setting(held.name)
                assert setting is not None
                assert setting.revision == held.revision
            await apps.change_pair(store, ID, by=BY, v1=not registry.pairs[ID].pair.v1)
            after = await admission(registry).admit_anew(call())
            assert after.while_set == before.while_set
            assert after.while_proven != before.while_proven

    on_a_store(work)


def test_a_revoked_pair_is_good_for_nothing_and_nothing_is_known_of_it() -> None:
    async def work(store: Store) -> None:
        await create(store, secret_id=ID, secret_key=KEY)
        registry = await served(store)
        await admission(registry).admit(call())
        await registry.note_uses()
        [standing] = await apps.pairs(store)
        assert standing.used == Noted(NOW_MS, "192.0.2.1")
        assert await apps.pair_standing(store, ID) == standing
        await apps.revoke_pair(store, ID, by=BY)
        await registry.look()
        with pytest.raises(UnknownSecret):
            await admission(registry).admit(call())
        assert not await apps.pairs(store)
        assert not await store.marks(pair_mark(ID))
        for late in (
            lambda: apps.revoke_pair(store, ID, by=BY),
            lambda: apps.pair_standing(store, ID),
            lambda: apps.change_pair(store, ID, by=BY, v1=True),
        ):
            with pytest.raises(UnknownSecret):
                await late()

    on_a_store(work)


# --- whom they read -------------------------------------------------------------------------------


def test_no_pair_reads_a_new_owner_by_an_old_grant() -> None:
    """Whether a server saw the application go or not; and it is no pair of the new owner's."""

    async def work(store: Store) -> None:
        await create(store, NUMBER, 8, secret_id=ID, secret_key=KEY)
        await create(store)
        seeing, blind = await served(store), await served(store)
        await apps.delete_application(store, NUMBER, by=BY)
        await seeing.look()
        with pytest.raises(NotGranted):
            await admission(seeing).admit(call())
        await create_application(store, NUMBER)
        for registry in (seeing, blind, await served(store)):
            await registry.look()
            with pytest.raises(NotGranted):
                await admission(registry).admit(call())
            await admission(registry).admit(call(8))
        standing = await apps.pair_standing(store, ID)
        assert (standing.live, standing.void) == ((8,), (NUMBER,))
        await create(store)
        await create(store)
        with pytest.raises(InvalidSetting):  # for that it is to be granted anew
            await apps.change_pair(store, ID, by=BY, sdkappids=[NUMBER, 8])

    on_a_store(work)


def test_a_pair_reads_no_application_that_is_leaving() -> None:
    """Which both the list and the pair itself say."""

    async def work(store: Store) -> None:
        await create(store, NUMBER, 8, secret_id=ID, secret_key=KEY)
        await apps.change_application(
            store,
            NUMBER,
            lambda made: msgspec.structs.replace(made, leaving=True),
            by=BY,
            action="app delete",
        )
        [listed] = await apps.pairs(store)
        assert listed == await apps.pair_standing(store, ID)
        assert (listed.live, listed.void) == ((8,), (NUMBER,))

    on_a_store(work)


def test_a_pair_cannot_tell_applications_that_are_not_its_from_those_that_are_not() -> None:
    async def work(store: Store) -> None:
        await create(store, secret_id=ID, secret_key=KEY)
        told = set()
        for number in (8, 9, -1):
            with pytest.raises(NotGranted) as raised:
                await admission(await served(store)).admit(call(number))
            told.add(str(raised.value))
        assert len(told) == 1

    on_a_store(work)


@pytest.mark.parametrize("enabled", [None, False], ids=["unknown", "disabled"])
def test_a_pair_that_is_none_costs_a_proof_too(enabled: bool | None) -> None:
    """Of which the answer makes no difference."""

    async def work(store: Store) -> None:
        if enabled is not None:
            await create(store, secret_id=ID, secret_key=KEY)
            await apps.change_pair(store, ID, by=BY, enabled=enabled)
        proven: list[LivePair] = []
        for good in (True, False):

            def proof(known: LivePair, good: bool = good) -> None:
                proven.append(known)
                if not good:
                    raise SignatureWrong("wrong")

            asked = msgspec.structs.replace(call(), proof=proof)
            with pytest.raises(UnknownSecret):
                await admission(await served(store)).admit(asked)
        assert proven == [NOBODY] * 4
        assert NOBODY.pair.v1
        assert NOBODY.pair.unsigned_payload

    on_a_store(work)


# --- a server's copy ------------------------------------------------------------------------------


def test_pairs_beyond_those_read_at_the_start_are_read_when_they_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the applications that they may read."""
    monkeypatch.setattr(limits, "APPLICATIONS_AT_START", 1)

    async def work(store: Store) -> None:
        await create(store, 8, secret_id=ID, secret_key=KEY)
        await create(store, secret_id=f"AKID{'0' * 32}")
        later = await open_store(f"sqlite:///{masters_of(store).beside}")  # all that is old to it
        try:
            registry = await served(later)
            assert ID not in registry.pairs
            assert list(registry.applications) == [NUMBER]
            await admission(registry).admit(call(8))
            with pytest.raises(UnknownSecret):
                await admission(registry).admit(call(secret_id=f"AKID{'1' * 32}"))
            await apps.revoke_pair(store, ID, by=BY)
            await registry.look()
            with pytest.raises(UnknownSecret):
                await admission(registry).admit(call(8))
        finally:
            await later.close()

    on_a_store(work)


def test_a_pair_that_was_made_anew_is_signed_with_its_new_secret() -> None:
    async def work(store: Store) -> None:
        await create(store, secret_id=ID, secret_key=KEY)
        registry = await served(store)
        await apps.revoke_pair(store, ID, by=BY)
        await create(store, secret_id=ID, secret_key=OTHER_KEY)
        await registry.look()  # which sees neither of them by itself
        await admission(registry).admit(call(key=OTHER_KEY))
        with pytest.raises(SignatureWrong):
            await admission(registry).admit(call(key=KEY))

    on_a_store(work)


def test_a_secret_that_stays_shut_is_not_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """By which everybody could sign. All others go on, and it is told beside."""

    async def work(store: Store) -> None:
        await create(store, secret_id=ID, secret_key=KEY)
        setting = await store.setting(pair_setting(ID))
        assert setting is not None
        assert setting.value is not None
        shut = setting.value.replace((await keyring_of(store)).sealing.id.encode(), b"f" * 16)
        await store.change(Change(setting.name, shut, setting.value))
        registry = await served(store)
        assert list(registry.locked) == [ID]
        for key in (KEY, ""):
            with pytest.raises(StoreUnavailable, match="cannot be opened"):
                await admission(registry).admit(call(key=key))
        monkeypatch.setattr(limits, "APPLICATIONS_AT_START", 0)
        registry = await served(store)
        assert not registry.locked
        await registry.walk()
        assert list(registry.locked) == [ID]
        await apps.revoke_pair(store, ID, by=BY)
        await registry.look()
        assert not registry.locked

    on_a_store(work)


# --- under a master key ---------------------------------------------------------------------------


def test_what_is_sealed_of_a_pair_opens_in_its_place_only() -> None:
    def pair(secret_id: str, key_id: str, secret_key: str = KEY) -> SecretPair:
        made = SecretPair(secret_id, (), 0, key_id, secret_key)
        return KEYRING.seal_pair(made, random_hex)

    sealed = pair(ID, "1" * 16)
    assert KEYRING.open_pair(sealed) == KEY
    other = pair(ID[:-1] + "F", "2" * 16, OTHER_KEY)
    for moved in (
        msgspec.structs.replace(sealed, id=other.id),
        msgspec.structs.replace(sealed, key_id=other.key_id),
        msgspec.structs.replace(sealed, sealed=other.sealed),
        msgspec.structs.replace(sealed, sealed=sealed.sealed[:-1]),
    ):
        with pytest.raises(StoreCorrupt, match="secret revoke") as raised:
            KEYRING.open_pair(moved)
        assert KEY not in str(raised.value)
    with pytest.raises(MasterKeyMissing):
        Keyring([MasterKey(b"n" * 32)], "there").open_pair(sealed)


def test_another_master_key_reaches_pairs() -> None:
    """And one that was made meanwhile under the old one is not stored."""

    async def work(store: Store) -> None:
        await create(store, secret_id=ID, secret_key=KEY)
        before, masters = await keyring_of(store), masters_of(store)
        registry = await served(store)
        settings = [(one.name, one.value or b"") async for one in store.settings()]
        check_opens(settings, masters)
        await apps.rewrap(store, masters, by=BY, drop_old=True)
        [state] = await apps.master_keys(store, masters)
        assert (state.appkeys, state.secrets) == (2, 1)
        assert (await served(store)).pairs[ID].secret_key == KEY
        with pytest.raises(MasterKeyMissing):
            check_opens(settings, masters)
        with pytest.raises(SettingChanged):
            await apps.create_pair(store, [8], by=BY, keyring=before)
        masters.path.unlink()
        await registry.look()
        assert registry.pairs[ID].secret_key == KEY, "what is open stays open"
        for number in (NUMBER, 8):
            await apps.delete_application(store, number, by=BY)
        with pytest.raises(MasterKeyMissing):  # for the pair alone
            await keyring_of(store)

    on_a_store(work)


def test_a_backup_whose_pair_does_not_open_is_refused() -> None:
    async def work(store: Store) -> None:
        await create(store, secret_id=ID, secret_key=KEY)
        settings = {one.name: one.value or b"" async for one in store.settings()}
        pair = read_pair(pair_setting(ID), settings[pair_setting(ID)])
        sealed = bytes([pair.sealed[0] ^ 1]) + pair.sealed[1:]
        damaged = msgspec.structs.replace(pair, sealed=sealed)
        settings[pair_setting(ID)] = msgspec.json.encode(damaged)
        with pytest.raises(StoreCorrupt, match="secret key"):
            check_opens(settings.items(), masters_of(store))

    on_a_store(work)


PAIR = KEYRING.seal_pair(SecretPair(ID, (apps.Grant(7, "a"),), 0, "1" * 16, KEY), random_hex)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": ID[:-1] + "F"},
        {"id": f"AKID{'-' * 32}"},
        {"grants": ()},
        {"grants": (apps.Grant(0, "a"),)},
        {"created_ms": -1},
        {"key_id": ""},
        {"secret_key": KEY},
        {"sealed": b""},
        {"master": ""},
    ],
    ids=str,
)
def test_a_setting_that_no_command_would_set_is_damaged(changes: dict[str, object]) -> None:
    assert read_pair(pair_setting(ID), msgspec.json.encode(PAIR)) == PAIR
    value = msgspec.json.encode(msgspec.structs.replace(PAIR, **changes))
    with pytest.raises(StoreCorrupt, match="keep a copy") as raised:
        apps.read_setting(pair_setting(ID), value)
    assert KEY not in str(raised.value)
