"""What a connection is at, and until when: each pair of phase and event, then any course."""

from __future__ import annotations

import itertools
import math
from typing import Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from pullstatus import limits
from pullstatus.server.connection_state import (
    DEAF,
    FAREWELL_S,
    TABLE,
    TIME,
    ConnectionState,
    Effect,
    Event,
    Phase,
    Step,
)

GRACE_S: Final = 0.5

# What an event makes of a phase: the next one, whether its time begins now or that of the phase
# before runs on, and what else: an answer more or less that is owed, the effect. "never": neither
# parser nor order of answers lets it come.
STEPS: Final = """
    NEW     AT_ONCE   IDLE    now  +1
    NEW     BEGIN     HEAD    now
    NEW     HEADERS   never
    NEW     WHOLE     never
    NEW     ANSWERED  never
    NEW     EARLY     never
    NEW     END       ENDED   now      SAY
    NEW     CLOSE     CLOSED  now

    IDLE    AT_ONCE   IDLE    now  +1
    IDLE    BEGIN     HEAD    now
    IDLE    HEADERS   never
    IDLE    WHOLE     never
    IDLE    ANSWERED  IDLE    now  -1
    IDLE    EARLY     never
    IDLE    END       ENDED   now      SAY
    IDLE    CLOSE     CLOSED  now

    HEAD    AT_ONCE   never
    HEAD    BEGIN     HEAD    on
    HEAD    HEADERS   BODY    now
    HEAD    WHOLE     HEAD    on
    HEAD    ANSWERED  HEAD    now  -1
    HEAD    EARLY     never
    HEAD    END       ENDED   now      SAY
    HEAD    CLOSE     CLOSED  now

    BODY    AT_ONCE   never
    BODY    BEGIN     never
    BODY    HEADERS   never
    BODY    WHOLE     IDLE    now  +1
    BODY    ANSWERED  BODY    now  -1
    BODY    EARLY     REST    on
    BODY    END       ENDED   now      DROP
    BODY    CLOSE     CLOSED  now

    REST    AT_ONCE   never
    REST    BEGIN     never
    REST    HEADERS   never
    REST    WHOLE     IDLE    now
    REST    ANSWERED  never
    REST    EARLY     never
    REST    END       ENDED   now
    REST    CLOSE     CLOSED  now

    ENDED   AT_ONCE   never
    ENDED   BEGIN     ENDED   on
    ENDED   HEADERS   ENDED   on
    ENDED   WHOLE     ENDED   on
    ENDED   ANSWERED  ENDED   now  -1
    ENDED   EARLY     never
    ENDED   END       ENDED   on
    ENDED   CLOSE     CLOSED  now

    CLOSED  AT_ONCE   CLOSED  on
    CLOSED  BEGIN     CLOSED  on
    CLOSED  HEADERS   CLOSED  on
    CLOSED  WHOLE     CLOSED  on
    CLOSED  ANSWERED  CLOSED  on
    CLOSED  EARLY     CLOSED  on
    CLOSED  END       CLOSED  on
    CLOSED  CLOSE     CLOSED  on
"""
ROWS: Final = [line.split() for line in STEPS.splitlines() if line.strip()]


def step(words: list[str]) -> Step | None:
    """What a row says; None for what never comes."""
    if words == ["never"]:
        return None
    phase, time, *others = words
    owes = [int(word) for word in others if word[0] in "+-"]
    effects = [Effect(word) for word in others if word[0] not in "+-"]
    assert time in ("now", "on")
    return Step(Phase(phase), sum(owes), time == "now", effects[0] if effects else None)


def test_every_pair_is_stated() -> None:
    stated = [(phase, event) for phase, event, *_ in ROWS]
    assert stated == list(itertools.product(Phase, Event))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row[:2]))
def test_step(row: list[str]) -> None:
    phase, event, *words = row
    assert TABLE[Phase(phase)].get(Event(event)) == step(words)


# --- deadlines, by the limit each has and from when -----------------------------------------------

