"""The seam to the engines: a few verbs over mailboxes, each atomic, each durable on return.

A store keeps, for each mailbox, a log of entries and a cursor:

    append ->  [ 1 2 3 4 5 6 7 8 9 10 11 12 ]
                         ^cursor          ^tail

and, in the same commit as every move of a cursor, a journal row that says who took which range.
Beside that it keeps named *settings* (applications, tokens), opaque to it, changed by compare and
set. It must not know HTTP, signatures, what a record means, or what time it is.

`tests/store` holds one conformance suite that every engine passes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from pullstatus import limits
from pullstatus.errors import StoreDamaged
from pullstatus.store.engines import (
    copying_engine_of,
    database_engine_of,
    engine_of,
    reading_engine_of,
    sharing_engine_of,
)
from pullstatus.store.segments import Index, Segment
from pullstatus.store.tickets import Tickets
from pullstatus.store.values import (
    NO_TICKET,
    TICKET_BYTES,
    Accept,
    Act,
    ActRow,
    Again,
    Alarm,
    Append,
    Aside,
    AuditReport,
    Backlog,
    Change,
    Count,
    Discard,
    Engine,
    Entry,
    Erased,
    Finding,
    Fingerprints,
    Follow,
    Followed,
    Health,
    InHand,
    JournalRow,
    Mailbox,
    Named,
    Naming,
    Noted,
    Once,
    Outcome,
    Page,
    Park,
    Progress,
    ProveSetting,
    Pull,
    PutAside,
    Reader,
    ReaderState,
    Redeliver,
    Release,
    RepeatKey,
    Run,
    Setting,
    Share,
    Span,
    Sums,
    Tally,
    Totals,
    Unfollow,
    Unpark,
    Watching,
    While,
    accept_any,
    any_setting,
    parse_pull_id,
    pull_id,
)
from pullstatus.store.window import Gone, UnderWay

__all__ = [
    "NO_TICKET",
    "TICKET_BYTES",
    "Act",
    "ActRow",
    "Again",
    "Alarm",
    "Append",
    "Aside",
    "AuditReport",
    "Backlog",
    "Change",
    "Count",
    "Discard",
    "Engine",
    "Entry",
    "Erased",
    "Finding",
    "Fingerprints",
    "Follow",
    "Followed",
    "Gone",
    "Health",
    "InHand",
    "Index",
    "JournalRow",
    "Mailbox",
    "Named",
    "Naming",
    "Noted",
    "Once",
    "Outcome",
    "Page",
    "Park",
    "Progress",
    "ProveSetting",
    "Pull",
    "PutAside",
    "Reader",
    "ReaderState",
    "Redeliver",
    "Release",
    "RepeatKey",
    "Run",
    "Segment",
    "Setting",
    "Share",
    "Span",
    "Store",
    "Sums",
    "Tally",
    "Tickets",
    "Totals",
    "UnderWay",
    "Unfollow",
    "Unpark",
    "Watching",
    "While",
    "audit_store",
    "backup_origin",
    "backup_store",
    "begin_epoch",
    "check_store_url",
    "init_store",
    "join_store",
    "open_store",
    "parse_pull_id",
    "pull_id",
    "read_store",
    "restore_store",
    "rewrite_store",
    "share_store",
    "store_cautions",
    "store_file",
    "upgrade_store",
]


class Store(Protocol):
    """An engine. Every verb is atomic; what a verb that writes returns is durable.

    The atomic domain: everything of one sdkappid, its setting included, may share an atomic step;
    so may settings among each other, and the two applications of an `unpark` that routes; nothing
    else does. So an engine may keep each application elsewhere. A store may have many doors, in
    many processes and on many machines, and what was returned through one is there through every
    other: nothing is answered from memory that another door could have made wrong.

    Any verb may raise `StoreUnavailable`: nothing happened, trying again can help. Every verb that
    writes (`append`, `park`, `unpark`, `pull`, `redeliver`, `discard`, `release`, `erase`, `purge`,
    `remove`, `forget`, `change`, `mark`, `follow`, `unfollow`, `count`) may raise `OutcomeUnknown`:
    its last commit may or may not have happened, and the caller must not answer either way. Whether
    the store goes on after an error is told by `on_failure` of `open_store` alone: once that was
    called, the store takes no more work.
    A verb whose operation carries `while_set` raises `SettingChanged`, and leaves no trace, when
    that does not hold in its commit.

    A store has a window of operations in hand, and what comes beyond it waits (`store.window`): an
    operation that was not handed over within `limits.STORE_WAIT_S` raises `StoreUnavailable`, and
    one whose `gone` then says that nobody waits for it, `CallerGone`.

    Attributes:
        created: whether opening it has made the store.
        epoch: 1, and one more with every restore that made it what it is.
        revision: of the setting that was written last when it was opened; 0: none was.
    """

    created: bool
    epoch: int
    revision: int

    async def append(self, operation: Append, gone: Gone | None = None) -> int:
        """Put a batch at the tail. Returns how many of its records are new; the others are there.

        Records that the store knows already (by key or fingerprint) are not stored again.

        Raises:
            KeyReused: the key came before with another body.
        """
        ...

    async def park(self, operation: Park, gone: Gone | None = None) -> PutAside:
        """Append records as `append` does, and put aside what could not be read beside them.

        Both in one commit. Items that the store knows already by their fingerprint are not put
        aside again.

        Returns:
            how many are new of its records, and of its items; and how many of the oldest items
            left, since no more of them may wait.
        """
        ...

    async def unpark(self, operation: Unpark) -> int:
        """Let parked items leave, with what can be read of them at last; all in one commit.

        The rarest of verbs, and the only one that may concern two applications: items that one was
        sent and another is to have.

        Returns:
            how many records are new. Those that the store knows already are not stored again.

        Raises:
            SettingChanged: also when another item is at the head than the operation says.
        """
        ...

    async def pull(self, operation: Pull, gone: Gone | None = None) -> Page:
        """Take a page from the head, move the cursor past it and write its journal row, as one.

        A page shorter than asked for means that everything accepted before is taken, through
        whichever door to the store.

        A pull of a reader brings the page in its hand as long as that is not acknowledged, however
        old it is and whatever `count_max` says: see `store.readers`.

        Raises:
            KeyReused: the key came before with another mailbox or `count_max`.
            AcknowledgementRefused: the reader acknowledges another page than the one in its hand.
            TooManyReaders: this one is new, and there is no room for it.
            ReplayRefused: its `once` came before, and its time has not passed.
        """
        ...

    def surely_empty(self, mailbox: Mailbox) -> bool:
        """Whether a pull of `mailbox` that leaves no trace would find nothing, at this moment.

        From memory and at once, and true only where that cannot be wrong, whatever other doors the
        store has. An engine that cannot know says False.
        """
        ...

    def watch(
        self, mailbox: Mailbox, on_arrival: Callable[[], None], since_s: float = 0.0
    ) -> Watching:
        """Have `on_arrival` called when something comes into `mailbox`; for a server's store.

        From now on until what this returns is called: after each commit, by whomever, that leaves
        something waiting there. At once where it was made through this store object, or another one
        that shares the store with it, else within a second. It may be called for nothing, too, and
        must not raise. A mailbox has one watcher; of several store objects that share a store that
        one alone is called for which somebody has waited longest, as they say.

        Args:
            since_s: since when that is, by the monotonic clock.
        """
        ...

    async def backlog(self, sdkappid: int | None = None) -> list[Backlog]:
        """How every mailbox stands, or those of one application, in order of mailbox.

        A list, of one moment. It has at most three rows for each application, and operators make
        those; so ask for all only where each of them matters, and for sums `totals`.
        """
        ...

    async def totals(self, worst: int = 0) -> Totals:
        """How all mailboxes stand together, and how many pages readers have in hand.

        Sums of one moment, all that was committed before this was called included. Where a server's
        store asks again, it costs as much as has changed since, and as many of the worst as are
        asked for, however many mailboxes there are.

        Args:
            worst: how many mailboxes of records to bring by each of two measures: those with the
                oldest record that waits, and those in which most wait.
        """
        ...

    def entries(
        self, mailbox: Mailbox, first_seq: int = 1, *, containing: bytes | None = None
    ) -> AsyncIterator[Entry]:
        """Stored entries from `first_seq` on, in order, taken or not; damaged ones are left out.

        With `containing`, at least those that hold these bytes, and few others.
        """
        ...

    def journal(
        self, mailbox: Mailbox, first_seq: int = 1, *, newest_first: bool = False
    ) -> AsyncIterator[JournalRow]:
        """Journal rows of ranges that start at `first_seq` or later, in order or backwards."""
        ...

    async def keyed(self, sdkappid: int, key: str) -> Sequence[JournalRow]:
        """Journal rows of an application's pulls that carried this Idempotency-Key.

        A list, since there are few: a key that is in use takes one page in its time.
        """
        ...

    def again(self, mailbox: Mailbox, first_seq: int = 1) -> AsyncIterator[Again]:
        """Ranges that are not there for the first time, in order: those that reach `first_seq`."""
        ...

    def readers(self, sdkappid: int | None = None) -> AsyncIterator[ReaderState]:
        """How every reader stands, or those of one application, those of a mailbox together."""
        ...

    async def release(self, operation: Release) -> int:
        """Take the page in hand from a reader, on record; returns how many entries it has.

        Those are 0 if the reader has that page in hand no longer.
        """
        ...

    async def redeliver(self, operation: Redeliver) -> int:
        """Append marked copies of entries that have left; returns how many.

        Those that this act has copied before are passed over, and so are those that were erased.

        Raises:
            InvalidSetting: one of them is no longer stored, or has not left yet.
            EntriesDamaged: one of them can't be read any more.
        """
        ...

    async def discard(self, operation: Discard) -> int:
        """Let entries leave without being handed out, on record; returns how many."""
        ...

    async def erase(
        self,
        mailbox: Mailbox,
        *,
        at_ms: int,
        holding: Sequence[Sequence[bytes]] = (),
        seqs: Collection[int] = (),
        through: int | None = None,
        counted: bool = False,
    ) -> Erased:
        """Erase entries of a mailbox that are stored now, handed out or not, wherever they lie.

        Those that hold all the bytes of one of `holding`, and those numbered `seqs`, but none
        behind the number `through`. In the same commit no segment finds them any more. An erased
        entry keeps its number, is found nowhere, and is no part of any page: one that comes again,
        by a key or to a reader, comes without it, and a next one is as full as if it had never
        been. A page of which nothing is left comes no more. What waited is counted once everything
        before it has left: as erased where pulls pass it, as expired where it expires with that.
        With `counted` it ends, and says so, where not all up to `through` is counted in tallies: of
        what was erased nobody could say what it was.
        Works in small steps, each atomic; one that was cut off is finished by calling this again.
        """
        ...

    async def purge(self, *, left_before_ms: int) -> int:
        """Remove entries and journal rows of what left before; returns how many entries.

        It ends where something left later. Nothing behind a mailbox's mark goes, where the store
        follows, but what is parked.
        Works in small steps, each atomic, so that appends and pulls hardly notice.
        """
        ...

    async def purge_rest(self, sdkappid: int) -> None:
        """Remove what `remove` had to leave of an application for a while; waits until it may be.

        That is a minute in a cluster, and nothing elsewhere. One that was cut off is done again.
        """
        ...

    async def remove(self, mailbox: Mailbox, through: int) -> int:
        """Remove what has left of a mailbox up to a number, as `purge` does; returns how many.

        Whenever it left; and what was set aside of it as damaged. A page that begins up to this
        number goes as a whole. A page in a reader's hand is kept for it: take it from there first.
        """
        ...

    def acts(self, *, newest_first: bool = False) -> AsyncIterator[ActRow]:
        """What operators did, in order or backwards, each act chained to the one before.

        The chain is that of `store.acts`, whatever the engine. No act is ever removed.
        """
        ...

    async def named(self, slots: Sequence[int], sdkappid: int | None = None) -> list[Named]:
        """Blocks of names that `count` kept and that have any of these hashes.

        Those of one application are in order, the newest first. Of each hash the newest
        `limits.NAMES_FOUND_MAX` are surely among them; of those of one application as far as they
        are among the newest `limits.NAMES_RUN_MAX` of all. Each block comes once.

        Args:
            sdkappid: only what is of this application; None: of any.
        """
        ...

    async def forget(self, *, accepted_before_ms: int, now_ms: int, hours_before: int = 0) -> int:
        """Drop what is remembered to know repeats by, names and old tallies; returns how much.

        Works in small steps, each atomic, whose cost does not depend on what stays.

        Args:
            accepted_before_ms: batches and records that were accepted before go, and names.
            now_ms: what must not come twice goes when its time has passed by then.
            hours_before: tallies of hours before go.
        """
        ...

    # -- what is derived of entries, behind them

    async def follow(self, operation: Follow) -> bool:
        """Keep a segment and tallies and move the mark of a mailbox, as one; whether it did.

        It does if the mark is as expected: otherwise another one has followed, or something was
        erased since the entries were read.
        """
        ...

    async def unfollow(self, operation: Unfollow) -> bool:
        """Drop the segments of a mailbox, and tallies, to be made anew; whether it did.

        The mark goes back to what was purged. It does if the mark is as expected.
        """
        ...

    async def count(self, operation: Count) -> bool:
        """Add to tallies, and keep names; whether it did: the key was new, and marks as expected.

        Raises:
            KeyReused: the key came before with another body.
        """
        ...

    def following(self) -> AbstractAsyncContextManager[bool]:
        """Whether this process is the one that follows, until the block ends.

        Of those that ask at once one is, at most; nothing rests on it but that none works in vain.
        """
        ...

    async def behind(self, count_max: int) -> list[Backlog]:
        """How mailboxes of records stand that have entries behind their marks.

        Any of them, up to so many; where a server's store asks again, it costs no more than there
        are, and have changed since.
        """
        ...

    async def pending(self, count_max: int) -> list[Backlog]:
        """How mailboxes stand in which something is pending; otherwise as `behind`."""
        ...

    async def runs(self, mailbox: Mailbox, first_seq: int, count_max: int) -> list[Run]:
        """Entries from `first_seq` on as they lie together, in order: one short read.

        About `count_max` entries, if there are as many; those before `first_seq` that lie with them
        are left out. What is damaged or erased leaves a hole.
        """
        ...

    async def entries_at(self, mailbox: Mailbox, seqs: Sequence[int]) -> list[Entry]:
        """Stored entries with these numbers, in order; damaged, erased and removed ones left out.

        Args:
            seqs: in order.
        """
        ...

    async def spans(self, mailbox: Mailbox, first_seq: int = 1) -> list[Span]:
        """The runs of the segments that end at `first_seq` or later, in order."""
        ...

    async def segment(self, mailbox: Mailbox, first_seq: int) -> Segment | None:
        """The segment whose run begins there."""
        ...

    async def sought(self, mailbox: Mailbox, index: Index, hashed: int) -> list[int]:
        """Numbers of the entries that segments have under a hash, in order.

        Others may have the same hash, and what was purged may still be among them.
        """
        ...

    async def tallies(
        self, sdkappid: int, first_hour: int, last_hour: int, *, whole: bool = True
    ) -> list[Tally]:
        """What was counted of an application, by series and hour, both hours included.

        Args:
            whole: whether all must be readable; else one that is damaged has no counts.

        Raises:
            StoreDamaged: one is not.
        """
        ...

    async def commit_s(self) -> float:
        """Seconds that were spent in commits until now, by those who commit for this server.

        The one under way counts with how long its oldest operation has waited for it.

        Where these wait for other machines more than they work, that tells nothing: always 0.
        """
        ...

    def settings(self, since: int = 0, *, prefix: str | None = None) -> AsyncIterator[Setting]:
        """Settings written after revision `since`, oldest first; deleted ones have no value.

        Whoever goes on from the last revision that he was given misses none, however many others
        write meanwhile. One that is written meanwhile may come once more, as it is then.

        With `prefix` only those whose names begin so, in order of name, each as it is when its turn
        comes. No others are read then.
        """
        ...

    async def setting(self, name: str) -> Setting | None:
        """One setting, deleted or not; None if it was never written."""
        ...

    async def settings_of(self, names: Sequence[str]) -> Mapping[str, Setting | StoreDamaged]:
        """Those of these settings that were ever written, by name; or what is wrong with one."""
        ...

    async def change(
        self, *changes: Change, act: Act | None = None, ticket: bytes = NO_TICKET
    ) -> bool:
        """Set all of these settings, or none if one is not as expected. Returns whether it did.

        Args:
            changes: each of another setting. None at all: only the act goes on record.
            act: whose doing it is, on record if it did.
            ticket: as that of `Append`.
        """
        ...

    async def mark(self, times: Mapping[str, Noted]) -> None:
        """Note when named things happened last, in Unix milliseconds, and where; 0 forgets one.

        An earlier time than the one that is noted changes nothing. Works in small steps.
        """
        ...

    async def marks(self, prefix: str = "") -> dict[str, Noted]:
        """What was noted under names that begin so."""
        ...

    def under_way(self) -> UnderWay:
        """What waits for the store now, and for how long; from memory, whatever the store does.

        Of an engine that is elsewhere what else it was asked counts, too.
        """
        ...

    def health(self) -> Health | None:
        """How the nodes are that keep it, from memory; None: there are no nodes to it.

        Looked at only by who serves it.
        """
        ...

    async def engine(self) -> Engine:
        """Figures of the engine's work for this store object since it was opened."""
        ...

    async def check_served(self) -> None:
        """Refuse a store that no server would serve, as the migration it takes part in has it.

        Raises:
            StoreRefused: what it held is elsewhere now, or is just being moved.
        """
        ...

    async def close(self) -> None:
        """Finish what was begun, release the files. Calling it again does nothing."""
        ...


