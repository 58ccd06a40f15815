"""Lets what is pending leave, turn by turn, over all mailboxes; see `pending` for what waits."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from pullstatus import limits
from pullstatus.apps import LiveApplication, rules
from pullstatus.apps.values import NOBODY
from pullstatus.errors import SettingChanged, StoreDamaged, StoreUnavailable
from pullstatus.mailbox import leaving
from pullstatus.mailbox.leaving import Ready, Turn, is_late_part, is_nameless, is_part, ready
from pullstatus.mailbox.names import Names, Told, names_of
from pullstatus.mailbox.owning import Owned, Stored, owned
from pullstatus.mailbox.pending import (
    NOBODYS_PENDING,
    Item,
    items_of,
    overdue_ms,
)
from pullstatus.mailbox.rereading import sources_of
from pullstatus.store import Backlog, Mailbox, Outcome, Store, Unpark

__all__ = ["Pending"]


class Pending:
    """What lets everything leave that may, in all mailboxes of a store."""

    def __init__(self, store: Store, names: Names, new_ticket: Callable[[], bytes]) -> None:
        """To be told the time; any number of processes may do this beside each other.

        Args:
            names: what knows the names of sends: the store, as a rule.
        """
        self._store = store
        self._names = names
        self._new_ticket = new_ticket
        self._idle: dict[Mailbox, tuple[int, int]] = {}  # how many came, and until when it rests
        self._ahead: set[int] = set()  # of number 0: what is handed over, and has not left
        self._apart: set[int] | None = set()  # whose parts number 0 may have; None: it is not known

    async def release(self, now_ms: int) -> int:
        """Let leave what has all it waited for, and what is overdue; returns how many items did.

        Where nothing has come and nothing is due, nothing is read.

        Raises:
            StoreUnavailable: some are left for the next time, for which this is to be called again.
        """
        count = 0
        failed: StoreUnavailable | None = None
        self._apart = set()
        async for row in self._rows():
            came, until_ms = self._idle.get(row.mailbox, (0, 0))
            if came == row.accepted and now_ms < until_ms:
                continue
            try:
                count += await self._release(row, now_ms)
            except SettingChanged:  # with the next turn
                self._idle.pop(row.mailbox, None)
            except StoreDamaged:  # its own calls are told; what cannot be read nobody waits for
                self._idle.pop(row.mailbox, None)
                if row.mailbox == NOBODYS_PENDING:
                    self._apart = self._apart or set()
            except StoreUnavailable as error:  # what others have the store may take
                failed = failed or error
        if failed is not None:
            raise failed
        return count

    async def _rows(self) -> AsyncIterator[Backlog]:
        """How mailboxes stand, number 0 first: how others do is read behind what it hands over."""
        rows: list[Backlog] = []
        with contextlib.suppress(StoreDamaged):
            rows = await self._store.backlog(NOBODY)
        for row in rows:
            if row.mailbox == NOBODYS_PENDING and row.waiting:
                yield row
        rows = await self._store.pending(limits.PENDING_MAILBOXES_MAX)
        standing = {row.mailbox for row in rows}
        self._idle = {each: rest for each, rest in self._idle.items() if each in standing}
        for row in rows:
            if row.mailbox != NOBODYS_PENDING:
                yield row

    async def _release(self, row: Backlog, now_ms: int) -> int:
        """What leaves of one mailbox, in one commit, or as much of it as lies near together."""
        sdkappid, nobodys = row.mailbox.sdkappid, row.mailbox == NOBODYS_PENDING
        first, last = row.accepted - row.waiting + 1, row.accepted
        self._apart = None if nobodys else self._apart
        turn = Turn(self._store, now_ms, self._new_ticket)
        live = None if nobodys else await turn.known.application(sdkappid)
        out, items = await self._standing(row, live)
        named = await self._named(items, sdkappid, live)
        items |= named
        found, next_ms = ready(items.items(), now_ms, apart=nobodys)
        if nobodys:
            parts = [each.item.name for each in found if is_part(each)]
            self._apart = {name.sdkappid for name in parts if name is not None}
        elif self._apart is None or sdkappid in self._apart:
            found, next_ms = [each for each in found if not is_late_part(each)], None
        reach = min([*out, *(each.seqs[-1] for each in found)], default=last) + leaving.STEP_ITEMS
        near = [each for each in found if each.seqs[-1] < reach]
        ruled = await self._ruled(near) if nobodys else {}
        for each in near:
            if turn.is_full:
                reach = each.seqs[-1]
                break
            outcome = await turn.let_leave(each, live, ruled.get(each.seqs))
            out |= dict.fromkeys(each.seqs, outcome)
        out = {seq: outcome for seq, outcome in out.items() if seq < reach}
        far = [each for each in found if each.seqs[-1] >= reach] if nobodys else []
        ahead = await turn.let_ahead(far)
        if out or named:
            end = max((*out, *named) if reach > last else out)
            stays = [seq for seq in range(first, end + 1) if seq not in out]
            await self._store.unpark(
                Unpark(
                    row.mailbox,
                    first,
                    [out.get(seq, Outcome.PUT_BACK) for seq in range(first, end + 1)],
                    turn.appends(),
                    [items[seq].encoded() for seq in stays],
                    now_ms,
                    None,
                    live.while_set if live else None,
                    self._new_ticket(),
                    turn.parks(),
                )
            )
            if nobodys:
                self._ahead = {seq for seq in self._ahead | ahead if seq > end}
        elif next_ms is not None and not any(
            is_nameless(item) and now_ms < overdue_ms(item, limits.PENDING_NAME_S)
            for item in items.values()
        ):
            self._idle[row.mailbox] = row.accepted, next_ms
        return len(out)

    async def _standing(
        self, row: Backlog, live: LiveApplication | None
    ) -> tuple[dict[int, Outcome], dict[int, Item]]:
        """What leaves of a mailbox whatever it says, and the items that wait there, in order.

        Args:
            live: whose mailbox it is, if there is still such an application.
        """
        nobodys = row.mailbox == NOBODYS_PENDING
        out: dict[int, Outcome] = {}
        items: dict[int, Item] = {}
        first = row.accepted - row.waiting + 1
        for seq, item in (await items_of(self._store, row.mailbox, first, row.accepted)).items():
            if item is None:
                out[seq] = Outcome.QUARANTINED
            elif not nobodys and (live is None or live.application.owner != item.owner):
                out[seq] = Outcome.ERASED  # whom it came for is gone, with all that was theirs
            elif nobodys and seq in self._ahead:
                out[seq] = Outcome.ROUTED
            else:
                items[seq] = item
        return out, items

    async def _named(
        self, items: dict[int, Item], sdkappid: int, live: LiveApplication | None
    ) -> dict[int, Item]:
        """Those that have a name by now, and had none."""
        nameless = [(seq, item) for seq, item in items.items() if is_nameless(item)]
        names = await names_of(
            self._names,
            [Told(item.report.id, item.report.number) for _, item in nameless],
            sdkappid=sdkappid or None,
            owner=live.application.owner if live else None,
        )
        return {
            seq: msgspec.structs.replace(item, name=name)
            for (seq, item), name in zip(nameless, names, strict=True)
            if name is not None
        }

    async def _ruled(self, found: Sequence[Ready]) -> dict[tuple[int, ...], Owned]:
        """Whose rules say that items are which no name has come for: a rule may be a new one."""
        overdue = [each for each in found if each.item.name is None]
        if not overdue:
            return {}
        known, spoken = Stored(self._store, await rules(self._store)), await sources_of(self._store)
        said: dict[tuple[int, ...], Owned] = {}
        for each in overdue:
            source = spoken.get(each.item.source)
            if source is not None:
                of = [each.item.report]
                token = each.item.token
                [said[each.seqs]] = await owned(
                    self._names, known, of, token=token, source=source, own=None, named=False
                )
        return said
