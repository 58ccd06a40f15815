"""What was removed leaves no traces in the files, whoever else removes something meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias, cast

import msgspec
import pytest

from pullstatus import apps
from pullstatus.apps import Operator, traces
from pullstatus.apps.settings import read_setting
from pullstatus.apps.values import REWRITE_DUE, application_setting
from pullstatus.errors import SettingChanged
from pullstatus.mailbox import erasing
from pullstatus.mailbox.following import Follower
from pullstatus.store import Append, Change, Mailbox, Store, open_store
from tests.harness import status
from tests.sealing import keyring_of, masters_of
from tests.unit.apps.test_administration import Meanwhile

NOW_MS = 1_800_000_000_000
BY = Operator("me", NOW_MS, secrets.token_hex, "why")
MOBILES = {7: "13899991234", 8: "13755501235"}

Removal: TypeAlias = Callable[[Store, int], Awaitable[object]]


async def erase_application(store: Store, sdkappid: int) -> None:
    follow = partial(Follower(store, secrets.token_hex).follow, sdkappid)
    await apps.erase_application(store, sdkappid, by=BY, follow=follow)


async def erase_number(store: Store, sdkappid: int) -> None:
    number = erasing.parse_number(f"+86{MOBILES[sdkappid]}")
    await erasing.erase_number(store, number, by=BY, progress=lambda *_: None)


async def rewrap(store: Store, _sdkappid: int) -> None:
    await apps.rewrap(store, masters_of(store), by=BY)


async def fill(store: Store) -> dict[int, list[bytes]]:
    """Two applications with a record each; returns what is to be found of them."""
    found = {}
    for sdkappid, mobile in MOBILES.items():
        await apps.create_application(store, sdkappid, by=BY, keyring=await keyring_of(store))
        entry = msgspec.json.encode(status(1, mobile=mobile))
        await store.append(
            Append(Mailbox(sdkappid, 0), [entry], NOW_MS, ticket=secrets.token_bytes(16))
        )
        setting = await store.setting(application_setting(sdkappid))
        assert setting is not None
        assert setting.value is not None
        [key] = msgspec.json.decode(setting.value)["appkeys"]
        found[sdkappid] = [mobile.encode(), key["sealed"].encode()]
    return found


def holding(folder: Path, canary: bytes) -> list[str]:
    return [file.name for file in folder.iterdir() if canary in file.read_bytes()]


@pytest.mark.parametrize(
    ("mine", "hers"),
    [
        (erase_application, erase_application),
        (erase_application, erase_number),
        (erase_number, erase_application),
        (rewrap, erase_number),
        (erase_number, rewrap),
    ],
)
def test_removals_at_once_leave_no_traces(tmp_path: Path, mine: Removal, hers: Removal) -> None:
    """Whenever somebody else removes something and writes the files anew in between."""

    async def removal(folder: Path, at: int) -> bool:
        url = f"sqlite:///{folder}/mailboxes.db"
        store, other = await open_store(url), await open_store(url)
        try:
            canaries = await fill(store)

            async def meanwhile() -> None:
                await hers(other, 8)
                assert await traces.rewrite_if_due(other, url)

            watched = Meanwhile(store, at, meanwhile)
            await mine(cast("Store", watched), 7)
            await traces.rewrite_if_due(cast("Store", watched), url)
            for sdkappid, work in ((7, mine), (8, hers)):
                canary = canaries[sdkappid][work is rewrap]
                assert watched.left > 0 or holding(folder, canary) == [], (at, work)
            return watched.left <= 0
        finally:
            await store.close()
            await other.close()

    for at in itertools.count(1):
        folder = tmp_path / str(at)
        folder.mkdir()
        if not asyncio.run(removal(folder, at)):
            break
    assert at > 8


@pytest.mark.parametrize(
    "failure", [SettingChanged("it was changed meanwhile"), asyncio.CancelledError()], ids=repr
)
def test_a_removal_that_fails_is_to_leave_no_traces_either(
    tmp_path: Path, failure: BaseException
) -> None:
    """Also where somebody else has written the files anew, and taken its mark away, meanwhile."""
    url = f"sqlite:///{tmp_path}/mailboxes.db"

    async def fail(store: Store) -> None:
        async with traces.removing(store, BY):
            assert await traces.rewrite_if_due(store, url)
            raise failure

    async def run() -> None:
        store = await open_store(url)
        try:
            with pytest.raises(type(failure)):
                await fail(store)
            assert await traces.is_due(store)
        finally:
            await store.close()

    asyncio.run(run())


def test_mark_of_an_older_version_is_taken_away(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/mailboxes.db"

    async def run() -> None:
        store = await open_store(url)
        try:
            assert await store.change(Change(REWRITE_DUE, b"true", None))
            assert read_setting(REWRITE_DUE, b"true")
            assert await traces.rewrite_if_due(store, url)
            assert not await traces.is_due(store)
        finally:
            await store.close()

    asyncio.run(run())
