"""What a gateway reports of one SMS, before it is known whose it is.

    request  ->  reports  ->  (whose?)  ->  records

A report has what the gateway says and nothing of ours: which application it is for, and which `sid`
its sender knows the SMS by, is found out between the two. Pure.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from pullstatus.errors import InvalidRecord
from pullstatus.receipts import Receipts, Unread
from pullstatus.receipts.brief import known_briefly
from pullstatus.receipts.parts import Part
from pullstatus.receipts.times import wire_time
from pullstatus.records import TYPES, Kind, Record, encode_all, rows_of
from pullstatus.records.numbers import split, split_all
from pullstatus.steps import Steps, done

__all__ = [
    "Report",
    "Reports",
    "State",
    "Statuses",
    "Whose",
    "beside",
    "receipts_in_steps",
    "receipts_of",
    "receipts_together",
]


class State(enum.StrEnum):
    """What became of an SMS."""

    SUCCESS = "SUCCESS"
    FAIL = "FAIL"
    INTERMEDIATE = "INTERMEDIATE"
    """Nothing yet: it is counted, and no record."""

    __hash__ = str.__hash__  # an enum's own is Python, and there is one look-up a report


class Report(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a gateway says of one SMS.

    Attributes:
        kind: of what the record is to be.
        raw: its bytes, as they are read again.
        index: its place in the request, from 0; None: it is all of it.
        number: the handset's, as the gateway writes it.
        to: our number, or short code; "": it does not say.
        id: the gateway's own; "": it has none.
        sid, ext: ours, where the gateway says again what it was given.
        at_s: its time, in Unix seconds; None: it tells none that can be.
        state: of a delivery status.
        errmsg, description: of a delivery status: the code, and words for it.
        text, sign, extend: of a reply.
        part: which part of a message it is.
        data, coding: of a part of a reply, the bytes that its text stands for and what they are in:
            a message may be cut within a character.
        query: of what is all of a request with a body, the query beside that.
        code: of a delivery status, the code as the gateway says it, where `errmsg` is another; by
            this it is known again.
    """

    kind: Kind
    raw: bytes
    index: int | None = None
    number: str = ""
    to: str = ""
    id: str = ""
    sid: str = ""
    ext: str = ""
    at_s: int | None = None
    state: State = State.FAIL
    errmsg: str = ""
    description: str = ""
    text: str = ""
    sign: str = ""
    extend: str = ""
    part: Part | None = None
    data: bytes = b""
    coding: str = ""
    query: bytes = b""
    code: str = ""

    @property
    def is_brief(self) -> bool:
        """Whether it is known again for minutes only: see `brief`."""
        return self.kind is Kind.REPLY and not self.id and self.at_s is None

    @property
    def passes(self) -> bool:
        """Whether it is counted, and nothing is stored of it: nothing has become of the SMS yet."""
        return self.kind is Kind.DELIVERY_STATUS and self.state is State.INTERMEDIATE


class Reports(msgspec.Struct, frozen=True):
    """What a request says: its reports, and what could not be read, each in the order it came."""

    reports: list[Report]
    unread: tuple[Unread, ...] = ()


class Whose(msgspec.Struct, frozen=True):
    """What a report says nothing of.

    Attributes:
        nationcode: of a number that does not say; None: each begins with its own.
        sid, ext: from the sender's registration; "": the report's own are good.
        number: the handset's, from the same, for a report that tells none.
        sign, extend: of a reply, from the rule that took it.
    """

    nationcode: str | None = None
    sid: str = ""
    ext: str = ""
    number: str = ""
    sign: str = ""
    extend: str = ""


class Statuses(NamedTuple):
    """Delivery statuses, in a list for each of what a `Report` has of them.

    Of a state that is not known there is None: these are no reports.
    """

    numbers: list[str]
    to: list[str]
    ids: list[str]
    sids: list[str]
    exts: list[str]
    moments: list[int | None]
    states: list[State | None]
    errmsgs: list[str]
    descriptions: list[str]

    @property
    def are_final(self) -> bool:
        """Whether each is one of which a record is made."""
        return _OUTCOMES.keys() >= {*self.states}


Owned = tuple[Report, Whose]
"""A report, and what it says nothing of."""


def receipts_of(kind: Kind, source: str, found: Sequence[Owned], arrived_s: int) -> Receipts:
    """Records of reports, with what they are known by when they come again.

    What can't be a record is unread, and so is a delivery status that no `sid` is known of. Those
    of intermediate states are left out.

    Args:
        kind: of all of them.
        source: the name of what said it: of two gateways equal ids are two SMS.
        arrived_s: the time of a report that tells none.
    """
    return done(receipts_in_steps(kind, source, found, arrived_s))


def receipts_in_steps(
    kind: Kind, source: str, found: Sequence[Owned], arrived_s: int
) -> Steps[Receipts]:
    """As `receipts_of`."""
    receipts = Receipts(kind, [], [])
    unread: list[Unread] = []
    for start in range(0, len(found), _TOGETHER):
        some = found[start : start + _TOGETHER]
        if kind is Kind.DELIVERY_STATUS:
            some = [each for each in some if not each[0].passes]
        try:
            _add(receipts, source, some, arrived_s)
        except InvalidRecord:
            for each in some:
                try:
                    _add(receipts, source, [each], arrived_s)
                except InvalidRecord as error:
                    report = each[0]
                    unread.append(Unread(report.raw, error.fix, error.member, kind, report.index))
        yield
    return msgspec.structs.replace(receipts, unread=tuple(unread))


_TOGETHER: Final = 100  # reports of one step


