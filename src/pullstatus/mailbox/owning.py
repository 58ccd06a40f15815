"""Whose a gateway's report is: the token's application's, or whose names and rules say.

    token of an application   its own; a name that it has registered gives the `sid`
    token of a platform       whoever registered its id; else what the first rule says that matches;
                              else nobody's: it is parked

Nothing is guessed. What was registered by an application that is gone since, or has another owner,
is nobody's, whatever rules say; so is what a rule gives to such a one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from pullstatus.apps import LiveApplication, routing, stored_application
from pullstatus.apps.routing import Action, Routed, Rules, Traits, routed
from pullstatus.mailbox.names import Name, Names, Told, given_together, names_of
from pullstatus.receipts.reports import Report, Statuses, Whose
from pullstatus.receipts.source import Source
from pullstatus.records import Kind
from pullstatus.store import Store

__all__ = [
    "NATIONCODE",
    "Known",
    "Owned",
    "Stored",
    "named_together",
    "nationcode_of",
    "owned",
    "platforms",
]

NATIONCODE: Final = "86"
"""Of numbers of a source in which none has a calling code, where nobody says another."""

_ITS_OWN: Final = "the token is its own"
NO_RULE: Final = "is nobody's: no application has registered its id, and no rule matches it"


class Known(Protocol):
    """What is known of rules and applications: a server's registry, or what a store says."""

    @property
    def rules(self) -> Rules:
        """Those of routing."""
        ...

    async def application(self, sdkappid: int) -> LiveApplication | None:
        """The application of this number, if there is one."""
        ...

    async def look(self) -> None:
        """Take in what was changed before this was called."""
        ...


class Stored:
    """What a store says, each application read once; see `Known`."""

    def __init__(self, store: Store, rules: Rules) -> None:
        """The rules are as they are given: those of `apps.rules`."""
        self._store = store
        self._found: dict[int, LiveApplication | None] = {}
        self.rules = rules

    async def application(self, sdkappid: int) -> LiveApplication | None:
        """The application as it was when it was asked for first, without its keys."""
        if sdkappid not in self._found:
            self._found[sdkappid] = await stored_application(self._store, sdkappid)
        return self._found[sdkappid]

    async def look(self) -> None:
        """Nothing is behind."""


class Owned(msgspec.Struct, frozen=True):
    """Whose a report is.

    Attributes:
        live: the application; append with its `while_set`. None: nobody's.
        whose: what the report says nothing of.
        dropped: a rule says that it is acknowledged, and stored nowhere.
        why: who says so, for people; nothing of the report is in it.
        name: what was registered of it.
    """

    live: LiveApplication | None
    whose: Whose = Whose()
    dropped: bool = False
    why: str = NO_RULE
    name: Name | None = None

    @property
    def unmatched(self) -> bool:
        """Whether nothing says whose it is: no name, and no rule."""
        return self.live is None and self.why == NO_RULE


async def owned(
    store: Names,
    known: Known,
    reports: Sequence[Report],
    *,
    token: str,
    source: Source,
    own: LiveApplication | None,
    named: bool = True,
) -> list[Owned]:
    """Whose each report is, in their order, by what is known now.

    Before one is nobody's, what is known is looked at anew: a rule that a command has made takes
    the very next one.

    Args:
        known: what decides for a platform's token.
        token: the name of the token that they came with.
        own: the token's application; None: it is a platform's.
        named: whether names are looked for; none is registered where they are not.

    Raises:
        StoreUnavailable: it could not be asked now.
    """
    names: Sequence[Name | None] = [None] * len(reports)
    if named:
        names = await _names(store, reports, own)
    kinds = {kind: nationcode_of(kind, source) for kind in Kind}
    codes = [kinds[report.kind] for report in reports]
    if own is not None:
        if not any(names):
            alike = {code: Owned(own, Whose(code), why=_ITS_OWN) for code in kinds.values()}
            return [alike[code] for code in codes]
        return [
            Owned(own, _whose(code, name, None), why=_ITS_OWN, name=name)
            for name, code in zip(names, codes, strict=True)
        ]
    traits = [
        routing.traits_of(
            token=token, source=source.name, number=report.number, to=report.to, id=report.id
        )
        for report in reports
    ]
    return await platforms(known, traits, names, codes)


async def _names(
    store: Names, reports: Sequence[Report], own: LiveApplication | None
) -> Sequence[Name | None]:
    told = [Told(report.id, report.number) if _has_name(report) else Told("") for report in reports]
    if not any(each.id for each in told):
        return [None] * len(reports)
    application = None if own is None else own.application
    return await names_of(
        store,
        told,
        sdkappid=None if application is None else application.sdkappid,
        owner=None if application is None else application.owner,
    )


