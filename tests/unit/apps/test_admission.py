"""Admission: which check answers, what a refusal looks at first, and what counts as a pull."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import cast

import msgspec
import pytest

from pullstatus.apps import AppKey, Application, Registry
from pullstatus.apps.admission import Admission, Call
from pullstatus.apps.rate import RateLimiter
from pullstatus.errors import (
    AddressRefused,
    Disabled,
    InArrears,
    PullNotPermitted,
    PullstatusError,
    Refused,
    SignatureWrong,
    StoreUnavailable,
    TooFrequent,
    TooOld,
    UnknownApplication,
)
from pullstatus.store import Setting, Store
from tests.sealing import NO_MASTERS

NUMBER = 7
KEY, OLDER_KEY = "1" * 32, "2" * 32
ADDRESS = "192.0.2.1"
AT_MS = 1_800_000_000_123
AGE_S = 60  # of every call

# What stands for each check that fails, and what is raised then. "stale" is the face's own refusal
# of a request that is signed well.
ERRORS: dict[str, type[PullstatusError]] = {
    "unknown": UnknownApplication,
    "address": AddressRefused,
    "signature": SignatureWrong,
    "stale": Refused,
    "window": TooOld,
    "disabled": Disabled,
    "arrears": InArrears,
    "pull": PullNotPermitted,
    "rate": TooFrequent,
}

# Of two checks that fail, the one that answers stands first.
PAIRS = [
    ("unknown", "address"),
    ("unknown", "signature"),
    ("unknown", "stale"),
    ("unknown", "window"),
    ("unknown", "disabled"),
    ("unknown", "arrears"),
    ("unknown", "pull"),
    ("unknown", "rate"),
    ("address", "signature"),
    ("address", "stale"),
    ("address", "window"),
    ("address", "disabled"),
    ("address", "arrears"),
    ("address", "pull"),
    ("address", "rate"),
    ("signature", "stale"),
    ("signature", "window"),
    ("signature", "disabled"),
    ("signature", "arrears"),
    ("signature", "pull"),
    ("signature", "rate"),
    ("stale", "window"),
    ("stale", "disabled"),
    ("stale", "arrears"),
    ("stale", "pull"),
    ("stale", "rate"),
    ("window", "disabled"),
    ("window", "arrears"),
    ("window", "pull"),
    ("window", "rate"),
    ("disabled", "arrears"),
    ("disabled", "pull"),
    ("disabled", "rate"),
    ("arrears", "pull"),
    ("arrears", "rate"),
    ("pull", "rate"),
]


class FakeStore:
    """Settings in memory, and how often they were looked at."""

    def __init__(self) -> None:
        self.written: list[Setting] = []
        self.looks = 0
        self.failure: Exception | None = None

    def write(self, application: Application | None) -> None:
        value = None if application is None else msgspec.json.encode(application)
        self.written.append(Setting(f"application/{NUMBER}", value, len(self.written) + 1))

    async def settings(self, since: int) -> AsyncIterator[Setting]:
        self.looks += 1
        if self.failure is not None:
            raise self.failure
        for setting in self.written:
            if setting.revision > since:
                yield setting


class Face:
    """A server's copy of one application, whose checks fail as named, and a caller of it."""

    def __init__(self, *failing: str) -> None:
        self.store = FakeStore()
        self.registry = Registry(cast("Store", self.store), NO_MASTERS)
        self.second_s = 0.0
        self.admission = Admission(self.registry, RateLimiter(lambda: self.second_s))
        self.failing = failing
        self.keys_given: list[tuple[str, ...]] = []

    def application(self, *failing: str) -> Application:
        older = "3" * 32 if "signature" in failing else OLDER_KEY
        return Application(
            NUMBER,
            (AppKey(KEY, 0), AppKey(older, 0)),
            0,
            enabled="disabled" not in failing,
            arrears="arrears" in failing,
            pull="pull" not in failing,
            allow=("198.51.100.0/24",) if "address" in failing else (),
            pull_rate_max=1 if "rate" in failing else None,
            window_s=AGE_S - ("window" in failing),
        )

    async def know(self) -> None:
        """Let the server know the application as it is to fail, with its rate used up."""
        if "unknown" not in self.failing:
            if "rate" in self.failing:
                self.store.write(self.application("rate"))
                await self.registry.refresh()
                await self.admission.admit(self.call(fresh=True))
            self.store.write(self.application(*self.failing))
        await self.registry.refresh()
        self.store.looks = 0
        self.registry.used.clear()
        self.keys_given.clear()

    def call(self, *, fresh: bool = False, pulls: bool = True) -> Call:
        def proof(appkeys: Sequence[str]) -> int:
            self.keys_given.append(tuple(appkeys))
            if OLDER_KEY not in appkeys:
                raise SignatureWrong("sign it")
            if not fresh and "stale" in self.failing:
                raise Refused(1021, "too old")
            return appkeys.index(OLDER_KEY)

        age_s = 0 if fresh else AGE_S
        return Call(NUMBER, ADDRESS, proof, AT_MS // 1000 - age_s, AT_MS, pulls)


async def refused(face: Face, call: Call | None = None) -> PullstatusError:
    with pytest.raises(PullstatusError) as caught:
        await face.admission.admit(call or face.call())
    return caught.value


def test_every_pair_of_checks_has_its_order() -> None:
    names = list(ERRORS)
    assert {frozenset(pair) for pair in PAIRS} == {
        frozenset((one, other)) for one in names for other in names if one != other
    }


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_of_two_checks_that_fail_the_first_answers(first: str, second: str) -> None:
    async def run() -> None:
        face = Face(first, second)
        await face.know()
        assert type(await refused(face)) is ERRORS[first]

    asyncio.run(run())


@pytest.mark.parametrize("name", ERRORS)
def test_each_check_fails_by_itself(name: str) -> None:
    """And before a refusal for how the application is set up there is a look at the store."""

    async def run() -> None:
        face = Face(name)
        await face.know()
        assert type(await refused(face)) is ERRORS[name]
        assert face.store.looks == (name != "stale")

    asyncio.run(run())


@pytest.mark.parametrize("name", [name for name in ERRORS if name != "stale"])
def test_nobody_is_refused_for_what_is_changed_already(name: str) -> None:
    async def run() -> None:
        face = Face(name)
        await face.know()
        face.failing = ()
        face.store.write(face.application())
        live = await face.admission.admit(face.call())
        assert live.while_set.revision == len(face.store.written)

    asyncio.run(run())


def test_a_call_that_is_let_in_looks_at_nothing() -> None:
    """And the key that it is signed with is known to be in use."""

    async def run() -> None:
        face = Face()
        await face.know()
        live = await face.admission.admit(face.call())
        assert live is face.registry.applications[NUMBER]
        assert face.store.looks == 0
        assert face.registry.used == {live.marks[1]: (AT_MS, ADDRESS)}
        assert face.keys_given == [(KEY, OLDER_KEY)]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "used"),
    [
        ("address", 0),
        ("signature", 0),
        ("stale", 0),
        ("window", 1),
        ("disabled", 1),
        ("pull", 1),
        ("rate", 1),
    ],
)
def test_a_key_is_used_by_whoever_proves_to_have_it(name: str, used: int) -> None:
    async def run() -> None:
        face = Face(name)
        await face.know()
        await refused(face)
        assert len(face.registry.used) == used

    asyncio.run(run())


