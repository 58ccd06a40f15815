"""What a connection is at, and until when it may be: a table of phases and events.

Pure: no transport, no parser, no clock; times are seconds of whatever clock the caller keeps to.
A phase says how far the peer is with its request. Beside it stands one number, `owed`: the whole
requests that have no answer yet. Answers leave in the order of requests, so an answer is always to
the oldest of them, or, when nothing is owed, to the one whose body is still coming.

One rule gives the deadline: **a phase has its time from when it began, and it does not run while an
answer is owed**: the wait is ours then. It begins when the last of them has been given.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final, NamedTuple

from pullstatus import limits

FAREWELL_S: Final = 3.0
"""On stopping: how long the end of TLS waits for the peer's, who may be asleep."""


class Phase(StrEnum):
    """How far the peer is with the request at hand."""

    NEW = "NEW"
    """No request has begun yet."""
    IDLE = "IDLE"
    """Between two requests."""
    HEAD = "HEAD"
    """A request has begun; its headers are not complete."""
    BODY = "BODY"
    """The headers are complete and handed on, the body is not."""
    REST = "REST"
    """The same, but the answer has been given already: the rest of the body goes nowhere."""
    ENDED = "ENDED"
    """Nothing more is taken from the peer; what is owed is still answered."""
    CLOSED = "CLOSED"
    """The transport is closing, with what was written and is not read yet."""


class Event(StrEnum):
    """What happens to a connection."""

    AT_ONCE = "AT_ONCE"
    """A whole request in one read, and nothing else."""
    BEGIN = "BEGIN"
    """The first byte of a request."""
    HEADERS = "HEADERS"
    """The headers are complete and within bounds."""
    WHOLE = "WHOLE"
    """The body is complete."""
    ANSWERED = "ANSWERED"
    """The oldest whole request has been answered."""
    EARLY = "EARLY"
    """The request at hand has been answered before it is whole."""
    END = "END"
    """The peer says no more, or what it says is refused."""
    CLOSE = "CLOSE"
    """The transport is being closed, by whomever."""


class Effect(StrEnum):
    """What an end asks for besides the next phase."""

    SAY = "SAY"
    """Say why, once nothing is owed."""
    DROP = "DROP"
    """Forget the request at hand, which will never be whole; then the same."""


class Step(NamedTuple):
    """What an event makes of a phase.

    Attributes:
        phase: the next one.
        owes: what is added to the answers owed.
        restarts: whether its time begins now; that of the phase before runs on otherwise.
        effect: what else is to be done.
    """

    phase: Phase
    owes: int = 0
    restarts: bool = True
    effect: Effect | None = None


def _table() -> dict[Phase, dict[Event, Step]]:
    new, idle, head, body, rest, ended, closed = Phase
    at_once, begin, headers, whole, answered, early, end, close = Event
    ends, closes = Step(ended, effect=Effect.SAY), Step(closed)
    return {
        new: {
            at_once: Step(idle, owes=+1),
            begin: Step(head),
            end: ends,
            close: closes,
        },
        idle: {
            at_once: Step(idle, owes=+1),
            begin: Step(head),
            answered: Step(idle, owes=-1),
            end: ends,
            close: closes,
        },
        head: {
            # An offer to speak another protocol ends a request, which then begins anew without it.
            begin: Step(head, restarts=False),
            whole: Step(head, restarts=False),
            headers: Step(body),
            answered: Step(head, owes=-1),
            end: ends,
            close: closes,
        },
        body: {
            whole: Step(idle, owes=+1),
            answered: Step(body, owes=-1),
            early: Step(rest, restarts=False),
            end: Step(ended, effect=Effect.DROP),
            close: closes,
        },
        rest: {
            whole: Step(idle),
            end: Step(ended),  # what came was answered, and gets no second answer
            close: closes,
        },
        ended: {
            # The parser goes on to the end of what was read.
            begin: Step(ended, restarts=False),
            headers: Step(ended, restarts=False),
            whole: Step(ended, restarts=False),
            answered: Step(ended, owes=-1),
            end: Step(ended, restarts=False),
            close: closes,
        },
        closed: dict.fromkeys(Event, Step(closed, restarts=False)),
    }


TABLE: Final = _table()
"""Each phase with the events that it can meet. Whatever is not in it cannot happen."""

TIME: Final = {
    Phase.NEW: "HEADER_DEADLINE_S",
    Phase.IDLE: "IDLE_S",
    Phase.HEAD: "HEADER_DEADLINE_S",
    Phase.BODY: "BODY_DEADLINE_S",
    Phase.REST: "BODY_DEADLINE_S",
    Phase.CLOSED: "ANSWER_DEADLINE_S",
}
"""The time of each phase, by its name in `limits`. ENDED lasts as long as something is owed."""

_RESTING: Final = (Phase.NEW, Phase.IDLE)
_BODIES: Final = (Phase.BODY, Phase.REST)

DEAF: Final = (Phase.ENDED, Phase.CLOSED)
"""The phases in which nothing that the peer says is heard."""

