"""What a server must be: each refusal names the setting, its value and the fix."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.rows import TupleRow

from pullstatus.errors import StoreFailed, StoreRefused, StoreUnavailable
from pullstatus.store import open_store, store_cautions
from pullstatus.store.postgresql import refusals, session
from pullstatus.store.postgresql.session import SETTINGS
from tests.store.build import STATUSES, append, records
from tests.store.postgresql.conftest import log_of

SAFE: dict[str, Any] = {
    "version": 180000,
    "recovers": False,
    "system": 7,
    "timeline": "00000003",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "data_sync_retry": "off",
    "zero_damaged_pages": "off",
    "ignore_checksum_failure": "off",
    "transaction_read_only": "off",
    "transaction_timeout": "0",
    "synchronous_standby_names": "s1",
    "data_checksums": "on",
    "restart_after_crash": "off",
    "max_connections": 100,
    "tls": True,
    "near": False,
    "unlogged": "",
    "told": list(SETTINGS.values()),
}


def check(known: refusals.Known | None = None, **changed: object) -> refusals.Found:
    row = list((SAFE | changed).values())
    return refusals.check(row, SETTINGS, known or refusals.Known())


def test_a_safe_server_is_taken_without_a_word() -> None:
    assert check() == refusals.Found(180000, 7, 3, ())
    check(synchronous_commit="remote_apply")
    check(transaction_timeout=None)  # before 17
    check(told=[value.replace("5s", "5000ms") for value in SETTINGS.values()])


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("version", 130011, "14 or newer"),
        ("fsync", "off", "set it to on"),
        ("full_page_writes", "off", "set it to on"),
        ("data_sync_retry", "on", "set it to off"),
        ("zero_damaged_pages", "on", "set it to off"),
        ("ignore_checksum_failure", "on", "set it to off"),
        ("synchronous_commit", "off", "asked for on"),
        ("synchronous_commit", "local", "asked for on"),
        ("synchronous_commit", "remote_write", "asked for on"),
        ("transaction_timeout", "1min", "SET transaction_timeout = 0"),
        ("unlogged", "chunk", "SET LOGGED"),
    ],
)
def test_each_unsafe_setting_is_refused(name: str, value: object, fix: str) -> None:
    changed: dict[str, Any] = {name: value}
    with pytest.raises(StoreRefused, match=fix) as refusal:
        check(**changed)
    assert str(value)[:3] in str(refusal.value).replace("13 is", "130 is")


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "synchronous_commit"])
def test_a_setting_that_does_not_read_back_is_refused(name: str) -> None:
    told = [("0" if name == key and value != "0" else "7") if name == key else value
            for key, value in SETTINGS.items()]  # fmt: skip
    with pytest.raises(StoreRefused, match=f"{name} = .*ALTER ROLE"):
        check(told=told)


@pytest.mark.parametrize(
    "changed", [{"recovers": True, "timeline": None}, {"transaction_read_only": "on"}]
)
def test_a_standby_is_waited_for_to_become_the_one_that_writes(changed: dict[str, Any]) -> None:
    with pytest.raises(StoreUnavailable, match="standby"):
        check(**changed)


def test_a_former_primary_is_not_gone_back_to() -> None:
    known = refusals.Known()
    check(known)
    check(known, timeline="0000000A")
    with pytest.raises(StoreUnavailable, match="timeline 3, behind 10"):
        check(known)


def test_another_cluster_is_refused_until_a_new_epoch() -> None:
    with pytest.raises(StoreRefused, match="new-epoch"):
        check(refusals.Known(system=8))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"synchronous_standby_names": ""}, "on one server alone"),
        ({"data_checksums": "off"}, "checksums are off"),
        ({"tls": False}, "no TLS"),
        ({"restart_after_crash": "on"}, "restart_after_crash"),
        ({"max_connections": 10}, "max_connections is 10"),
    ],
)
def test_what_is_less_than_it_could_be_is_told(changed: dict[str, Any], told: str) -> None:
    [warning] = check(**changed).warnings
    assert told in warning
    assert check(tls=False, near=True).warnings == ()


def test_a_real_server_is_asked_for_all_of_it(url: str) -> None:
    [warning] = [each for each in store_cautions(url) if "standby" in each]
    assert "on one server alone" in warning


@pytest.mark.anyio
async def test_what_drops_our_settings_is_noticed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a pooler does, and says nothing."""
    ours = session.arguments
    monkeypatch.setattr(session, "arguments", lambda *known: {**ours(*known), "options": ""})
    lacking = r"lock_timeout = 0, .*connect directly, .*SET lock_timeout = '5s'; .*SET jit = 'off'"
    with pytest.raises(StoreRefused, match=lacking):
        await open_store(url)


@pytest.mark.anyio
async def test_an_unlogged_table_is_refused(url: str, admin: psycopg.Connection[TupleRow]) -> None:
    await (await open_store(url)).close()
    admin.execute("ALTER TABLE pullstatus.once SET UNLOGGED")
    with pytest.raises(StoreRefused, match="once; ALTER TABLE"):
        await open_store(url)


@pytest.mark.anyio
async def test_a_server_is_judged_again_at_every_reconnect(
    url: str, admin: psycopg.Connection[TupleRow]
) -> None:
    failures: list[BaseException] = []
    store = await open_store(url, on_failure=failures.append)
    await store.append(append(STATUSES, records(1)))
    admin.execute("ALTER TABLE pullstatus.once SET UNLOGGED")
    lane = log_of(store)._session
    assert lane is not None
    admin.execute("SELECT pg_terminate_backend(%s)", (lane.connection.info.backend_pid,))
    with pytest.raises(StoreFailed, match="once; ALTER TABLE"):
        await store.append(append(STATUSES, records(1)))
    [failure] = failures
    assert isinstance(failure, StoreFailed)
    await store.close()