def check_store_url(url: str) -> None:
    """Refuse what names no store; whether there is one is not asked.

    Raises:
        InvalidSetting: no engine has such a URL; the text says what they look like.
    """
    engine_of(url).check(url)


def store_cautions(url: str) -> list[str]:
    """What others on this machine may do to the store that `url` names, and should not.

    Each is a sentence that says how to end it; none if there is nothing, or no such store yet.

    Raises:
        InvalidSetting: no engine has such a URL.
        StoreRefused: it is so much that the store is not safe to serve.
    """
    return engine_of(url).cautions(url)


async def open_store(
    url: str,
    *,
    create: bool = True,
    server: bool = False,
    reserve_bytes: int = limits.STORE_RESERVE_BYTES,
    on_failure: Callable[[BaseException], None] | None = None,
    shared: bool = False,
) -> Store:
    """Open the store that `url` names; see `pullstatus.store.engines` for what there is.

    Args:
        url: which engine, where, and what else that engine wants to know.
        create: make one if there is none. Without, and not as the server, one that cannot be
            written is opened to be read, where the engine can.
        server: this is a serving process, for long and for many; an engine that has room for only
            one of them refuses a second one.
        reserve_bytes: free bytes on the disk below which no more entries are taken.
        on_failure: called once, when the store can take no more work.
        shared: as a server that further processes of its own will use it with: see `share_store`.

    Raises:
        InvalidSetting: no engine has such a URL.
        StoreRefused: the store is not safe to open; the text says what to change.
    """
    sharing = sharing_engine_of(url) if shared else None
    if sharing is not None:
        return await sharing.open_shared(url, reserve_bytes=reserve_bytes, on_failure=on_failure)
    return await engine_of(url).open(
        url, create=create, server=server, reserve_bytes=reserve_bytes, on_failure=on_failure
    )


