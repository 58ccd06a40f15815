"""Moving what a store holds into another: copied while it is served, and then handed over.

    copy     while the source is served: pass after pass puts into the target what it lacks and
             drops what it has too much, until a pass finds little
    seal     the source takes and hands out nothing from here on
    finish   such passes again, until one finds nothing: then both hold the same, row by row
    prove    both are audited
    switch   the source is moved for good, then the target is ready, in this order

No pass believes in one before it, so whatever ends a run, the next one goes on with what there is.
What fails between seal and switch opens the source again; only a kill leaves it sealed.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections import Counter, deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Sequence,
)
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

import msgspec

from pullstatus.errors import StoreRefused, StoreUnavailable, WorldError
from pullstatus.store.engines import engine_of, moving_engine_of
from pullstatus.store.transfer import (
    OF_MAILBOXES,
    OF_THE_STORE,
    REMEMBERED,
    End,
    Epoch,
    Key,
    Migration,
    Part,
    Role,
    Row,
    Secret,
    Stage,
    Standing,
    Stored,
    Transfer,
    key_of,
)
from pullstatus.store.values import (
    Accept,
    Act,
    AuditReport,
    Backlog,
    Finding,
    Followed,
    JournalRow,
    Mailbox,
    Progress,
    ProveSetting,
    Setting,
)

Phase = Callable[[str], AbstractContextManager[Progress]]
"""Shows what goes on for as long as that takes; given what to call it."""

Audit = Callable[[Progress], Awaitable[AuditReport]]

LITTLE = 2000  # rows: a pass that finds no more does not get much quicker by another one before it
PASSES_MAX = 8  # while the source is served: a busy one changes as fast as it is copied
CLOSING_MAX = 4  # once it is sealed: the first finds what is left, the next finds nothing
ABREAST = 200  # mailboxes that are asked for together


class Moved(msgspec.Struct, frozen=True):
    """What a migration has come to.

    Attributes:
        source, target: their names.
        switched: the target is the store from now on; else it was only filled.
        mailboxes, entries, pulls: what both hold: entries, and rows of the journal.
        passes: how many there were.
        shut_s: for how many seconds the source took and handed out nothing, before the switch.
    """

    source: str
    target: str
    switched: bool
    mailboxes: int = 0
    entries: int = 0
    pulls: int = 0
    passes: int = 0
    shut_s: float = 0.0


async def move_store(
    source_url: str,
    target_url: str,
    *,
    act: Act,
    phase: Phase,
    switch: bool = True,
    damaged: Collection[Mailbox] = (),
    prove_setting: ProveSetting,
    accept: Accept,
) -> Moved:
    """Begin a migration, go on with it, or finish it.

    Args:
        act: whose doing it is; on record in both once the source is sealed, with the names of
            both for its detail.
        switch: go on to the end; else stop when a pass has found little.
        damaged: mailboxes that are moved as they are, though an audit finds something in them.
        prove_setting: as of `audit_store`.
        accept: may refuse the target for what its settings are going to be; raises that.

    Raises:
        InvalidSetting: no engine has such a URL, or its stores can't be moved.
        StoreRefused: what stands against it, and what to do; nothing has changed for the source.
        StoreUnavailable, OutcomeUnknown: a store failed; do it again.
    """
    _check_apart(source_url, target_url)

    def audit_of(url: str) -> Audit:
        return lambda progress: engine_of(url).audit(url, progress, prove_setting=prove_setting)

    async with _opened(source_url, target=False) as source:
        await _check_unmade(source, target_url)
        async with _opened(target_url, target=True) as target:
            ends = Ends(source, target, audit_of(source_url), audit_of(target_url))
            return await move(
                ends, act=act, phase=phase, switch=switch, damaged=damaged, accept=accept
            )


class Ends(NamedTuple):
    """Both ends of a migration, and what proves each from its data."""

    source: Transfer
    target: Transfer
    audit_source: Audit
    audit_target: Audit


async def move(
    ends: Ends,
    *,
    act: Act,
    phase: Phase,
    switch: bool = True,
    damaged: Collection[Mailbox] = (),
    accept: Accept,
) -> Moved:
    """As `move_store`, between ends that are open."""
    source, target = ends.source, ends.target
    mine, theirs = await source.migration(), await target.migration()
    step = next_step(mine, theirs, source.name, target.name)
    if step is Step.DONE:
        return Moved(source.name, target.name, switched=True)
    ticket = act.ticket if mine is None or step is Step.BEGIN else mine.ticket
    told = _told(act, source.name, target.name, ticket)
    run = _Move(ends, told, phase, damaged, accept)
    await run.begin(mine, theirs, step, switch=switch)
    return await run.go_on(switch=switch)


def _told(act: Act, source: str, target: str, ticket: bytes) -> Act:
    detail = msgspec.json.encode({"source": source, "target": target}).decode()
    return msgspec.structs.replace(act, detail=detail, ticket=ticket)


async def abandon_move(
    source_url: str, target_url: str, *, act: Act, say: Callable[[str], None]
) -> tuple[str, str]:
    """End a migration whose target was not in use yet, and open the source again.

    The target can never be used then. Returns the names of both.

    Args:
        say: is told of a target that can't be reached, and need not be.

    Raises:
        StoreRefused: there is none, or the target is in use, or may be.
    """
    _check_apart(source_url, target_url)
    async with _opened(source_url, target=False) as source:
        mine = await source.migration()
        if mine is None or mine.role is not Role.SOURCE:
            raise StoreRefused(f"{source.name} is not being moved; there is nothing to abandon")
        # A target of which nothing is left can be in use only if the source was handed over.
        if await _is_left(target_url, mine, say):
            await _abandon_target(source, mine, target_url)
        elif mine.stage is Stage.MOVED:
            raise StoreRefused(
                f"{mine.peer} may be in use: {source.name} was handed over to it; name it with --to"
            )
        told = _told(act, source.name, mine.peer, act.ticket)
        if not await source.enter(None, expected=mine, act=told):
            raise StoreRefused("the migration went on meanwhile; end that, then try again")
        return source.name, mine.peer


async def _is_left(target_url: str, mine: Migration, say: Callable[[str], None]) -> bool:
    """Whether there is anything of a target, as far as that matters.

    Before the source was handed over nobody can have used it, nor can anybody later: it goes on
    saying that it is being filled.
    """
    try:
        return await moving_engine_of(target_url).holds_store(target_url)
    except (StoreRefused, StoreUnavailable) as error:
        if mine.stage is Stage.MOVED:
            raise
        say(
            f"{error}; nobody can have used what is there, nor can anybody: remove it if it is left"
        )
        return False


async def _abandon_target(source: Transfer, mine: Migration, target_url: str) -> None:
    async with _opened(target_url, target=True) as target:
        theirs = await target.migration()
        if theirs is None or theirs.ticket != mine.ticket or theirs.role is not Role.TARGET:
            if mine.stage is not Stage.MOVED and mine.peer == target.name:
                return  # it was removed, and is empty or something else now
            raise StoreRefused(
                f"{target.name} is not what {source.name} is moved to: that is {mine.peer}, as far"
                " as it was not moved on"
            )
        if theirs.stage is Stage.TAKEN:
            raise StoreRefused(
                f"{target.name} has been in use since: nothing can be undone without losing what it"
                " took; to go back, move it to a new store"
            )
        left = msgspec.structs.replace(theirs, stage=Stage.ABANDONED)
        if theirs != left and not await target.enter(left, expected=theirs):
            raise StoreRefused(f"{target.name} has been in use since: nothing can be undone")


def _check_apart(source_url: str, target_url: str) -> None:
    file = engine_of(source_url).file(source_url)
    if source_url == target_url or (file and file == engine_of(target_url).file(target_url)):
        raise StoreRefused("both are the same store; name a new one with --to")


async def _check_unmade(source: Transfer, target_url: str) -> None:
    """Refuse to make a file for what is refused whatever is in it: it would pass for a store."""
    file = engine_of(target_url).file(target_url)
    if file is None or file.exists():
        return
    mine = await source.migration()
    meant = mine is not None and engine_of(mine.peer).file(mine.peer) == file
    next_step(mine, None, source.name, mine.peer if mine is not None and meant else target_url)


@contextlib.asynccontextmanager
async def _opened(url: str, *, target: bool) -> AsyncIterator[End]:
    end = await moving_engine_of(url).open_end(url, target=target)
    try:
        yield end
    finally:
        await end.close()


# -- where it stands -------------------------------------------------------------------------------


class Step(enum.Enum):
    """What is due.

    BEGIN: all. FILL: the target, which knows of nothing yet, or is new. GO_ON: with both. DONE:
    nothing.
    """

    BEGIN = enum.auto()
    FILL = enum.auto()
    GO_ON = enum.auto()
    DONE = enum.auto()


def next_step(mine: Migration | None, theirs: Migration | None, source: str, target: str) -> Step:
    """What is due, by what both ends say.

    Args:
        mine, theirs: what source and target say.
        source, target: their names.

    Raises:
        StoreRefused: they do not go together.
    """
    if source == target:
        raise StoreRefused("both are the same store; name a new one with --to")
    if mine is not None and mine.role is Role.TARGET:
        if mine.stage in (Stage.COPYING, Stage.ABANDONED):
            raise StoreRefused(
                f"{source} is itself what a migration from {mine.peer} has left, not filled to its"
                " end"
            )
        mine = None  # that one is over
    if theirs is not None and theirs.stage is Stage.ABANDONED:
        raise StoreRefused(
            f"{target} is what an abandoned migration from {theirs.peer} has left: remove it, or"
            " name another store with --to"
        )
    if mine is None:
        if theirs is None:
            return Step.BEGIN
        raise StoreRefused(f"{target} {_says(theirs)}: name a new store with --to")
    if theirs is not None:
        if theirs.role is not Role.TARGET or theirs.ticket != mine.ticket:
            raise StoreRefused(
                f"{target} {_says(theirs)}, and {source} {_says(mine)}: go on with that one, or end"
                " it with --abandon"
            )
        if theirs.stage is Stage.COPYING:
            return Step.GO_ON
        return Step.DONE  # only a source that is moved has a target that is ready
    if mine.peer != target:
        raise StoreRefused(f"{source} {_says(mine)}: go on with that one, or end it with --abandon")
    if mine.stage is Stage.MOVED:
        raise StoreRefused(
            f"{source} was handed over to {target}, which is empty now: bring back the store that"
            " was there, or a backup of it"
        )
    return Step.FILL


def _says(found: Migration) -> str:
    if found.role is Role.TARGET:
        return f"is or was filled from {found.peer}"
    return f"is being moved to {found.peer}, or was"


_ADVICE: Final = "name a new store with --to"


async def enter_target(
    target: Transfer, now: Migration, before: Migration | None, advice: str = _ADVICE
) -> None:
    """Have a store be filled, if it does as expected, and holds nothing or was filled before.

    Whoever was at it before it took nothing more may have put something there: so it is looked at
    behind that, too, by this run or by the next one.

    Raises:
        StoreRefused: it does not, or holds anything; then it is as before.
    """
    if before is None or before.unproven:
        unproven = msgspec.structs.replace(now, unproven=True)
        if not await target.enter(unproven, expected=before):
            raise _others(target)
        try:
            await check_empty(target, advice)
        except StoreRefused:
            await target.enter(None, expected=unproven)
            raise
        before = unproven
    if not await target.enter(now, expected=before):
        raise _others(target)


def _others(end: Transfer) -> StoreRefused:
    return StoreRefused(
        f"somebody else has a hand in the migration of {end.name}: end that, then try again"
    )


async def check_empty(target: Transfer, advice: str = _ADVICE) -> None:
    """Refuse to fill a store that holds anything.

    Raises:
        StoreRefused: it does; with what to do.
    """
    for part in (*OF_THE_STORE, *REMEMBERED):
        found = await target.rows(part)
        if part is Secret or (part is Epoch and len(found) == 1):  # which every store has
            continue
        if found:
            raise StoreRefused(
                f"{target.name} is not empty: {advice}; what two stores hold is never mixed"
            )


# -- the move --------------------------------------------------------------------------------------


class _Move:
    """One run of a migration."""

    def __init__(
        self, ends: Ends, act: Act, phase: Phase, damaged: Collection[Mailbox], accept: Accept
    ) -> None:
        self._ends = ends
        self._source = ends.source
        self._target = ends.target
        self._act = act
        self._phase = phase
        self._damaged = frozenset(damaged)
        self._accept = accept
        self._mine = Migration(act.ticket, Role.SOURCE, Stage.COPYING, self._target.name)
        self._theirs = Migration(act.ticket, Role.TARGET, Stage.COPYING, self._source.name)
        self._passes = 0
        self._copy = Copy(self._source, self._target)

    async def begin(
        self, mine: Migration | None, theirs: Migration | None, step: Step, *, switch: bool
    ) -> None:
        """Have both ends say that they take part: the source first, as it is told of the other.

        The target says so in any case, so that a run before this one, if it is still there, can't
        go on. What either says of the other's name is as it was.
        A source that a kill has left sealed is opened if there is much to do before it need be.
        """
        if step is not Step.GO_ON:
            await check_empty(self._target)
        if step is Step.BEGIN:
            await self._prove_source()
            await self._enter(self._source, self._mine, mine)
        else:
            assert mine is not None
            self._mine = mine
            if mine.stage is Stage.SEALED and (step is Step.FILL or not switch):
                await self._enter_source(Stage.COPYING)
            if self._mine.stage is Stage.COPYING:
                await self._prove_source()
        if step is Step.GO_ON:
            assert theirs is not None
            self._theirs = msgspec.structs.replace(theirs, unproven=False)
        await enter_target(self._target, self._theirs, theirs)

    async def go_on(self, *, switch: bool) -> Moved:
        """Do what is due."""
        if self._mine.stage is Stage.COPYING:
            await self._copy_until_little()
            if not switch:
                return self._moved(switched=False)
            self._accept(await self._settings())
        began_s = asyncio.get_running_loop().time()
        try:
            if self._mine.stage is Stage.COPYING:
                await self._enter_source(Stage.SEALED, self._act)
            await self._finish()
        except BaseException as error:
            if self._may_be_sealed(error):
                await _to_its_end(self._open_again(error))
            raise
        shut_s = asyncio.get_running_loop().time() - began_s
        await self._enter(
            self._target, msgspec.structs.replace(self._theirs, stage=Stage.READY), self._theirs
        )
        return msgspec.structs.replace(self._moved(switched=True), shut_s=shut_s)

    async def _copy_until_little(self) -> None:
        """Pass after pass, as long as each finds less than the one before.

        Else the source grows as fast as it is copied, and waiting makes the last passes longer.
        """
        before = 1 << 62
        while self._passes < PASSES_MAX:
            changed = await self._pass("Copying")
            if changed <= LITTLE or changed >= before:
                return
            before = changed

    async def _prove_source(self) -> None:
        """Refuse before anything is done what would be refused at the end."""
        found = await self._audit(self._ends.audit_source, "Auditing what is moved")
        self._check_findings(self._source, found.findings)
        self._accept(await self._settings())

    def _may_be_sealed(self, error: BaseException) -> bool:
        """Whether the source may be sealed by this run; who was refused that has not done it."""
        stage = self._mine.stage
        return stage is Stage.SEALED or (
            stage is Stage.COPYING and not isinstance(error, StoreRefused)
        )

    async def _open_again(self, error: BaseException) -> None:
        """Open the source; a seal of which nothing was heard can't come behind that any more."""
        opened = msgspec.structs.replace(self._mine, stage=Stage.COPYING)
        sealed = msgspec.structs.replace(self._mine, stage=Stage.SEALED)
        with contextlib.suppress(WorldError):
            for before in (sealed, opened):
                if await self._source.enter(opened, expected=before):
                    self._mine = opened
                    return
        raise StoreUnavailable(
            f"{str(error) or 'interrupted'}; {self._source.name} may be sealed still, and takes"
            " nothing then: do this again, or end it with --abandon"
        ) from error

    async def _finish(self) -> None:
        """Prove that both hold the same, and hand the source over."""
        for _ in range(CLOSING_MAX):
            if not await self._pass("Copying the rest"):
                break
        else:
            raise StoreRefused(
                f"{self._target.name} does not become what {self._source.name} is: somebody else"
                " writes to one of them; end that, then do this again"
            )
        found = await self._audit(self._ends.audit_source, "Auditing what was moved")
        self._check_findings(self._source, found.findings)
        copied = await self._audit(self._ends.audit_target, "Auditing what it has become")
        if (copied.findings, counted(copied)) != (found.findings, counted(found)):
            self._check_findings(self._target, copied.findings, none_allowed=True)
            raise StoreRefused(f"{self._target.name} does not count what {self._source.name} does")
        if self._mine.stage is not Stage.MOVED:
            await self._enter_source(Stage.MOVED)

    async def _enter_source(self, stage: Stage, act: Act | None = None) -> None:
        """Also if this is cancelled meanwhile: then it is known what the source says."""
        now = msgspec.structs.replace(self._mine, stage=stage)

        async def enter() -> None:
            await self._enter(self._source, now, self._mine, act)
            self._mine = now

        await _to_its_end(enter())

    async def _enter(
        self,
        end: Transfer,
        now: Migration | None,
        before: Migration | None,
        act: Act | None = None,
    ) -> None:
        if not await end.enter(now, expected=before, act=act):
            raise _others(end)

    async def _pass(self, what: str) -> int:
        self._passes += 1
        with self._phase(what) as progress:
            return await self._copy.once(progress)

    async def _audit(self, audit: Audit, what: str) -> AuditReport:
        with self._phase(what) as progress:
            return await audit(progress)

    def _check_findings(
        self, end: Transfer, findings: Sequence[Finding], *, none_allowed: bool = False
    ) -> None:
        for finding in findings:
            if none_allowed or finding.mailbox is None or finding.mailbox not in self._damaged:
                where = "the store" if finding.mailbox is None else str(finding.mailbox)
                raise StoreRefused(
                    f"{end.name} is not sound: {where}: {finding.problem}; `pullstatus audit` tells"
                    " all, and --damaged names mailboxes that are to be moved as they are"
                )

    async def _settings(self) -> list[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = []
        after: Key | None = None
        while rows := await self._source.rows(Setting, after):
            found += [
                (row.name, row.value)
                for row in rows
                if isinstance(row, Setting) and row.value is not None
            ]
            after = key_of(rows[-1])
        return found

    def _moved(self, *, switched: bool) -> Moved:
        count = self._copy.count
        return Moved(
            self._source.name,
            self._target.name,
            switched,
            mailboxes=count[Standing],
            entries=self._copy.entries,
            pulls=count[JournalRow],
            passes=self._passes,
        )


async def _to_its_end(work: Coroutine[object, object, None]) -> None:
    """Do it; whoever is cancelled meanwhile is so once it has ended, unless it fails."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


def counted(report: AuditReport) -> list[Backlog]:
    """How mailboxes stand, but for what is made anew behind a move."""
    return [msgspec.structs.replace(row, followed=Followed()) for row in report.mailboxes]


# -- one pass --------------------------------------------------------------------------------------


class Copy:
    """Makes one store what another is, pass by pass.

    Attributes:
        count: rows that the source had in the newest pass, by their part.
        entries: how many of its entries were stored then.
    """

    def __init__(self, source: Transfer, target: Transfer) -> None:
        self._source = source
        self._target = target
        self.count: Counter[Part] = Counter()
        self.entries = 0

    async def once(self, progress: Progress) -> int:
        """Put what the target lacks, drop what it has too much; returns how many rows that were."""
        self.count.clear()
        self.entries = 0
        changed = 0
        mailboxes: list[Mailbox] = []
        total = 0

        def note(rows: Iterable[Row]) -> None:
            nonlocal total
            for row in rows:
                if isinstance(row, Standing):
                    mailboxes.append(row.mailbox)
                    total += row.tail - row.purged
                elif isinstance(row, Stored):
                    self.entries += row.count
            progress(min(self.entries, total), total)

        for part in OF_THE_STORE:
            changed += await self._level(part, (), note)
        for start in range(0, len(mailboxes), ABREAST):
            for part in OF_MAILBOXES:
                changed += await self._level(part, mailboxes[start : start + ABREAST], note)
        for part in REMEMBERED:
            changed += await self._level(part, (), note)
        return changed

    async def _level(
        self, part: Part, mailboxes: Sequence[Mailbox], note: Callable[[Iterable[Row]], None]
    ) -> int:
        theirs = _Steps(self._source, part, mailboxes)
        ours = _Steps(self._target, part, mailboxes)
        changed = 0
        while True:
            if await theirs.fill():
                self.count[part] += len(theirs.rows)
                note(theirs.rows)
            await ours.fill()
            if not theirs.rows and not ours.rows:
                return changed
            drop, put = differences(theirs.rows, ours.rows)
            if drop or put:
                await self._target.replace(part, drop, put)
                changed += len(drop) + len(put)


class _Steps:
    """The rows of a part, step by step.

    Attributes:
        rows: those that were not taken yet; none: there are no more.
    """

    def __init__(self, end: Transfer, part: Part, mailboxes: Sequence[Mailbox]) -> None:
        self._end = end
        self._part = part
        self._mailboxes = mailboxes
        self._after: Key | None = None
        self._ended = False
        self.rows: deque[Row] = deque()

    async def fill(self) -> bool:
        """Have rows, if there are any; whether these are others than before."""
        if self.rows or self._ended:
            return False
        found = await self._end.rows(self._part, self._after, self._mailboxes)
        self.rows.extend(found)
        self._ended = not found
        if found:
            self._after = key_of(found[-1])
        return bool(found)


def differences(theirs: deque[Row], ours: deque[Row]) -> tuple[list[Row], list[Row]]:
    """What to drop and to put for ours to be theirs, taken from both until either ends.

    One that has none to begin with has no more.
    """
    drop: list[Row] = []
    put: list[Row] = []
    if theirs == ours:  # as mostly
        theirs.clear()
        ours.clear()
    elif not ours:
        put += theirs
        theirs.clear()
    elif not theirs:
        drop += ours
        ours.clear()
    while theirs and ours:
        if theirs[0] != ours[0]:
            one, other = key_of(theirs[0]), key_of(ours[0])
            if one > other:
                drop.append(ours.popleft())
                continue
            put.append(theirs[0])
            if one < other:
                theirs.popleft()
                continue
        theirs.popleft()
        ours.popleft()
    return drop, put
