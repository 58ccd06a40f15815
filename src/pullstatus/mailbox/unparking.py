"""How parked items leave: as records, to another application, or erased; by an operator's act.

    retry  ->  what reads by now leaves as records; what stands before it and does not, goes to the
               tail once more, since a cursor never moves back

What is read moves in one commit, under the fingerprints it would have had at the door: cut off
anywhere, a retry can be repeated, and no record is stored twice. An item of which a part reads
leaves that part as records, and stays as the rest. The part of a message leaves to wait for the
others, which may be parked, too, or are still to come.

    route  ->  the same for another application, whose items these should have been: what reads is a
               record there, and what does not is parked there

A retry of what is nobody's gives each item to whom it belongs by now, as a route would, in steps of
one application each: of two that change owners in the middle of one, an engine in which
applications lie apart could know only of the first. What becomes of which item, `rereading` says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial

import msgspec

from pullstatus import limits
from pullstatus.apps import Application, LiveApplication, Operator
from pullstatus.apps.values import NOBODY, application_setting
from pullstatus.errors import InvalidSetting, SettingChanged
from pullstatus.mailbox import append_of, pending
from pullstatus.mailbox.parking import (
    Item,
    Parked,
    aside_of,
    live_application,
    parked,
    parked_mailbox,
)
from pullstatus.mailbox.rereading import Fate, give_away, give_back, in_charset, reread
from pullstatus.receipts import Receipts
from pullstatus.records import Kind
from pullstatus.records.hours import DAY_MS
from pullstatus.store import Act, Append, Outcome, Park, Store, Unpark

__all__ = ["Unparked", "drop", "drop_meant", "retry", "route"]

_STEP_ITEMS = 100  # items of one commit, which everybody else waits for
_STEP_BYTES = 4 * 1024 * 1024


class Unparked(msgspec.Struct, frozen=True):
    """What became of parked items.

    Attributes:
        items: how many left, those included that are too old to be put back.
        records: how many records are new of them.
        left: how many wait still.
        parked: how many wait now with another application.
        pending: how many parts of messages wait now for the others.
    """

    items: int
    records: int
    left: int
    parked: int = 0
    pending: int = 0


async def retry(
    store: Store,
    sdkappid: int,
    *,
    by: Operator,
    numbers: Sequence[int] | None = None,
    charset: str = "",
) -> Unparked:
    """Read parked items again by the rules of now; what can be read becomes records.

    A damaged one is set aside. What is not read and came `limits.PARKED_DAYS` ago expires.

    Those of nobody, under `NOBODY`, become records of whom they belong to by now.

    Args:
        numbers: of which items; None: of all.
        charset: of bodies, as if their content types named it, where each byte means something in
            it; "": as they do.

    Raises:
        UnknownApplication: there is none of that number.
        InvalidSetting: one of the items is not parked.
        SettingChanged: the application, or what is parked, changed again and again meanwhile.
    """
    act = _act(by, "parked retry", sdkappid, numbers, **({"charset": charset} if charset else {}))
    named = _named(sdkappid, numbers)
    if sdkappid != NOBODY:
        told, _ = await _settle(store, sdkappid, sdkappid, act, named, by, reread, charset=charset)
        return told
    told, parts = await _settle(store, NOBODY, NOBODY, act, named, by, give_back, charset=charset)
    while parts:  # of an item that is several applications' each step takes one's
        rest = _still(parts)
        more, parts = await _settle(
            store, NOBODY, NOBODY, act, rest, by, give_back, charset=charset
        )
        told = Unparked(
            told.items + more.items,
            told.records + more.records,
            more.left,
            told.parked + more.parked,
            told.pending + more.pending,
        )
    return told


async def drop(
    store: Store,
    sdkappid: int,
    *,
    by: Operator,
    numbers: Sequence[int] | None = None,
) -> Unparked:
    """Erase parked items, or set aside damaged ones; arguments and errors are those of `retry`."""
    act = _act(by, "parked drop", sdkappid, numbers)
    named = _named(sdkappid, numbers)
    told, _ = await _settle(store, sdkappid, sdkappid, act, named, by, _erase)
    return told


async def drop_meant(
    store: Store,
    sdkappid: int,
    is_meant: Callable[[Item], bool],
    *,
    by: Operator,
    act: Act,
) -> None:
    """Erase those of the items parked now that are meant, as a part of an act.

    Whoever lets some of them leave meanwhile does no harm, nor is anybody's application gone, or
    half removed.

    Raises:
        SettingChanged: who has the number, or what is parked, changed again and again meanwhile.
    """
    waiting = await parked(store, sdkappid)
    meant = [each.number for each in waiting if each.item and is_meant(each.item)]
    if meant:
        choose = _still(meant)
        await _settle(store, sdkappid, sdkappid, act, choose, by, _erase, _whoever)


async def _whoever(store: Store, sdkappid: int) -> LiveApplication:
    """As `live_application`, also of a number that nobody has: of its items nothing is made."""
    setting = await store.setting(application_setting(sdkappid))
    nobody = Application(sdkappid, (), 0)
    return LiveApplication(nobody, 0 if setting is None else setting.revision)


async def route(
    store: Store, sdkappid: int, to: int, *, by: Operator, numbers: Sequence[int] | None = None
) -> Unparked:
    """Give parked items to the application that they should have come to; otherwise as `retry`.

    What can be read becomes records there; the rest is parked there, under numbers of that
    application, within its bounds: for more its oldest leave. An item leaves here in the commit
    that stores it there.

    Args:
        to: the number of the other application.

    Raises:
        UnknownApplication: there is none of one of the numbers.
        InvalidSetting: one of the items is not parked, or both numbers are the same.
        SettingChanged: either application, or what is parked, changed again and again meanwhile.
    """
    if to == sdkappid:
        raise InvalidSetting(f"the items of {to} are there: `parked retry` reads them again")
    act = _act(by, "parked route", sdkappid, numbers, to=to)
    decide = partial(give_away, nobodys=sdkappid == NOBODY)
    told, _ = await _settle(store, sdkappid, to, act, _named(sdkappid, numbers), by, decide)
    return told


def _act(
    by: Operator, action: str, sdkappid: int, numbers: Sequence[int] | None, **detail: int | str
) -> Act:
    items = "all" if numbers is None else sorted(numbers)
    return by.act(action, sdkappid=sdkappid, items=items, **detail)


_Choose = Callable[[Sequence[Parked]], set[int]]
"""Which of the items that wait are meant, by the numbers that they had first."""


def _named(sdkappid: int, numbers: Sequence[int] | None) -> _Choose:
    """Those of these numbers, or all."""

    def choose(waiting: Sequence[Parked]) -> set[int]:
        standing = {each.number for each in waiting}
        if unknown := set(numbers or ()) - standing:
            raise InvalidSetting(f"item {min(unknown)} of {sdkappid} is not parked, or no longer")
        return standing if numbers is None else set(numbers)

    return choose


def _still(numbers: Sequence[int]) -> _Choose:
    """Those of these numbers that somebody else has not let leave."""
    return lambda waiting: {each.number for each in waiting} & set(numbers)


_Decide = Callable[
    [Store, LiveApplication, Sequence[Parked], Operator], Awaitable[Mapping[int, Fate]]
]
"""What becomes of items, by their numbers of now, none of which is damaged; others stay."""


async def _settle(
    store: Store,
    sdkappid: int,
    to: int,
    act: Act,
    choose: _Choose,
    by: Operator,
    decide: _Decide,
    owner_of: Callable[[Store, int], Awaitable[LiveApplication]] = live_application,
    charset: str = "",
) -> tuple[Unparked, list[int]]:
    """Have `decide` say what becomes of items, and do it.

    Somebody else may put items back meanwhile, which gives them other numbers of now: so what is
    still to be seen to is known by first numbers.

    Args:
        to: the application that gets what comes of them.
        choose: says which of those that wait at the beginning.
        owner_of: whose they are.
        charset: as `retry` has it.

    Returns:
        that, and the numbers of items of which a part has left, and the rest waits.
    """
    open_numbers: set[int] | None = None
    gone = records = moved = apart = 0
    parts: list[int] = []
    in_turns = decide is give_back
    for tries_left in reversed(range(limits.OVERTAKEN_MAX)):
        live = await owner_of(store, sdkappid)
        target = live if to == sdkappid else await owner_of(store, to)
        waiting = await parked(store, sdkappid)
        if open_numbers is None:
            open_numbers = choose(waiting)
        meant = [each for each in waiting if each.number in open_numbers]
        damaged = Fate(Outcome.QUARANTINED)
        decided = {
            **{each.seq: damaged for each in meant if each.item is None},
            **await decide(
                store, target, [in_charset(each, charset) for each in meant if each.item], by
            ),
        }
        fates = {
            each.seq: fate
            for each in waiting
            if (fate := _fate(each, by, decided.get(each.seq), in_turns=in_turns)) is not None
        }
        try:
            for step in _steps(waiting, fates):
                records += await store.unpark(_unpark(live, step, fates, act, by))
                open_numbers -= {each.number for each in step}
                met = [(each.number, fates[each.seq]) for each in step if each.seq in fates]
                gone += sum(fate.outcome is not Outcome.PUT_BACK for _, fate in met)
                moved += sum(fate.moved is not None for _, fate in met)
                apart += sum(len(fate.waits) for _, fate in met)
                parts += [number for number, fate in met if fate.target and fate.left]
        except SettingChanged:
            if not tries_left:
                raise
            continue
        break
    return Unparked(gone, records, len(await parked(store, sdkappid)), moved, apart), parts


def _fate(each: Parked, by: Operator, decided: Fate | None, *, in_turns: bool) -> Fate | None:
    """What becomes of an item for which this was decided; None: it stays.

    Args:
        in_turns: whether what is left behind a part may be another application's in the next turn.
    """
    if each.item is None:
        return decided
    # Parked anew it would have its days anew, and with a retry now and then stay for ever.
    stays = decided is None or decided.left is not None or decided.moved is not None
    if stays and each.item.at_ms < by.now_ms - limits.PARKED_DAYS * DAY_MS:
        if decided is None:
            return Fate(Outcome.EXPIRED)
        if in_turns and decided.target and decided.left:  # the last turn has no more of it
            return msgspec.structs.replace(decided, moved=None)
        return Fate(Outcome.EXPIRED, decided.target, decided.records, waits=decided.waits)
    return decided


async def _erase(
    _store: Store, _target: LiveApplication, meant: Sequence[Parked], _by: Operator
) -> Mapping[int, Fate]:
    return {each.seq: Fate(Outcome.ERASED) for each in meant}


def _steps(waiting: Sequence[Parked], fates: Mapping[int, Fate]) -> Iterator[list[Parked]]:
    """Items from the head to the last that leaves, in steps that nobody notices.

    Each step is for one application at most.
    """
    last = max(fates, default=0)
    step: list[Parked] = []
    size = 0
    whose: LiveApplication | None = None
    for each in waiting:
        if each.seq > last:
            break
        fate = fates.get(each.seq)
        target = None if fate is None else fate.target
        if target is not None and whose not in (None, target):
            yield step
            step, size, whose = [], 0, None
        whose = target or whose
        step.append(each)
        size += len(each.item.raw) if each.item else 0
        if len(step) == _STEP_ITEMS or size >= _STEP_BYTES:
            yield step
            step, size, whose = [], 0, None
    if step:
        yield step


def _unpark(
    live: LiveApplication,
    step: Sequence[Parked],
    fates: Mapping[int, Fate],
    act: Act,
    by: Operator,
) -> Unpark:
    target = live
    outcomes: list[Outcome] = []
    records: list[Append] = []
    moved: list[Item] = []
    back: list[bytes] = []
    waits: dict[str, list[pending.Item]] = defaultdict(list)
    for each in step:
        fate = fates.get(each.seq, Fate(Outcome.PUT_BACK, left=each.item))
        if each.item is None:
            fate = Fate(Outcome.QUARANTINED)
        target = fate.target or target
        outcomes.append(fate.outcome)
        records += fate.records
        for part in fate.waits:
            waits[part.token].append(part)
        if fate.left is not None:
            back.append(msgspec.structs.replace(fate.left, number=each.number).encoded())
        if fate.moved is not None:
            moved.append(fate.moved)
    return Unpark(
        parked_mailbox(live.application.sdkappid),
        step[0].seq,
        outcomes,
        records,
        back,
        by.now_ms,
        act,
        live.while_set,
        by.ticket(),
        [
            *([aside_of(target, moved, by.now_ms, by.ticket())] if moved else []),
            *(_pending(target, parts, token, by) for token, parts in waits.items()),
        ],
    )


def _pending(
    target: LiveApplication, parts: Sequence[pending.Item], token: str, by: Operator
) -> Park:
    nothing = Receipts(Kind.DELIVERY_STATUS, [])
    none = append_of(target, nothing, sender=token, now_ms=by.now_ms, ticket=by.ticket())
    return pending.aside_of(target, parts, none, token)
