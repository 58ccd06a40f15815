"""Appkeys under a master key: bound to their place, moved to another one whatever is cut off."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import stat
import tempfile
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from pullstatus import apps, limits
from pullstatus.apps import (
    AppKey,
    Command,
    GivenFile,
    Keyring,
    MasterKey,
    Operator,
    OwnFile,
    masters,
)
from pullstatus.apps.admission import Admission, Call
from pullstatus.apps.masters import parse
from pullstatus.apps.rate import RateLimiter
from pullstatus.apps.values import SEALING, Purpose, application_setting, token_mark, token_setting
from pullstatus.apps.wrapping import Shut, check_opens
from pullstatus.errors import (
    AlreadyExists,
    InvalidSetting,
    MasterKeyMissing,
    PullstatusError,
    SettingChanged,
    StoreCorrupt,
    StoreRefused,
    StoreUnavailable,
)
from pullstatus.store import Change, Noted, Store, open_store
from tests.sealing import keyring_of, masters_of
from tests.store.build import acts_of
from tests.unit.apps.test_administration import Cut

APPKEY = "5f03a35d00ee52a21327ab048186a2c4"
OTHER = "0123456789abcdef0123456789abcdef"
NOW_MS = 1_800_000_000_000
OLD, NEW = MasterKey(b"o" * 32), MasterKey(b"n" * 32)

_numbers = itertools.count(1)


def random_hex(size: int) -> str:
    return f"{next(_numbers):x}".zfill(2 * size)


BY = Operator("me", NOW_MS, random_hex)


def on_a_store(work: Callable[[Store], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = await open_store(f"sqlite:///{folder}/mailboxes.db")
            try:
                await work(store)
            finally:
                await store.close()

    asyncio.run(run())


async def create(store: Store, sdkappid: int = 7, appkey: str = APPKEY) -> None:
    keyring = await keyring_of(store)
    await apps.create_application(store, sdkappid, by=BY, keyring=keyring, appkey=appkey)


async def opened(store: Store) -> dict[int, list[str]]:
    """The appkeys of all applications, as a server that starts now opens them."""
    registry = apps.Registry(store, masters_of(store))
    await registry.refresh()
    assert not registry.locked
    return {number: list(live.appkeys) for number, live in registry.applications.items()}


async def masters_in_use(store: Store) -> set[str]:
    return {key.master for one in await apps.applications(store) for key in one.appkeys}


# --- sealing --------------------------------------------------------------------------------------


def test_what_is_sealed_opens_and_shows_nothing_but_its_end() -> None:
    keyring = Keyring([OLD], "here")
    sealed = keyring.seal(7, AppKey(APPKEY, NOW_MS, "id"), random_hex)
    assert keyring.open(7, sealed) == APPKEY
    assert (sealed.id, sealed.created_ms, sealed.master) == ("id", NOW_MS, OLD.id)
    assert sealed.ends_with == APPKEY[-4:]
    for told in (msgspec.json.encode(sealed).decode(), repr(sealed)):
        assert APPKEY[:-4] not in told
    assert keyring.seal(7, AppKey(APPKEY), random_hex).sealed != sealed.sealed
    assert "6f6f" not in repr(OLD)
    assert "oooo" not in repr(OLD)


@pytest.mark.parametrize("place", ["application", "key", "master", "swapped"])
def test_what_is_sealed_opens_in_its_place_only(place: str) -> None:
    keyring = Keyring([NEW, OLD], "here", OLD.id)
    sealed = keyring.seal(7, AppKey(APPKEY, 0, "one"), random_hex)
    other = keyring.seal(7, AppKey(OTHER, 0, "two"), random_hex)
    moved = {
        "application": sealed,
        "key": msgspec.structs.replace(sealed, id="two"),
        "master": msgspec.structs.replace(sealed, master=NEW.id),
        "swapped": msgspec.structs.replace(sealed, sealed=other.sealed),
    }[place]
    with pytest.raises(StoreCorrupt, match="app rotate-key") as raised:
        keyring.open(8 if place == "application" else 7, moved)
    assert APPKEY not in str(raised.value)


def test_no_changed_byte_opens() -> None:
    keyring = Keyring([OLD], "here")
    sealed = keyring.seal(7, AppKey(APPKEY, 0, "one"), random_hex)
    assert len(sealed.sealed) == 12 + 32 + 16
    for place in range(len(sealed.sealed)):
        changed = bytearray(sealed.sealed)
        changed[place] ^= 1
        with pytest.raises(StoreCorrupt):
            keyring.open(7, msgspec.structs.replace(sealed, sealed=bytes(changed)))
    for length in range(len(sealed.sealed)):
        with pytest.raises(StoreCorrupt):
            keyring.open(7, msgspec.structs.replace(sealed, sealed=sealed.sealed[:length]))


def test_a_master_key_that_is_not_at_hand_is_named() -> None:
    sealed = Keyring([OLD], "here").seal(7, AppKey(APPKEY, 0, "one"), random_hex)
    with pytest.raises(MasterKeyMissing, match=f"{OLD.id}.*not in there.*--master-key-file"):
        Keyring([NEW], "there").open(7, sealed)


# --- where master keys are ------------------------------------------------------------------------


def own_file(folder: Path) -> OwnFile:
    (folder / "store").touch()
    return OwnFile(folder / "key", folder / "store")


def test_source_is_lines_and_remarks() -> None:
    text = f"# mine\n\n{OLD.secret.hex().upper()}\r\n  {NEW.secret.hex()}  \n{OLD.secret.hex()}\n"
    assert parse(text.encode(), "here") == (OLD, NEW)
    assert parse(text.encode("utf-8-sig"), "here") == (OLD, NEW), "as Windows writes it"


@pytest.mark.parametrize(
    "text", [b"", b"# none\n", b"\xff" * 64, b"6f" * 31, b"6f" * 33, b"x" * 5000]
)
def test_source_of_anything_else_is_refused_without_telling_it(text: bytes) -> None:
    with pytest.raises(StoreRefused, match="here") as raised:
        parse(text, "here")
    assert "6f6f" not in str(raised.value)


def test_own_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    """However many programs start at once."""
    source = own_file(tmp_path)
    assert source.read() == ()
    with ThreadPoolExecutor(16) as threads:
        made = set(threads.map(lambda _: source.make(), range(64)))
    assert made == {source.read()}
    assert len(source.read()) == 1
    assert stat.S_IMODE(source.path.stat().st_mode) == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["key", "store"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o700 | 0o010])
def test_own_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    source = own_file(tmp_path)
    source.make()
    source.path.chmod(mode)
    with pytest.raises(StoreRefused, match="chmod 600"):
        source.read()


def test_own_file_is_no_link_and_no_folder(tmp_path: Path) -> None:
    source = own_file(tmp_path)
    source.make()
    source.path.rename(tmp_path / "elsewhere")
    source.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreRefused, match="cannot be read"):
        source.read()
    source.path.unlink()
    source.path.mkdir(0o700)
    with pytest.raises(StoreRefused, match="no ordinary file"):
        source.read()
    source.path.rmdir()
    os.mkfifo(source.path, 0o600)
    with pytest.raises(StoreRefused, match="no ordinary file"):
        source.read()


def test_own_file_is_replaced_only_as_it_was_read(tmp_path: Path) -> None:
    """Of two that put a new key in it, one is refused: no key is ever lost from it."""
    source = own_file(tmp_path)
    before = source.make()
    source.replace(before, (OLD, *before))
    with pytest.raises(SettingChanged, match="try again"):
        source.replace(before, (NEW, *before))
    assert source.read() == (OLD, *before)


def test_whoever_keeps_the_folder_locked_holds_up_nobody_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masters, "ALONE_S", 0.05)
    source = own_file(tmp_path)
    before = source.make()
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_SH)
        with pytest.raises(StoreRefused, match="is locked by another program"):
            source.replace(before, (OLD, *before))
    finally:
        os.close(folder)
    source.replace(before, (OLD, *before))
    assert source.read() == (OLD, *before)


def test_own_file_has_room_for_some_old_keys_only(tmp_path: Path) -> None:
    source = own_file(tmp_path)
    before = source.make()
    many = tuple(MasterKey(os.urandom(32)) for _ in range(limits.MASTER_KEYS_BYTES_MAX // 65))
    with pytest.raises(StoreRefused, match="--drop-old"):
        source.replace(before, many)
    assert source.read() == before


@pytest.mark.parametrize(
    ("mode", "good"), [(0o400, True), (0o640, True), (0o644, False), (0o660, False)]
)
def test_given_file_may_be_read_by_a_group(tmp_path: Path, mode: int, *, good: bool) -> None:
    file = tmp_path / "given"
    file.write_text(OLD.secret.hex())
    file.chmod(mode)
    if good:
        assert GivenFile(file).read() == (OLD,)
    else:
        with pytest.raises(StoreRefused, match="chmod 600"):
            GivenFile(file).read()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/proc/none/program", "cannot be run: No such file"),
        ("sh -c 'echo secret; exit 3'", "ended with status 3"),
        ("echo secret", "line 1 is no master key"),
        ("true", "holds no master key"),
        ("echo 'secret", "cannot be read"),
        ("", "is empty: name a program"),
        (" \t", "is empty: name a program"),
        ("a\0b", "cannot be read"),
        ("cat /dev/zero", "bytes are no master keys"),
    ],
)
def test_command_that_prints_no_key_is_told_without_what_it_prints(line: str, said: str) -> None:
    with pytest.raises(StoreRefused, match=said) as raised:
        Command(line).read()
    assert "secret" not in str(raised.value)


def test_command_prints_keys() -> None:
    assert Command(f"printf '%s\\n' {NEW.secret.hex()} {OLD.secret.hex()}").read() == (NEW, OLD)


def test_command_that_leaves_something_running_is_waited_for_alone(tmp_path: Path) -> None:
    """What it leaves keeps its output open."""
    os.mkfifo(tmp_path / "pipe")
    line = f"sh -c 'cat {tmp_path}/pipe & echo {NEW.secret.hex()}'"
    assert Command(line).read() == (NEW,)
    (tmp_path / "pipe").open("wb").close()  # which ends what was left


@pytest.mark.parametrize("line", ["sleep 600", "sh -c 'exec >&-; exec sleep 600'"])
def test_command_that_does_not_end_is_ended(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masters, "COMMAND_S", 0.2)
    with pytest.raises(StoreRefused, match="and was ended"):
        Command(line).read()


# --- in a store -----------------------------------------------------------------------------------


def test_server_opens_what_commands_seal() -> None:
    async def work(store: Store) -> None:
        await create(store)
        keyring = await keyring_of(store)
        assert (await apps.rotate_key(store, 7, by=BY, keyring=keyring, appkey=OTHER)).key
        assert await opened(store) == {7: [OTHER, APPKEY]}
        [state] = await apps.master_keys(store, masters_of(store))
        assert (state.at_hand, state.sealing, state.appkeys) == (True, True, 2)

    on_a_store(work)


def test_key_is_opened_once_and_stays_open_under_another_master_key() -> None:
    """A server whose master key is changed, to one that it cannot get, goes on."""

    async def work(store: Store) -> None:
        await create(store)
        masters = masters_of(store)
        registry = apps.Registry(store, masters)
        await registry.refresh()
        masters.path.rename(masters.path.with_name("away"))
        before = await apps.applications(store)

        def rename(application: apps.Application) -> apps.Application:
            return msgspec.structs.replace(application, name="other")

        await apps.change_application(store, 7, rename, by=BY, action="app set")
        await registry.refresh()
        assert registry.applications[7].appkeys == (APPKEY,)
        assert registry.applications[7].application.name == "other"
        masters.path.with_name("away").rename(masters.path)
        await apps.rewrap(store, masters, by=BY, drop_old=True)
        masters.path.unlink()
        await registry.refresh()
        assert registry.applications[7].application.appkeys != before[0].appkeys
        assert registry.applications[7].appkeys == (APPKEY,)
        assert not registry.locked

    on_a_store(work)


def test_application_whose_key_stays_shut_is_not_let_in_and_others_are() -> None:
    """No key at all must not become an empty one, by which everybody could sign."""

    async def work(store: Store) -> None:
        await create(store, 7)
        await create(store, 8)
        setting = await store.setting(application_setting(7))
        assert setting is not None
        assert setting.value is not None
        shut = setting.value.replace((await keyring_of(store)).sealing.id.encode(), b"f" * 16)
        await store.change(Change(setting.name, shut, setting.value))
        registry = apps.Registry(store, masters_of(store))
        await registry.refresh()
        assert list(registry.locked) == [7]
        assert registry.applications[7].appkeys == ()
        assert registry.applications[8].appkeys == (APPKEY,)

        def proof(appkeys: object) -> int:
            raise AssertionError(appkeys)

        admission = Admission(registry, RateLimiter(lambda: 0.0))
        with pytest.raises(StoreUnavailable, match="cannot be opened"):
            await admission.admit(Call(7, "", proof, 0, 0, Purpose.PULL))
        keyring = await keyring_of(store)
        key = (await apps.rotate_key(store, 7, by=BY, keyring=keyring, drop_old=True)).key
        assert key is not None
        assert await opened(store) == {7: [key.appkey], 8: [APPKEY]}

    on_a_store(work)


def test_nothing_is_sealed_under_another_key_than_the_stores() -> None:
    """A file that was lost or exchanged is said at once, not made anew."""

    async def work(store: Store) -> None:
        await create(store)
        masters = masters_of(store)
        content = masters.path.read_bytes()
        sealing = (await keyring_of(store)).sealing.id
        masters.path.unlink()
        for _ in range(2):
            with pytest.raises(MasterKeyMissing, match=sealing):
                await create(store, 8)
            assert not masters.path.exists()
        masters.make()
        with pytest.raises(MasterKeyMissing, match=sealing):
            await create(store, 8)
        assert [one.sdkappid for one in await apps.applications(store)] == [7]
        masters.path.write_bytes(content)
        await create(store, 8)
        for number in (7, 8):  # and with nothing sealed nothing is lost
            await apps.delete_application(store, number, by=BY)
        masters.path.unlink()
        await create(store, 9)
        assert await opened(store) == {9: [APPKEY]}

    on_a_store(work)


def test_readable_keys_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that has none never will, however many applications it has."""

    async def work(store: Store) -> None:
        def asked(*_: object, **__: object) -> None:
            raise AssertionError

        with monkeypatch.context() as patch:
            patch.setattr(store, "mark", asked)  # cut off before it was noted
            with pytest.raises(AssertionError):
                await apps.seal_readable(store, masters_of(store), by=BY)
        assert await apps.seal_readable(store, masters_of(store), by=BY) == 0
        monkeypatch.setattr(store, "settings", asked)
        assert await apps.seal_readable(store, masters_of(store), by=BY) == 0

    on_a_store(work)


