"""A time in which a page can't be had: how long it is waited out, and who is told.

The logger `pullstatus` gets one line when such a time begins and one when it ends well; how it ends
otherwise says the exception. A hook hears of each attempt that failed and is repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from pullstatus.client.errors import AnswerMalformed, ClientError
from pullstatus.client.pauses import Pauses

__all__ = ["RETRY_AFTER_S_MAX", "OnRetry", "Outage", "Patience"]

RETRY_AFTER_S_MAX: Final = 120.0
"""Seconds of a `Retry-After` that are obeyed; a peer must not be able to park us for a day."""

OnRetry: TypeAlias = Callable[[ClientError, int, float], object]
"""Called with what an attempt failed of, its number from 1 on, and the seconds until the next."""

log = logging.getLogger("pullstatus")


class Patience(msgspec.Struct, frozen=True):
    """How long one page is asked for.

    Attributes:
        attempts_max: how often at most.
        endless: rather than that, wait out whatever a repeat can mend and cannot lose.
        give_up_after_s: but no longer than so many seconds; None is without end.
        long_poll_s: for how many seconds an empty mailbox may hold each attempt.
    """

    attempts_max: int
    endless: bool = False
    give_up_after_s: float | None = None
    long_poll_s: int = 0


class Outage:
    """The failed attempts at one page, from the first on; none yet.

    Args:
        where: what is asked for and of whom, for the log.
        clock: Unix seconds. It may stand still, or be set: the pauses count, too.
    """

    def __init__(
        self,
        where: str,
        patience: Patience,
        pauses: Pauses,
        clock: Callable[[], float],
        on_retry: OnRetry | None,
    ) -> None:
        self._where = where
        self._patience = patience
        self._pauses = pauses
        self._clock = clock
        self._on_retry = on_retry
        self._attempt = 0
        self._began_s = 0.0
        self._paused_s = 0.0

    def pause_s(self, error: ClientError, *, in_doubt: bool) -> float | None:
        """Seconds to wait before the next attempt; None to give up.

        Args:
            in_doubt: nobody knows whether a repeat would bring a page again. It is found out, but
                not for ever.
        """
        self._attempt += 1
        if self._attempt == 1:
            self._began_s = self._clock()
        pause_s = max(self._pauses.next_s(), min(error.retry_after_s or 0, RETRY_AFTER_S_MAX))
        # What can't be read is no absence: somebody has to look at it.
        if self._patience.endless and not in_doubt and not isinstance(error, AnswerMalformed):
            if self._patience.give_up_after_s is not None:
                pause_s = min(pause_s, self._patience.give_up_after_s - self._lasted_s())
                if pause_s <= 0:
                    return None
        elif self._attempt >= self._patience.attempts_max:
            return None
        if self._attempt == 1:
            log.warning("%s: %s; trying again", self._where, error.what)
        if self._on_retry is not None:
            self._on_retry(error, self._attempt, pause_s)
        self._paused_s += pause_s
        return pause_s

    def end(self) -> None:
        """An attempt went well."""
        if self._attempt:
            log.warning(
                "%s: answered again, at attempt %d, after %.1f s",
                self._where,
                self._attempt + 1,
                self._lasted_s(),
            )

    def _lasted_s(self) -> float:
        return max(self._paused_s, self._clock() - self._began_s)
