"""Pulling under a reader's name: the service keeps a page in this reader's hand until it is told.

    pull                    -> page 1, in hand
    (the application acknowledges)
    pull, acknowledging 1   -> page 2, in hand
    (killed)
    pull                    -> page 2 again
    (the application acknowledges)
    close, acknowledging 2

Nothing is kept on this side but the name of the page that was acknowledged last, until the service
knows. So whatever fails is asked for again, and whoever comes next under the same name goes on.
Source: protocol.md section 7.5.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final, Unpack

import msgspec

from pullstatus import limits
from pullstatus.client.arguments import check_long_poll, check_max
from pullstatus.client.errors import (
    CallInvalid,
    ClientError,
    InvalidArgument,
    NotConnected,
    ReaderUnsupported,
    shown,
)
from pullstatus.client.exchange import Flow, Wait, send
from pullstatus.client.faces import Face
from pullstatus.client.flow import Puller, PullerOptions, log, whole
from pullstatus.client.keys import Claim, Claims, Holder, NextPage
from pullstatus.client.pages import Page
from pullstatus.client.reading import Found, not_the_service
from pullstatus.client.records import Record
from pullstatus.records import Kind
from pullstatus.wire.about import Feature, read_features
from pullstatus.wire.repeats import READER

LAST_WORDS_MAX: Final = 2
"""How often an acknowledgement is sent at the end. The first may meet a connection that the service
has closed for being idle; a process that is asked to stop has no time for more."""


class Hands(Claims):
    """What is in this reader's hands: of each kind one page at most, and what is done with.

    Attributes:
        acks: of each kind, the page that the application has acknowledged and that the service has
            not been told of.
    """

    def __init__(self) -> None:
        super().__init__(lambda: "")
        self.acks: dict[Kind, str] = {}

    def take(
        self, holder: Holder, kind: Kind, count_max: int, key: str | None, *, keep: bool = False
    ) -> Claim:
        """As `Claims` says; of this size, for a page in hand comes as it is whatever is asked."""
        claim = super().take(holder, kind, count_max, key, keep=keep)
        claim.next = msgspec.structs.replace(claim.next, count_max=count_max)
        return claim

    def acknowledge(self, kind: Kind, pull_id: str) -> None:
        """A caller has done with the page of this name."""
        with self._lock:
            self._refuse_forsaken()
            self._claims = [
                claim
                for claim in self._claims
                if claim.kind is not kind or claim.page is None or claim.page.pull_id != pull_id
            ]
            self.acks[kind] = pull_id

    def told(self, kind: Kind, pull_id: str | None) -> None:
        """The service knows of it, or wants to hear no more of it."""
        with self._lock:
            if pull_id is not None and self.acks.get(kind) == pull_id:
                del self.acks[kind]

    def forget(self, claim: Claim) -> None:
        """Its page went to a caller who acknowledges it by name."""
        with self._lock:
            self._claims.remove(claim)

    def forsake(self) -> None:
        """In a forked process: what is in hand is the parent's, and so is telling of it."""
        used = bool(self._claims or self.acks) or self.forsaken
        super().forsake()
        self.acks = {}
        self.forsaken = used

    def _find(self, kind: Kind, key: str | None) -> Claim | None:
        self._refuse_forsaken()
        found = super()._find(kind, key)
        if found is None and any(claim.kind is kind for claim in self._claims):
            raise InvalidArgument(
                "another caller of this client has this reader's page in hand, and there is one"
                " at a time",
                fix="wait until it is acknowledged, or make a client with a reader of another name",
            )
        return found

    def _refuse_forsaken(self) -> None:
        if self.forsaken:
            raise InvalidArgument(
                "this client has pulled under its reader's name in the process that this one was"
                " forked from",
                fix="make a client here, with a reader of another name if both go on: under one"
                " name they are handed the same pages",
            )

    def _settled(self, claim: Claim) -> None:
        if claim.page is not None and claim.page.pull_id is not None:
            self.acks[claim.kind] = claim.page.pull_id