async def read_store(url: str) -> Store:
    """Open a store of which nothing is to be changed, live or at rest: verbs that write refuse.

    Raises:
        InvalidSetting: no engine has such a URL.
        StoreRefused: there is nothing to read there.
    """
    reading = reading_engine_of(url)
    return await (open_store(url, create=False) if reading is None else reading.open_to_read(url))


def share_store(store: Store, url: str, sharers: int) -> Share | None:
    """What one further process of this server joins a store by that was opened to be shared.

    Each process needs its own. None: by nothing, since any number may open such a store.

    Args:
        sharers: how many processes there will be, which share what the store takes at a time.

    Raises:
        InvalidSetting: no engine has such a URL.
    """
    sharing = sharing_engine_of(url)
    return None if sharing is None else sharing.share(store, sharers)


async def join_store(
    url: str,
    share: Share | None,
    *,
    on_failure: Callable[[BaseException], None] | None = None,
) -> Store:
    """Use a store that another process of the same server has opened.

    It is as good as the server's own in all verbs that requests need. What waits is known to all of
    these processes before anybody has the answer that made it. Sums (`totals`) cost more here.

    Args:
        share: what that process gave, by `share_store`.

    Raises:
        InvalidSetting: no engine has such a URL.
        StoreRefused: the store cannot be used, or the server's is gone.
    """
    sharing = sharing_engine_of(url)
    if share is None or sharing is None:
        return await open_store(url, create=False, server=True, on_failure=on_failure)
    return await sharing.join(url, share, on_failure=on_failure)


