"""The loop of `pullstatus pull`: note the key, ask, write, and only then the next."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

from pullstatus import Client, ClientError, Page, limits
from pullstatus.cli.pull_targets import InFlight, Target
from pullstatus.client.flow import IDLE_S, RETRY_S
from pullstatus.client.pauses import Pauses
from pullstatus.client.records import Record
from pullstatus.errors import StoreRefused
from pullstatus.records import Kind


class Watcher(Protocol):
    """Who is told what goes on."""

    def page(self, page: Page[Record]) -> None:
        """A page is on disk."""

    def warn(self, text: str) -> None:
        """Something that a person should know."""


def pull_into(
    target: Target,
    client: Client,
    kind: Kind,
    count_max: int,
    *,
    follow: bool,
    abandon: bool,
    watcher: Watcher,
    clock: Callable[[], float],
    sleep: Callable[[float], object],
    random: Random,
) -> None:
    """Empty a mailbox into a target; with `follow`, for ever.

    Raises:
        ClientError: a page could not be had. Unless it `may_have_consumed`, the next run goes on
            without a loss; then too, if the service knows Idempotency-Key.
        StoreRefused: the target can't be gone on with; the text says what to do.
        StoreFailed: the target could not be written; the next run goes on without a loss.
    """
    idle, again = Pauses(*IDLE_S, random), Pauses(*RETRY_S, random)
    in_flight = _left_over(target, abandon=abandon, watcher=watcher, now_s=clock())
    resumed = in_flight is not None
    while True:
        if in_flight is None:
            in_flight = InFlight(f"{random.getrandbits(128):032x}", count_max, clock())
            target.ask(in_flight)
        try:
            page = client.pull(kind, max=in_flight.count_max, key=in_flight.key)
        except ClientError as error:
            if follow and error.retry_can_help and (client.keyed or not error.may_have_consumed):
                watcher.warn(str(error))
                sleep(again.next_s())
                continue
            if error.may_have_consumed and client.keyed is False:
                target.rest()  # the page is gone or was never taken; a repeat could bring another
            raise
        again.reset()
        if resumed and not page.keyed:
            watcher.warn(LOST.format(count=in_flight.count_max))
        target.settle(page)
        in_flight, resumed = None, False
        watcher.page(page)
        if page.waiting or (page and page.waiting is None):
            continue
        target.rest()
        if not follow:
            return
        if page:
            idle.reset()
        sleep(idle.next_s())


LOST = (
    "the last run ended in the middle of a page, and the service does not know Idempotency-Key:"
    " up to {count} records may be lost"
)


def _left_over(target: Target, *, abandon: bool, watcher: Watcher, now_s: float) -> InFlight | None:
    """The page to ask for again, if the last run left one that can be asked for."""
    left = target.in_flight
    if left is None:
        return None
    if target.keyed is False:
        watcher.warn(LOST.format(count=left.count_max))
        target.give_up()
        return None
    if abandon:
        watcher.warn(f"page {left.key} is not asked for again; the service's journal may have it")
        target.give_up()
        return None
    if now_s - left.asked_s > limits.PULL_KEY_S:
        raise StoreRefused(
            f"a page was asked for {(now_s - left.asked_s) / 3600:.0f} hours ago, and the service"
            f" keeps it under its key for {limits.PULL_KEY_S // 3600}. Ask the operator to look"
            f" with `pullstatus pulls list --key {left.key}` and to redeliver what is found; then"
            " go on with --abandon-page"
        )
    return left