class ReaderPuller(Puller):
    """A `Puller` of one reader."""

    acknowledges: ClassVar[bool] = True
    claims: Hands

    def __init__(
        self,
        base_url: str,
        face: Face,
        reader: str,
        **options: Unpack[PullerOptions],
    ) -> None:
        super().__init__(base_url, face, keyed=None, **options)
        self._reader = check_reader(reader)
        self.claims = Hands()
        self._unheard = False  # a page came that was not given to this reader

    def __repr__(self) -> str:
        return f"{super().__repr__()}, reader={self._reader!r}"

    def check_key(self, key: str | None) -> str | None:
        """None: a reader has no keys (InvalidArgument)."""
        if key is not None:
            raise InvalidArgument(
                "key is for clients without a reader: this one's page comes again by itself"
            )
        return None

    def pull(
        self, kind: Kind, count_max: int, key: str | None, ack: str | None, long_poll_s: int
    ) -> Flow[Page[Record]]:
        """The page in hand; or the next one, when the one in hand is the one acknowledged."""
        check_max(count_max)
        check_long_poll(long_poll_s)
        self.check_key(key)
        if ack is not None:
            self.claims.acknowledge(kind, _check_pull_id(ack))
        with Holder() as holder:
            claim = self.claims.take(holder, kind, count_max, None)
            page = yield from self.ask(claim, self.patience(long_poll_s=long_poll_s))
            if page:
                self.claims.forget(claim)
            return page

    def close(self) -> Flow[None]:
        """Tell of what was acknowledged since the last pull; if that can't be, it comes again."""
        for kind, ack in [] if self._unheard else list(self.claims.acks.items()):
            claim = Claim(kind, NextPage.new("", 1))
            try:
                yield from self._tell(claim, ack)
            except CallInvalid as refused:
                self._drop(kind, ack, refused)
            except ClientError as error:
                log.warning(
                    "%s: page %s was done with, and will come again: %s",
                    self._where(kind.path),
                    ack,
                    error.what,
                )
            else:
                self.claims.told(kind, ack)
        yield from super().close()

    def _tell(self, claim: Claim, ack: str) -> Flow[None]:
        pauses = self.pauses()
        for attempt in range(1, LAST_WORDS_MAX + 1):
            try:
                yield from self._look()
                yield from self._send_as_reader(claim, ack, 0, takes=False)
                return
            except ClientError as error:
                if attempt == LAST_WORDS_MAX or not error.retry_can_help:
                    raise
            yield Wait(pauses.next_s())

    def _attempt(self, claim: Claim, long_poll_s: int) -> Flow[Page[Record]]:
        ack = self.claims.acks.get(claim.kind)
        try:
            found = yield from self._send_as_reader(claim, ack, long_poll_s)
        except CallInvalid as refused:
            if ack is None:
                raise
            self._drop(claim.kind, ack, refused)
            claim.ack_refused = refused.errmsg
            ack = None
            found = yield from self._send_as_reader(claim, None, long_poll_s)
        self.claims.told(claim.kind, ack)
        page = self._page(claim, found)
        claim.ack_refused = ""
        return page

    def _drop(self, kind: Kind, ack: str, refused: CallInvalid) -> None:
        """It was taken from this hand, by an operator or a restore, or is acknowledged already."""
        log.warning(
            "%s: page %s, which was done with, is not in hand any more (%s)",
            self._where(kind.path),
            ack,
            shown(refused.errmsg),
        )
        self.claims.told(kind, ack)

    def _send_as_reader(
        self, claim: Claim, ack: str | None, long_poll_s: int, *, takes: bool = True
    ) -> Flow[Found]:
        words = {"Pullstatus-Reader": self._reader}
        if ack is not None:
            words["Pullstatus-Ack"] = ack
        if not takes:
            words["Pullstatus-Take"] = "0"
        now_s = self.clock()
        before = claim.next
        claim.next = before.ask(now_s)
        try:
            found = yield from self._send(claim, words, now_s, long_poll_s)
        except ClientError as error:
            if not error.may_have_consumed:
                claim.next = before
            if isinstance(error, NotConnected):
                # Whoever comes there next may be an older version.
                self.features, self._told = frozenset(), False
            raise
        if found.reader == self._reader:
            # However the attempts before ended, this answer shows what is in hand: no doubt is
            # left, not even of one that is late, since whatever that takes comes with the next.
            claim.next = NextPage.new("", before.count_max)
            if found.records and found.pull_id is None:
                raise _unheard("the answer names no page, so that it can't be acknowledged")
        else:
            claim.next = before
            # What it brought was taken for good: it is handed over, and no other is asked for.
            self._unheard = True
            if not found.records:
                raise _unheard()
            log.warning("%s: %s", self._where(claim.kind.path), _unheard())
        return found

    def _look(self, **_: bool) -> Flow[None]:  # there never is a doubt, and it asks until it knows
        """Make sure that the service knows readers: nothing is pulled before that is known.

        Raises:
            ReaderUnsupported: it doesn't.
            ClientError: it can't be known, and nothing was taken.
        """
        if self._unheard:
            raise _unheard()
        if Feature.READER in self.features:
            return
        try:
            answer = whole((yield from send(self._question())))
            status = answer.http_status
            if status >= 500 or status in (408, 429):
                raise not_the_service(answer)
        except ClientError as error:
            error.may_have_consumed = False
            raise
        self.features = read_features(answer.content) if status == 200 else frozenset()
        self._told = True
        if Feature.READER not in self.features:
            raise ReaderUnsupported(
                "the service does not say by GET / that it knows readers, so nothing was pulled",
                fix="give Client state=PATH instead of reader=, which keeps the page's key in a"
                " file here; if a proxy stands before a pullstatus server, let GET / through",
            )
        self.keyed = True  # each service that knows readers does

    def _explain(self, error: ClientError, claim: Claim) -> None:
        error.may_have_consumed = error.may_have_consumed or claim.next.in_doubt
        if error.may_have_consumed:
            way = "no page is lost: the next pull of this reader, in any process, brings it"
            error.fix = f"{error.fix}; {way}" if error.fix else way


def check_reader(reader: object) -> str:
    """A reader's name itself, if it is one (InvalidArgument)."""
    if not isinstance(reader, str) or READER.fullmatch(reader) is None:
        raise InvalidArgument(
            f"reader must be a name of 1 to {limits.READER_CHARS_MAX} letters, digits, dots,"
            " underscores and hyphens"
        )
    return reader


def _check_pull_id(ack: object) -> str:
    if not isinstance(ack, str) or not re.fullmatch(r"[0-9a-zA-Z.-]{1,100}", ack):
        raise InvalidArgument("ack must be the pull_id of a page")
    return ack


def _unheard(
    what: str = "the service answers as if no reader had asked",
) -> ReaderUnsupported:
    return ReaderUnsupported(
        what,
        fix="something on the way drops headers that begin with Pullstatus-, or the service was"
        " replaced by an older version: mend that, or give Client state=PATH instead of reader=",
    )
