"""The judge is judged first: one hand-made history per anomaly, and legal ones that look odd."""

import time
from collections.abc import Iterator
from itertools import count
from random import Random

import pytest

from tests.sim.checker import (
    FORBIDDEN,
    HistoryUnfinishedError,
    Operation,
    Report,
    Seen,
    Verb,
    check,
)

OK, FAIL, UNKNOWN = Seen.OK, Seen.FAIL, Seen.UNKNOWN
Records = list[tuple[int, object]]


class Run:
    """Writes a history: operations follow one another unless told to overlap."""

    def __init__(self) -> None:
        self.history: list[Operation] = []
        self._clock: Iterator[int] = count(1)

    def ingest(self, *ids: int, outcome: Seen = OK, mailbox: str = "m") -> Operation:
        return self._add(Verb.INGEST, [(i, f"d{i}") for i in ids], outcome, mailbox)

    def pull(
        self,
        *ids: int,
        outcome: Seen = OK,
        mailbox: str = "m",
        count_max: int = 100,
        key: str | None = None,
        reader: str | None = None,
    ) -> Operation:
        operation = self._add(Verb.PULL, [(i, f"d{i}") for i in ids], outcome, mailbox)
        operation.count_max = count_max
        operation.key = key
        operation.reader = reader
        return operation

    def erase(self, *ids: int, outcome: Seen = OK, mailbox: str = "m") -> Operation:
        return self._add(Verb.ERASE, [(i, f"d{i}") for i in ids], outcome, mailbox)

    def drain(self, *mailboxes: str) -> None:
        for mailbox in mailboxes or ("m",):
            for _ in range(3):
                self.pull(mailbox=mailbox)

    def place(self, operation: Operation) -> int:
        return self.history.index(operation)

    def _add(self, verb: Verb, records: Records, outcome: Seen, mailbox: str) -> Operation:
        operation = Operation(verb, mailbox, next(self._clock), None, outcome, records)
        if outcome is not UNKNOWN:
            operation.completed = next(self._clock)
        self.history.append(operation)
        return operation


@pytest.fixture
def run() -> Run:
    return Run()


def anomalies(
    run: Run, journal: dict[int, list[int]] | None = None, *mailboxes: str
) -> dict[str, int]:
    run.drain(*mailboxes)
    return check(run.history, journal).anomalies


# -- legal ---------------------------------------------------------------------------------------


def test_a_plain_run_is_valid(run: Run) -> None:
    run.ingest(1, 2, 3)
    run.pull(1, 2, count_max=2)
    run.ingest(4)
    run.pull(3, 4)
    run.drain()
    report = check(run.history)
    assert report.valid
    assert (report.acknowledged, report.delivered) == (4, 4)
    assert str(report) == "4 acknowledged, 4 delivered, 0 recovered, 0 in limbo"


def test_an_ingest_of_unknown_outcome_may_come_out_and_is_reported(run: Run) -> None:
    run.ingest(1, 2, outcome=UNKNOWN)
    run.pull(1, 2)
    run.drain()
    report = check(run.history)
    assert report.valid
    assert report.recovered == 2


def test_an_ingest_of_unknown_outcome_may_stay_away(run: Run) -> None:
    run.ingest(1, 2, outcome=UNKNOWN)
    assert anomalies(run) == {}


def test_a_refused_record_that_stays_away_is_nobodys_loss(run: Run) -> None:
    run.ingest(1, outcome=FAIL)
    assert anomalies(run) == {}


def test_a_retry_turns_a_refusal_into_an_acceptance(run: Run) -> None:
    run.ingest(1, outcome=FAIL)
    run.ingest(1)
    run.pull(1)
    assert anomalies(run) == {}


def test_concurrent_ingests_may_come_out_in_either_order(run: Run) -> None:
    first, second = run.ingest(1), run.ingest(2)
    second.invoked = first.invoked
    run.pull(2, 1)
    assert anomalies(run) == {}


def test_overlapping_pulls_may_share_the_mailbox_in_either_order(run: Run) -> None:
    run.ingest(1, 2)
    later, sooner = run.pull(2, count_max=1), run.pull(1, count_max=1)
    later.completed, sooner.invoked = sooner.completed, later.invoked
    assert anomalies(run) == {}