def test_readable_keys_are_sealed() -> None:
    """As 0.1.0 wrote them; with what else is known of the application."""

    async def work(store: Store) -> None:
        old = b'{"sdkappid":%d,"appkeys":[{"appkey":"%s","created_ms":5},' % (7, OTHER.encode())
        old += b'{"appkey":"%s","created_ms":4}],"created_ms":3,"name":"a"}' % APPKEY.encode()
        await store.change(Change(application_setting(7), old, None))
        await store.change(Change(application_setting(8), None, None))
        [found] = await apps.applications(store)
        assert [key.ends_with for key in found.appkeys] == [OTHER[-4:], APPKEY[-4:]]
        assert await opened(store) == {7: [OTHER, APPKEY]}
        assert await apps.seal_readable(store, masters_of(store), by=BY) == 1
        assert await apps.seal_readable(store, masters_of(store), by=BY) == 0
        assert await opened(store) == {7: [OTHER, APPKEY]}
        [sealed] = await apps.applications(store)
        assert sealed == msgspec.structs.replace(found, appkeys=sealed.appkeys)
        assert [key.created_ms for key in sealed.appkeys] == [5, 4]
        assert [row.act.action for row in await acts_of(store)] == ["keys seal"]
        values = [setting.value or b"" async for setting in store.settings()]
        assert APPKEY.encode() not in b"".join(values)

    on_a_store(work)


