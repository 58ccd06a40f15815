"""What operators do is on record: who, what, to what; never a secret, a number or a text."""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pullstatus import apps
from pullstatus.apps import Application, Operator, Wanted
from pullstatus.errors import PullstatusError
from pullstatus.records import Kind
from pullstatus.store import Append, Mailbox, Store, open_store
from tests.sealing import keyring_of
from tests.store.build import acts_of

NOW_MS = 1_800_000_000_000
KEY, OTHER_KEY, THIRD_KEY = (digit * 28 + "beef" for digit in "abc")
PHONE, TEXT = "13800138000", "meet me at noon"
HOSTILE = f"{PHONE} {TEXT} {KEY}"  # what a customer's name may be

_numbers = itertools.count(1)


def random_hex(size: int) -> str:
    return f"{next(_numbers):x}".zfill(2 * size)


def by(reason: str = "") -> Operator:
    return Operator("me", NOW_MS, random_hex, reason)


def on_a_store(work: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = await open_store(f"sqlite:///{folder}/mailboxes.db")
            try:
                await work(store)
            finally:
                await store.close()

    asyncio.run(run())


async def told(store: Store) -> list[tuple[str, Any]]:
    """What is on record, without who and when."""
    return [(row.act.action, json.loads(row.act.detail)) for row in await acts_of(store)]


def wanted(sdkappid: int) -> Application:
    return Wanted(sdkappid, HOSTILE).application(NOW_MS, random_hex)


def setting(**changes: object) -> Callable[[Application], Application]:
    return lambda application: msgspec.structs.replace(application, **changes)


def test_every_operation_is_on_record() -> None:
    secrets = [KEY, OTHER_KEY, THIRD_KEY, "beef", PHONE, TEXT, "192.0.2.0"]

    async def work(store: Store) -> None:
        def change(action: str, **changes: object) -> Awaitable[object]:
            return apps.change_application(
                store, 7, setting(**changes), by=by("because"), action=action
            )

        ring = await keyring_of(store)
        await apps.create_application(store, 7, by=by(), keyring=ring, appkey=KEY, name=HOSTILE)
        await apps.import_applications(store, [wanted(8), wanted(9)], by=by(), keyring=ring)
        await change("app disable", enabled=False)
        await change("app enable", enabled=True)
        await change("app set", strict=True, name=f"{HOSTILE} 2", allow=("192.0.2.0/24",))
        await change("app set", pull_rate_max=5, waiting_days_max=None)
        await apps.rotate_key(store, 7, by=by(), keyring=ring, appkey=OTHER_KEY)
        await apps.drop_key(store, 7, "a" * 3 + "beef", by=by(), keyring=ring)
        await apps.rotate_key(store, 7, by=by(), keyring=ring, appkey=THIRD_KEY, drop_old=True)
        _, general = await apps.create_token(store, "gateway", by=by())
        _, own = await apps.create_token(store, "carrier", by=by(), sdkappid=7)
        await apps.revoke_token(store, "gateway", by=by())
        entry = f'{{"mobile":"{PHONE}","text":"{TEXT}"}}'.encode()
        for kind in Kind:
            await store.append(Append(Mailbox(7, kind), [entry], NOW_MS))
        assert await apps.delete_application(store, 7, by=by(), erase=True) == 2
        await apps.delete_application(store, 8, by=by())
        assert await told(store) == [
            ("app create", {"sdkappid": 7}),
            ("app import", {"sdkappids": [8, 9]}),
            ("app disable", {"sdkappid": 7, "enabled": False}),
            ("app enable", {"sdkappid": 7, "enabled": True}),
            ("app set", {"sdkappid": 7, "name": "***", "strict": True, "allow": 1}),
            ("app set", {"sdkappid": 7, "pull_rate_max": 5}),
            ("app rotate-key", {"sdkappid": 7, "appkeys": 2}),
            ("app drop-key", {"sdkappid": 7, "appkeys": 1}),
            ("app rotate-key", {"sdkappid": 7, "appkeys": 1}),
            ("token create", {"name": "gateway", "sdkappid": None}),
            ("token create", {"name": "carrier", "sdkappid": 7}),
            ("token revoke", {"name": "gateway", "sdkappid": None}),
            ("app delete", {"sdkappid": 7, "erase": True}),
            ("app delete", {"sdkappid": 8, "erase": False}),
        ]
        rows = await acts_of(store)
        assert {(row.act.actor, row.act.at_ms) for row in rows} == {("me", NOW_MS)}
        assert [row.act.reason for row in rows][2:6] == ["because"] * 4
        assert len({row.act.ticket for row in rows}) == len(rows)
        stored = msgspec.json.encode(rows).decode()
        for secret in (*secrets, general, own):
            assert secret not in stored

    on_a_store(work)


def test_what_changes_nothing_or_is_refused_is_not_on_record() -> None:
    async def work(store: Store) -> None:
        ring = await keyring_of(store)
        await apps.create_application(store, 7, by=by(), keyring=ring, appkey=KEY)
        await apps.create_token(store, "gateway", by=by())
        await store.append(Append(Mailbox(7, Kind.REPLY), [b"{}"], NOW_MS))
        before = await acts_of(store)
        await apps.change_application(store, 7, setting(strict=False), by=by(), action="app set")
        for refused in (
            lambda: apps.create_application(store, 7, by=by(), keyring=ring),
            lambda: apps.import_applications(store, [wanted(8), wanted(7)], by=by(), keyring=ring),
            lambda: apps.change_application(
                store, 8, setting(strict=True), by=by(), action="app set"
            ),
            lambda: apps.rotate_key(store, 7, by=by(), keyring=ring, appkey=KEY),
            lambda: apps.drop_key(store, 7, "beef", by=by()),
            lambda: apps.delete_application(store, 7, by=by()),
            lambda: apps.delete_application(store, 9, by=by(), erase=True),
            lambda: apps.create_token(store, "gateway", by=by()),
            lambda: apps.revoke_token(store, KEY, by=by()),
        ):
            with pytest.raises(PullstatusError):
                await refused()
        assert await acts_of(store) == before

    on_a_store(work)


def test_every_commit_of_an_operator_has_a_ticket_of_its_own(tmp_path: Path) -> None:
    """Settings and journal tell which operation wrote them, of one act, too."""

    async def work() -> None:
        store = await open_store(f"sqlite:///{tmp_path}/mailboxes.db")
        await apps.create_application(store, 7, by=by(), keyring=await keyring_of(store))
        for kind in Kind:
            await store.append(Append(Mailbox(7, kind), [b"{}"], NOW_MS))
        await apps.create_token(store, "gateway", by=by())
        await apps.delete_application(store, 7, by=by(), erase=True)
        written = [setting.ticket async for setting in store.settings()]
        for kind in Kind:
            written += [row.ticket async for row in store.journal(Mailbox(7, kind))]
        acts = [row.act.ticket for row in await acts_of(store)]
        assert len({*written, *acts, bytes(16)}) == 3 + 2 + 3 + 1
        await store.close()

    asyncio.run(work())
