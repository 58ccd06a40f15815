"""Two processes over one cluster, in any order, with replicas behind and answers that get lost.

Whatever another does in the middle of a write, numbers have no gaps, no entry is stored or taken
twice, and each is told what is true.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections import Counter
from collections.abc import Callable

from hypothesis import given, note, settings
from hypothesis import strategies as st

from pullstatus.errors import AcknowledgementRefused, KeyReused, ReplayRefused, StoreUnavailable
from pullstatus.store import Append, Mailbox, Once, Page, Pull, Reader
from pullstatus.store.gathering.log import Undone
from pullstatus.store.gathering.operations import PackedPage
from tests.store.build import (
    NOW_MS,
    REPLIES,
    STATUSES,
    append,
    fingerprinted,
    pull,
    records,
    repeat_key,
)
from tests.store.jetstream.lanes import PARTITION, Process, cluster

EXAMPLES = int(os.environ.get("PULLSTATUS_MODEL_EXAMPLES", "60"))

mailboxes = st.sampled_from([STATUSES, STATUSES, REPLIES])
keys = st.sampled_from(["k1", "k2"])
operations: st.SearchStrategy[Append | Pull] = st.one_of(
    st.builds(lambda box, size: append(box, records(size)), mailboxes, st.integers(1, 3)),
    st.builds(
        lambda key: append(STATUSES, records(2), key=repeat_key(key)), st.sampled_from(["b1", "b2"])
    ),
    st.builds(
        lambda numbers: fingerprinted(STATUSES, records(len(numbers)), numbers),
        st.lists(st.integers(1, 5), min_size=1, max_size=3),
    ),
    st.builds(pull, mailboxes, st.integers(1, 4)),
    st.builds(lambda key: pull(STATUSES, 2, key=key), keys),
    st.builds(lambda nonce: Pull(STATUSES, 2, NOW_MS, once=Once(nonce, NOW_MS + 1)), keys),
    st.builds(
        lambda ack: Pull(STATUSES, 2, NOW_MS, reader=Reader("r", ack)),
        st.one_of(st.none(), st.integers(1, 6)),
    ),
)
groups = st.lists(operations, min_size=1, max_size=3)


class Ledger:
    """What was answered."""

    def __init__(self) -> None:
        self.batches: dict[str, list[bytes]] = {}
        self.stored = dict.fromkeys((STATUSES, REPLIES), 0)
        self.prints: set[bytes] = set()
        self.taken: Counter[tuple[Mailbox, int]] = Counter()
        self.pages: dict[str, Page] = {}
        self.spent: Counter[str] = Counter()

    def take(self, operation: Append | Pull, answer: object) -> None:
        """Take in one answer."""
        if isinstance(operation, Append):
            assert answer == self._append(operation)
        elif isinstance(answer, Page):
            self._page(operation, answer)
        else:
            assert isinstance(answer, AcknowledgementRefused | ReplayRefused | KeyReused)

    def _append(self, operation: Append) -> int:
        """How much of it is new."""
        if operation.repeat_key is not None:
            if operation.repeat_key.key in self.batches:
                return 0
            self.batches[operation.repeat_key.key] = operation.entries
        count = operation.count
        if operation.fingerprints is not None:
            fresh = {digest for _, digest in operation.fingerprints.items} - self.prints
            self.prints |= fresh
            count = len(fresh)
        self.stored[operation.mailbox] += count
        return count

    def _page(self, operation: Pull, answer: Page) -> None:
        if operation.once is not None:
            self.spent[operation.once.nonce] += 1
        if operation.key is not None and answer.count:
            first = self.pages.setdefault(operation.key, answer)
            assert (first.first_seq, first.data) == (answer.first_seq, answer.data)
        if not answer.repeated:
            for seq in range(answer.first_seq, answer.first_seq + answer.count):
                self.taken[operation.mailbox, seq] += 1


class Run:
    """Both processes, and what they still have to do."""

    def __init__(self, data: st.DataObject, plans: list[list[list[Append | Pull]]]) -> None:
        self.bus = cluster()
        self.processes = [Process(self.bus) for _ in plans]
        self.plans = plans
        self.ledger = Ledger()
        self._draw: Callable[[str], bool] = lambda what: data.draw(
            st.integers(0, 3).map(lambda number: number == 0), label=what
        )
        self._busy: set[int] = set()
        self.bus.lag = lambda stream: (
            data.draw(st.integers(0, 9), label="lag") if stream == PARTITION else 0
        )
        self.bus.loses = lambda _stream: self._draw("loses")
        self.bus.overtake = self._overtake

    def _overtake(self, _stream: str) -> None:
        """Have another one do something before this write."""
        for number in range(len(self.processes)):
            if number not in self._busy and self.plans[number] and self._draw("overtaken"):
                self.step(number)

    def step(self, number: int) -> None:
        """Have one do its next group."""
        group = self.plans[number].pop(0)
        self._busy.add(number)
        try:
            answers = self.processes[number].log.commit(group)
        except Undone as undone:
            if not isinstance(undone.error, StoreUnavailable):
                raise
            return  # others were faster all the time: nothing happened
        finally:
            self._busy.discard(number)
        note(f"{number}: {group} -> {answers}")
        for operation, answer in zip(group, answers, strict=True):
            opened = answer.opened() if isinstance(answer, PackedPage) else answer
            self.ledger.take(operation, opened)

    def check(self) -> None:
        """Drain all, and compare with what was answered."""
        self.bus.lag = self.bus.loses = lambda _stream: False
        self.bus.overtake = lambda _stream: None
        last = Process(self.bus)
        for box, stored in self.ledger.stored.items():
            while (found := last.pull(pull(box))).count:
                self.ledger.take(pull(box), found)
            assert last.numbers(box) == list(range(1, stored + 1))
            assert all(self.ledger.taken[box, seq] == 1 for seq in range(1, stored + 1))
        assert sum(self.ledger.taken.values()) == sum(self.ledger.stored.values())
        assert all(times == 1 for times in self.ledger.spent.values())


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data(), plans=st.lists(st.lists(groups, max_size=6), min_size=2, max_size=2))
def test_two_processes_are_as_one(
    data: st.DataObject, plans: list[list[list[Append | Pull]]]
) -> None:
    run = Run(data, plans)
    for number in itertools.cycle(range(len(plans))):
        if not any(plans):
            break
        if plans[number]:
            run.step(number)
    run.check()


def test_two_processes_at_once_lose_nothing() -> None:
    """Each in a thread, as fast as they can."""
    bus = cluster()
    count = 60
    taken: list[list[int]] = [[], []]

    def work(number: int) -> None:
        process = Process(bus)
        for turn in range(count):
            while True:
                try:
                    process.do(append(STATUSES, records(1 + turn % 3)))
                    found = process.pull(pull(STATUSES, 2, key=f"{number}-{turn}"))
                except Undone:
                    continue
                break
            taken[number] += range(found.first_seq, found.first_seq + found.count)

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = Process(bus)
    numbers = last.numbers(STATUSES)
    assert numbers == list(range(1, len(numbers) + 1))
    assert not set(taken[0]) & set(taken[1])
    assert len(taken[0]) == len(set(taken[0]))
    assert len(numbers) >= math.ceil(2 * count)
