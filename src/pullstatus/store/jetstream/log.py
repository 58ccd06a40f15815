"""The log with a cursor of one partition: groups of operations, two trips each.

    trip 1    read what is not known: states, rows that are judged, chunks
    between   the verbs, on what was read
    trip 2    one write of all that changes, with a condition for each application

A lane that is refused starts over: somebody else has written. What an application is told without a
write rests on a state that the leader says is the newest.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import compress
from typing import Final, TypeVar

from pullstatus.errors import (
    AcknowledgementRefused,
    CommitsLost,
    KeyReused,
    OutcomeUnknown,
    ReplayRefused,
    StoreCorrupt,
    StoreDamaged,
    StoreFailed,
    StoreFull,
    StoreMovedOn,
    StoreUnavailable,
    WorldError,
)
from pullstatus.store.gathering.log import Figures, Undone
from pullstatus.store.gathering.operations import (
    Answer,
    Erase,
    Forget,
    Operation,
    Purge,
    Removed,
)
from pullstatus.store.jetstream import commits, routing, snapshots
from pullstatus.store.jetstream.ages import Ages
from pullstatus.store.jetstream.asked import Asked, Group
from pullstatus.store.jetstream.commits import NewOp
from pullstatus.store.jetstream.common import CommonTables
from pullstatus.store.jetstream.forgetting import Quiet, forget
from pullstatus.store.jetstream.gate import LaneGate
from pullstatus.store.jetstream.known import Cache, Known
from pullstatus.store.jetstream.messages import (
    CommonCommit,
    GuardMessage,
    SettingMessage,
    opened,
    sealed,
)
from pullstatus.store.jetstream.moved import Moved
from pullstatus.store.jetstream.proven import Unproven
from pullstatus.store.jetstream.room import Room
from pullstatus.store.jetstream.subjects import Layout
from pullstatus.store.jetstream.tables import Draft, JetTables, Misled, Overtaken
from pullstatus.store.jetstream.wire import BYTES_MAX, PUTS_MAX, Bus, Lacking, Message, Put, Stale
from pullstatus.store.values import Mailbox, Pull, Unpark, setting_owner
from pullstatus.store.verbs.group import carry_out

COLLISIONS_MAX: Final = 100  # of one group: others may be faster, but not again and again
SUSPICIOUS: Final = 20  # collisions behind which it may be the leader that is wrong, and not others
COLLISIONS_S: Final = 20.0  # of one group: meanwhile all others of its partition wait
PAUSE_S: Final = 0.002  # at most, after the first; less and less then: who waits longest goes first
LEFT_S: Final = 60.0  # until what failed behind a commit is done again
LEFT_MAX: Final = 1000  # things that are to be done again of an application
LONG_S: Final = 1.0  # for what goes to other partitions, while all others of this one wait
OTHERS_FIRST: Final = 3  # times as long as that took in vain
BACK_S: Final = 60.0  # thrice as long as a leader that is cut off may take itself for one

T = TypeVar("T")


_JUDGED: Final = AcknowledgementRefused | KeyReused | ReplayRefused
"""What is answered by what a row says, and nothing is written for."""


class Log:
    """One lane. See `pullstatus.store.gathering.log.Log`."""

    def __init__(
        self,
        bus: Bus,
        layout: Layout,
        partition: int,
        secret: bytes,
        new_op: NewOp,
        clock: Callable[[], float] = time.monotonic,
        *,
        gate: LaneGate,
        moved: Moved,
        quiet: Quiet,
    ) -> None:
        """For the applications of one partition.

        Args:
            secret: what fingerprints are keyed with.
            new_op: makes `OP_BYTES` that no other write has.
            gate, moved, quiet: of all lanes of the process.
            clock: of seconds.
        """
        self._bus = bus
        self._layout = layout
        self._stream = layout.stream(partition)
        self._partition = partition
        self._secret = secret
        self._new_op = new_op
        self._clock = clock
        self._gate = gate
        self._moved = moved
        self._quiet = quiet
        self._cache = Cache()
        self._ages = Ages(clock)
        self._room = Room(bus, self._stream, clock)
        self._known_revision = 0  # settings are known to have come so far, by the leader
        self._back_since_s: dict[int, float] = {}  # applications, since when commits seem gone
        self._puts: Sequence[Put] = ()  # of the newest write that was tried
        self._waiting: dict[int, int] = {}
        self._others: dict[int, Log] = {}
        self._left: dict[int, list[Callable[[], None]]] = {}  # behind commits, by application
        self._left_due_s = 0.0
        # Their items are not routed before, and why.
        self._not_before: dict[Mailbox, tuple[float, StoreUnavailable]] = {}
        self._routes = routing.Routes(layout, self, self._other, new_op)
        self._commits = self._operations = 0
        self._commit_s = 0.0

    # -- what the committer asks

    def commit(self, group: Sequence[Operation]) -> list[Answer]:
        """Carry out `group` as one write; see `Log.commit` of the seam.

        Raises:
            Undone: nothing happened: others are faster again and again, what is stored of an
                application is damaged, or a mistake of ours.
            StoreUnavailable, StoreFull: nothing happened.
            OutcomeUnknown: it was not to be learned whether it happened.
            CommitsLost: what was answered is gone.
        """
        if len(group) > 1 and any(routing.is_split(each, self._layout) for each in group):
            raise Undone(StoreUnavailable(_ALONE))
        [*_, last] = group
        if isinstance(last, Unpark) and routing.is_split(last, self._layout):
            with self._in_turn(last.mailbox):
                return [self._routes.route(last)]
        try:
            asked = Group(group, self._layout)
        except ValueError as error:
            raise Undone(error) from error
        answers = self.until_done(asked, partial(self._carry_out, group, asked))
        if self._left:
            for place, operation in enumerate(group):
                if self._left.keys() & _erased(operation):
                    answers[place] = OutcomeUnknown(_STILL_THERE)
        return answers

    def until_done(self, asked: Group, do: Callable[[JetTables], T]) -> T:
        """Have something done to applications, as one write; raises as `commit` does."""
        began_s = self._clock()
        rows: dict[str, Message] = {}
        for collisions in range(COLLISIONS_MAX + 1):
            if collisions:
                if self._clock() - began_s > COLLISIONS_S:
                    break
                time.sleep(random.random() * PAUSE_S / collisions)  # noqa: S311 - no secret
            try:
                answer, writes = self._attempt(asked, do, rows)
            except Overtaken as error:
                self._renew(error.sdkappids)
            except Misled as error:
                rows |= error.rows
            except Stale as error:
                if not self._renew(asked.by):
                    self._forget(asked.by)  # rows are others than was told, as of the same commit
                if isinstance(error, Lacking) or (collisions and collisions % SUSPICIOUS == 0):
                    self._suspect()
            except routing.Pending as pending:
                self._go_on(pending.mailbox)
            except (StoreDamaged, StoreCorrupt, Unproven) as error:
                # What is missing as of an old state was removed since.
                if not self._renew(asked.by):
                    final = error if isinstance(error, Unproven) else StoreDamaged(str(error))
                    raise Undone(final) from error
            except snapshots.TooMuch as error:  # others of the group need not wait for it
                raise Undone(error) from error
            except WorldError as error:
                if isinstance(error, OutcomeUnknown):
                    self._forget(asked.by)
                if isinstance(error, StoreFull):
                    self._room.end()
                raise
            except Exception as error:
                self._forget(asked.by)
                if isinstance(error, Undone):
                    raise
                raise Undone(error) from error
            else:
                if writes:
                    self._commits += 1
                    self._operations += max(1, sum(len(each.places) for each in asked.by.values()))
                    self._commit_s += self._clock() - began_s
                return answer
        raise Undone(StoreUnavailable(_COLLIDES))

    def _other(self, partition: int) -> Log:
        """A lane of this process's own for what goes from here to another partition, or to this."""
        if partition == self._partition:
            return self
        found = self._others.get(partition)
        if found is None:
            found = self._others[partition] = Log(
                *(self._bus, self._layout, partition, self._secret, self._new_op, self._clock),
                gate=self._gate,
                moved=self._moved,
                quiet=self._quiet,
            )
        return found

    def _go_on(self, mailbox: Mailbox) -> None:
        """Carry to its end what somebody has begun.

        Raises:
            Undone: it cannot be now. Where the application is damaged that they go to, with
                `StoreDamaged`: that does not end by itself, and others are not to wait for it.
        """
        try:
            with self._in_turn(mailbox):
                self._routes.go_on(mailbox)
        except (Undone, StoreUnavailable, OutcomeUnknown) as error:
            if isinstance(error, StoreFailed):
                raise
            cause = error.error if isinstance(error, Undone) else error
            if isinstance(cause, StoreDamaged):
                raise Undone(StoreDamaged(_TO_DAMAGED.format(cause))) from error
            raise Undone(StoreUnavailable(_ON_THEIR_WAY)) from error

    @contextlib.contextmanager
    def _in_turn(self, mailbox: Mailbox) -> Iterator[None]:
        """Route items of a mailbox, unless that took long in vain just now: others come first.

        Raises:
            Undone: others do.
        """
        began_s = self._clock()
        if mailbox in self._not_before and began_s < self._not_before[mailbox][0]:
            raise Undone(self._not_before[mailbox][1])
        try:
            yield
        except Exception as error:
            now_s = self._clock()
            if now_s - began_s >= LONG_S:
                cause = error.__cause__ if isinstance(error, OutcomeUnknown) else error
                cause = cause.error if isinstance(cause, Undone) else cause
                self._not_before[mailbox] = (
                    now_s + OTHERS_FIRST * (now_s - began_s),
                    StoreDamaged(str(cause))
                    if isinstance(cause, StoreDamaged)
                    else StoreUnavailable(_ON_THEIR_WAY),
                )
            raise
        self._not_before.pop(mailbox, None)

    def tend(self) -> None:
        """Learn from time to time how full the stream is, and do what is left behind commits."""
        self._room.look()
        self._tidy()

    def watch(self) -> None:
        """As `tend`; what other processes do is learned by asking."""
        self.tend()

    def due_in_s(self) -> float:
        """See `Log.due_in_s`."""
        return max(0.0, self._left_due_s - self._clock()) if self._left else math.inf

    def has_room(self) -> bool:
        """Whether the stream, and each node, has more left than what pulls are to have."""
        return self._room.there

    def take_waiting(self) -> dict[int, int]:
        """By mailbox, as of this lane's newest commit of each: others may have changed it since."""
        waiting, self._waiting = self._waiting, {}
        return waiting

    def as_of(self) -> bytes | None:
        """Nobody compares."""
        return None

    def figures(self) -> Figures:
        """What it has done since it was opened."""
        return Figures(self._commits, self._commit_s, self._operations)

    def is_final(self, error: BaseException) -> bool:
        """What does not heal."""
        return isinstance(error, StoreFailed | StoreMovedOn)

    def close(self, *, failed: bool) -> None:
        """Nothing of it is here."""

    # -- a group

    def _attempt(
        self, asked: Group, do: Callable[[JetTables], T], rows: Mapping[str, Message]
    ) -> tuple[T, bool]:
        """Do something; it is durable when this returns. Also tells whether it wrote.

        Args:
            rows: those that a node has told wrongly of before.
        """
        common = CommonTables(self._bus, self._layout.common, self._new_op)
        tables = JetTables(
            *(self._bus, self._layout, self._cache, self._ages, self._secret, common, self._moved),
            newer=rows,
        )
        self._read(tables, asked)
        self._admit(tables, asked)
        answer = do(tables)
        drafts = tables.drafts.values()
        self._gate.check(max((draft.known.gate for draft in drafts), default=0))
        changed = [draft for draft in drafts if draft.changes]
        # What it was told without a write rests on the newest state.
        unchanged = [draft for draft in drafts if not draft.changes]
        tables.confirm(unchanged)
        for draft in unchanged:
            if not draft.known.newest:
                self._guard()
            self._cache.put(draft.known)
            self._go_behind(draft, draft.known.newest)
        if changed:
            self._write(changed)
        for sdkappid in asked.by if self._back_since_s else ():
            self._back_since_s.pop(sdkappid, None)
        self._waiting.update((state.number, state.tail - state.cursor) for state in tables.moved())
        return answer, bool(changed)

    def _carry_out(
        self, group: Sequence[Operation], asked: Group, tables: JetTables
    ) -> list[Answer]:
        """Carry out a group of operations."""
        tables.fetch([each.mailbox for each in group if isinstance(each, Pull)])
        answers: list[Answer] = [0] * len(group)
        for each in asked.by.values():
            operations = [routing.check(tables, group[place]) for place in each.places]
            found = carry_out(tables, operations, self._clock)
            for place, answer in zip(each.places, found, strict=True):
                answers[place] = answer
        self._prove(group, answers, asked, tables)
        for place, operation in enumerate(group):
            if isinstance(operation, Forget):
                answers[place] = self._forget_some(operation)
        return answers

    def _prove(
        self, group: Sequence[Operation], answers: list[Answer], asked: Group, tables: JetTables
    ) -> None:
        """Have all nodes asked for what answers rest on that nothing is written for."""
        judged = [isinstance(answer, _JUDGED) for answer in answers]
        if any(judged):
            told = Group(list(compress(group, judged)), self._layout).by
            tables.prove(
                {sdkappid: asked.by[sdkappid].rows - each.rows for sdkappid, each in told.items()}
            )

    def _read(self, tables: JetTables, asked: Group) -> None:
        """Learn what is not known of each application, in one go."""
        due: list[tuple[int, Asked, list[str]]] = []
        for sdkappid, each in asked.by.items():
            known = self._cache.get(sdkappid)
            hours = {each.place.prints(hour) for hour in each.hours if not _has(known, hour)}
            rows = sorted(each.rows | hours)
            if known is None or rows:
                due.append((sdkappid, each, rows))
            else:
                tables.begin(sdkappid, None, ())
        wanted = [(each.place, rows, self._at_least(sdkappid)) for sdkappid, each, rows in due]
        found = dict(snapshots.snapshots(self._bus, wanted))
        for sdkappid, each, rows in due:
            tables.begin(sdkappid, found[each.place], rows)
        self._check_newest(tables)
        for sdkappid, each in asked.by.items():
            self._read_settings(tables, tables.drafts[sdkappid].known, each)
        self._read_others(tables, set().union(*(each.others for each in asked.by.values())))

    def _check_newest(self, tables: JetTables) -> None:
        """Go on from what was known, though all else of it is forgotten.

        Raises:
            Overtaken: some states are older, or lack it: whoever leads is to say.
        """
        older = [
            sdkappid
            for sdkappid, draft in tables.drafts.items()
            if not draft.known.holds(self._cache.newest(sdkappid))
        ]
        if older:
            raise Overtaken(*older)

    def _at_least(self, sdkappid: int) -> int:
        known = self._cache.get(sdkappid)
        return 0 if known is None else known.newest

    def _read_settings(self, tables: JetTables, known: Known, asked: Asked) -> None:
        """Learn the revisions of an application's settings, behind its state.

        One of its own that was told before is believed if it is the one that is rested on, and was
        beyond the fence: see `Known`. What is routed rests on others' settings, too.
        """
        place = self._layout.common
        for condition in asked.conditions:
            name = condition.name
            own = setting_owner(name) == known.sdkappid
            if own and known.revisions.get(name) == condition.revision:
                tables.revisions.setdefault(name, condition.revision)
                continue
            if known.fence > self._known_revision:
                found = self._bus.last(place.stream, place.commits, leader=True)
                if found is not None:
                    self._known_revision = opened(found, CommonCommit).revision
            revision = CommonTables(self._bus, place, self._new_op).revision(name)
            tables.revisions[name] = revision
            known.revisions.pop(name, None)
            if own and known.fence <= self._known_revision:
                known.revisions[name] = revision

    def _read_others(self, tables: JetTables, names: set[str]) -> None:
        """Learn the revisions of settings that are of none of the applications, each time.

        Of the leader, however many they are: a replica may have lost what ended one.
        """
        if not names:
            return
        place, due = self._layout.common, sorted(names)
        told = self._bus.last_of_each(place.stream, [place.setting(name) for name in due])
        for name, found in zip(due, told, strict=True):
            tables.revisions[name] = 0 if found is None else opened(found, SettingMessage).revision

    def _write(self, changed: Sequence[Draft]) -> None:
        """Write what a group changes, and know it from then on.

        Raises:
            Stale: nothing of it is written.
        """
        op = self._new_op()
        puts: list[Put] = []
        owners: list[Draft] = []
        for draft in changed:
            if not draft.known.newest and not puts:
                subject = self._layout.guard(self._partition)
                last, number = self._guard()
                puts.append(Put(subject, sealed(op, subject, GuardMessage(number)), last))
                owners.append(draft)
        for draft in changed:
            for subject, value, last_known in draft.values_due():
                puts.append(Put(subject, sealed(op, subject, value), last_known))
                owners.append(draft)
            subject = draft.place.commits
            puts.append(Put(subject, sealed(op, subject, draft.commit()), draft.known.newest))
            owners.append(draft)
        if len(puts) > PUTS_MAX or sum(len(put.data) for put in puts) > BYTES_MAX:
            raise Undone(StoreUnavailable(_TOO_MUCH))
        self._puts = puts
        last = self._bus.write(self._stream, puts, op)
        self._ages.see(last)
        first = last - len(puts) + 1
        written: dict[Draft, dict[str, list[int]]] = {draft: {} for draft in changed}
        for sequence, (put, draft) in enumerate(zip(puts, owners, strict=True), first):
            written[draft].setdefault(put.subject, []).append(sequence)
        for draft in changed:
            self._settle(draft, written[draft])

    def _admit(self, tables: JetTables, asked: Group) -> None:
        """Go on only if the store takes anything on, as far as is known of it here.

        Raises:
            StoreSealed, StoreMovedOn: it does not.
        """
        if not asked.by:  # what nobody commits to tells nothing
            self._gate.look()
        newest = max((draft.known.gate for draft in tables.drafts.values()), default=0)
        refusal = self._gate.admit(newest)
        if refusal is not None:
            raise refusal

    def _guard(self) -> tuple[int, int]:
        """What the first commit of an application rests on: its sequence, and the gate's number.

        Raises:
            Stale: the store says something else of a migration than is known here.
        """
        last, number = commits.guard(self._bus, self._layout, self._partition)
        self._gate.check(number)
        return last, number

    def _settle(self, draft: Draft, written: dict[str, list[int]]) -> None:
        """Know what was written, and do what nothing rests on."""
        [sequence] = written[draft.place.commits]
        last_of = {subject: sequences[-1] for subject, sequences in written.items()}
        self._cache.put(draft.settled(sequence, last_of))
        for box, chunk in draft.chunks_at(written):
            self._cache.put_chunk(box, chunk)
        self._go_behind(draft, sequence)

    def _go_behind(self, draft: Draft, here: int) -> None:
        """Do what follows a commit; what fails of it is kept, since nobody may commit it again."""
        if draft.behind:
            sdkappid = draft.known.sdkappid
            left = self._left.setdefault(sdkappid, [])
            left += [partial(work, here) for work in draft.behind]
            self._go_on_behind(sdkappid)

    def _go_on_behind(self, sdkappid: int) -> None:
        failed: list[Callable[[], None]] = []
        left = self._left.pop(sdkappid)
        while left:
            work = left.pop(0)
            try:
                work()
            except Exception as error:  # noqa: BLE001 - it is committed, whatever this is
                failed.append(work)
                if isinstance(error, WorldError):
                    break
        if failed:
            self._left[sdkappid] = [*failed, *left][:LEFT_MAX]
            self._left_due_s = self._clock() + LEFT_S
            self._cache.forget(sdkappid)

    def _tidy(self) -> None:
        """Do from time to time what is left behind commits, of lanes of this one's own, too."""
        if self._left and self._clock() >= self._left_due_s:
            for sdkappid in list(self._left):
                self._go_on_behind(sdkappid)
                if sdkappid in self._left:  # the next one comes first the next time
                    break
        for other in self._others.values():
            other._tidy()  # noqa: SLF001

    def _forget_some(self, operation: Forget) -> Removed:
        self._cache.forget_prints()
        self._moved.forget()
        return forget(
            *(self._bus, self._layout, self._partition, operation, self._quiet, self._clock)
        )

    # -- being overtaken

    def _renew(self, applications: Sequence[int] | dict[int, Asked]) -> bool:
        """Learn how applications stand; whether one stood otherwise.

        Raises:
            Undone: one cannot be gone on with now, or is damaged.
            CommitsLost: what was answered is gone.
        """
        renewed = False
        subjects = [self._layout.application(sdkappid).commits for sdkappid in applications]
        told = snapshots.newest_of_each(self._bus, self._stream, subjects)
        for sdkappid, found in zip(applications, told, strict=True):
            place = self._layout.application(sdkappid)
            known = self._cache.get(sdkappid) or Known(sdkappid, place)
            newest, kept = 0 if found is None else found.sequence, self._cache.newest(sdkappid)
            if newest < kept:  # whoever said so may have lost it
                found = self._bus.last(self._stream, place.commits, leader=True)  # noqa: PLW2901
                newest = 0 if found is None else found.sequence
            try:
                now = known if newest == known.newest else known.renewed(found)
            except StoreDamaged as error:
                raise Undone(error) from error
            self._check_kept(sdkappid, there=now.holds(kept))
            if now is not known:
                self._cache.put(now)
                renewed = True
        return renewed

    def _suspect(self) -> None:
        """Have another node lead, if the one that does has lost what another one told.

        It refuses what rests on that, for good: what a node has lost it never gets again while it
        leads, and it does not know of it. A damaged block of its file does that.
        """
        due = {put.subject: put.last for put in self._puts if put.last}
        told = self._bus.last_of_each(self._stream, list(due), leader=True)
        has = {each.subject: each.sequence for each in told if each is not None}
        if any(has.get(subject, 0) < last for subject, last in due.items()):
            self._bus.step_down(self._stream)

    def _check_kept(self, sdkappid: int, *, there: bool) -> None:
        """Refuse to go on where a stream no longer has what it had confirmed.

        A leader that is cut off from the others may know less for a while; it takes no writes.
        """
        if there:
            self._back_since_s.pop(sdkappid, None)
            return
        if self._clock() - self._back_since_s.setdefault(sdkappid, self._clock()) < BACK_S:
            raise Undone(StoreUnavailable(_BEHIND))
        raise CommitsLost(_LOST.format(self._stream, sdkappid))

    def _forget(self, applications: Sequence[int] | dict[int, Asked]) -> None:
        for sdkappid in applications:
            self._cache.forget(sdkappid)


def _erased(operation: Operation) -> set[int]:
    """The applications of which nothing may be left that it removes; others may wait for that."""
    if isinstance(operation, Purge) and operation.through is not None:
        return {mailbox.sdkappid for mailbox in operation.mailboxes}
    return {operation.mailbox.sdkappid} if isinstance(operation, Erase) else set()


def _has(known: Known | None, hour: int) -> bool:
    return known is not None and hour in known.hours


_BEHIND: Final = "the node that leads a stream does not know what it has confirmed; try again"
_LOST: Final = (
    "stream {} no longer has commits of application {} that were confirmed: it was set back, or"
    " lost them; end all servers, keep a copy of what the nodes have, and restore a backup, or run"
    " `pullstatus store new-epoch` to go on with what is left"
)
_ALONE: Final = "what goes to other partitions is committed by itself"
_ON_THEIR_WAY: Final = (
    "parked items are on their way to another application, which cannot be reached now; try again"
)
_TO_DAMAGED: Final = "parked items are on their way, and cannot arrive before this is mended: {}"
_STILL_THERE: Final = (
    "it is done, but what was there before could not be removed from the cluster yet: finish it by"
    " doing it again"
)
_COLLIDES: Final = "others change the same mailboxes again and again; try again"
_TOO_MUCH: Final = "more at once than one write can hold; send it in parts"