# --- another master key ---------------------------------------------------------------------------


def test_rewrap_leaves_the_old_key_until_it_is_dropped() -> None:
    async def work(store: Store) -> None:
        await create(store)
        masters = masters_of(store)
        [old] = masters.read()
        await apps.rewrap(store, masters, by=BY)
        new, kept = masters.read()
        assert kept == old
        assert await masters_in_use(store) == {new.id}
        assert await opened(store) == {7: [APPKEY]}
        await apps.rewrap(store, masters, by=BY, drop_old=True)
        assert masters.read() == (new,)
        assert await opened(store) == {7: [APPKEY]}
        await apps.rewrap(store, masters, by=BY, drop_old=True)
        [newest] = masters.read()
        assert newest not in (old, new)
        assert await opened(store) == {7: [APPKEY]}
        assert {row.act.action for row in await acts_of(store)} == {"app create", "keys rewrap"}

    on_a_store(work)


@pytest.mark.parametrize("done", [False, True], ids=["before", "behind"])
def test_rewrap_cut_off_anywhere_loses_no_key_and_is_finished_by_repeating(
    *, done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at what it does to the file; and what others make meanwhile stays good."""

    class CutFile(OwnFile, frozen=True):
        def replace(self, before: object, masters: object) -> None:
            _count(done)
            OwnFile.replace(self, before, masters)  # type: ignore[arg-type]
            _count(done, behind=True)

    left = 0

    def _count(done: bool, *, behind: bool = False) -> None:
        nonlocal left
        if done is behind:
            left -= 1
            if left == 0:
                raise StoreRefused("cut")

    async def work(store: Store) -> None:
        nonlocal left
        for number in (1, 2, 3):
            await create(store, number)
        expected = {number: [APPKEY] for number in (1, 2, 3)}
        own = masters_of(store)
        for step in itertools.count(1):
            left = step
            cut = Cut(store, step, done=done)
            file = CutFile(own.path, own.beside)
            try:
                await apps.rewrap(cast("Store", cut), file, by=BY, drop_old=True)
            except PullstatusError:
                ended = False
            else:
                ended = cut.left > 0 and left > 0
            assert await opened(store) == expected
            if step % 5 == 0:
                await create(store, 100 + step)
                expected[100 + step] = [APPKEY]
            await apps.rewrap(store, own, by=BY, drop_old=True)
            [master] = own.read()
            assert await masters_in_use(store) == {master.id}
            assert await opened(store) == expected
            if ended:
                break
        assert step > 8

    monkeypatch.setattr("pullstatus.apps.wrapping.STEP", 2)
    on_a_store(work)


def test_what_was_sealed_under_the_old_key_meanwhile_is_not_stored() -> None:
    """Or nobody could open it once that key is dropped."""

    async def work(store: Store) -> None:
        await create(store)
        before = await keyring_of(store)
        await apps.rewrap(store, masters_of(store), by=BY, drop_old=True)
        for late in (
            lambda: apps.create_application(store, 8, by=BY, keyring=before),
            lambda: apps.rotate_key(store, 7, by=BY, keyring=Both(before)),
        ):
            with pytest.raises((SettingChanged, MasterKeyMissing)):
                await late()
        assert await opened(store) == {7: [APPKEY]}

    class Both(Keyring):
        """Would know every key."""

        def __init__(self, keyring: Keyring) -> None:
            self.__dict__ |= vars(keyring)

        def open(self, _sdkappid: int, _key: AppKey) -> str:
            return APPKEY

    on_a_store(work)


def test_rewrap_of_a_source_that_is_not_ours_waits_for_its_new_key(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        file = tmp_path / "given"
        masters = GivenFile(file)

        def give(*keys: MasterKey) -> None:
            file.write_text("\n".join(key.secret.hex() for key in keys))
            file.chmod(0o600)

        give(OLD)
        keyring = await apps.open_keyring(store, masters)
        await apps.create_application(store, 7, by=BY, keyring=keyring, appkey=APPKEY)
        with pytest.raises(StoreRefused, match="put a new key in its first line"):
            await apps.rewrap(store, masters, by=BY)
        give(NEW, OLD)
        assert (await apps.open_keyring(store, masters)).sealing == OLD
        await apps.rewrap(store, masters, by=BY)
        assert await masters_in_use(store) == {NEW.id}
        with pytest.raises(StoreRefused, match="not written by pullstatus"):
            await apps.rewrap(store, masters, by=BY, drop_old=True)
        give(NEW)
        registry = apps.Registry(store, masters)
        await registry.refresh()
        assert registry.applications[7].appkeys == (APPKEY,)

    on_a_store(work)


@pytest.mark.parametrize("keys", [1, 2])
def test_a_lost_master_key_costs_the_appkeys_and_nothing_else(keys: int) -> None:
    async def work(store: Store) -> None:
        await create(store)
        for _ in range(keys - 1):
            await apps.rotate_key(store, 7, by=BY, keyring=await keyring_of(store))
        masters = masters_of(store)
        with pytest.raises(InvalidSetting, match="not lost"):
            await apps.begin_anew(store, masters, by=BY)
        masters.path.unlink()
        await apps.begin_anew(store, masters, by=BY)
        await create(store, 8)
        registry = apps.Registry(store, masters)
        await registry.refresh()
        assert list(registry.locked) == [7]
        assert registry.applications[8].appkeys == (APPKEY,)
        keyring = await keyring_of(store)
        with pytest.raises(AlreadyExists):
            await apps.rotate_key(store, 8, by=BY, keyring=keyring, appkey=APPKEY)
        key = (await apps.rotate_key(store, 7, by=BY, keyring=keyring, drop_old=True)).key
        assert key is not None
        await registry.refresh()
        assert not registry.locked
        await apps.rewrap(store, masters, by=BY, drop_old=True)
        assert await opened(store) == {7: [key.appkey], 8: [APPKEY]}

    on_a_store(work)


def test_an_appkey_that_is_damaged_is_replaced_as_its_error_says() -> None:
    async def work(store: Store) -> None:
        await create(store)
        await create(store, 8, OTHER)
        [mine, others] = await apps.applications(store)
        setting = await store.setting(application_setting(7))
        assert setting is not None
        [key], [other] = mine.appkeys, others.appkeys
        damaged = msgspec.structs.replace(key, sealed=other.sealed)
        value = msgspec.json.encode(msgspec.structs.replace(mine, appkeys=(damaged,)))
        assert await store.change(Change(setting.name, value, setting.value))
        with pytest.raises(StoreCorrupt, match="app rotate-key 7 --drop-old"):
            await opened(store)
        keyring = await keyring_of(store)
        made = (await apps.rotate_key(store, 7, by=BY, keyring=keyring, drop_old=True)).key
        assert made is not None
        assert await opened(store) == {7: [made.appkey], 8: [OTHER]}

    on_a_store(work)


def test_backup_is_accepted_where_its_master_key_is() -> None:
    async def work(store: Store) -> None:
        await create(store)
        masters = masters_of(store)
        settings = [
            (setting.name, setting.value)
            async for setting in store.settings()
            if setting.value is not None
        ]
        assert SEALING in dict(settings)
        check_opens(settings, masters)
        check_opens([], OwnFile(Path("/proc/none"), Path("/proc/none")))
        [old] = masters.read()
        await apps.rewrap(store, masters, by=BY, drop_old=True)
        with pytest.raises(MasterKeyMissing, match=old.id):
            check_opens(settings, masters)
        masters.path.unlink()
        with pytest.raises(MasterKeyMissing, match=old.id):
            check_opens(settings, masters)

    on_a_store(work)


# --- what stays shut ------------------------------------------------------------------------------


def test_what_stays_shut_is_told_by_kind_and_by_master_key() -> None:
    """Wherever one key of it does, though others open; and what is opened or replaced is not."""

    async def work(store: Store) -> None:
        masters = masters_of(store)
        await create(store)
        await create(store, 8)
        keyring = await keyring_of(store)
        await apps.create_pair(store, [7], by=BY, keyring=keyring)
        await apps.create_token(store, "a", by=BY, signature_key="a-key", keyring=keyring)
        await apps.create_token(store, "unsigned", by=BY)
        assert not await shut(store)
        [lost] = masters.read()
        masters.path.unlink()
        keyring = await apps.begin_anew(store, masters, by=BY)
        await create(store, 9)
        assert await shut(store) == Shut(2, 1, 1, (lost.id,))
        assert str(await shut(store)) == "2 applications and 1 secret key pair and 1 token"
        await apps.rotate_key(store, 7, by=BY, keyring=keyring)
        assert await shut(store) == Shut(2, 1, 1, (lost.id,))
        await apps.rotate_key(store, 8, by=BY, keyring=keyring, drop_old=True)
        await apps.set_signature_key(store, "a", "another", by=BY, keyring=keyring)
        assert await shut(store) == Shut(1, 1, 0, (lost.id,))
        masters.replace(masters.read(), (*masters.read(), lost))
        assert not await shut(store)

    async def shut(store: Store) -> Shut:
        settings = [
            (setting.name, setting.value)
            async for setting in store.settings()
            if setting.value is not None
        ]
        found = await apps.shut_keys(store, masters_of(store))
        assert check_opens(settings, masters_of(store)) == found
        return found

    on_a_store(work)


# --- keys and tokens in their time ----------------------------------------------------------------


def test_rotation_leaves_no_time_without_a_key() -> None:
    async def work(store: Store) -> None:
        await create(store)
        keyring = await keyring_of(store)

        async def rotate(**more: Any) -> apps.Application:  # noqa: ANN401 - as they are
            rotation = await apps.rotate_key(store, 7, by=BY, keyring=keyring, **more)
            return rotation.application

        for gap in (
            {"not_before_ms": NOW_MS + 2, "old_until_ms": NOW_MS + 1},
            {"not_before_ms": NOW_MS + 1, "drop_old": True},
        ):
            with pytest.raises(InvalidSetting, match="before the new one begins"):
                await rotate(**gap)
        with pytest.raises(InvalidSetting, match="a time to come"):
            await rotate(old_until_ms=NOW_MS)
        rotated = await rotate(not_before_ms=NOW_MS + 5, old_until_ms=NOW_MS + 9)
        new, old = rotated.appkeys
        assert (new.not_before_ms, new.not_after_ms) == (NOW_MS + 5, None)
        assert (old.not_before_ms, old.not_after_ms) == (0, NOW_MS + 9)
        with pytest.raises(InvalidSetting, match="only live key"):
            await apps.drop_key(store, 7, old.end, by=BY)
        later = Operator("me", NOW_MS + 9, random_hex)
        with pytest.raises(InvalidSetting, match="only live key"):
            await apps.drop_key(store, 7, new.end, by=later)
        [left] = (await apps.drop_key(store, 7, old.end, by=later)).appkeys
        assert left == new

    on_a_store(work)


def test_token_is_good_until_it_expires_and_its_last_use_is_known() -> None:
    async def work(store: Store) -> None:
        with pytest.raises(InvalidSetting, match="in the future"):
            await apps.create_token(store, "late", by=BY, not_after_ms=NOW_MS)
        token, secret = await apps.create_token(store, "a", by=BY, not_after_ms=NOW_MS + 5)
        registry = apps.Registry(store, masters_of(store))
        await registry.refresh()
        assert registry.token(secret, NOW_MS + 4) == token
        assert registry.token(secret, NOW_MS + 5) is None
        mark = token_mark(token)
        assert secret not in mark
        registry.used |= {mark: (NOW_MS + 3, "192.0.2.1"), "token/none": (1, "x")}
        await registry.note_uses()
        assert await apps.tokens(store) == [(token, Noted(NOW_MS + 3, "192.0.2.1"))]
        assert set(await store.marks()) == {mark}
        await apps.revoke_token(store, "a", by=BY)
        assert await store.marks() == {}

    on_a_store(work)


def test_a_token_that_is_damaged_can_be_revoked() -> None:
    async def work(store: Store) -> None:
        await apps.create_token(store, "a", by=BY)
        setting = await store.setting(token_setting("a"))
        assert setting is not None
        assert await store.change(Change(setting.name, b"{}", setting.value))
        with pytest.raises(StoreCorrupt):
            await apps.tokens(store)
        await apps.revoke_token(store, "a", by=BY)
        assert await apps.tokens(store) == []

    on_a_store(work)
