"""Admission: which check answers, what a refusal looks at first, and what counts for a rate."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import cast

import msgspec
import pytest

from pullstatus.apps import AppKey, Application, Grant, LivePair, Registry, SecretPair
from pullstatus.apps.admission import Admission, Call, PairCall
from pullstatus.apps.rate import RateLimiter
from pullstatus.apps.values import Purpose
from pullstatus.errors import (
    AddressRefused,
    Disabled,
    InArrears,
    NotGranted,
    NotPermitted,
    PullstatusError,
    Refused,
    SignatureWrong,
    StoreUnavailable,
    TooFrequent,
    TooOld,
    UnknownApplication,
    UnknownSecret,
)
from pullstatus.store import Setting, Store
from tests.sealing import KEYRING, NO_MASTERS

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
    "pull": NotPermitted,
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

    def call(self, *, fresh: bool = False, purpose: Purpose | None = Purpose.PULL) -> Call:
        def proof(appkeys: Sequence[str]) -> int:
            self.keys_given.append(tuple(appkeys))
            if OLDER_KEY not in appkeys:
                raise SignatureWrong("sign it")
            if not fresh and "stale" in self.failing:
                raise Refused(1021, "too old")
            return appkeys.index(OLDER_KEY)

        age_s = 0 if fresh else AGE_S
        return Call(NUMBER, ADDRESS, proof, AT_MS // 1000 - age_s, AT_MS, purpose)


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
def test_a_call_that_wants_nothing_that_has_a_switch_needs_none(name: str) -> None:
    async def run() -> None:
        face = Face(name)
        await face.know()
        await face.admission.admit(face.call(purpose=None))
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
        await face.admission.admit(face.call(purpose=None))
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

        call = Call(NUMBER, ADDRESS, proof, at_ms // 1000, at_ms, Purpose.PULL)
        if good:
            await face.admission.admit(call)
            mark = f"key/{NUMBER}/{'new' if key == KEY else 'old'}"
            assert face.registry.used == {mark: (at_ms, ADDRESS)}
        else:
            with pytest.raises(SignatureWrong):
                await face.admission.admit(call)
            assert face.registry.used == {}

    asyncio.run(run())


# --- signed with a secret key pair ----------------------------------------------------------------

SECRET_ID, SECRET_KEY = f"AKID{'i' * 32}", "k" * 32

# In the order of the checks. "stale" is what the face refuses of a request that is signed well,
# "body" what it refuses in reading it.
PAIR_ERRORS: dict[str, type[PullstatusError]] = {
    "no pair": UnknownSecret,
    "off": UnknownSecret,
    "signature": SignatureWrong,
    "stale": Refused,
    "body": Refused,
    "granted": NotGranted,
    "address": AddressRefused,
    "window": TooOld,
    "disabled": Disabled,
    "arrears": InArrears,
    "query": NotPermitted,
    "rate": TooFrequent,
}


class PairFace:
    """A server's copy of a pair and its application, whose checks fail as named, and a caller."""

    def __init__(self, *failing: str) -> None:
        self.store = FakeStore()
        self.registry = Registry(cast("Store", self.store), NO_MASTERS)
        vars(self.registry)["_keyring"] = KEYRING
        self.admission = Admission(self.registry, RateLimiter(lambda: 0.0))
        self.failing = failing
        self.proven = 0

    async def know(self) -> None:
        """Let the server know both as they are to fail, with the rate used up."""
        failing, self.failing = self.failing, ("rate",) if "rate" in self.failing else ()
        await self.change(*self.failing)
        if "rate" in failing:
            await self.admission.admit(self.call())
        self.failing = failing
        await self.change(*failing)
        self.store.looks = self.proven = 0
        self.registry.used.clear()

    async def change(self, *failing: str) -> None:
        self.write(*failing)
        await self.registry.refresh()

    def write(self, *failing: str) -> None:
        """Have both in the store so that these checks fail."""
        application = Application(
            NUMBER,
            (AppKey(KEY, 0),),
            0,
            enabled="disabled" not in failing,
            arrears="arrears" in failing,
            query="query" not in failing,
            pull=False,
            pull_rate_max=1,
            allow=("198.51.100.0/24",) if "address" in failing else (),
            query_rate_max=1 if "rate" in failing else None,
            window_s=AGE_S - ("window" in failing),
            owner="new",
        )
        self.store.write(application)
        grant = Grant(NUMBER, "old" if "granted" in failing else "new")
        secret = "o" * 32 if "signature" in failing else SECRET_KEY
        pair = SecretPair(SECRET_ID, (grant,), 0, f"{ord(secret[0]):016x}", secret)
        sealed = KEYRING.seal_pair(
            msgspec.structs.replace(pair, enabled="off" not in failing), lambda size: "0" * 2 * size
        )
        value = None if "no pair" in failing else msgspec.json.encode(sealed)
        revision = len(self.store.written) + 1
        self.store.written.append(Setting(f"secret/{SECRET_ID}", value, revision))

    def call(self, purpose: Purpose = Purpose.QUERY) -> PairCall:
        def proof(known: LivePair) -> None:
            self.proven += 1
            if known.secret_key != SECRET_KEY:
                raise SignatureWrong("sign it")
            if "stale" in self.failing:
                raise Refused(1, "too old")

        def sdkappid() -> int:
            if "body" in self.failing:
                raise Refused(2, "no JSON")
            return NUMBER

        signed_s = AT_MS // 1000 - AGE_S
        return PairCall(SECRET_ID, sdkappid, ADDRESS, proof, signed_s, AT_MS, purpose)

    async def refused(self) -> PullstatusError:
        with pytest.raises(PullstatusError) as caught:
            await self.admission.admit(self.call())
        return caught.value


