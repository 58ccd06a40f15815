"""The loop of `pullstatus pull`: ask, write, and only then the next."""

from __future__ import annotations

from collections.abc import Callable

from pullstatus import ClientError
from pullstatus.client.flow import IDLE_S, RETRY_S
from pullstatus.client.pauses import Pauses
from pullstatus.consumer.ways import Job, first_way


def pull_into(job: Job, sleep: Callable[[float], object]) -> None:
    """Empty a mailbox into a target; to follow it, for ever.

    Raises:
        ClientError: a page could not be had. The next run goes on without a loss, unless it
            `may_have_consumed` one and the service knows neither readers nor Idempotency-Key.
        StoreRefused: the target can't be gone on with; the text says what to do.
        StoreFailed: the target could not be written; the next run goes on without a loss.
    """
    idle, again = Pauses(*IDLE_S, job.random), Pauses(*RETRY_S, job.random)
    way = first_way(job)
    said = ""
    while True:
        began_s = job.clock()
        try:
            way = way.better()
            page = way.pull()
        except ClientError as error:
            way.failed(error)
            if not (job.follow and error.retry_can_help and way.may_repeat(error)):
                way.leave()
                raise
            pause_s = again.next_s()
            what = "the same again" if str(error) == said else str(error)
            job.watcher.warn(f"{what}; the next attempt is in {pause_s:.0f} s")
            said = str(error)
            sleep(pause_s)
            continue
        again.reset()
        said = ""
        took_s = job.clock() - began_s
        way.settle(page)
        job.watcher.page(page)
        if not way.may_be_last(page):
            idle.reset()
        elif not job.follow:
            way.close()
            return
        elif way.may_ask_at_once(took_s):
            idle.reset()
        else:
            sleep(idle.next_s())