def test_a_pull_that_overlaps_an_ingest_may_miss_it(run: Run) -> None:
    ingest, pull = run.ingest(1), run.pull()
    pull.invoked = ingest.invoked
    run.pull(1)
    assert anomalies(run) == {}


def test_a_short_answer_beside_an_overlapping_pull_is_legal(run: Run) -> None:
    """While the other pull runs nobody knows which of the two came first."""
    run.ingest(1)
    short, other = run.pull(), run.pull(1)
    other.invoked = short.invoked
    assert anomalies(run) == {}


def test_what_an_unknown_pull_may_hold_is_not_lost(run: Run) -> None:
    run.ingest(1, 2, 3)
    run.pull(outcome=UNKNOWN, count_max=3)
    run.drain()
    report = check(run.history)
    assert report.valid
    assert report.limbo == 3


def test_what_the_journal_proves_taken_is_not_lost(run: Run) -> None:
    run.ingest(1, 2)
    unknown = run.pull(outcome=UNKNOWN, count_max=2)
    run.drain()
    report = check(run.history, {run.place(unknown): [1, 2]})
    assert report.valid
    assert report.limbo == 2


def test_a_retry_with_the_key_ends_limbo(run: Run) -> None:
    run.ingest(1, 2)
    unknown = run.pull(outcome=UNKNOWN, count_max=2, key="k")
    run.pull(1, 2, count_max=2, key="k")
    run.pull(1, 2, count_max=2, key="k")
    run.drain()
    report = check(run.history, {run.place(unknown): [1, 2]})
    assert report.valid
    assert (report.limbo, report.delivered) == (0, 2)


def test_a_keyed_pull_that_found_nothing_may_get_records_later(run: Run) -> None:
    run.pull(key="k")
    run.ingest(1)
    run.pull(1, key="k")
    assert anomalies(run) == {}


def test_a_repeated_short_page_is_as_old_as_its_first_answer(run: Run) -> None:
    run.ingest(1)
    run.pull(1, key="k")
    run.ingest(2)
    run.pull(1, key="k")
    run.pull(2)
    assert anomalies(run) == {}


def test_the_same_key_of_another_mailbox_is_another_pull(run: Run) -> None:
    run.ingest(1, mailbox="a")
    run.ingest(2, mailbox="b")
    run.pull(1, mailbox="a", key="k")
    run.pull(2, mailbox="b", key="k")
    assert anomalies(run, None, "a", "b") == {}


def test_what_was_erased_is_not_lost(run: Run) -> None:
    run.ingest(1, 2)
    run.erase(1)
    run.erase(2, outcome=UNKNOWN)
    assert anomalies(run) == {}


def test_an_erased_record_may_have_left_before(run: Run) -> None:
    run.ingest(1)
    run.pull(1)
    run.erase(1)
    assert anomalies(run) == {}


def test_a_retry_inside_an_unknown_batch_tears_nothing(run: Run) -> None:
    """Record 1 came out because of its first batch, so it says nothing about the second."""
    run.ingest(1)
    run.ingest(1, 2, outcome=UNKNOWN)
    run.pull(1)
    assert anomalies(run) == {}


def test_what_may_have_been_erased_tears_nothing(run: Run) -> None:
    run.ingest(1, 2, 3, outcome=UNKNOWN)
    run.pull(1, count_max=1)
    run.erase(2, outcome=UNKNOWN)
    run.erase(3)
    assert anomalies(run) == {}


# -- one history per anomaly -----------------------------------------------------------------------


def test_lost(run: Run) -> None:
    run.ingest(1, 2)
    run.pull(1)
    assert anomalies(run)["lost"] == 1


def test_lost_beyond_what_unknown_pulls_may_hold(run: Run) -> None:
    run.ingest(1, 2, 3)
    run.pull(outcome=UNKNOWN, count_max=2)
    assert anomalies(run) == {"lost": 1}


def test_lost_although_another_mailbox_has_an_unknown_pull(run: Run) -> None:
    run.ingest(1, mailbox="a")
    run.pull(outcome=UNKNOWN, mailbox="b")
    assert anomalies(run, None, "a", "b") == {"lost": 1}


def test_lost_when_the_journal_names_something_else(run: Run) -> None:
    run.ingest(1, 2)
    unknown = run.pull(outcome=UNKNOWN, count_max=2)
    assert anomalies(run, {run.place(unknown): [1]})["lost"] == 1


def test_duplicated_in_two_answers(run: Run) -> None:
    run.ingest(1)
    run.pull(1)
    run.pull(1)
    assert anomalies(run) == {"duplicated": 1}


def test_duplicated_in_one_answer(run: Run) -> None:
    run.ingest(1)
    run.pull(1, 1)
    assert anomalies(run) == {"duplicated": 1}


def test_duplicated_by_an_answer_and_a_lost_one(run: Run) -> None:
    run.ingest(1)
    unknown = run.pull(outcome=UNKNOWN)
    run.pull(1)
    assert anomalies(run, {run.place(unknown): [1]}) == {"duplicated": 1}


def test_phantom_that_nobody_sent(run: Run) -> None:
    run.ingest(1)
    run.pull(1, 2)
    assert anomalies(run) == {"phantom": 1}


def test_phantom_that_came_before_it_was_sent(run: Run) -> None:
    run.pull(1)
    run.ingest(1)
    assert anomalies(run) == {"phantom": 1}


def test_undead(run: Run) -> None:
    run.ingest(1, outcome=FAIL)
    run.pull(1)
    assert anomalies(run) == {"undead": 1}


def test_undead_after_an_erasure(run: Run) -> None:
    run.ingest(1)
    run.erase(1)
    run.pull(1)
    assert anomalies(run) == {"undead": 1}


def test_burned_by_an_answer_that_refused(run: Run) -> None:
    run.ingest(1)
    refused = run.pull(outcome=FAIL)
    assert anomalies(run, {run.place(refused): [1]})["burned"] == 1


def test_burned_without_a_journal_is_lost(run: Run) -> None:
    run.ingest(1)
    run.pull(outcome=FAIL)
    assert anomalies(run) == {"lost": 1}


def test_corrupt(run: Run) -> None:
    run.ingest(1)
    run.pull(1).records = [(1, "other")]
    assert anomalies(run) == {"corrupt": 1}


def test_misrouted(run: Run) -> None:
    run.ingest(1, mailbox="a")
    run.pull(1, mailbox="b")
    assert anomalies(run, None, "a", "b") == {"misrouted": 1}


def test_oversize(run: Run) -> None:
    run.ingest(1, 2)
    run.pull(1, 2, count_max=1)
    assert anomalies(run) == {"oversize": 2}


def test_a_page_of_a_reader_may_have_the_size_of_a_late_attempt_with_another_key(run: Run) -> None:
    run.ingest(1)
    run.pull(outcome=UNKNOWN, count_max=2, key="first", reader="r")
    run.pull(1, count_max=1, key="first", reader="r")
    run.ingest(2, 3)
    run.pull(2, 3, count_max=1, key="after 1", reader="r")
    assert anomalies(run) == {}


@pytest.mark.parametrize(
    ("outcome", "reader", "mailbox"), [(OK, "r", "m"), (UNKNOWN, "s", "m"), (UNKNOWN, "r", "n")]
)
def test_oversize_of_a_reader(run: Run, outcome: Seen, reader: str, mailbox: str) -> None:
    """What has been answered comes no more, and for others nothing is taken."""
    run.pull(outcome=outcome, count_max=2, key="first", reader=reader, mailbox=mailbox)
    run.ingest(1, 2)
    run.pull(1, 2, count_max=1, key="after 1", reader="r")
    assert anomalies(run, None, "m", "n") == {"oversize": 2}


def test_oversize_beyond_what_any_answer_may_hold(run: Run) -> None:
    run.ingest(*range(101))
    run.pull(*range(101), count_max=500)
    assert anomalies(run) == {"oversize": 101}


def test_oversize_when_the_count_is_another(run: Run) -> None:
    run.ingest(1, 2)
    run.pull(1, 2).count = 1
    assert anomalies(run) == {"oversize": 2}


def test_reordered_in_two_answers(run: Run) -> None:
    run.ingest(1)
    run.ingest(2)
    run.pull(2, count_max=1)
    run.pull(1, count_max=1)
    assert anomalies(run) == {"reordered": 1}


