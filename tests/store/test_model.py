"""Any engine against the model: whatever is done in whatever order, both say the same.

PULLSTATUS_MODEL_EXAMPLES and PULLSTATUS_MODEL_STEPS make longer runs, each with new random choices;
without them the choices are the same in every run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

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

from pullstatus.errors import KeyReused, ReplayRefused
from pullstatus.records import Kind
from pullstatus.store import (
    Append,
    Fingerprints,
    Mailbox,
    Pull,
    RepeatKey,
    Setting,
    Store,
    open_store,
)
from tests.store.build import (
    NOW_MS,
    PULL_KEY_MS,
    REPEAT_MS,
    check_journal,
    entries_of,
    journal_of,
    records,
    together,
)
from tests.store.engines import ENGINES, Place
from tests.store.model import Answer, Model

T = TypeVar("T")

EXAMPLES = int(os.environ.get("PULLSTATUS_MODEL_EXAMPLES", "100"))
STEPS = int(os.environ.get("PULLSTATUS_MODEL_STEPS", "40"))
FIXED = "PULLSTATUS_MODEL_EXAMPLES" not in os.environ

mailboxes = st.builds(Mailbox, st.sampled_from([1, 2]), st.sampled_from(Kind))
# Small pools, so that keys, records and signatures do come again.
keys = st.sampled_from(["k1", "k2"])
repeat_keys = st.builds(
    RepeatKey, st.sampled_from(["a", "b"]), keys, st.sampled_from([b"1" * 16, b"2" * 16])
)
items = st.tuples(st.just(NOW_MS // 1000 - 60), st.integers(1, 6).map(lambda n: b"%016d" % n))
sizes = st.one_of(st.integers(0, 5), st.sampled_from([99, 100, 101, 230]))
counts = st.one_of(st.integers(1, 6), st.sampled_from([50, 99, 100]))
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


class Machine(RuleBasedStateMachine):
    """An engine and the model, done the same things to."""

    place: Place

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()
        self._runner = self._stack.enter_context(asyncio.Runner())
        self.model = Model()
        self.now_ms = NOW_MS
        self.store: Store

    @initialize()
    def begin(self) -> None:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.url = self._stack.enter_context(type(self).place(folder))
        self.store = self.run(open_store(self.url))

    def teardown(self) -> None:
        try:
            if hasattr(self, "store"):
                self.run(self.store.close())
        finally:
            self._stack.close()

    def run(self, verb: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(verb)

    def check(self, operation: Append | Pull) -> None:
        expected = self.model.do(operation)
        [answer] = self.run(together(self.store, operation))
        assert same(answer, expected)

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

    @rule(mailbox=mailboxes, count_max=counts)
    def pull(self, mailbox: Mailbox, count_max: int) -> None:
        self.check(Pull(mailbox, count_max, self.now_ms, "192.0.2.1", None, "1", 2))

    @rule(mailbox=mailboxes, count_max=st.sampled_from([2, 100]), key=keys)
    def pull_keyed(self, mailbox: Mailbox, count_max: int, key: str) -> None:
        self.check(Pull(mailbox, count_max, self.now_ms, "", key))

    @rule(
        mailbox=mailboxes,
        random=st.sampled_from(["1", "2", "3"]),
        key=st.one_of(st.none(), keys),
    )
    def pull_single_use(self, mailbox: Mailbox, random: str, key: str | None) -> None:
        time_s = self.now_ms // 1000
        self.check(Pull(mailbox, 2, self.now_ms, "", key, random, time_s, single_use=True))

    @rule(data=st.data(), count=st.integers(2, 6))
    def group(self, data: st.DataObject, count: int) -> None:
        """Several at once: their answers must be those of some order."""
        operations = [data.draw(self.operations()) for _ in range(count)]
        answers = self.run(together(self.store, *operations))
        stored = {
            mailbox: [entry.data for entry in self.run(entries_of(self.store, mailbox))]
            for mailbox in {operation.mailbox for operation in operations}
        }
        note(f"group answered {answers}")
        found = order(self.model, list(zip(operations, answers, strict=True)), stored)
        assert found is not None, "no order of the group explains its answers"
        self.model = found

    def operations(self) -> st.SearchStrategy[Append | Pull]:
        now = st.just(self.now_ms)
        random, time_s = st.sampled_from(["1", "2"]), st.just(self.now_ms // 1000)
        return st.one_of(
            st.builds(Append, mailboxes, st.integers(1, 4).map(records), now),
            st.builds(Append, mailboxes, st.integers(1, 3).map(records), now, repeat_keys),
            st.builds(Pull, mailboxes, counts, now),
            st.builds(Pull, mailboxes, counts, now, key=keys),
            st.builds(
                Pull,
                mailboxes,
                counts,
                now,
                random=random,
                time_s=time_s,
                single_use=st.just(True),
            ),
        )

    @rule(
        name=st.sampled_from(["x", "y"]),
        value=st.sampled_from([None, b"", b"1", b"2"]),
        expected=st.sampled_from([None, b"", b"1", b"2"]),
        known=st.booleans(),
    )
    def change(self, name: str, value: bytes | None, expected: bytes | None, known: bool) -> None:
        if known:
            expected, _ = self.model.settings.get(name, (None, 0))
        changed = self.run(self.store.change(name, value, expected=expected))
        assert changed == self.model.change(name, value, expected)

    @rule(ms=waits_ms)
    def wait(self, ms: int) -> None:
        self.now_ms += ms

    @precondition(lambda self: self.model.batches or self.model.prints)
    @rule()
    def forget(self) -> None:
        """Forgetting what can matter no more changes nothing that anybody sees."""
        before_ms = self.now_ms - REPEAT_MS
        self.run(self.store.forget(before_ms=before_ms))
        assert self.run(self.store.forget(before_ms=before_ms)) == 0

    @rule()
    def restart(self) -> None:
        self.run(self.store.close())
        self.store = self.run(open_store(self.url))

    @rule(mailbox=mailboxes, data=st.data())
    def read_from(self, mailbox: Mailbox, data: st.DataObject) -> None:
        entries = self.model.entries(mailbox)
        first_seq = data.draw(st.integers(1, len(entries) + 2))
        assert self.run(entries_of(self.store, mailbox, first_seq)) == entries[first_seq - 1 :]
        rows = [row for row in self.model.journal(mailbox) if row.first_seq >= first_seq]
        assert self.run(journal_of(self.store, mailbox, first_seq)) == rows

    # -- what must hold after every step ---------------------------------------------------------

    @invariant()
    def figures_are_equal(self) -> None:
        assert self.run(self.store.backlog()) == self.model.backlog()
        assert self.run(self.store.oldest_waiting_ms()) == self.model.oldest_waiting_ms()

    @invariant()
    def contents_are_equal(self) -> None:
        for mailbox in self.model.boxes:
            assert self.store.waiting(mailbox) == self.model.waiting(mailbox)
            assert self.run(entries_of(self.store, mailbox)) == self.model.entries(mailbox)

    @invariant()
    def journals_are_equal_and_without_gaps(self) -> None:
        for mailbox, box in self.model.boxes.items():
            rows = self.run(journal_of(self.store, mailbox))
            check_journal(rows, box.cursor)
            assert rows == box.journal

    @invariant()
    def settings_are_equal(self) -> None:
        expected = [Setting(name, *rest) for name, rest in self.model.settings.items()]
        expected.sort(key=lambda setting: setting.revision)
        assert list(self.run(self.store.settings())) == expected


def same(answer: object, expected: Answer) -> bool:
    """Whether a store's answer is the model's; a refusal is compared by its class."""
    if isinstance(answer, KeyReused | ReplayRefused):
        return type(answer) is expected
    if isinstance(answer, BaseException):
        raise answer
    return answer == expected


def order(
    model: Model,
    left: Sequence[tuple[Append | Pull, object]],
    stored: dict[Mailbox, list[bytes]],
) -> Model | None:
    """The model after some order of `left` in which it says the same, and holds what is stored."""
    if not left:
        holds = all(
            [entry.data for entry in model.entries(mailbox)] == data
            for mailbox, data in stored.items()
        )
        return model if holds else None
    for place, (operation, answer) in enumerate(left):
        after = model.copy()
        if not same(answer, after.do(operation)):
            continue
        entries = after.entries(operation.mailbox)
        if [entry.data for entry in entries] != stored[operation.mailbox][: len(entries)]:
            continue
        found = order(after, [*left[:place], *left[place + 1 :]], stored)
        if found is not None:
            return found
    return None


@pytest.mark.parametrize("engine", ENGINES)
def test_engine_is_the_model(engine: str) -> None:
    machine = type("Machine", (Machine,), {"place": staticmethod(ENGINES[engine])})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=FIXED,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )
