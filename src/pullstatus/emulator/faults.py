"""What shall go wrong: faults that are armed, and which request each one strikes.

| fault     | what the caller sees                                   | the call itself        |
|-----------|--------------------------------------------------------|------------------------|
| cut       | the connection closes, with `bytes` of the answer      | done                   |
| delay     | the answer, `delay_s` later                            | done                   |
| result    | an answer with that `result`, or its twin of API 3.0   | not done               |
| http      | an HTML page with `http_status`, as a gateway gives    | not done               |
| malformed | HTTP 200 and half the answer, which is no JSON         | done                   |
| reorder   | the page with its records the other way round          | done                   |
| duplicate | the page; its records come again with later pulls      | done                   |

`after_commit` says otherwise for the first five. The last two break the promises on purpose, so
that a client can be tested against a service that does.

And one that strikes no call, but what the emulator itself pushes to `sends.callback`:

| fault     | what the receiver of a push gets                                            |
|-----------|-----------------------------------------------------------------------------|
| half-bad  | two and more delivery statuses, one of them not to be read, as `bad` says   |
"""

from __future__ import annotations

import random
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from pullstatus import limits
from pullstatus.emulator.calls import ACTION_PULLS, Call
from pullstatus.errors import InvalidSetting

__all__ = ["Armed", "Bad", "Fault", "FaultName", "Faults"]

FaultName = Literal[
    "cut", "delay", "result", "http", "malformed", "reorder", "duplicate", "half-bad"
]
Struck = Call | Literal["push"]
Bad = Literal["value", "missing", "type", "object", "json"]

