"""Who calls, may they, how often: the checks in their order, the same for every face.

By an appkey the application is known first, by a secret key pair last:

    UnknownApplication   no application has    UnknownSecret   no pair has this SecretId, or it is
                         this number                           disabled
    AddressRefused       it may not be called  SignatureWrong  the face's proof does not fit it
                         from there              (face)        what else the face asks of a proven
    SignatureWrong       the face's proof fits                 request, and of its application's
                         none of its keys                      number, which is read only now
      (face)             what else the face    NotGranted      the pair is not for that one
                         asks of a proven      AddressRefused
                         request: freshness
    TooOld               it was signed longer ago than the application's window
    Disabled
    InArrears
    NotPermitted         what the call wants is switched off
    TooFrequent          it is wanted too often

The first that fails is raised; each face has a table from these errors to its own codes. They
all depend on how an application or pair is set up, and nobody is refused for what a command has
changed already: before one of them is raised, the registry looks at the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from pullstatus import limits
from pullstatus.apps.rate import RateLimiter
from pullstatus.apps.registry import LiveApplication, LivePair, Registry
from pullstatus.apps.values import Purpose, SecretPair
from pullstatus.errors import (
    AddressRefused,
    Disabled,
    InArrears,
    NotAdmitted,
    NotGranted,
    NotPermitted,
    PeerError,
    SignatureWrong,
    StoreUnavailable,
    TooFrequent,
    TooOld,
    UnknownApplication,
    UnknownSecret,
)

Proof = Callable[[Sequence[str]], int]
"""Returns the place of the appkey, among these, that a request is signed with.

It raises `SignatureWrong` if there is none, and may raise what else its face refuses of a request
that is signed well. Without any keys it does as much work as with one, for nothing.
"""

PairProof = Callable[[LivePair], None]
"""Proves that a request is signed with the secret key of this pair, in a way that it allows.

