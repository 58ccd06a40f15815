"""The two ways to ask for a page so that it comes again if this process ends: by reader, by key.

A way knows what is noted when, and what is done with a page that came. When to ask, to wait and to
end is `run`'s. Between two pages, when none may be in flight, one way may give place to the other:
a service is updated, or it is another one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from pullstatus import Client, ClientError, Page, limits
from pullstatus.client.errors import NotConnected, ReaderUnsupported
from pullstatus.client.flow import LONG_POLL_S, was_held
from pullstatus.client.keys import NextPage
from pullstatus.client.outage import OnRetry
from pullstatus.client.records import Record
from pullstatus.consumer.targets import Target
from pullstatus.errors import StoreRefused
from pullstatus.records import Kind
from pullstatus.wire.about import Feature


class Watcher(Protocol):
    """Who is told what goes on."""

    def page(self, page: Page[Record]) -> None:
        """A page is on disk."""

    def warn(self, text: str) -> None:
        """Something that a person should know."""


class Connect(Protocol):
    """Makes a client of the service."""

    def __call__(
        self,
        *,
        reader: str | None = None,
        keyed: bool | None = None,
        on_retry: OnRetry | None = None,
    ) -> Client:
        """One with these arguments."""


@dataclass(frozen=True)
class Job:
    """What is to be pulled, and where to.

    reader   the name to read under, if somebody has chosen one
    abandon  give up the page that was in flight when the last run ended
    """

    target: Target
    connect: Connect
    kind: Kind
    count_max: int
    reader: str | None
    follow: bool
    abandon: bool
    watcher: Watcher
    clock: Callable[[], float]
    random: Random


class Way(Protocol):
    """How pages are asked for."""

    def better(self) -> Way:
        """This way, or the one that the service turns out to offer instead.

        Raises:
            ClientError: that can't be known now; nothing was taken.
        """

    def pull(self) -> Page[Record]:
        """Ask for a page, once what brings it again is on disk.

        Raises:
            ClientError: it could not be had.
            StoreRefused: the target can't be gone on with; the text says what to do.
        """

    def settle(self, page: Page[Record]) -> None:
        """Have it on disk, and note what that leaves in flight."""

    def may_be_last(self, page: Page[Record]) -> bool:
        """Whether all that waited is on disk with this page, and nothing is left to be said."""

    def may_ask_at_once(self, took_s: float) -> bool:
        """Whether to ask again without a pause, behind a last page that took so long to come."""

    def may_repeat(self, error: ClientError) -> bool:
        """Whether asking again loses nothing."""

    def failed(self, error: ClientError) -> None:
        """Note what an attempt that failed leaves in flight."""

    def leave(self) -> None:
        """Note that nothing is in flight, if the last attempt has surely taken nothing."""

    def close(self) -> None:
        """Close the connections: nothing is left to be said on them."""


def first_way(job: Job) -> Way:
    """The way to begin with: a page that may have been taken under a key comes by that key."""
    known = job.target.known
    if known.key_in_doubt is None and (known.reader or job.reader):
        return ByReader(job)
    return ByKey(job)


# --- by reader ------------------------------------------------------------------------------------

NOT_IN_HAND: Final = (
    'the service says "{said}" of page {written}, the last one written here. A page was taken from'
    " the hand of reader {reader} (`pullstatus readers release`), another program pulls under its"
    " name, the service was restored from a backup, and what it had handed out since may come"
    " again, or this is another service. It goes on with what is there"
)
CUT_OFF: Final = (
    "page {writing}, of which a part may be written, is not in the hand of reader {reader} any"
    " more: what is written of it stays, and the next page stands behind it; the service's journal"
    " has that page (`pullstatus pulls show`)"
)


class ByReader:
    """Under this target's own name: the service keeps the page until it is told that it is written.

    The name is on disk before anything is asked for. Each pull acknowledges the page that was
    written last, so nothing else has to be noted before it. That a page may be in hand is noted all
    the same, for other targets of the mailbox (`refuse_left_behind`), unless the mailbox was empty
    a moment ago: then before the first page that comes is written.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        known = job.target.known
        self._name = job.reader or known.reader or f"pull-{job.random.getrandbits(64):016x}"
        self._client = job.connect(reader=self._name, on_retry=self._retried)
        self._owed = self._left_over()
        self._asked = self._owed
        self._emptied = False  # by the last pull
        self._unacknowledged = False  # a page is written, and no pull has told so yet
        self._late = False  # an attempt of this pull has had no answer
        self._told = False  # what the service offers
        self._holds = False  # pulls of an empty mailbox
        self._long_poll_s = 0

    def better(self) -> Way:
        """As `Way` says: by key, if that is all that the service offers and nothing is in hand."""
        if self._told:
            return self
        features = self._client.features()
        self._told = features is not None
        if features is None or Feature.READER in features:
            self._holds = Feature.WAIT in (features or ())
            return self
        if self._job.reader or self._owed.in_doubt:
            raise ReaderUnsupported(
                "the service does not say by GET / that it knows readers, so nothing was pulled"
                f" (this target is reader {self._name})",
                fix="if a proxy stands before a pullstatus server, let GET / through; if it is"
                " another service for good, --abandon-page gives up what is in the reader's hand",
            )
        self.close()
        return ByKey(self._job, features)

    def pull(self) -> Page[Record]:
        """As `Way` says."""
        job = self._job
        job.target.read_as(self._name)
        self._asked, self._late = self._owed.ask(job.clock()), False
        self._long_poll_s = LONG_POLL_S if job.follow and self._emptied else 0
        if not self._emptied:
            self._note()
        return self._client.pull(
            job.kind,
            max=job.count_max,
            ack=job.target.known.written,
            long_poll_s=self._long_poll_s,
        )

    def settle(self, page: Page[Record]) -> None:
        """As `Way` says."""
        target = self._job.target
        self._compare(page)
        if page:
            self._note()
            target.settle(page)
            self._owed = NextPage.new("", self._job.count_max)
            self._unacknowledged = True
        else:
            asked = self._asked if self._late else self._owed
            self._owed = asked.empty(self._job.clock())
            self._unacknowledged = False
            self._rest()
        self._emptied = not page

    def may_be_last(self, page: Page[Record]) -> bool:
        """An empty one: the pull that brought it has acknowledged the page before."""
        return not page

    def may_ask_at_once(self, took_s: float) -> bool:
        """If the service has held this pull, or will hold the next."""
        return was_held(took_s, self._long_poll_s) if self._long_poll_s else self._holds

    def may_repeat(self, error: ClientError) -> bool:  # noqa: ARG002 - whatever it is
        """Always: the service keeps the page."""
        return True

    def failed(self, error: ClientError) -> None:
        """As `Way` says."""
        if error.may_have_consumed and not self._late:
            self._late = True
            self._note()

    def leave(self) -> None:
        """As `Way` says."""
        if not (self._late or self._unacknowledged or self._owed.in_flight):
            self._rest()

    def close(self) -> None:
        """As `Way` says."""
        self._client.close()

    def _left_over(self) -> NextPage:
        """What the last run left in flight to this reader: the service has it, unless given up."""
        job, known = self._job, self._job.target.known
        left = known.next_page
        if left is None or left.key or not left.in_doubt:
            return NextPage.new("", job.count_max)
        if not job.abandon:
            return left
        if known.writing:
            job.watcher.warn(
                f"page {known.writing} is not written to its end; the service's journal has it"
            )
        job.target.give_up()
        return NextPage.new("", job.count_max)

    def _compare(self, page: Page[Record]) -> None:
        """Hold what came against what was to come, and say what has happened."""
        job, known = self._job, self._job.target.known
        if page.ack_refused:
            said = NOT_IN_HAND.format(
                written=known.written, said=page.ack_refused, reader=self._name
            )
            job.watcher.warn(said)
            job.target.forget()
        if known.writing is not None and known.writing != page.pull_id:
            if known.writing:
                job.watcher.warn(CUT_OFF.format(writing=known.writing, reader=self._name))
            job.target.give_up()
        if page and page.pull_id is not None and page.pull_id == job.target.known.written:
            raise ReaderUnsupported(
                f"page {page.pull_id} comes again although it was acknowledged",
                fix="it is written once; look for what drops Pullstatus-Ack on the way",
            )

    def _retried(self, error: ClientError, _attempt: int, _pause_s: float) -> None:
        self.failed(error)

    def _note(self) -> None:
        noted = self._job.target.known.next_page
        if noted is None or not noted.in_flight:
            self._job.target.ask(self._asked)

    def _rest(self) -> None:
        kept = self._owed if self._owed.in_doubt else None
        if self._job.target.known.next_page != kept:
            self._job.target.rest(kept)