async def init_store(url: str, *, partitions: int | None = None) -> bool:
    """Make a store in a database or a cluster that has none; returns whether this did it.

    Args:
        partitions: in how many applications are spread, for an engine that does so; None: as many
            as it chooses, or as there are.

    Raises:
        InvalidSetting: no engine has such a URL, or that one has no need of it, or no partitions.
        StoreRefused: it cannot be made, or is not safe.
    """
    return await database_engine_of(url).init(url, partitions=partitions)


async def upgrade_store(url: str, *, post: bool = False) -> list[int]:
    """Bring a store in a database to this version's format; returns the formats it came to.

    Steps that only add something are taken while servers of the version before go on.

    Args:
        post: also take steps that remove something, for when none of those is left.

    Raises:
        InvalidSetting: as of `init_store`.
        StoreRefused: there is no store, or a step must not be taken now; the text says why.
        StoreUnavailable: somebody holds a table all the while; try again.
    """
    return await database_engine_of(url).upgrade(url, post=post)


async def begin_epoch(url: str, act: Act) -> int:
    """Take what was set back, or is a copy, for the store; returns the epoch's number.

    For when no server works on it. What waits is marked: some of it may have been handed out. The
    act is on record with the number of the epoch for its detail.

    Raises:
        InvalidSetting: as of `init_store`.
        StoreRefused: there is no store, or the server is not safe.
        StoreUnavailable: nothing happened.
        OutcomeUnknown: it may have begun. Another one does no harm.
    """
    return await database_engine_of(url).begin_epoch(url, act)


def store_file(url: str) -> Path | None:
    """The file that a store lies in, without links in it; None where it has none of its own.

    Raises:
        InvalidSetting: no engine has such a URL.
    """
    return engine_of(url).file(url)


async def audit_store(
    url: str, progress: Progress, *, prove_setting: ProveSetting = any_setting
) -> AuditReport:
    """Prove from the data that nothing is lost or doubled; reads only, live or at rest.

    Args:
        prove_setting: raises `StoreCorrupt` if a setting can't be what was set, which no store
            knows; that is among what is found.

    Raises:
        InvalidSetting: no engine has such a URL.
        StoreRefused: there is nothing to read there.
    """
    return await engine_of(url).audit(url, progress, prove_setting=prove_setting)


async def backup_store(url: str, file: Path, progress: Progress) -> None:
    """Write a consistent, audited copy, of the moment this begins, to a new file.

    Raises:
        InvalidSetting: no engine has such a URL, or that one is backed up in another way.
        StoreRefused: there is no store, `file` exists or can't be written, or the copy isn't sound.
        StoreMovedOn: what it held is elsewhere now.
    """
    await copying_engine_of(url).backup(url, file, progress)


def backup_origin(file: Path) -> bytes | None:
    """What is the same in all backups of one store, of whichever engine, and in no other's.

    A store that was restored or moved from it is the same.

    Returns:
        Nothing of it for an empty file; None for one that is no backup, or cannot be read.
    """
    from pullstatus.store.sqlite.copies import origin  # noqa: PLC0415 - few commands need it

    return origin(file)