HEAD_S: Final = limits.HEADER_DEADLINE_S
BODY_S: Final = limits.BODY_DEADLINE_S
IDLE_S: Final = limits.IDLE_S
ANSWER_S: Final = limits.ANSWER_DEADLINE_S


def after(*events: str) -> ConnectionState:
    """A connection made at 0; the first event comes at 1, the next at 2 ..."""
    state = ConnectionState(0.0)
    for now, event in enumerate(events, 1):
        if event == "ANSWER":
            state.answered(now)
        else:
            state.on(Event(event), now)
    return state


def closed(state: ConnectionState) -> bool:
    return state.phase is Phase.CLOSED


@pytest.mark.parametrize(
    ("events", "deadline"),
    [
        ("", 0 + HEAD_S),
        ("BEGIN", 1 + HEAD_S),
        ("BEGIN HEADERS", 2 + BODY_S),
        ("BEGIN HEADERS WHOLE", math.inf),
        ("BEGIN HEADERS WHOLE ANSWER", 4 + IDLE_S),
        ("BEGIN HEADERS WHOLE ANSWER BEGIN", 5 + HEAD_S),
        # An answer before the end of a body gives the body no more time, and its end the next one.
        ("BEGIN HEADERS ANSWER", 2 + BODY_S),
        ("BEGIN HEADERS ANSWER WHOLE", 4 + IDLE_S),
        # What is owed is waited for by the peer: its own time begins with the last answer.
        ("BEGIN HEADERS WHOLE BEGIN", math.inf),
        ("BEGIN HEADERS WHOLE BEGIN ANSWER", 5 + HEAD_S),
        ("BEGIN HEADERS WHOLE BEGIN HEADERS", math.inf),
        ("BEGIN HEADERS WHOLE BEGIN HEADERS ANSWER", 6 + BODY_S),
        ("BEGIN HEADERS WHOLE BEGIN HEADERS WHOLE ANSWER", math.inf),
        ("BEGIN HEADERS WHOLE BEGIN HEADERS WHOLE ANSWER ANSWER", 8 + IDLE_S),
        # A head that comes again, without an offer to upgrade, has no more time for it.
        ("BEGIN WHOLE BEGIN", 1 + HEAD_S),
        ("BEGIN HEADERS WHOLE END", math.inf),
        ("CLOSE", 1 + ANSWER_S),
        ("BEGIN HEADERS WHOLE CLOSE", 4 + ANSWER_S),
        ("CLOSE CLOSE", 1 + ANSWER_S),
    ],
)
def test_deadline(events: str, deadline: float) -> None:
    assert after(*events.split()).deadline == deadline


def test_deadlines_are_those_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    state = after()
    monkeypatch.setattr(limits, "HEADER_DEADLINE_S", 0.25)
    assert state.deadline == 0.25


def test_each_phase_but_that_of_the_last_answers_has_a_time() -> None:
    assert set(Phase) - set(TIME) == {Phase.ENDED}
    assert all(hasattr(limits, name) for name in TIME.values())


@pytest.mark.parametrize(
    ("events", "answering", "over"),
    [
        ("", False, False),
        ("BEGIN", False, False),
        ("BEGIN HEADERS", True, False),
        ("BEGIN HEADERS WHOLE", True, False),
        ("BEGIN HEADERS ANSWER", False, False),
        ("END", False, True),
        ("BEGIN HEADERS WHOLE END", True, False),
        ("BEGIN HEADERS WHOLE END ANSWER", False, True),
        ("BEGIN HEADERS END", False, True),
        ("CLOSE", False, False),
    ],
)
def test_what_is_due(events: str, answering: bool, over: bool) -> None:
    state = after(*events.split())
    assert (state.answering, state.over) == (answering, over)


def test_late_is_after_the_deadline_and_not_at_it() -> None:
    state = after()
    assert not state.late(HEAD_S, unread=False)
    assert state.late(HEAD_S + 0.1, unread=False)


PATIENCE_S: Final = limits.BODY_PATIENCE_S
RATE: Final = limits.BODY_BYTES_PER_S_MIN