# --- by key ---------------------------------------------------------------------------------------

LOST: Final = (
    "the last run ended in the middle of a page, and the service does not know Idempotency-Key:"
    " up to {count} records may be lost"
)


class ByKey:
    """Under a key that is on disk before the page is asked for.

    A key is kept until it has brought a page: over empty ones, failures, and the ends of runs.
    """

    def __init__(self, job: Job, features: frozenset[str] | None = None) -> None:
        """`features`: what the service offers, if that is known by now."""
        self._job = job
        # One that says nothing of keys any more may be another service, or an older version.
        forgets = features is not None and Feature.IDEMPOTENCY_KEY not in features
        self._client = job.connect(keyed=None if forgets else job.target.known.keyed)
        self._owed = _left_over(job)
        self._resumed = self._owed is not None and self._owed.in_flight
        self._curious = features is None  # what the service offers by now

    def better(self) -> Way:
        """As `Way` says: by reader, as soon as no page may be in flight under a key."""
        target = self._job.target
        if not self._curious or (self._owed is not None and self._owed.in_doubt):
            return self
        if self._job.reader is None and Feature.READER not in (self._client.features() or ()):
            self._curious = False
            return self
        if target.known.next_page is not None:
            target.rest()
        self.close()
        return ByReader(self._job).better()

    def pull(self) -> Page[Record]:
        """As `Way` says."""
        job = self._job
        self._now_s = job.clock()
        self._owed = self._owed or NextPage.new(
            f"{job.random.getrandbits(128):032x}", job.count_max
        )
        self._asked = self._owed.ask(self._now_s)
        _refuse_forgotten(self._asked, self._now_s)
        job.target.ask(self._asked)
        return self._client.pull(job.kind, max=self._asked.count_max, key=self._asked.key)

    def settle(self, page: Page[Record]) -> None:
        """As `Way` says."""
        job = self._job
        if self._resumed and not page.keyed:
            job.watcher.warn(LOST.format(count=self._asked.count_max))
        job.target.settle(page)
        self._resumed = False
        if page:
            self._owed = None
        elif self._owed is not None:
            owed = self._asked if page.in_doubt else self._owed
            self._owed = owed.empty(self._now_s) if page.keyed else None
            self._curious = self._curious or page.keyed
        if self.may_be_last(page):
            job.target.rest(self._owed)

    def may_be_last(self, page: Page[Record]) -> bool:
        """As `Way` says."""
        return not page or page.waiting == 0

    def may_ask_at_once(self, took_s: float) -> bool:  # noqa: ARG002 - however long
        """No: these pulls are not held."""
        return False

    def may_repeat(self, error: ClientError) -> bool:
        """As `Way` says: the same page comes again, or nothing was consumed."""
        return bool(self._client.keyed or not error.may_have_consumed)

    def failed(self, error: ClientError) -> None:
        """As `Way` says."""
        if error.may_have_consumed:
            self._owed = self._asked
        if isinstance(error, NotConnected):  # whoever comes there next may be a newer version
            self.close()
            self._client = self._job.connect(keyed=self._client.keyed)
            self._curious = True

    def leave(self) -> None:
        """As `Way` says."""
        if self._client.keyed is False:
            # The page is gone or was never taken; a repeat could bring another.
            self._job.target.rest()
        elif self._owed is not None and not self._owed.in_flight:
            self._job.target.rest(self._owed)

    def close(self) -> None:
        """As `Way` says."""
        self._client.close()


def _left_over(job: Job) -> NextPage | None:
    """The page to ask for, if the last run left one that can be asked for."""
    target, left = job.target, job.target.known.next_page
    if left is None or not left.key:
        return None
    if not left.in_doubt:
        return left.sized(job.count_max)
    if target.known.keyed is False:
        job.watcher.warn(LOST.format(count=left.count_max))
        target.give_up()
        return None
    if job.abandon:
        job.watcher.warn(
            f"page {left.key} is not asked for again; the service's journal may have it"
        )
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
