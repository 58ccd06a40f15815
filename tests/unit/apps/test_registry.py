"""Looks at the store: shared, at a distance, and never missing what was changed before."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import selectors
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from types import NoneType
from typing import TypeVar, cast

import msgspec
import pytest

from pullstatus import limits
from pullstatus.apps import (
    AppKey,
    Application,
    Keyring,
    MasterKey,
    Masters,
    Registry,
    SecretPair,
    Token,
    at_hand,
)
from pullstatus.apps import (
    registry as registry_of_apps,
)
from pullstatus.apps.values import Grant, SignatureKey, read_application
from pullstatus.errors import (
    MasterKeyMissing,
    StoreCorrupt,
    StoreDamaged,
    StoreRefused,
    StoreUnavailable,
)
from pullstatus.receipts.source import builtin
from pullstatus.store import Noted, Setting, Store
from tests.harness import PATIENCE_S
from tests.sealing import KEYRING, NO_MASTERS

T = TypeVar("T")


class Skips(selectors.SelectSelector):
    """Waits for nothing: the time goes on by what it would have waited."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now_s += timeout or 0.0
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """A loop in which nothing takes time but to sleep, however busy the machine."""

    def __init__(self) -> None:
        self._skips = Skips()
        super().__init__(self._skips)

    def time(self) -> float:
        return self._skips.now_s


def in_its_own_time(work: Coroutine[object, object, T]) -> T:
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(work)


class FakeStore:
    """Settings in memory, and when they were looked at."""

    def __init__(self) -> None:
        self.settings_now: list[Setting] = []
        self.looks: list[float] = []
        self.asked: list[float] = []  # when some were by their names
        self.damaged: dict[str, StoreDamaged] = {}
        self.takes_s = 0.0
        self.noted: dict[str, Noted] = {}
        self.failure: Exception | None = None
        self.revision = 0
        self.read = 0

    def create(self, sdkappid: int, *, days: int | None = None, sealed: bool = False) -> None:
        key = AppKey("0" * 32, 0, "abc" if not sealed else "0123456789abcdef")
        application = Application(sdkappid, (key,), 0, waiting_days_max=days)
        if sealed:
            application = KEYRING.seal_all(application, secrets.token_hex)
        self.write(f"application/{sdkappid}", msgspec.json.encode(application))

    def write(self, name: str, value: bytes | None) -> None:
        newest = max((setting.revision for setting in self.settings_now), default=0)
        self.settings_now = [setting for setting in self.settings_now if setting.name != name]
        self.settings_now.append(Setting(name, value, newest + 1))

    async def setting(self, name: str) -> Setting | None:
        self.asked.append(asyncio.get_running_loop().time())
        self.read += 1
        return next((setting for setting in self.settings_now if setting.name == name), None)

    async def settings_of(self, names: Sequence[str]) -> dict[str, Setting | StoreDamaged]:
        self.asked.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes_s)
        found = {setting.name: setting for setting in self.settings_now if setting.name in names}
        self.read += len(found)
        return {**found, **{name: self.damaged[name] for name in names if name in self.damaged}}

    async def settings(self, since: int = 0, *, prefix: str = "") -> AsyncIterator[Setting]:
        if not prefix:
            self.looks.append(asyncio.get_running_loop().time())
        found = [
            setting
            for setting in self.settings_now
            if setting.revision > since and setting.name.startswith(prefix)
        ]
        if prefix:
            found.sort(key=lambda setting: setting.name)
        await asyncio.sleep(self.takes_s)
        if self.failure is not None:
            raise self.failure
        for setting in found:
            self.read += 1
            yield setting

    async def mark(self, times: dict[str, Noted]) -> None:
        if self.failure is not None:
            raise self.failure
        self.noted |= times


def made() -> tuple[FakeStore, Registry]:
    store = FakeStore()
    return store, Registry(cast("Store", store), NO_MASTERS)