@pytest.mark.parametrize("events", ["BEGIN HEADERS", "BEGIN HEADERS ANSWER"])
def test_body_is_late_that_comes_too_slowly_in_all(events: str) -> None:
    """Once its peer has had some patience; a burst counts for the time behind it."""
    state = after(*events.split())
    began = 2
    few = limits.REQUEST_BYTES
    assert not state.late(began + PATIENCE_S, unread=0, body=few + 1)
    behind = RATE * (PATIENCE_S + 1) - 1
    late = began + PATIENCE_S + 1
    assert state.late(late, unread=0, body=behind) == "BODY_BYTES_PER_S_MIN"
    assert state.late(late, unread=0, body=few + 1) == "BODY_BYTES_PER_S_MIN"
    assert not state.late(late, unread=0, body=few)
    for second in range(BODY_S):
        assert not state.late(began + second, unread=0, body=RATE * second)
    assert state.late(began + BODY_S + 0.1, unread=0, body=10**6) == "BODY_DEADLINE_S"


def test_body_is_not_late_while_an_answer_is_owed() -> None:
    """Nobody may be reading it."""
    state = after("BEGIN", "HEADERS", "WHOLE", "BEGIN", "HEADERS")
    assert not state.late(5 + PATIENCE_S + 1, unread=0, body=limits.REQUEST_BYTES + 1)


@pytest.mark.parametrize("events", ["", "BEGIN", "BEGIN HEADERS WHOLE ANSWER"])
def test_only_a_body_comes_too_slowly(events: str) -> None:
    state = after(*events.split())
    few = limits.REQUEST_BYTES + 1
    assert state.late(PATIENCE_S - 0.1, unread=0, body=few) is None
    assert state.late(10 * BODY_S, unread=0, body=few) != "BODY_BYTES_PER_S_MIN"


def test_answer_unread_is_late_from_when_it_was_first_seen() -> None:
    state = after("BEGIN", "HEADERS", "WHOLE")
    assert not state.late(10, unread=True)
    assert not state.late(10 + ANSWER_S, unread=True)
    assert state.late(10.1 + ANSWER_S, unread=True)


def test_answer_is_not_late_while_its_reader_goes_on() -> None:
    """Whatever lies unread in all, and also when the connection is to be closed behind it."""
    for state in (after("BEGIN", "HEADERS", "WHOLE"), after("CLOSE")):
        written = 10 * ANSWER_S * limits.ANSWER_BYTES_PER_S_MIN
        for second in range(1, 5 * ANSWER_S):
            unread = written - second * limits.ANSWER_BYTES_PER_S_MIN
            assert not state.late(second, unread=unread, written=written)


def test_reader_that_takes_nothing_more_is_late_from_its_last_byte() -> None:
    state = after("CLOSE")
    written = 10**6
    for second in range(1, 2 * ANSWER_S):
        assert not state.late(second, unread=written - 2000 * second, written=written)
    unread = written - 2000 * second
    assert not state.late(second + ANSWER_S, unread=unread, written=written)
    late = state.late(second + ANSWER_S + 0.1, unread=unread, written=written)
    assert late == "ANSWER_DEADLINE_S"


def test_reader_of_a_few_bytes_a_second_is_late() -> None:
    """Though it never pauses, and though more answers are written meanwhile."""
    state = after("CLOSE")
    late = [
        (second, told)
        for second in range(1, 2 * ANSWER_S)
        if (told := state.late(second, unread=10**6 + 90 * second, written=10**6 + 100 * second))
    ]
    assert late[0] == (ANSWER_S + 2, "ANSWER_BYTES_PER_S_MIN")


def test_closed_connection_has_its_time_once_all_is_read() -> None:
    state = after("CLOSE")
    for second in range(1, 2 * ANSWER_S):
        assert not state.late(second, unread=10**6 - 9000 * second, written=10**6)
    assert not state.late(second, unread=0, written=10**6)
    assert not state.late(second + ANSWER_S, unread=0, written=10**6)
    assert state.late(second + ANSWER_S + 0.1, unread=0, written=10**6)