def test_reordered_in_one_answer(run: Run) -> None:
    run.ingest(1)
    run.ingest(2)
    run.pull(2, 1)
    assert anomalies(run) == {"reordered": 1}


def test_reordered_by_a_lost_answer(run: Run) -> None:
    run.ingest(1)
    run.ingest(2)
    run.pull(2, count_max=1)
    unknown = run.pull(outcome=UNKNOWN)
    assert anomalies(run, {run.place(unknown): [1]}) == {"reordered": 1}


def test_false_short_when_it_came_later(run: Run) -> None:
    run.ingest(1)
    run.pull()
    run.pull(1)
    assert anomalies(run) == {"false_short": 1}


def test_false_short_when_the_rest_came_later(run: Run) -> None:
    run.ingest(1, 2)
    run.pull(1, count_max=2)
    run.pull(2)
    assert anomalies(run) == {"false_short": 1}


def test_torn(run: Run) -> None:
    run.ingest(1, 2, 3, outcome=UNKNOWN)
    run.pull(1, 2)
    assert anomalies(run) == {"torn": 1}


def test_changed_between_two_answers_to_one_key(run: Run) -> None:
    run.ingest(1, 2)
    run.pull(1, count_max=1, key="k")
    run.pull(2, count_max=1, key="k")
    assert anomalies(run) == {"changed": 1}


def test_changed_to_an_empty_answer(run: Run) -> None:
    run.ingest(1)
    run.pull(1, key="k")
    run.pull(key="k")
    assert anomalies(run) == {"changed": 1}


def test_changed_from_what_the_journal_proves(run: Run) -> None:
    run.ingest(1)
    unknown = run.pull(outcome=UNKNOWN, count_max=1, key="k")
    run.pull(count_max=1, key="k")
    run.ingest(2)
    run.pull(2, count_max=1, key="k")
    assert anomalies(run, {run.place(unknown): [1]})["changed"] == 1


def test_stranded_under_a_key_that_was_dropped(run: Run) -> None:
    """A late attempt took it, behind the empty page after which its client took a new key."""
    run.ingest(1, 2)
    unknown = late(run)
    assert anomalies(run, {run.place(unknown): [1, 2]}) == {"stranded": 2}


def test_key_that_is_given_up_strands_nothing(run: Run) -> None:
    run.ingest(1, 2)
    unknown = late(run)
    unknown.gives_up = True
    assert anomalies(run, {run.place(unknown): [1, 2]}) == {}


def test_key_that_brings_its_page_in_the_end_strands_nothing(run: Run) -> None:
    run.ingest(1, 2)
    unknown = late(run)
    run.pull(1, 2, key="k").keeps_key = True
    assert anomalies(run, {run.place(unknown): [1, 2]}) == {}


@pytest.mark.parametrize(
    ("reader", "acknowledged", "found"),
    [
        ("a", ["a"], 0),
        ("a", [], 1),
        ("a", ["b"], 1),
        ("a", ["a", "b"], 1),
        ("a", ["a", "a"], 1),
        (None, [], 0),
        (None, ["a"], 1),
    ],
)
def test_unsettled_unless_its_reader_and_nobody_else_acknowledges(
    run: Run, reader: str | None, acknowledged: list[str], found: int
) -> None:
    run.ingest(1, 2)
    run.pull(1, 2).reader = reader
    run.drain()
    report = check(run.history, None, {1: acknowledged})  # of 2 the store knows nothing any more
    assert report.unsettled == found
    assert report.anomalies == ({"unsettled": 1} if found else {})


def late(run: Run) -> Operation:
    """A pull without an answer, and its repeat with an empty one, that overlaps everything."""
    unknown = run.pull(outcome=UNKNOWN, key="k")
    empty = run.pull(key="k")
    unknown.keeps_key = empty.keeps_key = True
    unknown.invoked = empty.invoked = 0
    return unknown


def test_every_anomaly_has_its_history() -> None:
    histories = " ".join(name for name in globals() if name.startswith("test_"))
    assert [name for name in FORBIDDEN if f"test_{name}" not in histories] == []


