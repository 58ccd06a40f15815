"""Any engine against the model: whatever is done in whatever order, both say the same.

`make torture-model` makes longer runs, by PULLSTATUS_MODEL_EXAMPLES and PULLSTATUS_MODEL_STEPS,
with other choices each; without them the choices are the same in every run.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import tempfile
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import apsw
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pullstatus import limits
from pullstatus.errors import InvalidSetting, PeerError, PullstatusError, SettingChanged
from pullstatus.records import Kind
from pullstatus.store import (
    Act,
    Append,
    Aside,
    Change,
    Count,
    Discard,
    Entry,
    Erased,
    Fingerprints,
    Follow,
    Followed,
    Index,
    InHand,
    Mailbox,
    Naming,
    Noted,
    Once,
    Outcome,
    Park,
    Pull,
    Reader,
    ReaderState,
    Redeliver,
    Release,
    RepeatKey,
    Setting,
    Span,
    Store,
    Tally,
    Tickets,
    Unfollow,
    Unpark,
    While,
    init_store,
)
from pullstatus.store.migration import Moved, move_store
from pullstatus.store.segments import build, word
from pullstatus.store.sqlite import engine as sqlite
from pullstatus.store.sqlite.reading import ReadPool
from pullstatus.store.values import accept_any, any_setting
from tests.store.build import (
    NOW_MS,
    PULL_KEY_MS,
    REPEAT_MS,
    acts_of,
    again_of,
    backlog_of,
    by_all,
    by_application,
    chain_of,
    check_journal,
    entries_of,
    journal_of,
    parked,
    records,
    repeat_key,
    settings_of,
    sums_of,
    together,
    waiting_in,
    worst_in,
)
from tests.store.engines import ENGINES, Doors, Place
from tests.store.model import Answer, Box, Model

T = TypeVar("T")

EXAMPLES = int(os.environ.get("PULLSTATUS_MODEL_EXAMPLES", "40"))
STEPS = int(os.environ.get("PULLSTATUS_MODEL_STEPS", "40"))
MOVES_MAX = 3  # of one store: they take far longer than all else
FIXED = "PULLSTATUS_MODEL_EXAMPLES" not in os.environ

mailboxes = st.builds(Mailbox, st.sampled_from([1, 2]), st.sampled_from(Kind))
# Small pools, so that keys, records and signatures do come again.
keys = st.sampled_from(["k1", "k2"])
readers = st.sampled_from(["r1", "r2"])
repeat_keys = st.builds(
    RepeatKey, st.sampled_from(["a", "b"]), keys, st.sampled_from([b"1" * 16, b"2" * 16])
)
items = st.tuples(
    st.just(NOW_MS // 1000 - 60),
    st.lists(st.integers(1, 6), min_size=1, max_size=3).map(
        lambda numbers: b"".join(b"%016d" % number for number in numbers)
    ),
)
sizes = st.one_of(st.integers(0, 5), st.sampled_from([99, 100, 101, 230]))
counts = st.one_of(st.integers(1, 6), st.sampled_from([50, 99, 100]))
asides = st.sampled_from(Aside)
waits_ms = st.sampled_from(
    [
        1,
        1000,
        PULL_KEY_MS - 1,
        PULL_KEY_MS,
        PULL_KEY_MS + 1,
        REPEAT_MS - 1,
        REPEAT_MS,
        REPEAT_MS + 1,
    ]
)

blocks = st.builds(
    Naming,
    st.lists(st.sampled_from([-1, 1, 2, 3]), min_size=1, unique=True).map(sorted),
    st.sampled_from([b"one", b"two"]),
)
conditions = st.tuples(st.sampled_from([None, "x", "y"]), st.sampled_from([0, 0, 1]))

never = st.just(0)
undated: st.SearchStrategy[Append | Pull] = st.one_of(
    st.builds(Append, mailboxes, st.integers(1, 4).map(records), never),
    st.builds(Append, mailboxes, st.integers(1, 3).map(records), never, repeat_keys),
    st.builds(Pull, mailboxes, counts, never),
    st.builds(Pull, mailboxes, counts, never, key=keys),
    st.builds(Pull, mailboxes, counts, never, reader=st.builds(Reader, readers)),
    st.builds(Pull, mailboxes, counts, never, reader=st.builds(Reader, readers, st.integers(1, 9))),
    st.builds(
        Pull,
        mailboxes,
        counts,
        never,
        once=st.builds(Once, st.sampled_from(["1", "2"]), st.sampled_from([-1, 0, 1000])),
    ),
)


def scoped(operation: Append) -> Append:
    """The same from a sender of its application's: a scope is of one application."""
    key, prints, owner = operation.repeat_key, operation.fingerprints, operation.mailbox.sdkappid
    if key is not None:
        key = msgspec.structs.replace(key, scope=f"{key.scope}/{owner}")
    if prints is not None:
        prints = msgspec.structs.replace(prints, scope=f"{prints.scope}/{owner}")
    return msgspec.structs.replace(operation, repeat_key=key, fingerprints=prints)