def remove_unfinished(file: Path) -> bool:
    """Remove what is left of a backup that was ended before it had its name, `file`.

    Nothing is removed while somebody is making it, or where nobody can know.

    Returns:
        Whether anything was.

    Raises:
        OSError: something cannot be removed.
    """
    from pullstatus.store.sqlite.copies import remove_unfinished  # noqa: PLC0415 - as above

    return remove_unfinished(file)


async def rewrite_store(url: str, *, serving: bool = True) -> None:
    """Write a store's files anew, so that nothing is left of what was removed or replaced.

    Args:
        serving: refuse it where that would hold up a server for long; else, at the start of one,
            where it would hold up another.

    Raises:
        InvalidSetting: no engine has such a URL.
        StoreRefused: there is no store, a server would be held up, or that is another role's.
        StoreUnavailable: it could not be done now; nothing has changed.
    """
    await engine_of(url).rewrite(url, serving=serving)


async def restore_store(
    url: str,
    file: Path,
    *,
    act: Act,
    progress: Progress,
    prove_setting: ProveSetting = any_setting,
    accept: Accept = accept_any,
) -> int:
    """Make a new store out of a backup, and begin a new epoch; returns its number.

    What waits in it is marked: some of it may have been handed out after the backup was made. The
    act is on record in the new store, with the number of the epoch for its detail.

    Args:
        prove_setting: as of `audit_store`; a backup in which one can't be is not sound.
        accept: may refuse it for what its settings are; raises that.

    Raises:
        InvalidSetting: no engine has such a URL, or that one is restored in another way.
        StoreRefused: the store exists already, or the backup is none, or not sound.
    """
    return await copying_engine_of(url).restore(
        url, file, act=act, progress=progress, prove_setting=prove_setting, accept=accept
    )
