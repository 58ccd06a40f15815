"""The loop of `pullstatus pull`: note the key, ask, write, and only then the next."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

from pullstatus import Client, ClientError, Page, limits
from pullstatus.client.flow import IDLE_S, RETRY_S
from pullstatus.client.keys import NextPage
from pullstatus.client.pauses import Pauses
from pullstatus.client.records import Record
from pullstatus.consumer.targets import Target
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

    A key is kept until it has brought a page: over empty ones, failures, and the ends of runs.

    Raises:
        ClientError: a page could not be had. Unless it `may_have_consumed`, the next run goes on
            without a loss; then too, if the service knows Idempotency-Key.
        StoreRefused: the target can't be gone on with; the text says what to do.
        StoreFailed: the target could not be written; the next run goes on without a loss.
    """
    idle, again = Pauses(*IDLE_S, random), Pauses(*RETRY_S, random)
    owed = _left_over(target, count_max, abandon=abandon, watcher=watcher)
    resumed = owed is not None and owed.in_flight
    said = ""
    while True:
        owed = owed or NextPage.new(f"{random.getrandbits(128):032x}", count_max)
        now_s = clock()
        asked = owed.ask(now_s)
        _refuse_forgotten(asked, now_s)
        target.ask(asked)
        try:
            page = client.pull(kind, max=asked.count_max, key=asked.key)
        except ClientError as error:
            if error.may_have_consumed:
                owed = asked
            if follow and error.retry_can_help and (client.keyed or not error.may_have_consumed):
                pause_s = again.next_s()
                what = "the same again" if str(error) == said else str(error)
                watcher.warn(f"{what}; the next attempt is in {pause_s:.0f} s")
                said = str(error)
                sleep(pause_s)
                continue
            if client.keyed is False:
                target.rest()  # the page is gone or was never taken; a repeat could bring another
            elif not owed.in_flight:
                target.rest(owed)
            raise
        again.reset()
        said = ""
        if resumed and not page.keyed:
            watcher.warn(LOST.format(count=asked.count_max))
        target.settle(page)
        resumed = False
        watcher.page(page)
        if page:
            owed = None
            idle.reset()
            if page.waiting != 0:
                continue
        else:
            owed = (asked if page.in_doubt else owed).empty(now_s) if page.keyed else None
        target.rest(owed)
        if not follow:
            return
        sleep(idle.next_s())


LOST = (
    "the last run ended in the middle of a page, and the service does not know Idempotency-Key:"
    " up to {count} records may be lost"
)


def _left_over(
    target: Target, count_max: int, *, abandon: bool, watcher: Watcher
) -> NextPage | None:
    """The page to ask for, if the last run left one that can be asked for."""
    left = target.next_page
    if left is None or not left.in_doubt:
        return None if left is None else left.sized(count_max)
    if target.keyed is False:
        watcher.warn(LOST.format(count=left.count_max))
        target.give_up()
        return None
    if abandon:
        watcher.warn(f"page {left.key} is not asked for again; the service's journal may have it")
        target.give_up()
        return None
    return left


def _refuse_forgotten(page: NextPage, now_s: float) -> None:
    if page.asked_s is not None and page.forgotten(now_s):
        raise StoreRefused(
            f"a page was asked for {(now_s - page.asked_s) / 3600:.0f} hours ago, and the service"
            f" keeps it under its key for {limits.PULL_KEY_S // 3600}. Ask the operator to look"
            f" with `pullstatus pulls list --key {page.key}` and to redeliver what is found; then"
            " go on with --abandon-page"
        )
