"""What a gateway signs with belongs to a token: sealed in the store, good at once on a server."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from pullstatus import apps, limits
from pullstatus.apps import Operator, Registry, Token
from pullstatus.apps.values import SignatureKey, read_token, token_setting
from pullstatus.apps.wrapping import check_opens
from pullstatus.errors import (
    AlreadyExists,
    InvalidSetting,
    MasterKeyMissing,
    SettingChanged,
    StoreCorrupt,
    UnknownToken,
)
from pullstatus.store import Change, Store, open_store
from tests.sealing import KEYRING, keyring_of, masters_of
from tests.store.build import acts_of

NOW_MS = 1_800_000_000_000
KEY = "12345678901234567890123456789012"
_random = random.Random(7)


def random_hex(size: int) -> str:
    return _random.randbytes(size).hex()


BY = Operator("me", NOW_MS, random_hex, "why")


def on_a_store(work: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = await open_store(f"sqlite:///{folder}/mailboxes.db")
            try:
                await work(store)
            finally:
                await store.close()

    asyncio.run(run())


async def create(store: Store, key: str | None = KEY) -> tuple[Token, str]:
    return await apps.create_token(
        store, "twilio", by=BY, signature_key=key, keyring=await keyring_of(store)
    )


async def served(store: Store) -> Registry:
    registry = Registry(store, masters_of(store))
    await registry.begin()
    return registry


def test_it_is_sealed_in_the_store_and_open_on_a_server() -> None:
    async def work(store: Store) -> None:
        token, secret = await create(store)
        registry = await served(store)
        known = registry.token(secret, NOW_MS)
        assert known is not None
        assert registry.signature_key(known) == KEY
        setting = await store.setting(token_setting("twilio"))
        assert setting is not None
        assert setting.value is not None
        assert KEY.encode() not in setting.value
        assert KEY not in repr(await acts_of(store))
        assert KEY not in repr(token) + repr(known) + repr(registry)

    on_a_store(work)


def test_another_one_is_good_at_the_next_look_and_so_is_none() -> None:
    async def work(store: Store) -> None:
        _, secret = await create(store, None)
        registry = await served(store)
        keyring = await keyring_of(store)
        for key in (KEY, "another", None):
            await apps.set_signature_key(store, "twilio", key, by=BY, keyring=keyring)
            await registry.refresh()
            known = registry.token(secret, NOW_MS)
            assert known is not None
            assert registry.signature_key(known) == key
        acts = [act for act in await acts_of(store) if act.act.action == "token set"]
        assert len(acts) == 3
        await apps.revoke_token(store, "twilio", by=BY)
        await registry.refresh()
        assert registry.token(secret, NOW_MS) is None
        with pytest.raises(UnknownToken):
            await apps.set_signature_key(store, "twilio", KEY, by=BY, keyring=keyring)

    on_a_store(work)


def test_it_is_for_the_gateway_that_the_one_before_was_for() -> None:
    async def work(store: Store) -> None:
        keyring = await keyring_of(store)
        await create(store)
        for scheme, known in (
            ("", ""),
            ("yunpian", "yunpian"),
            ("", "yunpian"),
            ("sinch", "sinch"),
        ):
            token = await apps.set_signature_key(
                store, "twilio", "another", scheme=scheme, by=BY, keyring=keyring
            )
            assert token.signature is not None
            assert token.signature.scheme == known
        await apps.rewrap(store, masters_of(store), by=BY, drop_old=True)
        [(token, _)] = await apps.tokens(store)
        assert token.signature is not None
        assert token.signature.scheme == "sinch"
        with pytest.raises(InvalidSetting, match="signature scheme"):
            await apps.set_signature_key(
                store, "twilio", KEY, scheme="none", by=BY, keyring=await keyring_of(store)
            )

    on_a_store(work)


def test_it_comes_under_a_new_master_key_with_all_others() -> None:
    async def work(store: Store) -> None:
        _, secret = await create(store)
        masters = masters_of(store)
        registry = await served(store)
        await apps.rewrap(store, masters, by=BY, drop_old=True)
        [state] = await apps.master_keys(store, masters)
        assert (state.sealing, state.appkeys, state.secrets, state.signatures) == (True, 0, 0, 1)
        await registry.refresh()
        for each in (registry, await served(store)):  # who has known it, and who opens it now
            known = each.token(secret, NOW_MS)
            assert known is not None
            assert each.signature_key(known) == KEY

    on_a_store(work)


def test_without_its_master_key_nothing_is_proven() -> None:
    async def work(store: Store) -> None:
        token, secret = await create(store)
        before = await store.setting(token_setting("twilio"))
        assert before is not None
        assert token.signature is not None
        lost = msgspec.structs.replace(
            token, signature=msgspec.structs.replace(token.signature, master="0" * 16)
        )
        change = Change(before.name, msgspec.json.encode(lost), before.value)
        assert await store.change(change)
        registry = await served(store)
        known = registry.token(secret, NOW_MS)
        assert known is not None
        with pytest.raises(MasterKeyMissing):
            registry.signature_key(known)

    on_a_store(work)


def test_it_opens_for_its_token_only() -> None:
    async def work(store: Store) -> None:
        token, _ = await create(store)
        assert token.signature is not None
        keyring = await keyring_of(store)
        assert keyring.open_token(token) == KEY
        keyring.check(token)
        for moved in (
            msgspec.structs.replace(token, digest="0" * 64),
            msgspec.structs.replace(
                token, signature=msgspec.structs.replace(token.signature, id="0" * 16)
            ),
        ):
            with pytest.raises(StoreCorrupt, match="token set"):
                keyring.open_token(moved)
            name, value = token_setting(token.name), msgspec.json.encode(moved)
            sealing = await store.setting("master-key")
            assert sealing is not None
            assert sealing.value is not None
            settings = [(name, value), ("master-key", sealing.value)]
            with pytest.raises(StoreCorrupt):
                check_opens(settings, masters_of(store))

    on_a_store(work)


@pytest.mark.parametrize("key", ["", "a b", "ü", "a\n", "x" * (limits.SIGNATURE_KEY_CHARS_MAX + 1)])
def test_what_no_gateway_shows_is_refused_and_not_repeated(key: str) -> None:
    async def work(store: Store) -> None:
        with pytest.raises(InvalidSetting, match="signature key") as told:
            await create(store, key)
        assert not key or key not in str(told.value)
        assert await apps.tokens(store) == []

    on_a_store(work)


def test_a_commit_under_a_master_key_that_was_changed_meanwhile_is_refused() -> None:
    async def work(store: Store) -> None:
        old = await keyring_of(store)
        await create(store, None)
        await apps.rewrap(store, masters_of(store), by=BY)
        with pytest.raises(SettingChanged):
            await apps.set_signature_key(store, "twilio", KEY, by=BY, keyring=old)
        with pytest.raises(SettingChanged):
            await apps.create_token(store, "other", by=BY, signature_key=KEY, keyring=old)
        with pytest.raises(AlreadyExists):
            await create(store)

    on_a_store(work)


@pytest.mark.parametrize("member", ["id", "master", "sealed", "key"])
def test_a_setting_that_was_not_sealed_is_no_token(member: str) -> None:
    signed = Token("a", "0" * 64, NOW_MS, signature=None)
    key = KEYRING.seal_token(
        msgspec.structs.replace(signed, signature=SignatureKey("0" * 16, KEY)), random_hex
    ).signature
    assert key is not None
    wrong = b"" if member == "sealed" else KEY if member == "key" else "x"
    broken = msgspec.structs.replace(key, **{member: wrong})
    name = token_setting("a")
    read_token(name, msgspec.json.encode(msgspec.structs.replace(signed, signature=key)))
    with pytest.raises(StoreCorrupt):
        read_token(name, msgspec.json.encode(msgspec.structs.replace(signed, signature=broken)))