# Every request takes some steps: they are tuples of no class, which are unpacked the quickest.
_STEPS: Final = {
    phase: {event: (*step,) for event, step in steps.items()} for phase, steps in TABLE.items()
}
# By names that cost nothing to look up, likewise.
_ANSWERED, _EARLY = Event.ANSWERED, Event.EARLY


class ConnectionState:
    """The phase of one connection, and when it must be over.

    Attributes:
        phase: how far the peer is.
        owed: whole requests without an answer.
        draining: the server is stopping: the next answer is the connection's last.
    """

    __slots__ = (
        "_farewell",
        "_since",
        "_taken",
        "_taken_at",
        "_unread_from",
        "_unread_since",
        "draining",
        "owed",
        "phase",
    )

    def __init__(self, now: float) -> None:
        """A connection that has just been made."""
        self.phase = Phase.NEW
        self.owed = 0
        self.draining = False
        self._since = now  # when the time of the phase began
        self._unread_since = math.inf  # since then something is
        self._unread_from = 0  # what had been taken by then
        self._taken = 0  # bytes of answers that the peer has taken, as far as seen
        self._taken_at = now  # when that became more
        self._farewell = math.inf

    def on(self, event: Event, now: float) -> Effect | None:
        """Take the step of this event, and tell what else it asks for.

        Raises:
            KeyError: such an event can't come in this phase.
        """
        self.phase, owes, restarts, effect = _STEPS[self.phase][event]
        self.owed += owes
        if restarts:
            self._since = now
        return effect

    def answered(self, now: float) -> None:
        """The oldest request without an answer has got one."""
        self.on(_ANSWERED if self.owed else _EARLY, now)

    @property
    def answering(self) -> bool:
        """Whether an answer is due, if only to a request that is not whole."""
        return self.owed > 0 or self.phase is Phase.BODY

    @property
    def resting(self) -> bool:
        """Whether nothing is at hand and nothing owed: what comes next begins a request."""
        return not self.owed and self.phase in _RESTING

    @property
    def over(self) -> bool:
        """Whether all has been heard and answered: the transport is to be closed."""
        return self.phase is Phase.ENDED and not self.owed

    @property
    def deadline(self) -> float:
        """When to cut the connection; infinite while an answer is owed that can still be given."""
        if self.phase is Phase.ENDED or (self.owed and self.phase is not Phase.CLOSED):
            return math.inf
        time_s: float = getattr(limits, TIME[self.phase])
        return min(self._since + time_s, self._farewell)

    def late(self, now: float, *, unread: int, written: int = 0, body: int = 0) -> str | None:
        """Which deadline has passed, or which rate was not kept, by its name in `limits`.

        To be asked about once a second.

        Args:
            now: the time.
            unread: bytes of what was written that have not left yet.
            written: bytes that were written, ever.
            body: bytes that have come of the body at hand.
        """
        closed = self.phase is Phase.CLOSED
        if not unread:
            if closed and self._unread_since < math.inf:
                self._since = now  # the rest of an end begins when all is read
            self._unread_since = math.inf
            return self._passed(now, body)
        taken = written - unread
        if self._unread_since == math.inf:
            self._unread_since, self._unread_from = now, taken
            self._taken, self._taken_at = taken, now
        elif taken > self._taken:
            self._taken, self._taken_at = taken, now
        if now - self._taken_at > limits.ANSWER_DEADLINE_S:
            return "ANSWER_DEADLINE_S"
        if self._reads_too_slowly(now):
            return "ANSWER_BYTES_PER_S_MIN"
        if closed and now <= self._farewell:
            return None
        if self.phase is Phase.IDLE:
            self._since = now  # the time between two requests begins when all is read
        return self._passed(now, body)

    def _passed(self, now: float, body: int) -> str | None:
        if now <= self.deadline:
            return "BODY_BYTES_PER_S_MIN" if self._sends_too_slowly(now, body) else None
        return "DRAIN_DEADLINE_S" if now > self._farewell else TIME[self.phase]

    def _sends_too_slowly(self, now: float, body: int) -> bool:
        """Whether too little has come of a body, for the time that the peer has had for it."""
        if self.owed or self.phase not in _BODIES or body <= limits.REQUEST_BYTES:
            return False
        took_s = now - self._since
        return took_s > limits.BODY_PATIENCE_S and body < limits.BODY_BYTES_PER_S_MIN * took_s

    def _reads_too_slowly(self, now: float) -> bool:
        """Whether too little was taken since something lies unread, and that is long ago."""
        unread_s = now - self._unread_since
        due = limits.ANSWER_BYTES_PER_S_MIN * unread_s
        return unread_s > limits.ANSWER_DEADLINE_S and self._taken - self._unread_from < due

    def drain(self, now: float, grace_s: float, *, unread: int) -> bool:
        """Whether to close, since the server stops: nothing is at hand, nor was for `grace_s`.

        A connection that is closed already has `FAREWELL_S` once it has nothing to read any more.
        """
        self.draining = True
        closes = self.resting and now - self._since > grace_s
        if closes:
            self.on(Event.CLOSE, now)
        if self.phase is Phase.CLOSED and not unread:
            self._farewell = min(self._farewell, now + FAREWELL_S)
        return closes