def test_answer_that_was_read_in_between_is_not_late() -> None:
    state = after("BEGIN", "HEADERS", "WHOLE")
    assert not state.late(10, unread=True)
    assert not state.late(20, unread=False)
    assert not state.late(21 + ANSWER_S, unread=True)


@pytest.mark.parametrize("events", ["", "BEGIN HEADERS WHOLE ANSWER", "BEGIN HEADERS ANSWER WHOLE"])
def test_stop_closes_what_has_been_quiet_for_the_grace(events: str) -> None:
    state = after(*events.split())
    began = len(events.split())
    assert not state.drain(began + GRACE_S, GRACE_S, unread=False)
    assert not closed(state)
    assert state.drain(began + GRACE_S + 0.1, GRACE_S, unread=False)
    assert closed(state)
    assert state.draining


@pytest.mark.parametrize(
    "events", ["BEGIN", "BEGIN HEADERS", "BEGIN HEADERS WHOLE", "BEGIN HEADERS ANSWER"]
)
def test_stop_leaves_a_request_its_time(events: str) -> None:
    state = after(*events.split())
    deadline = state.deadline
    assert not state.drain(9, GRACE_S, unread=False)
    assert (state.deadline, closed(state)) == (deadline, False)


def test_stop_shortens_a_farewell_once_all_is_read() -> None:
    state = after("CLOSE")
    state.drain(2, GRACE_S, unread=True)
    assert state.deadline == 1 + ANSWER_S
    state.drain(3, GRACE_S, unread=False)
    state.drain(4, GRACE_S, unread=False)
    assert state.deadline == 3 + FAREWELL_S


# --- any course of events, beside a reference that knows requests and no phases -------------------


class Request:
    """One of the reference's."""

    def __init__(self, *, whole: bool = False) -> None:
        self.headed = self.whole = whole
        self.answered = False