@pytest.mark.parametrize(("first", "second"), [*itertools.combinations(PAIR_ERRORS, 2)])
def test_of_two_checks_of_a_pair_that_fail_the_first_answers(first: str, second: str) -> None:
    async def run() -> None:
        face = PairFace(first, second)
        await face.know()
        raised = await face.refused()
        assert type(raised) is PAIR_ERRORS[first]
        if isinstance(raised, Refused):
            assert raised.result == (1 if first == "stale" else 2)

    asyncio.run(run())


@pytest.mark.parametrize("name", PAIR_ERRORS)
def test_nobody_is_refused_for_what_is_changed_already_of_a_pair(name: str) -> None:
    """And its use is noted of whoever proves to have it; a good call looks at nothing."""

    async def run() -> None:
        face = PairFace(name)
        await face.know()
        assert type(await face.refused()) is PAIR_ERRORS[name]
        ours = name in ("stale", "body")
        assert face.store.looks == (not ours)
        assert face.proven == (1 if ours else 2), "as much work for an unknown one"
        proven = name not in ("no pair", "off", "signature", "stale")
        assert face.registry.used == ({f"secret/{SECRET_ID}": (AT_MS, ADDRESS)} if proven else {})
        face.write()
        face.failing = ()
        live = await face.admission.admit(face.call())
        looks = face.store.looks
        assert live.application.sdkappid == NUMBER
        await face.admission.admit(face.call())
        assert face.store.looks == looks

    asyncio.run(run())


def test_each_purpose_has_its_switch_and_its_rate() -> None:
    async def run() -> None:
        face = PairFace()
        await face.know()
        for _ in range(3):
            await face.admission.admit(face.call(Purpose.QUERY))
        with pytest.raises(NotPermitted):
            await face.admission.admit(face.call(Purpose.PULL))
        for _ in range(10):
            await face.admission.admit(face.call(Purpose.STATISTICS))
        with pytest.raises(TooFrequent, match="over 10 calls for statistics"):
            await face.admission.admit(face.call(Purpose.STATISTICS))
        await face.admission.admit(face.call(Purpose.QUERY))
        await face.change("query")
        with pytest.raises(NotPermitted):
            await face.admission.admit(face.call(Purpose.STATISTICS))

    asyncio.run(run())


def test_queries_have_a_rate_of_their_own_at_first() -> None:
    made = Application(NUMBER, (), 0)
    assert [made.rate_max(purpose) for purpose in Purpose] == [None, 20, 10]
    assert [made.permits(purpose) for purpose in Purpose] == [True] * 3
