"""What the server counts since it started.

The hot calls add to plain numbers; `metrics` makes the text of them when somebody asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import product
from typing import Any

from pullstatus import limits
from pullstatus.durations import Durations
from pullstatus.receipts.source import builtin
from pullstatus.records import Kind
from pullstatus.server.replays import Replays
from pullstatus.wire.api3.codes import Code
from pullstatus.wire.v5.codes import Result

CALLS = ("pull", "ingest", "callbacks", "in")
DOORS = CALLS[1:]
ITEMS = ("stored", "parked", "pending", "repeat", "intermediate", "dropped")
OTHER = "other"
"""Stands for all sources that are not ours: operators may have any number of them."""

TIMED = (*CALLS, "question", "api3")
STATUSES = (200, 400, 401, 403, 404, 405, 413, 415, 422, 500, 503)
RESULTS = (
    Result.OK,
    Result.SIG_MISMATCH,
    Result.SIG_MISSING,
    Result.BAD_REQUEST,
    Result.NOT_PERMITTED,
    Result.OTHER,
    Result.ADDRESS_REFUSED,
    Result.UNKNOWN_SDKAPPID,
    Result.DISABLED,
    Result.TIME_SKEW,
    Result.IN_ARREARS,
    Result.TOO_FREQUENT,
    Result.BAD_HTTP,
    Result.SDKAPPID_MISSING,
)

QUESTIONS = {
    "pullstatus4mobile": (*RESULTS, Result.BAD_MOBILE),
    "pullsendstatus": (*RESULTS, Result.NOT_SUPPORTED),
    "pullcallbackstatus": RESULTS,
}
"""What the calls that ask and take nothing may answer."""

REFUSALS = (200, 400, 404, 405, 414, 431, 500, 503)
"""Statuses of what no call answers: 200 is an unknown call of v5, which says so in its result."""
DEADLINES = (
    "HEADER_DEADLINE_S",
    "BODY_DEADLINE_S",
    "BODY_BYTES_PER_S_MIN",
    "IDLE_S",
    "ANSWER_DEADLINE_S",
    "ANSWER_BYTES_PER_S_MIN",
    "DRAIN_DEADLINE_S",
)

WRONG = ("signature", "application", "token", "secret")
"""What a failed try can have wrong: the signature, the number of an application, a token, or the
SecretId of a pair."""


class Figures:
    """Counts since the server started.

    Every series that can come is there from the start, at 0: what is born with its first value
    shows no increase, and an alarm that waits for one stays silent.
    """

    def __init__(self, replays: Replays | None = None) -> None:
        """All counts are 0.

        Args:
            replays: finds signatures that came before; it may know those of other processes.
        """
        self.records_in: Counter[Kind] = Counter(dict.fromkeys(Kind, 0))
        self.repaired: Counter[Kind] = Counter(dict.fromkeys(Kind, 0))
        self.parked = 0
        self.records_out: Counter[Kind] = Counter(dict.fromkeys(Kind, 0))
        self.pulls: Counter[int] = Counter(dict.fromkeys(map(int, RESULTS), 0))
        self.pulls_dropped = 0
        self.questions: Counter[tuple[str, int]] = Counter(
            {(call, int(result)): 0 for call, results in QUESTIONS.items() for result in results}
        )
        self.api3: Counter[str] = Counter(dict.fromkeys(("", *Code), 0))
        self.replays = replays or Replays(limits.REPLAYS_KNOWN)
        self.pages_given_again = 0
        self.unanswered: Counter[str] = Counter(dict.fromkeys((*CALLS, "api3"), 0))
        self.source_items: Counter[tuple[str, str]] = Counter(
            dict.fromkeys(product((*builtin(), OTHER), ITEMS), 0)
        )
        self.batches: Counter[tuple[str, int]] = Counter(dict.fromkeys(product(DOORS, STATUSES), 0))
        self.batches_dropped: Counter[str] = Counter(dict.fromkeys(DOORS, 0))
        self.failed_tries: Counter[str] = Counter(dict.fromkeys(WRONG, 0))
        self.failed_tries_late = 0
        self.mended = self.writes_unanswered = 0
        self.behind_s = 0.0  # of the one process that follows
        self.refused: Counter[int] = Counter(dict.fromkeys(REFUSALS, 0))
        self.cut: Counter[str] = Counter(dict.fromkeys(DEADLINES, 0))
        self.seconds = {call: Durations() for call in TIMED}

    @property
    def timed(self) -> int:
        """How many calls of `TIMED` were answered."""
        return sum(sum(taken.counts) for taken in self.seconds.values())

    def counts(self) -> dict[str, Any]:
        """All of them as plain values, for another process to `add`."""
        return {**vars(self), "replays": self.replays.total}

    def add(self, counts: Mapping[str, Any]) -> None:
        """Count also what another process has counted."""
        for name, value in counts.items():
            own = getattr(self, name)
            if isinstance(own, Replays):
                own.total += value
            elif isinstance(own, Counter):
                own.update(value)
            elif isinstance(own, dict):
                for call, taken in value.items():
                    own[call].include(taken)
            else:
                setattr(self, name, own + value)