It raises `SignatureWrong` if not, and may raise what else its face refuses of a request that is
signed well.
"""

NOBODY: Final = LivePair(
    SecretPair("", (), 0, "", unsigned_payload=True, v1=True), "0" * limits.SECRET_CHARS
)
"""Whose signature is checked for nothing where no pair has the SecretId, so that time does not tell
which there are. Everything is allowed to it, so that the work is done."""


class KeysLocked(StoreUnavailable):
    """Nothing of what an application or pair signs with can be opened."""


CHANGED_AGAIN: Final = "this application is being changed; try again"
"""What is said where an application was changed at each of `limits.OVERTAKEN_MAX` tries."""

REFUSED: Final = (UnknownApplication, UnknownSecret, NotAdmitted, KeysLocked)
"""What `Admission.check` raises too early if a command has just changed something, or master keys
are still being read."""

_TEXTS: Final = {
    Purpose.PULL: ("the pull feature is not enabled; ask the operator", "pulls"),
    Purpose.QUERY: ("queries are not enabled; ask the operator", "queries"),
    Purpose.STATISTICS: ("queries are not enabled; ask the operator", "calls for statistics"),
}


class Call(msgspec.Struct, frozen=True):
    """A request that is signed with an appkey, as far as admission goes.

    Attributes:
        sdkappid: the application that it says it is from.
        address: where it came from; "" if that is not known.
        proof: proves that it is from there.
        signed_s: when it says that it was signed, in Unix seconds.
        at_ms: when it came, in Unix milliseconds.
        purpose: what it wants, which has a switch and a rate; None: nothing that has.
    """

    sdkappid: int
    address: str
    proof: Proof
    signed_s: int
    at_ms: int
    purpose: Purpose | None


class PairCall(msgspec.Struct, frozen=True):
    """A request that is signed with a secret key pair; the members are those of `Call`.

    Attributes:
        secret_id: the pair that it says it is signed with.
        sdkappid: reads the number of the application that it names; called only once it is proven.
            It raises what its face refuses of a request that cannot be read.
    """

    secret_id: str
    sdkappid: Callable[[], int]
    address: str
    proof: PairProof
    signed_s: int
    at_ms: int
    purpose: Purpose | None


def as_of(call: Call | PairCall, at_ms: int) -> Call | PairCall:
    """The same call as if it came then, signed no longer ago than it was."""
    signed_s = call.signed_s + at_ms // 1000 - call.at_ms // 1000
    return msgspec.structs.replace(call, at_ms=at_ms, signed_s=signed_s)


class Admission:
    """Lets calls in, by a server's copy of applications and pairs and its count of their calls."""

    def __init__(self, registry: Registry, rate: RateLimiter) -> None:
        self._registry = registry
        self._rate = rate

    async def admit(self, call: Call | PairCall) -> LiveApplication:
        """The application that makes this call, or that it is about, if it may.

        Raises:
            UnknownApplication, UnknownSecret, NotAdmitted: it may not, after another look at the
                store, too.
            StoreUnavailable: the store cannot be read now, or no key of it be opened.
            StoreCorrupt: a setting is not what was set.
        """
        try:
            return self.check(call)
        except REFUSED:
            return await self.admit_anew(call)

    async def admit_anew(self, call: Call | PairCall) -> LiveApplication:
        """The same of a call whose application or pair is known to have been changed."""
        if isinstance(call, PairCall):
            await self._registry.look_for_pair(call.secret_id)
        else:
            await self._registry.look(call.sdkappid, patiently=True)
        return self.check(call)

    def check_still(self, call: Call | PairCall) -> LiveApplication:
        """The same of a call that was let in, and has waited since: it is not counted again.

        What has ended meanwhile has by time alone, so nobody looks at the store for it, which
        whoever waits behind would wait for, too.
        """
        return self.check(msgspec.structs.replace(call, purpose=None))

    def check(self, call: Call | PairCall) -> LiveApplication:
        """The same, by what is known of the applications; who is refused may only be too early.

        Raises:
            UnknownApplication, UnknownSecret, NotAdmitted: `admit_anew` has the last word.
            StoreUnavailable, StoreCorrupt: as by `admit`.
        """
        live = self._by_pair(call) if isinstance(call, PairCall) else self._by_appkey(call)
        application = live.application
        age_s = call.at_ms // 1000 - call.signed_s
        if age_s > application.window_s:
            raise TooOld(
                f"signed {age_s} s before it came, over the {application.window_s} s that this"
                " application has: sign each attempt anew, and set your clock right if it was not"
                " that long on its way"
            )
        if not application.enabled:
            raise Disabled("this application is disabled")
        if application.arrears:
            raise InArrears("this application is stopped for arrears")
        if call.purpose is not None:
            self._check_purpose(live, call.purpose)
        return live

    def _by_appkey(self, call: Call) -> LiveApplication:
        """The application that has signed this call."""
        live = self._registry.applications.get(call.sdkappid)
        if live is None:
            # The same work as for a known one, so that time does not tell which numbers exist.
            with suppress(SignatureWrong):
                call.proof(())
            raise UnknownApplication("no application has this sdkappid")
        _check_address(live, call.address)
        if not live.appkeys:
            raise KeysLocked("the appkeys of this application cannot be opened; see the log")
        if live.timed:
            good = live.good(call.at_ms)
            place = good[call.proof([live.appkeys[one] for one in good])]
        else:
            place = call.proof(live.appkeys)
        self._registry.used[live.marks[place]] = (call.at_ms, call.address)
        return live

    def _by_pair(self, call: PairCall) -> LiveApplication:
        """The application that this call names, as the pair that has signed it may."""
        known = self._registry.pairs.get(call.secret_id)
        if known is None or not known.pair.enabled:
            with suppress(PeerError):
                call.proof(NOBODY)
            raise UnknownSecret("no enabled secret key pair has this SecretId")
        if not known.secret_key:
            raise KeysLocked("the secret key of this pair cannot be opened; see the log")
        call.proof(known)
        self._registry.used[known.mark] = (call.at_ms, call.address)
        live = self._registry.applications.get(call.sdkappid())
        if live is None or not known.pair.grants_to(live.application):
            raise NotGranted("this secret key pair is not for this application")
        _check_address(live, call.address)
        return live.by(known)

    def _check_purpose(self, live: LiveApplication, purpose: Purpose) -> None:
        application = live.application
        off, calls = _TEXTS[purpose]
        if not application.permits(purpose):
            raise NotPermitted(off)
        rate_max = application.rate_max(purpose)
        if rate_max is not None and not self._rate.admit(application.sdkappid, purpose, rate_max):
            raise TooFrequent(f"over {rate_max} {calls} a second; slow down")


def _check_address(live: LiveApplication, address: str) -> None:
    if not live.allows(address):
        raise AddressRefused("calls from this address are not allowed; see its allow-list")