def _add(receipts: Receipts, source: str, some: Sequence[Owned], arrived_s: int) -> None:
    """Add the records of reports, or none if one of them can't be a record."""
    if not some:
        return
    members = [_members(report, whose, arrived_s) for report, whose in some]
    rows = rows_of(receipts.kind, list(zip(*members, strict=True)))
    if rows is None:
        made: Callable[..., Record] = TYPES[receipts.kind]
        rows = [made(*each) for each in members]
    receipts.entries.extend(encode_all(rows))
    assert receipts.fingerprints is not None
    begun = _begun(source, receipts.kind)
    receipts.fingerprints.extend(
        (_order(report), _digest_of(begun, report, arrived_s)) for report, _ in some
    )


def receipts_together(
    source: str, statuses: Statuses, nationcode: str | None, arrived_s: int
) -> Receipts | None:
    """What `receipts_of` makes of final reports with an id each, of which nothing else is known.

    Args:
        nationcode: as in `Whose`.

    Returns:
        None if some are none such, or one of them may be no record.
    """
    numbers, _, ids, sids, exts, moments, states, errmsgs, descriptions = statuses
    if not all(ids):
        return None
    try:
        outcomes = list(map(_OUTCOMES.__getitem__, states))
    except KeyError:
        return None
    nationcodes, mobiles = split_all(numbers, nationcode)
    clocks = {at_s: wire_time(at_s or arrived_s) for at_s in set(moments)}
    times = list(map(clocks.__getitem__, moments))
    known = sids
    if not all(sids):
        known = [sid or id_ for sid, id_ in zip(sids, ids, strict=True)]
    rows = rows_of(
        Kind.DELIVERY_STATUS,
        [times, nationcodes, mobiles, outcomes, errmsgs, descriptions, known, exts],
    )
    try:
        entries = None if rows is None else encode_all(rows)
    except InvalidRecord:
        return None
    if entries is None:
        return None
    copy = _begun(source, Kind.DELIVERY_STATUS).copy
    digests = []
    for told in map(_told, ids, numbers, outcomes, errmsgs):
        hashing = copy()  # as `_digest`, without a call for each
        hashing.update(told)
        digests.append(hashing.digest())
    orders = [_order_of(id_[:_ORDER_DIGITS]) for id_ in ids]
    return Receipts(Kind.DELIVERY_STATUS, entries, list(zip(orders, digests, strict=True)))


def fingerprint(report: Report, source: str, arrived_s: int) -> tuple[int, bytes]:
    """What a report is known by when it comes again, as in `Receipts`.

    A delivery status is the same if the gateway's id, number, state and part are; without an id, or
    of a reply without one, if all of its bytes are, those of its query included; of a reply that
    tells no time either only for minutes: see `brief`.

    Args:
        arrived_s: when it came, as of `receipts_of`.
    """
    return _order(report), _digest_of(_begun(source, report.kind), report, arrived_s)


def _order(report: Report) -> int:
    if report.id:  # a repeat may tell when it is repeated
        return _order_of(report.id[:_ORDER_DIGITS])
    return report.at_s or 0


@functools.lru_cache(maxsize=4096)
def _order_of(begin: str) -> int:
    """Where a report is remembered, by how its id begins: below all times.

    Ids that gateways count, or make of a clock, come in about their order. So what comes together
    is remembered side by side, as it is by times; others lie as they are, at random.
    """
    try:
        return int(begin, 36) - _ORDERS
    except ValueError:  # a hyphen, say
        return -_ORDERS


_ORDER_DIGITS: Final = 9
_ORDERS: Final = 36**_ORDER_DIGITS  # fits 47 bits


def _begun(source: str, kind: Kind) -> blake2b:
    return blake2b(f"{source}\n{kind:d}".encode(), digest_size=16)


def _digest_of(begun: blake2b, report: Report, arrived_s: int) -> bytes:
    if not report.id:
        digest = _digest(begun, beside(report.raw, report.query))
        return known_briefly(digest, arrived_s) if report.is_brief else digest
    code = report.code or report.errmsg
    told = _told(report.id, report.number, _plain(report.state), code)
    return _digest(begun, b"%b\n%d" % (told, report.part.number) if report.part else told)


_plain: Final[Callable[[object], str]] = str.__str__
"""A state as no more than text: in a third of the time of its `value`."""


_OUTCOMES: Final[dict[State | None, str]] = {
    state: _plain(state) for state in (State.SUCCESS, State.FAIL)
}


def _told(id_: str, number: str, state: str, errmsg: str) -> bytes:
    return f"\n{id_}\n{number}\n{state}\n{errmsg}".encode("utf-8", "surrogatepass")


def beside(raw: bytes, query: bytes) -> bytes:
    """What is known by all of its bytes: these, and those of the query beside them, if any."""
    return b"%d\n%b%b" % (len(query), query, raw) if query not in (b"", raw) else raw


def _digest(begun: blake2b, told: bytes) -> bytes:
    hashing = begun.copy()  # in two thirds of the time of making one
    hashing.update(told)
    return hashing.digest()


def _members(report: Report, whose: Whose, arrived_s: int) -> tuple[str | int, ...]:
    """Of its record, in their order."""
    nationcode, mobile = split(report.number or whose.number, whose.nationcode)
    at_s = report.at_s or arrived_s
    if report.kind is Kind.REPLY:
        extend = report.extend or whose.extend
        return nationcode, mobile, report.text, report.sign or whose.sign, at_s, extend
    return (
        wire_time(at_s),
        nationcode,
        mobile,
        _plain(report.state),
        report.errmsg,
        report.description,
        whose.sid or report.sid or report.id,
        whose.ext or report.ext,
    )
