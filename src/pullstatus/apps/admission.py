"""Who calls, may they, how often: the checks in their order, the same for every face.

    UnknownApplication   no application has this number
    AddressRefused       it may not be called from there
    SignatureWrong       the face's proof fits none of its keys
      (face)             what else the face asks of a proven request: that it is fresh
    TooOld               it was signed longer ago than the application's window
    Disabled
    InArrears
    PullNotPermitted     of a call that takes records
    TooFrequent          likewise

The first that fails is raised; each face has a table from these errors to its own codes. They
all depend on how an application is set up, and nobody is refused for what a command has changed
already: before one of them is raised, the registry looks at the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from pullstatus.apps.rate import RateLimiter
from pullstatus.apps.registry import LiveApplication, Registry
from pullstatus.errors import (
    AddressRefused,
    Disabled,
    InArrears,
    NotAdmitted,
    PullNotPermitted,
    SignatureWrong,
    StoreUnavailable,
    TooFrequent,
    TooOld,
    UnknownApplication,
)

Proof = Callable[[Sequence[str]], int]
"""Returns the place of the appkey, among these, that a request is signed with.

It raises `SignatureWrong` if there is none, and may raise what else its face refuses of a request
that is signed well. Without any keys it does as much work as with one, for nothing.
"""


class Call(msgspec.Struct, frozen=True):
    """A request, as far as admission goes.

    Attributes:
        sdkappid: the application that it says it is from.
        address: where it came from; "" if that is not known.
        proof: proves that it is from there.
        signed_s: when it says that it was signed, in Unix seconds.
        at_ms: when it came, in Unix milliseconds.
        pulls: whether it takes records: needs the pull feature, and counts against the rate.
    """

    sdkappid: int
    address: str
    proof: Proof
    signed_s: int
    at_ms: int
    pulls: bool


class Admission:
    """Lets calls in, by a server's copy of the applications and its count of their pulls."""

    def __init__(self, registry: Registry, rate: RateLimiter) -> None:
        self._registry = registry
        self._rate = rate

    async def admit(self, call: Call) -> LiveApplication:
        """The application that makes this call, if it may.

        Raises:
            UnknownApplication, NotAdmitted: it may not, after another look at the store, too.
            StoreUnavailable: the store cannot be read now, or no appkey of it be opened.
            StoreCorrupt: a setting is not what was set.
        """
        try:
            return self.check(call)
        except (UnknownApplication, NotAdmitted):
            return await self.admit_anew(call)

    async def admit_anew(self, call: Call) -> LiveApplication:
        """The same of a call whose application is known to have been changed."""
        await self._registry.look(call.sdkappid)
        return self.check(call)

    def check(self, call: Call) -> LiveApplication:
        """The same, by what is known of the applications; who is refused may only be too early.

        Raises:
            UnknownApplication, NotAdmitted: `admit_anew` has the last word.
            StoreUnavailable, StoreCorrupt: as by `admit`.
        """
        live = self._registry.applications.get(call.sdkappid)
        if live is None:
            # The same work as for a known one, so that time does not tell which numbers exist.
            with suppress(SignatureWrong):
                call.proof(())
            raise UnknownApplication("no application has this sdkappid")
        if not live.allows(call.address):
            raise AddressRefused(
                "calls from this address are not allowed; see its allow-list",
            )
        if not live.appkeys:
            raise StoreUnavailable("the appkeys of this application cannot be opened; see the log")
        if live.timed:
            good = live.good(call.at_ms)
            place = good[call.proof([live.appkeys[one] for one in good])]
        else:
            place = call.proof(live.appkeys)
        self._registry.used[live.marks[place]] = (call.at_ms, call.address)
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
        if call.pulls:
            self._check_pull(live)
        return live

    def _check_pull(self, live: LiveApplication) -> None:
        application = live.application
        if not application.pull:
            raise PullNotPermitted("the pull feature is not enabled; ask the operator")
        rate_max = application.pull_rate_max
        if rate_max is not None and not self._rate.admit(application.sdkappid, rate_max):
            raise TooFrequent(f"over {rate_max} pulls a second; slow down")