async def named_together(store: Names, statuses: Statuses, own: LiveApplication) -> Statuses | None:
    """Final statuses of an application that has its sends registered, as these say.

    Returns:
        None if some are not final, say too little, or wait for their name or for other parts: what
        becomes of each is `owned`'s and `pending.waits_for`'s to say.

    Raises:
        StoreUnavailable: it could not be asked now.
    """
    if not (statuses.are_final and all(statuses.ids) and all(statuses.numbers)):
        return None
    sdkappid, owner = own.application.sdkappid, own.application.owner
    ids, numbers = statuses.ids, statuses.numbers
    given = await given_together(store, ids, numbers, sdkappid=sdkappid, owner=owner)
    if given is not None:
        sids, exts = given
        if any(statuses.exts):
            exts = [ext or echo for ext, echo in zip(exts, statuses.exts, strict=True)]
        return statuses._replace(sids=sids, exts=exts)
    told = list(map(Told, ids, numbers))
    names = await names_of(store, told, sdkappid=sdkappid, owner=owner)
    sids, exts = list(statuses.sids), list(statuses.exts)
    for place, name in enumerate(names):
        if name is None:
            if not sids[place]:
                return None
        elif name.parts > 1:
            return None
        else:
            sids[place] = name.sid or sids[place]
            exts[place] = name.ext or exts[place]
    return statuses._replace(sids=sids, exts=exts)


async def platforms(
    known: Known,
    traits: Sequence[Traits],
    names: Sequence[Name | None],
    codes: Sequence[str | None],
) -> list[Owned]:
    """Whose each is of what came with a platform's token; see `owned`.

    Args:
        names: what was registered of each.
        codes: the calling code of each, if its number has none; None: it begins with its own.
    """
    told = list(zip(traits, names, codes, strict=True))
    once = _Once(known)
    found = [await _platforms(once, *each) for each in told]
    lost = [place for place, each in enumerate(found) if each.live is None and not each.dropped]
    if lost:
        await known.look()
        once = _Once(known)
        for place in lost:
            found[place] = await _platforms(once, *told[place])
    return found


class _Once:
    """What is known, each application asked for once: for one that is gone a server looks anew."""

    def __init__(self, known: Known) -> None:
        self.rules = known.rules
        self._known = known
        self._found: dict[int, LiveApplication | None] = {}

    async def application(self, sdkappid: int) -> LiveApplication | None:
        if sdkappid not in self._found:
            self._found[sdkappid] = await self._known.application(sdkappid)
        return self._found[sdkappid]


async def _platforms(
    known: _Once, traits: Traits, name: Name | None, nationcode: str | None
) -> Owned:
    if name is not None:
        live = await known.application(name.sdkappid)
        if live is None or not name.belongs_to(live.application.owner):
            gone = "is of an application that is gone, or has another owner since"
            return Owned(None, why=gone, name=name)
        why = f"{name.sdkappid} has registered its id"
        return Owned(live, _whose(nationcode, name, None), why=why, name=name)
    rule = known.rules.first(traits)
    if rule is None:
        return Owned(None)
    said = routed(rule, traits)
    if said.sdkappid is None:
        dropped = said.action is Action.DROP
        return Owned(None, dropped=dropped, why=f"rule {rule.name} {said.action.value}s it")
    live = await known.application(said.sdkappid)
    if live is None or not said.feeds(live.application):
        gone = "which is gone, or has another owner since"
        return Owned(None, why=f"rule {rule.name} gives it to {said.sdkappid}, {gone}")
    return Owned(live, _whose(nationcode, None, said), why=f"rule {rule.name} matches it")


def _has_name(report: Report) -> bool:
    return report.kind is Kind.DELIVERY_STATUS and not report.passes


def nationcode_of(kind: Kind, source: Source) -> str | None:
    """Of numbers of a source that don't say; None: each begins with its own."""
    keys = source.status if kind is Kind.DELIVERY_STATUS else source.reply
    return NATIONCODE if keys is not None and keys.numbers == "national" else None


def _whose(nationcode: str | None, name: Name | None, said: Routed | None) -> Whose:
    if name is not None:
        return Whose(nationcode, name.sid, name.ext, name.number)
    if said is None:
        return Whose(nationcode)
    # A rule that names a code means numbers that have none, whatever the source says of them.
    return Whose(said.nationcode or nationcode, sign=said.sign, extend=said.extend)