@pytest.mark.parametrize("takes_s", [0.0, 0.03, 0.12])
def test_no_number_of_callers_makes_more_looks_than_allowed(takes_s: float) -> None:
    """And each sees what was changed before it asked, however long a look takes."""
    numbers = itertools.count(1)

    async def run() -> list[float]:
        store, registry = made()
        store.takes_s = takes_s

        async def caller() -> None:
            for _ in range(8):
                number = next(numbers)
                store.create(number)
                await registry.look()
                assert number in registry.applications

        async with asyncio.TaskGroup() as tasks:
            for _ in range(50):
                tasks.create_task(caller())
        return store.looks

    looks = in_its_own_time(run())
    distance_s = 1 / limits.LOOKS_PER_S_MAX
    assert len(looks) >= 8
    assert all(b - a > distance_s - 0.001 for a, b in itertools.pairwise(looks))


def test_uses_are_kept_until_the_store_has_noted_them() -> None:
    """The newest of each, of keys that live."""

    async def run() -> None:
        store, registry = made()
        store.create(1)
        await registry.look()
        [mark] = registry.applications[1].marks
        assert mark.startswith("key/1/")
        assert mark == "key/1/abc"
        registry.used |= {mark: (5000, "a"), "key/1/dropped": (5000, "a")}
        store.failure = StoreUnavailable("away")
        with pytest.raises(StoreUnavailable):
            await registry.note_uses()
        registry.used[mark] = (7000, "b" * 5000)
        store.failure = None
        await registry.note_uses()
        assert store.noted == {mark: Noted(7000, "b" * limits.ADDRESS_CHARS_MAX)}
        await registry.note_uses()
        assert registry.used == {}

    asyncio.run(run())


def test_a_lone_look_waits_for_nobody() -> None:
    async def run() -> None:
        store, registry = made()
        loop = asyncio.get_running_loop()
        for _ in range(3):
            began = loop.time()
            await registry.look()
            assert store.looks[-1] - began < 1 / limits.LOOKS_PER_S_MAX
            await asyncio.sleep(2 / limits.LOOKS_PER_S_MAX)
        assert len(store.looks) == 3

    in_its_own_time(run())


def test_a_caller_that_gives_up_takes_nobody_with_it() -> None:
    async def run() -> None:
        store, registry = made()
        await registry.look()
        hasty, patient = (asyncio.create_task(registry.look()) for _ in range(2))
        await asyncio.sleep(0)
        hasty.cancel()
        store.create(1)
        await patient
        assert 1 in registry.applications

    asyncio.run(run())


def test_a_look_that_fails_is_told_to_all_and_the_next_works() -> None:
    async def run() -> None:
        store, registry = made()
        store.failure = StoreUnavailable("away")
        told = await asyncio.gather(*[registry.look() for _ in range(3)], return_exceptions=True)
        assert [type(error) for error in told] == [StoreUnavailable] * 3
        store.failure = None
        store.create(1)
        await registry.look()
        assert 1 in registry.applications

    asyncio.run(run())


def begun(monkeypatch: pytest.MonkeyPatch, count: int, at_start: int) -> tuple[FakeStore, Registry]:
    """A registry of a store with so many applications, of which it has read the first."""
    monkeypatch.setattr(limits, "APPLICATIONS_AT_START", at_start)
    store, registry = made()
    for number in range(1000, 1000 + count):
        store.create(number)
    store.revision = count
    asyncio.run(registry.begin())
    return store, registry