_PULLS: Final[frozenset[str]] = frozenset(("pullstatus", *ACTION_PULLS))
_BEFORE: Final = frozenset({"result", "http"})
_ENTRIES_MIN: Final = {"reorder": 2, "duplicate": 1}
_OWN: Final = {
    "result": "result",
    "errmsg": "result",
    "http_status": "http",
    "bytes": "cut",
    "bad": "half-bad",
}


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Something that shall go wrong, and to whom.

    fault         which one
    call          strikes this call only
    type          strikes pulls of this type only
    nonempty      strikes only pulls that hand out records
    count         so many times; once, unless there is a probability
    probability   each time with this chance, 0 to 1
    after_commit  whether the call is done before the fault strikes
    delay_s       seconds to wait first
    result        for `result`: the code
    errmsg        for `result`: its text
    http_status   for `http`: 400 to 599; 502 when left out
    bytes         for `cut`: how much of the answer's body still leaves
    bad           for `half-bad`: its `mobile` is no number (`value`, when left out), not there, of
                  the wrong type; the item is no object, or breaks off
    """

    fault: FaultName
    call: Call | None = None
    type: Literal[0, 1] | None = None
    nonempty: bool = False
    count: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    probability: Annotated[float, Meta(gt=0, le=1)] | None = None
    after_commit: bool | None = None
    delay_s: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    result: Annotated[int, Meta(ge=1, le=4_294_967_295)] | None = None
    errmsg: str | None = None
    http_status: Annotated[int, Meta(ge=400, le=599)] | None = None
    bytes: Annotated[int, Meta(ge=0)] | None = None
    bad: Bad | None = None

    def __post_init__(self) -> None:
        for member, owner in _OWN.items():
            if getattr(self, member) is not None and self.fault != owner:
                raise ValueError(f'{member} is for the fault "{owner}" only')
        if self.fault == "result" and self.result is None:
            raise ValueError('result must say which code the fault "result" answers')
        if self.fault == "delay" and not self.delay_s:
            raise ValueError('delay_s must say how long the fault "delay" takes')
        if (self.type is not None or self.nonempty) and self.call not in {None, *_PULLS}:
            raise ValueError("type and nonempty are for pulls only")
        if self.fault in {"reorder", "duplicate"}:
            if self.call not in {None, "pullstatus"}:
                raise ValueError(f'the fault "{self.fault}" is for pulls of v5 only')
            if self.after_commit is False:
                raise ValueError(f'the fault "{self.fault}" strikes after the commit only')
        if self.fault == "half-bad" and (
            self.call is not None
            or self.type is not None
            or self.nonempty
            or self.after_commit is not None
            or self.delay_s
        ):
            raise ValueError(
                'the fault "half-bad" strikes pushes, so only bad, count, probability go'
            )
        if self.nonempty and not self.strikes_late:
            raise ValueError("nonempty needs after_commit: before, nobody knows")

    @property
    def strikes_late(self) -> bool:
        """Whether the call is done before the fault strikes."""
        if self.after_commit is None:
            return self.fault not in _BEFORE
        return self.after_commit

    @property
    def entries_min(self) -> int:
        """How many records an answer must hand out for it to find something to do."""
        return max(int(self.nonempty), _ENTRIES_MIN.get(self.fault, 0))

    def fits(self, call: Struck, kind: int | None) -> bool:
        """Whether a request is of the sort that it strikes.

        Args:
            kind: the request's `type`, if it is a pull and has a proper one.
        """
        if self.fault == "half-bad" or call == "push":
            return self.fault == "half-bad" and call == "push"
        if self.fault in {"reorder", "duplicate"} and call != "pullstatus":
            return False
        if (self.type is not None or self.nonempty) and call not in _PULLS:
            return False
        if self.call is not None and self.call != call:
            return False
        return self.type is None or self.type == kind


class Armed(msgspec.Struct):
    """A fault that is waiting for its moment.

    left   how many more times it strikes; None: until it is cleared
    since  what was cleared last when it was armed, for `Faults`
    hits   how many times it has struck
    """

    fault: Fault
    left: int | None
    since: object
    hits: int = 0


class Faults:
    """The faults that are armed, oldest first; the first that fits a request strikes it."""

    def __init__(self, chance: random.Random) -> None:
        """Nothing is armed. `chance` decides for faults with a probability."""
        self._armed: list[Armed] = []
        self._since = object()
        self._chance = chance

    def __bool__(self) -> bool:
        return any(armed.left != 0 for armed in self._armed)

    def arm(self, *faults: Fault) -> list[Armed]:
        """Arm faults; where there are too many, the oldest that have none left make room.

        Raises:
            InvalidSetting: there are too many all the same; none of these is armed.
        """
        over = len(self._armed) + len(faults) - limits.FAULTS_MAX
        spent = [place for place, armed in enumerate(self._armed) if armed.left == 0]
        if over > len(spent):
            raise InvalidSetting(f"over {limits.FAULTS_MAX} faults; clear them first")
        for place in reversed(spent[: max(0, over)]):
            del self._armed[place]
        armed = [Armed(fault, _times(fault), self._since) for fault in faults]
        self._armed += armed
        return armed

    def clear(self) -> None:
        """Disarm all."""
        self._armed.clear()
        self._since = object()

    def armed(self) -> list[Armed]:
        """All that are, and those with none left, but for who made room."""
        return list(self._armed)

    def strike(self, call: Struck, kind: int | None) -> Armed | None:
        """The fault that strikes this request, spent once; None for none."""
        for armed in self._armed:
            if armed.left == 0 or not armed.fault.fits(call, kind):
                continue
            probability = armed.fault.probability
            if probability is not None and self._chance.random() >= probability:
                continue
            if armed.left is not None:
                armed.left -= 1
            armed.hits += 1
            return armed
        return None

    def give_back(self, armed: Armed) -> None:
        """Unspend a fault that found nothing to do; one that was cleared meanwhile stays so."""
        if armed.left is not None:
            armed.left += 1
        armed.hits -= 1
        if armed.since is self._since and all(one is not armed for one in self._armed):
            self._armed.insert(0, armed)  # it had made room meanwhile


def _times(fault: Fault) -> int | None:
    """How many times it strikes; None: until it is cleared."""
    once = 1 if fault.probability is None else None
    return once if fault.count is None else fault.count