def test_an_unknown_application_costs_a_proof_too() -> None:
    async def run() -> None:
        face = Face("unknown")
        await face.know()
        await refused(face)
        assert face.keys_given == [(), ()]

    asyncio.run(run())


@pytest.mark.parametrize("name", ["pull", "rate"])
def test_a_call_that_takes_nothing_needs_no_pull_feature(name: str) -> None:
    async def run() -> None:
        face = Face(name)
        await face.know()
        await face.admission.admit(face.call(pulls=False))
        assert face.store.looks == 0

    asyncio.run(run())


def test_what_is_refused_or_takes_nothing_does_not_count_against_the_rate() -> None:
    async def run() -> None:
        face = Face("rate")
        await face.know()
        assert isinstance(await refused(face), TooFrequent)
        face.second_s += 1
        face.failing = ("rate", "stale")
        assert isinstance(await refused(face), Refused)
        face.failing = ("rate",)
        await face.admission.admit(face.call(pulls=False))
        await face.admission.admit(face.call())
        assert isinstance(await refused(face), TooFrequent)

    asyncio.run(run())


@pytest.mark.parametrize("name", ["disabled", "unknown"])
def test_a_call_that_a_change_overtook_is_judged_by_the_change(name: str) -> None:
    async def run() -> None:
        face = Face()
        await face.know()
        await face.admission.admit(face.call())
        face.store.write(None if name == "unknown" else face.application(name))
        with pytest.raises(ERRORS[name]):
            await face.admission.admit_anew(face.call())

    asyncio.run(run())


def test_a_store_that_cannot_be_read_is_no_refusal() -> None:
    async def run() -> None:
        face = Face("disabled")
        await face.know()
        face.store.failure = StoreUnavailable("busy")
        assert isinstance(await refused(face), StoreUnavailable)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("key", "at_ms", "good"),
    [
        (KEY, AT_MS - 1, False),
        (KEY, AT_MS, True),
        (KEY, AT_MS + 10, True),
        (OLDER_KEY, 0, True),
        (OLDER_KEY, AT_MS + 4, True),
        (OLDER_KEY, AT_MS + 5, False),
    ],
)
def test_a_key_is_good_in_its_time(key: str, at_ms: int, *, good: bool) -> None:
    """From the first moment on, up to but not including the last; its use is noted as its own."""

    async def run() -> None:
        face = Face()
        new = AppKey(KEY, 0, "new", not_before_ms=AT_MS)
        old = AppKey(OLDER_KEY, 0, "old", not_after_ms=AT_MS + 5)
        face.store.write(Application(NUMBER, (new, old), 0))
        await face.registry.refresh()

        def proof(appkeys: Sequence[str]) -> int:
            if key not in appkeys:
                raise SignatureWrong("wrong")
            return appkeys.index(key)

        call = Call(NUMBER, ADDRESS, proof, at_ms // 1000, at_ms, pulls=True)
        if good:
            await face.admission.admit(call)
            mark = f"key/{NUMBER}/{'new' if key == KEY else 'old'}"
            assert face.registry.used == {mark: (at_ms, ADDRESS)}
        else:
            with pytest.raises(SignatureWrong):
                await face.admission.admit(call)
            assert face.registry.used == {}

    asyncio.run(run())