@pytest.mark.parametrize("count", [0, 9, 10])
def test_a_few_applications_are_all_known_at_the_start(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    store, registry = begun(monkeypatch, count, 10)
    assert sorted(registry.applications) == list(range(1000, 1000 + count))
    assert registry.count == count
    read = store.read
    asyncio.run(registry.look(5))
    assert store.read == read  # there is none that could be missing


def test_a_start_and_a_look_do_not_grow_with_applications(monkeypatch: pytest.MonkeyPatch) -> None:
    store, registry = begun(monkeypatch, 3000, 10)
    assert store.read <= 11
    assert registry.count is None

    async def look() -> None:
        for sdkappid in (None, 2500, 2500, 77):
            await registry.look(sdkappid)

    asyncio.run(look())
    assert sorted(registry.applications) == [*range(1000, 1010), 2500]
    assert store.read <= 14


def test_one_that_is_asked_for_is_known_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it was changed, made or removed since the start, before it was asked for or after."""
    store, registry = begun(monkeypatch, 100, 10)
    store.create(1050, days=3)
    store.write("application/1060", None)
    store.create(5000)

    async def run() -> None:
        await asyncio.gather(*map(registry.look, (1050, 1060, 5000, 1070, 1000)))
        known = registry.applications
        assert known[1050].application.waiting_days_max == 3
        assert 1060 not in known
        assert {5000, 1070, 1000} <= known.keys()
        store.create(1070, days=4)
        store.write("application/1050", None)
        await registry.look()
        assert known[1070].application.waiting_days_max == 4
        assert 1050 not in known

    asyncio.run(run())


@pytest.mark.parametrize("days", [3, None])
def test_a_change_overtakes_a_read(monkeypatch: pytest.MonkeyPatch, days: int | None) -> None:
    """What was read before it stays in no place of it; None: it was removed."""
    store, registry = begun(monkeypatch, 100, 10)
    read, slow = store.settings_of, asyncio.Event()

    async def slowly(names: Sequence[str]) -> dict[str, Setting | StoreDamaged]:
        found = await read(names)
        await slow.wait()
        return found

    async def run() -> None:
        reading = asyncio.create_task(registry.look(1050))
        await asyncio.sleep(0.1)
        if days is None:
            store.write("application/1050", None)
        else:
            store.create(1050, days=days)
        slow.set()
        await reading
        await registry.look()
        known = registry.applications.get(1050)
        assert (known and known.application.waiting_days_max) == days

    monkeypatch.setattr(store, "settings_of", slowly)
    in_its_own_time(run())


@pytest.mark.parametrize("takes_s", [0.0, 0.12])
@pytest.mark.parametrize(
    "ask",
    [
        lambda registry, number: registry.look(10_000 + number),
        lambda registry, number: registry.application(10_000 + number),
        lambda registry, number: registry.look_for_pair(f"AKID{number:032}"),
    ],
)
def test_no_number_of_unknown_names_makes_more_reads_than_looks(
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[Registry, int], Awaitable[object]],
    takes_s: float,
) -> None:
    """All that are asked for meanwhile are read together."""
    store, registry = begun(monkeypatch, 20, 10)
    registry._pairs_complete = False
    store.takes_s = takes_s
    numbers = itertools.count(1)

    async def caller() -> None:
        for _ in range(8):
            await ask(registry, next(numbers))

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(50):
                tasks.create_task(caller())

    in_its_own_time(run())
    distance_s = 1 / limits.LOOKS_PER_S_MAX
    assert len(store.asked) >= 8
    assert all(b - a > distance_s - 0.001 for a, b in itertools.pairwise(store.asked))


@pytest.mark.parametrize("secret_id", ["", "x" * 64, "AKID", f"AKID{'I' * 33}", f"akid{'I' * 32}"])
def test_the_store_is_asked_for_no_pair_that_there_cannot_be(
    monkeypatch: pytest.MonkeyPatch, secret_id: str
) -> None:
    store, registry = begun(monkeypatch, 20, 10)
    registry._pairs_complete = False
    asyncio.run(registry.look_for_pair(secret_id))
    assert store.asked == []
    assert len(store.looks) == 1


def test_what_is_damaged_is_told_to_those_who_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    store, registry = begun(monkeypatch, 100, 10)
    store.damaged["application/1050"] = StoreDamaged("gone")
    store.write("application/1060", b"{}")

    async def run() -> None:
        told = await asyncio.gather(
            *map(registry.look, (1050, 1060, 1070, None)), return_exceptions=True
        )
        assert [type(each) for each in told] == [StoreDamaged, StoreCorrupt, NoneType, NoneType]
        assert 1070 in registry.applications

    store.revision = registry._revision = max(each.revision for each in store.settings_now)
    asyncio.run(run())


def test_what_matters_unasked_is_learnt_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose records expire, and whose keys cannot be opened; once."""
    store, registry = begun(monkeypatch, 100, 10)
    store.create(1044, days=7)
    store.create(1055, sealed=True)
    store.revision = 102
    asyncio.run(registry.begin())
    assert not {1044, 1055} & registry.applications.keys()
    asyncio.run(registry.walk())
    assert sorted(registry.applications) == [*range(1000, 1010), 1044, 1055]
    assert list(registry.locked) == [1055]
    read = store.read
    asyncio.run(registry.walk())
    assert store.read == read


# --- what cannot be opened ------------------------------------------------------------------------


class Vault:
    """A source of master keys that somebody else keeps, and how often it was asked."""

    place = "the vault"

    def __init__(self, *masters: MasterKey) -> None:
        self.masters = masters
        self.away = False
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()

    def read(self) -> tuple[MasterKey, ...]:
        self.asked += 1
        self.answers.wait(PATIENCE_S)
        if self.away:
            raise StoreRefused("the vault is away")
        return self.masters


async def at_once(read: Callable[[], T]) -> T:
    """In place of a thread, which may come late to it."""
    return read()


OLD, NEW = MasterKey(b"o" * 32), MasterKey(b"n" * 32)
SECRET_ID, SIGNED = f"AKID{'i' * 32}", "d" * 64
OWNERS = [7, SECRET_ID, "token/signed"]  # what `hold` writes a key of


def hold(store: FakeStore, master: MasterKey) -> None:
    """Have an application, a pair and a token whose keys are sealed under this."""
    keyring = Keyring([master], "here")
    application = Application(7, (AppKey("0" * 32, 0, "0" * 16),), 0)
    pair = SecretPair(SECRET_ID, (Grant(7, ""),), 0, "1" * 16, "k" * 32)
    token = Token("signed", SIGNED, 0, signature=SignatureKey("2" * 16, "a key"))
    for name, holder in (
        ("application/7", keyring.seal_all(application, secrets.token_hex)),
        (f"secret/{SECRET_ID}", keyring.seal_pair(pair, secrets.token_hex)),
        ("token/signed", keyring.seal_token(token, secrets.token_hex)),
    ):
        store.write(name, msgspec.json.encode(holder))


def opened(registry: Registry) -> list[bool]:
    """Of what `hold` has written, which can be used."""
    try:
        signed = registry.signature_key(registry.tokens[SIGNED]) == "a key"
    except MasterKeyMissing:
        signed = False
    return [
        registry.applications[7].appkeys == ("0" * 32,),
        registry.pairs[SECRET_ID].secret_key == "k" * 32,
        signed,
    ]


def followed(vault: Vault) -> tuple[FakeStore, Registry]:
    """A registry, as of a store with a token and an application that are to be taken away."""
    store = FakeStore()
    registry = Registry(cast("Store", store), cast("Masters", vault))
    store.create(5)
    store.write("token/gone", msgspec.json.encode(Token("gone", "e" * 64, 0)))
    asyncio.run(registry.refresh())
    assert 5 in registry.applications
    assert registry.tokens
    return store, registry


def take_away(store: FakeStore) -> None:
    store.write("token/gone", None)
    store.write("application/5", None)


@pytest.mark.parametrize("away", [True, False])
def test_what_cannot_be_opened_holds_up_nothing_behind_it(
    monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    """While the source cannot be read, or does not have the key; and it opens when it has."""
    monkeypatch.setattr(asyncio, "to_thread", at_once)
    vault = Vault(OLD)
    store, registry = followed(vault)
    vault.away = away
    hold(store, NEW)
    take_away(store)

    async def run() -> None:
        await registry.look()
        assert registry.tokens.keys() == {SIGNED}
        assert list(registry.applications) == [7]
        assert sorted(map(str, registry.locked)) == sorted(map(str, OWNERS))
        assert ("away" in str(registry.locked[7])) == away
        for _ in range(50):
            await registry.refresh()
        assert vault.asked == 1
        assert opened(registry) == [False] * 3
        vault.away, vault.masters = False, (NEW, OLD)
        while registry.locked:
            await asyncio.sleep(0.1)
            await registry.refresh()
        assert opened(registry) == [True] * 3

    in_its_own_time(asyncio.wait_for(run(), PATIENCE_S))


def test_a_source_that_does_not_answer_holds_up_nothing() -> None:
    vault = Vault(OLD)
    store, registry = followed(vault)
    vault.answers.clear()

    async def run() -> None:
        hold(store, OLD)
        await registry.refresh()
        assert "being read" in str(registry.locked[7])
        take_away(store)
        await registry.refresh()
        assert registry.tokens.keys() == {SIGNED}
        assert vault.asked == 1
        vault.answers.set()
        while registry.locked:
            await asyncio.sleep(0.01)
            await registry.refresh()
        assert opened(registry) == [True] * 3
        assert vault.asked == 1

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))


@pytest.mark.parametrize("answers", [True, False])
def test_who_asks_for_what_is_locked_waits_longer_and_nobody_else_does(
    monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """For a source that is late, as on a busy machine; but not for ever."""
    vault = Vault(OLD)
    store, registry = followed(vault)
    vault.answers.clear()
    monkeypatch.setattr(registry_of_apps, "LATE_S", PATIENCE_S if answers else 0.01)

    async def run() -> None:
        hold(store, OLD)
        asking = [
            asyncio.create_task(registry.look(7, patiently=True)),
            asyncio.create_task(registry.look_for_pair(SECRET_ID)),
        ]
        await registry.look()
        take_away(store)
        await registry.look()
        assert registry.tokens.keys() == {SIGNED}
        assert "being read" in str(registry.locked[7])
        others = [
            asyncio.create_task(registry.look(5, patiently=True)),
            asyncio.create_task(registry.look_for_pair(f"AKID{'j' * 32}")),
        ]
        await asyncio.wait(others, timeout=PATIENCE_S / 2)
        assert all(task.done() for task in others)
        if answers:
            assert not any(task.done() for task in asking)
            vault.answers.set()
        await asyncio.gather(*asking)
        assert opened(registry) == [answers] * 3
        vault.answers.set()

    asyncio.run(asyncio.wait_for(run(), 2 * PATIENCE_S))
    assert vault.asked == 1


@pytest.mark.parametrize("takes_s", [0.0, 1.5 * at_hand.PATIENCE_S])
@pytest.mark.parametrize("away", [True, False])
def test_a_source_that_does_not_bring_a_key_is_asked_ever_less_often(
    monkeypatch: pytest.MonkeyPatch, away: bool, takes_s: float
) -> None:
    """Why it is shut is told once, and nobody waits for what is only read once more."""
    vault = Vault(OLD)
    store, registry = followed(vault)
    vault.away = away
    hold(store, NEW)
    told: list[MasterKeyMissing] = []

    async def aside(read: Callable[[], T]) -> T:
        await asyncio.sleep(takes_s)
        return read()

    async def run() -> float:
        for _ in range(2 * 3600):
            await registry.refresh()
            told.append(registry.locked[7])
            await asyncio.sleep(0.5)
        return asyncio.get_running_loop().time()

    monkeypatch.setattr(asyncio, "to_thread", aside)
    assert in_its_own_time(run()) <= 3600 + 2 * at_hand.PATIENCE_S
    assert 3 < vault.asked <= 3600 / 60 + 6
    assert ("is still being read" in str(told[0])) == (takes_s > 0)
    assert len(set(map(id, told))) == (2 if takes_s else 1)


def test_why_a_key_is_locked_does_not_grow_by_who_is_told() -> None:
    store, registry = followed(Vault(OLD))
    hold(store, NEW)
    asyncio.run(registry.refresh())
    for _ in range(100):
        assert opened(registry) == [False] * 3
    assert [reason.__traceback__ for reason in registry.locked.values()] == [None] * 3


def test_whether_the_source_could_be_read_is_told() -> None:
    """Whoever is to serve beside others that have their keys open does not begin without it."""
    for away in (True, False):
        store, vault = FakeStore(), Vault(OLD)
        vault.away = away
        hold(store, NEW)
        registry = Registry(cast("Store", store), cast("Masters", vault))
        asyncio.run(registry.begin())
        with pytest.raises(StoreRefused, match="away") if away else contextlib.nullcontext():
            registry.check_masters()


@pytest.mark.parametrize("away", [True, False])
def test_a_start_asks_the_source_once(away: bool) -> None:
    """However many keys it cannot open, and under however many master keys."""
    store, vault = FakeStore(), Vault(OLD)
    vault.away = away
    for number in range(1, 301):
        keyring = Keyring([MasterKey(number.to_bytes(32, "big"))], "here")
        application = Application(number, (AppKey("0" * 32, 0, "0" * 16),), 0)
        sealed = keyring.seal_all(application, secrets.token_hex)
        store.write(f"application/{number}", msgspec.json.encode(sealed))
    registry = Registry(cast("Store", store), cast("Masters", vault))
    asyncio.run(registry.begin())
    assert len(registry.locked) == 300
    assert vault.asked == 1


def test_what_is_under_another_master_key_now_is_opened_if_that_is_at_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also when it could not be, as it was before; and what was taken away is locked no longer."""
    monkeypatch.setattr(asyncio, "to_thread", at_once)
    vault = Vault(OLD)
    store, registry = followed(vault)
    hold(store, NEW)
    asyncio.run(registry.refresh())
    assert len(registry.locked) == 3
    hold(store, OLD)
    asyncio.run(registry.refresh())
    assert opened(registry) == [True] * 3
    assert registry.locked == {}
    hold(store, NEW)
    asyncio.run(registry.refresh())
    assert opened(registry) == [True] * 3  # they are those that were open
    store, registry = followed(vault)
    hold(store, NEW)
    asyncio.run(registry.refresh())
    for name in ("application/7", f"secret/{SECRET_ID}", "token/signed"):
        store.write(name, None)
    asyncio.run(registry.refresh())
    assert registry.locked == {}


def test_the_walk_waits_for_a_source_that_was_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "APPLICATIONS_AT_START", 1)
    monkeypatch.setattr(asyncio, "to_thread", at_once)
    store, vault = FakeStore(), Vault(OLD)
    vault.away = True
    store.create(1)
    store.create(2, sealed=True)
    store.create(3, days=7)
    registry = Registry(cast("Store", store), cast("Masters", vault))

    async def run() -> None:
        await registry.begin()
        for _ in range(20):
            await registry.walk()
        assert vault.asked <= 3
        vault.away = False
        while len(registry.applications) < 3:
            await asyncio.sleep(0.1)
            await registry.walk()
        assert list(registry.locked) == [2]

    in_its_own_time(asyncio.wait_for(run(), PATIENCE_S))


def test_a_strict_application_is_stored_as_it_ever_was() -> None:
    """Stores that exist know it by this name."""
    stored = msgspec.json.encode(Application(7, (), 0, strict=True))
    assert msgspec.json.decode(stored)["single_use"] is True
    assert read_application("application/7", stored).strict


def test_rules_of_routing_are_those_of_the_last_look() -> None:
    """From the start on; and a rule that was taken away takes nothing more."""

    async def run() -> None:
        store, registry = made()
        store.write("routing", b'[{"name":"a","sdkappid":1,"to":"95555"}]')
        await registry.begin()
        assert [rule.name for rule in registry.rules] == ["a"]
        store.write("routing", b'[{"name":"b","sdkappid":1,"to":"95555"}]')
        await registry.look()
        assert [rule.name for rule in registry.rules] == ["b"]
        store.write("routing", None)
        await registry.look()
        assert not len(registry.rules)

    asyncio.run(run())


def test_sources_are_ours_and_those_that_were_added() -> None:
    async def run() -> None:
        store, registry = made()
        store.write("source/own", SOURCE)
        await registry.begin()
        assert registry.sources["own"].items == "body"
        assert registry.sources.keys() == builtin().keys() | {"own"}
        store.write("source/own", SOURCE.replace(b'"body"', b'"request"'))
        await registry.look()
        assert registry.sources["own"].items == "request"
        store.write("source/own", None)
        await registry.look()
        assert registry.sources == builtin()

    asyncio.run(run())


SOURCE = b"""
name = "own"
items = "body"
[reply]
number = "from"
text = "text"
"""


@pytest.mark.parametrize("owner", ["", "one"])
def test_a_token_feeds_who_had_the_number_when_it_was_made_and_nobody_else(owner: str) -> None:
    """Both have no owner where they were made before there were any."""
    token = Token("a", "0" * 64, 0, sdkappid=7, owner=owner)
    assert token.feeds(Application(7, (), 0, owner=owner))
    assert not token.feeds(Application(7, (), 0, owner="another"))
    assert not token.feeds(Application(8, (), 0, owner=owner))
    assert Token("any", "0" * 64, 0).feeds(Application(7, (), 0, owner=owner))