class Course(RuleBasedStateMachine):
    """The events that a parser and an application can bring, in any order and at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.state = ConnectionState(0.0)
        self.requests: list[Request] = []
        self.moved = 0.0  # when somebody last gave the peer time
        self.time_s: float = HEAD_S
        self.hears = True
        self.closed = False

    # What the reference tells of its requests.

    def at_hand(self) -> Request | None:
        last = self.requests[-1] if self.requests else None
        return last if last is not None and not last.whole else None

    def owed(self) -> list[Request]:
        return [each for each in self.requests if each.whole and not each.answered]

    def gives(self, time_s: float) -> None:
        self.moved, self.time_s = self.now, time_s

    def close_if_over(self) -> None:
        assert self.state.over == (not self.hears and not self.closed and not self.owed())
        if self.state.over:
            self.close()

    # What happens.

    @rule(wait_s=st.sampled_from([0.0, 0.1, 1.0, 9.0, 29.0, 74.0]))
    def wait(self, wait_s: float) -> None:
        self.now += wait_s

    @precondition(lambda self: self.hears and self.at_hand() is None)
    @rule()
    def begin(self) -> None:
        self.state.on(Event.BEGIN, self.now)
        self.requests.append(Request())
        self.gives(HEAD_S)

    @precondition(lambda self: self.state.resting)
    @rule()
    def at_once(self) -> None:
        assert self.hears
        assert self.at_hand() is None
        assert not self.owed()
        self.state.on(Event.AT_ONCE, self.now)
        self.requests.append(Request(whole=True))
        self.gives(IDLE_S)

    @precondition(lambda self: self.hears and self.at_hand() and not self.at_hand().headed)
    @rule(offers_upgrade=st.booleans())
    def headers(self, offers_upgrade: bool) -> None:
        if offers_upgrade:
            self.state.on(Event.WHOLE, self.now)
            self.state.on(Event.BEGIN, self.now)
        self.state.on(Event.HEADERS, self.now)
        self.requests[-1].headed = True
        self.gives(BODY_S)

    @precondition(lambda self: self.hears and self.at_hand() and self.at_hand().headed)
    @rule()
    def whole(self) -> None:
        self.state.on(Event.WHOLE, self.now)
        self.requests[-1].whole = True
        self.gives(IDLE_S)

    @precondition(lambda self: not self.hears)
    @rule(event=st.sampled_from([Event.BEGIN, Event.HEADERS, Event.WHOLE, Event.END]))
    def goes_on_after_the_end(self, event: Event) -> None:
        before = self.state.phase, self.state.owed, self.state.deadline
        assert self.state.on(event, self.now) is None
        assert (self.state.phase, self.state.owed, self.state.deadline) == before

    @precondition(lambda self: not self.closed and self.first_unanswered())
    @rule()
    def answer(self) -> None:
        request = self.first_unanswered()
        assert request is not None
        self.state.answered(self.now)
        request.answered = True
        if request.whole:
            self.moved = self.now
        self.close_if_over()

    def first_unanswered(self) -> Request | None:
        return next((each for each in self.requests if each.headed and not each.answered), None)

    @precondition(lambda self: self.hears)
    @rule()
    def end(self) -> None:
        effect = self.state.on(Event.END, self.now)
        request = self.at_hand()
        if request is None or not request.headed:
            assert effect is Effect.SAY
        else:
            assert effect is (None if request.answered else Effect.DROP)
        if request is not None:
            self.requests.pop()
        self.hears = False
        self.close_if_over()

    @rule()
    def close(self) -> None:
        self.state.on(Event.CLOSE, self.now)
        if not self.closed:
            self.gives(ANSWER_S)
        self.hears, self.closed = False, True

    @rule(unread=st.booleans())
    def drain(self, unread: bool) -> None:
        """What the server does every 20 ms once it stops."""
        quiet = self.hears and self.at_hand() is None and not self.owed()
        closes = self.state.drain(self.now, GRACE_S, unread=unread)
        assert closes == (quiet and self.now - self.moved > GRACE_S)
        if closes:
            self.close()
        if self.closed and not unread:
            self.time_s = min(self.time_s, self.now + FAREWELL_S - self.moved)

    # What is true at any time.

    @invariant()
    def knows_what_is_owed(self) -> None:
        assert self.closed or self.state.owed == len(self.owed())

    @invariant()
    def has_a_deadline_unless_an_answer_is_owed(self) -> None:
        waits = bool(self.owed()) and not self.closed
        assert (self.state.deadline == math.inf) == waits
        if not waits:
            assert self.state.deadline == pytest.approx(self.moved + self.time_s)

    @invariant()
    def hears_until_the_end(self) -> None:
        assert (self.state.phase in DEAF) == (not self.hears)
        assert (self.state.phase is Phase.CLOSED) == self.closed

    def teardown(self) -> None:
        """A server that stops has an end of it, even if no peer says a word more."""
        while not self.closed and self.first_unanswered() in self.owed():
            self.answer()
        began, bound_s = self.now, max(HEAD_S, BODY_S) + ANSWER_S
        while not self.state.late(self.now, unread=False):
            self.drain(unread=False)
            self.now += 0.5
            assert self.now - began <= bound_s


TestCourse = Course.TestCase


@pytest.mark.parametrize("bytes_per_s", [2 * limits.ANSWER_BYTES_PER_S_MIN, 1_000_000])
def test_the_time_between_two_requests_begins_when_the_answer_is_read(bytes_per_s: int) -> None:
    """However long that takes a peer that goes on reading."""
    size = 4 * limits.IDLE_S * bytes_per_s
    state = ConnectionState(0.0)
    state.on(Event.AT_ONCE, 1.0)
    state.answered(1.0)
    for taken_s in range(1, size // bytes_per_s + 1):
        unread = size - bytes_per_s * taken_s
        assert state.late(1.0 + taken_s, unread=unread, written=size) is None
    read_s = 1.0 + size // bytes_per_s
    assert state.late(read_s + limits.IDLE_S - 2, unread=0, written=size) is None
    assert state.late(read_s + limits.IDLE_S + 2, unread=0, written=size) == "IDLE_S"