# -- against the definitions, word by word ------------------------------------------------------


def random_history(rng: Random) -> list[Operation]:
    """Overlapping ingests and pulls of one mailbox that keep no promise at all."""
    history = []
    ids = list(range(rng.randrange(1, 8)))
    for record in ids:
        begun = rng.randrange(20)
        ingest = Operation(Verb.INGEST, "m", begun, begun + rng.randrange(1, 6), OK)
        ingest.records = [(record, record)]
        history.append(ingest)
    rng.shuffle(ids)
    while ids:
        begun = rng.randrange(30)
        pull = Operation(Verb.PULL, "m", begun, begun + rng.randrange(1, 6), OK, count_max=3)
        pull.records = [(ids.pop(), 0) for _ in range(min(len(ids), rng.randrange(4)))]
        history.append(pull)
    return history


def overtaken(history: list[Operation]) -> int:
    """Records A for which there is a B: see `reordered`, read literally."""
    sent = {o.records[0][0]: o for o in history if o.verb is Verb.INGEST}
    taken = {
        r: (o, at) for o in history if o.verb is Verb.PULL for at, (r, _) in enumerate(o.records)
    }

    def overtakes(b: int, a: int) -> bool:
        if not done(sent[a]) < sent[b].invoked:
            return False
        (pull_a, at_a), (pull_b, at_b) = taken[a], taken[b]
        return done(pull_b) < pull_a.invoked or (pull_a is pull_b and at_b < at_a)

    return sum(any(overtakes(b, a) for b in taken) for a in taken)


def falsely_short(history: list[Operation]) -> int:
    """Short answers beside a record that was there before and after: `false_short`, literally."""
    sent = {o.records[0][0]: o for o in history if o.verb is Verb.INGEST}
    pulls = [o for o in history if o.verb is Verb.PULL]
    taken = {record: o for o in pulls for record, _ in o.records}
    return sum(
        any(done(sent[a]) < pull.invoked and taken[a].invoked > done(pull) for a in taken)
        for pull in pulls
        if len(pull.records) < pull.count_max
    )


def done(operation: Operation) -> float:
    assert operation.completed is not None
    return operation.completed


def test_order_is_judged_as_defined() -> None:
    rng = Random(5)
    seen = 0
    for _ in range(3000):
        history = random_history(rng)
        report = check(history, {}, drained=False)
        assert report.reordered == overtaken(history)
        assert report.false_short == falsely_short(history)
        seen += report.reordered > 0 and report.false_short > 0
    assert seen > 200


# -- the rest --------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [Seen.UNKNOWN, Seen.FAIL])
def test_a_run_without_a_full_drain_does_not_count(run: Run, last: Seen) -> None:
    run.ingest(1)
    run.pull(1)
    run.pull()
    run.pull()
    run.pull(outcome=last)
    with pytest.raises(HistoryUnfinishedError, match="mailbox m "):
        check(run.history)
    assert check(run.history, drained=False).valid


def test_one_id_for_two_records_is_a_mistake_of_the_history(run: Run) -> None:
    run.ingest(1)
    run.ingest(1).records = [(1, "other")]
    run.drain()
    with pytest.raises(ValueError, match="two different records 1"):
        check(run.history)


def test_a_report_names_examples_but_not_all() -> None:
    report = Report()
    for record in range(20):
        report.blame("lost", f"record {record}")
    text = str(report)
    assert not report.valid
    assert "lost: 20" in text
    assert "record 4" in text
    assert "record 5" not in text


def test_a_hundred_thousand_records_take_a_second() -> None:
    """Judging costs n log n: long runs can be judged whole."""
    run = Run()
    for start in range(0, 100_000, 500):
        run.ingest(*range(start, start + 500), mailbox=f"m{start % 4000}")
    for start in range(0, 100_000, 500):
        for page in range(start, start + 500, 100):
            run.pull(*range(page, page + 100), mailbox=f"m{start % 4000}")
    run.drain(*(f"m{n}" for n in range(0, 4000, 500)))
    began = time.process_time()
    report = check(run.history, {})
    took_s = time.process_time() - began
    assert report.valid
    assert report.delivered == 100_000
    assert took_s < 20  # less than one on an idle core; n * n would take many minutes