class ReadsAtOnce(ReadPool):
    """Asks in the thread of whoever asks: what is compared after a step are sixty questions."""

    async def ask(self, question: Callable[[apsw.Connection], T]) -> T:
        return self._ask(question)

    async def close(self) -> None:
        self._local = threading.local()
        await super().close()


class Machine(RuleBasedStateMachine):
    """An engine and the model, done the same things to."""

    place: Place
    opening: Doors

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()
        self._opened = contextlib.AsyncExitStack()
        self._runner = self._stack.enter_context(asyncio.Runner())
        # So that an index of what is remembered, where an engine has one, has something to take.
        self._stack.enter_context(mock.patch.object(limits, "FINGERPRINTS_RECENT_MAX", 2))
        self._stack.enter_context(mock.patch.object(sqlite, "ReadPool", ReadsAtOnce))
        self.model = Model()
        self.sent: list[Pull] = []
        self.now_ms = NOW_MS
        self.ticket = Tickets(lambda size: b"\1" * size)  # None of them is `NO_TICKET`.
        self.doors: list[Store] = []

    @property
    def store(self) -> Store:
        """A server's door to the store and a command's, in turn: what one does the other sees."""
        self.doors.reverse()
        return self.doors[0]

    def open(self) -> None:
        opener = self.run(self._opened.enter_async_context(type(self).opening(self.url)))
        self.doors = [self.run(opener(server=server)) for server in (True, False)]

    def close(self) -> None:
        self.doors = []
        self.run(self._opened.aclose())

    @initialize()
    def begin(self) -> None:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.url = self._stack.enter_context(type(self).place(folder))
        self.open()

    def teardown(self) -> None:
        try:
            self.close()
        finally:
            self._stack.close()

    def run(self, verb: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(verb)

    def dated(self, operation: Append | Pull) -> Append | Pull:
        dated = msgspec.structs.replace(operation, at_ms=self.now_ms, ticket=self.ticket())
        if isinstance(dated, Append):
            return scoped(dated)
        if dated.once is not None:
            until_ms = self.now_ms + dated.once.until_ms
            dated = msgspec.structs.replace(dated, once=Once(dated.once.nonce, until_ms))
        return dated

    def condition(self, data: st.DataObject, sdkappid: int) -> While | None:
        """None, or one that holds, or one that does not, of a setting of an application."""
        begin, age = data.draw(conditions)
        name = f"{begin}/{sdkappid}"
        return None if begin is None else While(name, self.model.revision(name) - age)

    def marks(self, data: st.DataObject, sdkappid: int) -> list[tuple[Mailbox, Followed]]:
        """Of a mailbox, or none, whether there is one or not; one may have moved since."""
        marks = []
        for kind in data.draw(st.sets(st.sampled_from(list(Kind)), max_size=1)):
            mailbox = Mailbox(sdkappid, kind)
            mark = self.model.boxes.get(mailbox, Box()).mark
            turn = mark.turn + data.draw(st.booleans())
            marks.append((mailbox, Followed(mark.through, mark.tallied, turn)))
        return marks

    def new_act(self) -> Act:
        return Act("me", "do", "because", "{}", self.now_ms, self.ticket())

    def act(self, data: st.DataObject) -> Act | None:
        """None, or a new one, or one that is on record."""
        how = data.draw(st.sampled_from(["none", "new", "known"]))
        if how == "known" and self.model.acts:
            return data.draw(st.sampled_from(self.model.acts))
        return None if how == "none" else self.new_act()

    def check(self, operation: Append | Pull) -> None:
        operation = msgspec.structs.replace(operation, ticket=self.ticket())
        if isinstance(operation, Append):
            operation = scoped(operation)
        expected = self.model.do(operation)
        [answer] = self.run(together(self.store, operation))
        assert same(answer, expected)

    def settle(self, verb: Coroutine[Any, Any, T], expected: T | type[PullstatusError]) -> None:
        if isinstance(expected, type):
            with pytest.raises(expected):
                self.run(verb)
        else:
            assert self.run(verb) == expected

    # -- what can be done ------------------------------------------------------------------------

    @rule(mailbox=mailboxes, size=sizes)
    def append(self, mailbox: Mailbox, size: int) -> None:
        self.check(Append(mailbox, records(size), self.now_ms))

    @rule(mailbox=mailboxes, size=st.integers(0, 3), key=repeat_keys)
    def append_keyed(self, mailbox: Mailbox, size: int, key: RepeatKey) -> None:
        self.check(Append(mailbox, records(size), self.now_ms, key))

    @rule(mailbox=mailboxes, scope=st.sampled_from(["a", "b"]), known=st.lists(items, max_size=5))
    def append_fingerprinted(
        self, mailbox: Mailbox, scope: str, known: list[tuple[int, bytes]]
    ) -> None:
        prints = Fingerprints(scope, known)
        self.check(Append(mailbox, records(len(known)), self.now_ms, fingerprints=prints))

    @rule(
        mailbox=mailboxes,
        key=st.one_of(st.none(), repeat_keys),
        known=st.one_of(st.none(), st.lists(items, min_size=2, max_size=2)),
        data=st.data(),
    )
    def append_while(
        self,
        mailbox: Mailbox,
        key: RepeatKey | None,
        known: list[tuple[int, bytes]] | None,
        data: st.DataObject,
    ) -> None:
        prints = None if known is None else Fingerprints("a", known)
        condition = self.condition(data, mailbox.sdkappid)
        self.check(Append(mailbox, records(2), self.now_ms, key, prints, condition))

    @rule(mailbox=mailboxes, key=st.one_of(st.none(), keys), once=st.booleans(), data=st.data())
    def pull_while(
        self, mailbox: Mailbox, key: str | None, once: bool, data: st.DataObject
    ) -> None:
        after = data.draw(st.sampled_from([(), (0, 0), (2, 0), (0, 200), (100, 100)]))
        operation = Pull(
            mailbox,
            2,
            self.now_ms,
            "",
            key,
            "",
            Once("1", self.now_ms + 1000) if once else None,
            while_set=self.condition(data, mailbox.sdkappid),
            keyed_after=after,
        )
        # What surely finds nothing is answered so, whether its condition holds or not.
        traceless = key is None and not once and not self.model.waiting(mailbox)
        self.check(msgspec.structs.replace(operation, while_set=None) if traceless else operation)

    @rule(mailbox=mailboxes, count_max=counts)
    def pull(self, mailbox: Mailbox, count_max: int) -> None:
        self.check(Pull(mailbox, count_max, self.now_ms, "192.0.2.1", None, "signed"))

    @rule(mailbox=mailboxes, count_max=st.sampled_from([2, 100]), key=keys)
    def pull_keyed(self, mailbox: Mailbox, count_max: int, key: str) -> None:
        self.check(Pull(mailbox, count_max, self.now_ms, "", key))

    @rule(
        mailbox=mailboxes,
        nonce=st.sampled_from(["1", "2", "3"]),
        lasts_ms=st.sampled_from([0, 1000, limits.SIGNATURE_KEPT_S * 1000]),
        key=st.one_of(st.none(), keys),
    )
    def pull_once(self, mailbox: Mailbox, nonce: str, lasts_ms: int, key: str | None) -> None:
        once = Once(nonce, self.now_ms + lasts_ms)
        self.check(Pull(mailbox, 2, self.now_ms, "", key, "", once))

    @rule(
        mailbox=mailboxes,
        name=readers,
        count_max=counts,
        ack=st.sampled_from(["nothing", "hand", "hand", "acked", "other"]),
        takes=st.sampled_from([True, True, False]),
        once=st.sampled_from([None, None, "1", "2"]),
        data=st.data(),
    )
    def pull_of_reader(
        self,
        mailbox: Mailbox,
        name: str,
        count_max: int,
        ack: str,
        takes: bool,
        once: str | None,
        data: st.DataObject,
    ) -> None:
        state = self.model.boxes.get(mailbox, Box()).readers.get(name) or ReaderState(mailbox, name)
        seqs = {
            "nothing": None,
            "hand": state.first_seq,
            "acked": state.acked_seq,
            "other": data.draw(st.integers(1, 5)),
        }
        ack_seq = seqs[ack] or None
        operation = Pull(
            mailbox,
            count_max if takes or ack_seq is None else 0,
            self.now_ms,
            once=None if once is None else Once(once, self.now_ms + 1000),
            while_set=self.condition(data, mailbox.sdkappid),
            keyed_after=data.draw(st.sampled_from([(), (), (), (0, 0), (3, 2)])),
            ticket=self.ticket(),
            reader=Reader(name, ack_seq),
        )
        self.sent.append(operation)
        self.check(operation)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def late(self, data: st.DataObject) -> None:
        """A reader's request arrives long after it was sent, maybe not for the first time."""
        operation = data.draw(st.sampled_from(self.sent))
        self.check(msgspec.structs.replace(operation, at_ms=self.now_ms, ticket=self.ticket()))

    @rule(mailbox=mailboxes, name=readers, data=st.data())
    def release(self, mailbox: Mailbox, name: str, data: st.DataObject) -> None:
        state = self.model.boxes.get(mailbox, Box()).readers.get(name)
        in_hand = [] if state is None else [state.first_seq] * 4
        first_seq = data.draw(st.sampled_from([0, 1, *in_hand]))
        operation = Release(
            *(mailbox, name, first_seq, self.now_ms),
            self.act(data) or self.new_act(),
            self.condition(data, mailbox.sdkappid),
        )
        self.settle(self.store.release(operation), self.model.release(operation))

    @rule(data=st.data(), count=st.integers(2, 6))
    def group(self, data: st.DataObject, count: int) -> None:
        """Several at once: their answers must be those of some order."""
        operations = [self.dated(data.draw(undated)) for _ in range(count)]
        answers = self.run(together(self.store, *operations))
        stored = {
            mailbox: {entry.seq: entry.data for entry in self.run(entries_of(self.store, mailbox))}
            for mailbox in {operation.mailbox for operation in operations}
        }
        note(f"group answered {answers}")
        found = order(self.model, list(zip(operations, answers, strict=True)), stored)
        assert found is not None, "no order of the group explains its answers"
        self.model = found

    @rule(
        name=st.sampled_from(["x/1", "x/2", "y/1", "y/2"]),
        value=st.sampled_from([None, b"", b"1", b"2"]),
        expected=st.sampled_from([None, b"", b"1", b"2"]),
        known=st.booleans(),
        data=st.data(),
    )
    def change(
        self,
        name: str,
        value: bytes | None,
        expected: bytes | None,
        known: bool,
        data: st.DataObject,
    ) -> None:
        if known:
            expected, _ = self.model.settings.get(name, (None, 0))
        act = self.act(data)
        changed = self.run(self.store.change(Change(name, value, expected), act=act))
        assert changed == self.model.change([Change(name, value, expected)], act)

    @rule(
        values=st.tuples(st.sampled_from([None, b"1"]), st.sampled_from([None, b"1"])),
        stale=st.sampled_from([None, "value", "revision"]),
        data=st.data(),
    )
    def change_both(
        self,
        values: tuple[bytes | None, bytes | None],
        stale: str | None,
        data: st.DataObject,
    ) -> None:
        """Two settings at once; `stale`: of the second, somebody knows no more."""
        changes = []
        for name, value in zip(("x/1", "y/2"), values, strict=True):
            expected, revision = self.model.settings.get(name, (None, 0))
            changes.append(Change(name, value, expected, revision))
        if stale == "value":
            changes[1] = msgspec.structs.replace(changes[1], expected=b"stale")
        elif stale == "revision":
            changes[1] = msgspec.structs.replace(changes[1], revision=-1)
        act = self.act(data)
        changed = self.run(self.store.change(*changes, act=act))
        assert changed == self.model.change(changes, act) == (stale is None)

    @rule(
        mailbox=mailboxes,
        size=st.integers(0, 3),
        items=st.lists(st.sampled_from([b"bad", b"worse", b"w" * 40]), max_size=3),
        more=st.integers(0, 3),
        bounds=st.sampled_from([(1, 1000), (3, 1000), (100, 60), (100, 1000)]),
        aside=st.sampled_from(Aside),
        data=st.data(),
    )
    def park(
        self,
        mailbox: Mailbox,
        size: int,
        items: list[bytes],
        more: int,
        bounds: tuple[int, int],
        aside: Aside,
        data: st.DataObject,
    ) -> None:
        condition = self.condition(data, mailbox.sdkappid)
        appended = Append(mailbox, records(size), self.now_ms, while_set=condition)
        operation = parked(appended, [*items, *records(more)], *bounds, aside)
        self.settle(self.store.park(operation), self.model.park(operation))

    @rule(
        sdkappid=st.sampled_from([1, 2]),
        kind=st.sampled_from(Kind),
        ahead=st.sampled_from([0, 0, 0, 0, 1]),
        outcomes=st.lists(
            st.sampled_from([Outcome.PULLED, Outcome.ERASED, Outcome.PUT_BACK, Outcome.ROUTED]),
            min_size=1,
            max_size=5,
        ),
        known=st.lists(items, max_size=2),
        moved=st.integers(0, 2),
        leaves=st.sampled_from(Aside),
        data=st.data(),
    )
    def unpark(
        self,
        sdkappid: int,
        kind: Kind,
        ahead: int,
        outcomes: list[Outcome],
        known: list[tuple[int, bytes]],
        moved: int,
        leaves: Aside,
        data: st.DataObject,
    ) -> None:
        """What is routed goes to the other application, whatever becomes of the rest."""
        mailbox = Mailbox(sdkappid, leaves)
        box = self.model.boxes.get(mailbox)
        outcomes = outcomes[: box.waiting] if box is not None and box.waiting else outcomes
        routes = Outcome.ROUTED in outcomes
        target = 3 - sdkappid if routes else sdkappid
        append = Append(
            Mailbox(target, kind),
            records(len(known)),
            self.now_ms,
            fingerprints=Fingerprints(f"a/{target}", known),
            while_set=self.condition(data, target),
            ticket=self.ticket(),
        )
        aside = Park(
            Append(append.mailbox, [], self.now_ms, ticket=self.ticket()),
            Mailbox(target, Aside.PARKED),
            records(moved),
            None,
            3,
            1000,
        )
        operation = Unpark(
            mailbox,
            (0 if box is None else box.cursor) + 1 + ahead,
            outcomes,
            [append],
            records(outcomes.count(Outcome.PUT_BACK)),
            self.now_ms,
            self.new_act() if leaves is Aside.PARKED else None,
            self.condition(data, sdkappid),
            self.ticket(),
            [aside] if routes else [],
        )
        self.settle(self.store.unpark(operation), self.model.unpark(operation))

    @rule(
        mailbox=st.one_of(mailboxes, st.sampled_from([Mailbox(1, Aside.PARKED)])),
        outcome=st.sampled_from([Outcome.EXPIRED, Outcome.ERASED]),
        age_ms=st.one_of(st.none(), waits_ms),
        through=st.one_of(st.none(), st.integers(0, 300)),
        data=st.data(),
    )
    def discard(
        self,
        mailbox: Mailbox,
        outcome: Outcome,
        age_ms: int | None,
        through: int | None,
        data: st.DataObject,
    ) -> None:
        before_ms = None if age_ms is None else self.now_ms - age_ms + 1
        condition = self.condition(data, mailbox.sdkappid)
        ticket = self.ticket()
        act = self.act(data)
        operation = Discard(
            mailbox, outcome, self.now_ms, before_ms, condition, ticket, act, through
        )
        self.settle(self.store.discard(operation), self.model.discard(operation))

    @rule(mailbox=mailboxes, data=st.data(), count=st.integers(1, 2))
    def redeliver(self, mailbox: Mailbox, data: st.DataObject, count: int) -> None:
        """A step of an act that is new, or has done something already."""
        ranges = []
        for _ in range(count):
            first_seq = data.draw(st.integers(1, len(self.model.entries(mailbox)) + 1))
            ranges.append((first_seq, data.draw(st.sampled_from([1, 2, 100]))))
        act = self.act(data) or self.new_act()
        condition = self.condition(data, mailbox.sdkappid)
        operation = Redeliver(mailbox, ranges, self.now_ms, act, condition, self.ticket())
        expected = self.model.redeliver(operation)
        if expected is None:
            with pytest.raises(InvalidSetting):
                self.run(self.store.redeliver(operation))
        else:
            self.settle(self.store.redeliver(operation), expected)

    @rule(mailbox=mailboxes, data=st.data())
    def erase(self, mailbox: Mailbox, data: st.DataObject) -> None:
        """Some that are there, by what they hold, and their copies."""
        stored = sorted({entry.data for entry in self.model.entries(mailbox) if entry.data})
        chosen = data.draw(st.lists(st.sampled_from(stored or [b"none"]), max_size=4))
        holding = [[one[:2], one] for one in chosen]
        erased = self.run(self.store.erase(mailbox, at_ms=self.now_ms, holding=holding))
        box = self.model.boxes.get(mailbox)
        expected = self.model.erase(mailbox, holding, self.now_ms)
        assert erased.waiting == expected.waiting
        if box is not None:
            self.take_turn(mailbox, box, expected)
        if box is None or not box.purged:
            assert erased == expected

    def take_turn(self, mailbox: Mailbox, box: Box, expected: Erased) -> None:
        """How many steps erased something is the engine's; that there was one is told."""
        row = self.run(backlog_of(self.store, mailbox))
        before = box.followed.turn
        turn = before if row is None else row.followed.turn
        if not mailbox.aside:
            assert turn >= before + (expected.waiting + expected.left > 0)
            assert box.purged or turn == before or expected != Erased(0, 0)
        box.followed = Followed(box.followed.through, box.followed.tallied, turn)

    @rule(
        mailbox=mailboxes,
        behind=st.integers(0, 3),
        merges=st.integers(0, 2),
        stale=st.sampled_from([None] * 6 + [Followed(), Followed(1, 1, 0), Followed(0, 0, 7)]),
        found=st.booleans(),
        hour=st.integers(1, 3),
    )
    def follow(
        self,
        mailbox: Mailbox,
        behind: int,
        merges: int,
        stale: Followed | None,
        found: bool,
        hour: int,
    ) -> None:
        """Up to near the tail, by a segment that takes the place of those before it, or none."""
        box = self.model.boxes.get(mailbox, Box())
        mark = box.mark
        through = max(mark.through + 1, len(box.entries) - behind)
        segment = None
        if found:
            starts = [first for first in sorted(box.spans) if first > mark.through - 10]
            first_seq = (starts[-merges:] if merges else [])[:1] or [mark.through + 1]
            # Only what lies without a gap up to the new part can be one.
            seqs = range(first_seq[0], through + 1)
            kept = [seq for seq in seqs if seq <= len(box.entries) and box.kept(seq, 1)]
            segment = build(
                seqs[0],
                len(seqs),
                [word(seq % 3, seq - seqs[0]) for seq in kept],
                [word(seq, seq - seqs[0]) for seq in kept if seq % 2],
            )
        tallies = [Tally(mailbox.holds, hour, (through - mark.through, 1))]
        operation = Follow(mailbox, stale or mark, through, segment, tallies, self.ticket())
        assert self.run(self.store.follow(operation)) == self.model.follow(operation)

    @rule(mailbox=mailboxes, from_hour=st.sampled_from([None, 1, 2, 3]), stale=st.booleans())
    def unfollow(self, mailbox: Mailbox, from_hour: int | None, stale: bool) -> None:
        mark = self.model.boxes.get(mailbox, Box()).mark
        expected = Followed(mark.through, mark.tallied, mark.turn + stale)
        operation = Unfollow(mailbox, expected, mark.through, from_hour, self.ticket())
        assert self.run(self.store.unfollow(operation)) == self.model.unfollow(operation)

    @rule(
        sdkappid=st.sampled_from([1, 2]),
        key=st.sampled_from([None, "k", "l"]),
        body=st.sampled_from([b"one", b"two"]),
        hour=st.integers(1, 3),
        data=st.data(),
    )
    def count(
        self, sdkappid: int, key: str | None, body: bytes, hour: int, data: st.DataObject
    ) -> None:
        once = None if key is None else repeat_key(key, body, f"sends/{sdkappid}")
        operation = Count(
            sdkappid,
            [Tally(3, hour, (1, 2, 3))],
            self.now_ms,
            once,
            self.condition(data, sdkappid),
            self.ticket(),
            data.draw(st.lists(blocks, max_size=2)),
            while_followed=self.marks(data, sdkappid),
        )
        self.settle(self.store.count(operation), self.model.count(operation))

    @rule(age_ms=waits_ms)
    def purge(self, age_ms: int) -> None:
        before_ms = self.now_ms - age_ms + 1
        removed = self.run(self.store.purge(left_before_ms=before_ms))
        assert removed == self.model.purge(before_ms)

    @rule(
        mailbox=st.one_of(mailboxes, st.builds(Mailbox, st.sampled_from([1, 3]), asides)),
        through=st.integers(0, 300),
    )
    def remove(self, mailbox: Mailbox, through: int) -> None:
        removed = self.run(self.store.remove(mailbox, through))
        assert removed == self.model.remove(mailbox, through)

    @rule(
        times=st.dictionaries(
            st.sampled_from(["a/1", "a/2", "b/1"]),
            st.builds(Noted, st.integers(0, 3), st.sampled_from(["", "here", "there"])),
        )
    )
    def mark(self, times: dict[str, Noted]) -> None:
        self.run(self.store.mark(times))
        self.model.mark(times)

    @rule(ms=waits_ms)
    def wait(self, ms: int) -> None:
        self.now_ms += ms

    @precondition(
        lambda self: self.model.batches or self.model.prints or self.model.once or self.model.names
    )
    @rule()
    def forget(self) -> None:
        """Forgetting what can matter no more changes nothing that anybody sees, but for names."""
        before = {
            "accepted_before_ms": self.now_ms - REPEAT_MS,
            "now_ms": self.now_ms,
        }
        self.run(self.store.forget(**before))
        assert self.run(self.store.forget(**before)) == 0
        self.model.forget(before["accepted_before_ms"])

    @rule()
    def restart(self) -> None:
        self.close()
        self.open()

    @rule(mailbox=mailboxes, data=st.data())
    def read_from(self, mailbox: Mailbox, data: st.DataObject) -> None:
        entries = self.model.entries(mailbox)
        first_seq = data.draw(st.integers(1, len(entries) + 2))
        if entries:
            start = max(first_seq, self.model.boxes[mailbox].purged + 1)
            there = [entry for entry in entries[start - 1 :] if entry.data]
            assert self.run(self.kept(mailbox, first_seq)) == there
        rows = [row for row in self.model.journal(mailbox) if row.first_seq >= first_seq]
        assert self.run(journal_of(self.store, mailbox, first_seq)) == rows
        backwards = self.run(journal_of(self.store, mailbox, first_seq, newest_first=True))
        assert backwards == rows[::-1]

    # -- what must hold after every step ---------------------------------------------------------

    @invariant()
    def both_hold_the_same(self) -> None:
        self.run(self.compare())

    async def kept(self, mailbox: Mailbox, first_seq: int = 1) -> list[Entry]:
        """Entries that must be there; purged ones may be, as long as they lie beside others."""
        box = self.model.boxes[mailbox]
        found = await entries_of(self.store, mailbox, first_seq)
        known = self.model.entries(mailbox)
        assert all(entry == known[entry.seq - 1] for entry in found)
        return [entry for entry in found if entry.seq > box.purged]

    async def compare(self) -> None:
        """Contents and order, what waits, the figures, the journals, the settings."""
        store, model = self.store, self.model
        assert await store.backlog() == model.backlog()
        totals = await store.totals(worst=2)
        assert totals.of == sums_of(model.backlog())
        assert list(totals.worst) == worst_in(model.backlog(), 2)
        for mailbox, box in model.boxes.items():
            assert await waiting_in(store, mailbox) == box.waiting
            there = [entry for entry in model.entries(mailbox)[box.purged :] if entry.data]
            assert await self.kept(mailbox) == there
            journal = await journal_of(store, mailbox)
            check_journal(journal, box.cursor, box.purged, box.erased(1, len(box.entries)))
            assert journal == box.journal
            assert list(await again_of(store, mailbox)) == model.again.get(mailbox, [])
            await self.compare_derived(mailbox, box)
        rows = chain_of(dict(enumerate(model.acts, start=1)))
        assert await acts_of(store) == rows
        assert await acts_of(store, newest_first=True) == rows[::-1]
        found = [state async for state in store.readers()]
        listed = list(dict.fromkeys(state.mailbox for state in found))  # in whatever order
        assert found == sorted(
            model.readers(), key=lambda state: (listed.index(state.mailbox), state.name)
        )
        held = [state.taken_ms for state in model.readers() if state.first_seq]
        assert (await store.totals()).in_hand == InHand(len(held), min(held, default=None))
        expected = [Setting(name, *rest) for name, rest in model.settings.items()]
        expected.sort(key=lambda setting: setting.revision)
        assert list(await settings_of(store)) == expected
        assert await store.marks() == model.marks
        assert await store.marks("a/") == {
            name: noted for name, noted in model.marks.items() if name.startswith("a/")
        }
        for name in ("x", "y", "z"):
            setting = await store.setting(name)
            assert setting == next((each for each in expected if each.name == name), None)
        for slots, whose in (([1, 2, 3], None), ([2], 1), ([-1, 1], 2)):
            alike = by_application if model.names_in_order else by_all
            assert alike(await store.named(slots, whose)) == alike(model.named(slots, whose))
        for sdkappid in (1, 2, 3):
            standing = [row for row in model.backlog() if row.mailbox.sdkappid == sdkappid]
            assert await store.backlog(sdkappid) == standing

    async def compare_derived(self, mailbox: Mailbox, box: Box) -> None:
        store = self.store
        assert await store.spans(mailbox) == [Span(*span) for span in sorted(box.spans.items())]
        for index, hashed in ((Index.NUMBER, 0), (Index.NUMBER, 2), (Index.SID, 1)):
            assert await store.sought(mailbox, index, hashed) == box.sought(index, hashed)
        there = [entry for entry in self.model.entries(mailbox)[box.purged :] if entry.data]
        assert await store.entries_at(mailbox, [entry.seq for entry in there[::2]]) == there[::2]
        tallies = await store.tallies(mailbox.sdkappid, 0, 9)
        assert tallies == self.model.tallied(mailbox.sdkappid)
        behind = {row.mailbox for row in await store.behind(99)}
        is_behind = not mailbox.aside and box.mark.through < len(box.entries)
        assert (mailbox in behind) == is_behind
        pending = {row.mailbox for row in await store.pending(99)}
        assert (mailbox in pending) == (mailbox.kind is Aside.PENDING and box.waiting > 0)


class MovingMachine(Machine):
    """The same, and now and then the store becomes another one, of each of these in turn."""

    engines: Sequence[str] = ()

    def __init__(self) -> None:
        super().__init__()
        self.target = ""
        self.act_of_move: Act | None = None

    @precondition(lambda self: self.store_count < MOVES_MAX)
    @rule()
    def copy(self) -> None:
        """What is copied now is not all of it, and what is copied changes."""
        self.move(switch=False)

    @precondition(lambda self: self.store_count < MOVES_MAX or self.target)
    @rule()
    def switch(self) -> None:
        act, moved = self.move(switch=True)
        assert moved.switched
        ends = {"source": moved.source, "target": moved.target}
        detail = msgspec.json.encode(ends).decode()
        self.model.acts.append(msgspec.structs.replace(act, detail=detail))
        self.close()
        self.url, self.target = self.target, ""
        self.model.stay_behind()
        self.open()

    def move(self, *, switch: bool) -> tuple[Act, Moved]:
        if not self.target:
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            engine = type(self).engines[self.store_count % len(type(self).engines)]
            self.target = self._stack.enter_context(ENGINES[engine].place(folder))
            if engine == "postgresql":  # where whoever is to own the tables has made it
                self.run(init_store(self.target))
            self.store_count += 1
            self.act_of_move = None
        act = self.new_act()
        moved = self.run(
            move_store(
                self.url,
                self.target,
                act=act,
                phase=lambda _what: contextlib.nullcontext(lambda _done, _total: None),
                switch=switch,
                prove_setting=any_setting,
                accept=accept_any,
            )
        )
        # A migration is known by the act that began it.
        self.act_of_move = self.act_of_move or act
        return msgspec.structs.replace(act, ticket=self.act_of_move.ticket), moved

    store_count = 0


def same(answer: object, expected: Answer) -> bool:
    """Whether a store's answer is the model's; a refusal is compared by its class."""
    if isinstance(answer, PeerError | SettingChanged):
        return type(answer) is expected
    if isinstance(answer, BaseException):
        raise answer
    return answer == expected


def order(
    model: Model,
    left: Sequence[tuple[Append | Pull, object]],
    stored: dict[Mailbox, dict[int, bytes]],
) -> Model | None:
    """The model after some order of `left` in which it says the same, and holds what is stored."""
    if not left:
        whole = all(
            max(data, default=0) <= len(model.entries(mailbox)) for mailbox, data in stored.items()
        )
        return model if whole else None
    for place, (operation, answer) in enumerate(left):
        after = model.copy()
        if not same(answer, after.do(operation)):
            continue
        found = stored[operation.mailbox]
        fresh = after.entries(operation.mailbox)[len(model.entries(operation.mailbox)) :]
        if any(found.get(entry.seq) != entry.data for entry in fresh):
            continue
        explained = order(after, [*left[:place], *left[place + 1 :]], stored)
        if explained is not None:
            return explained
    return None


@pytest.mark.parametrize("engine", ENGINES)
def test_engine_is_the_model(engine: str) -> None:
    play(Machine, engine)


@pytest.mark.parametrize(
    ("engines", "share"), [(["sqlite-thread"], 0.2), (["postgresql", "sqlite-thread"], 0.1)]
)
def test_a_store_that_becomes_another_is_the_model(
    engines: Sequence[str], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MovingMachine, "engines", engines)
    play(MovingMachine, "sqlite-thread", share)


def play(kind: type[Machine], engine: str, share: float = 1.0) -> None:
    """Run the examples of an engine."""
    tested = ENGINES[engine]
    machine = type(
        kind.__name__,
        (kind,),
        {
            "place": staticmethod(tested.place),
            "opening": staticmethod(tested.doors),
        },
    )
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=math.ceil(EXAMPLES * tested.share * share),
            stateful_step_count=STEPS,
            derandomize=FIXED,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )
