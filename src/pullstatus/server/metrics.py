"""How Prometheus gets to read what the server counts, and how everything stands beside.

The text is made when somebody asks. No label holds anything of a person's: only kinds, codes and
doors, and the numbers of the few applications that are worst off.
"""

from __future__ import annotations

import itertools
import os
import resource
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from prometheus_client import (
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from pullstatus.apps.tries import Tries
from pullstatus.mailbox.done import Task
from pullstatus.records import Kind
from pullstatus.server.budget import Budget
from pullstatus.server.figures import TIMED, Figures
from pullstatus.server.logs import LogLines
from pullstatus.steps import Steps
from pullstatus.store import Aside, Engine, Health, Mailbox, Totals, UnderWay
from pullstatus.version import VERSION


class ConnectionCounts(msgspec.Struct, frozen=True):
    """How many connections there are, and were not taken, by reason."""

    count: int
    refused: Mapping[str, int]


class Unpulled(msgspec.Struct, frozen=True):
    """How many records wait in a mailbox, and for how long the oldest of them has."""

    mailbox: Mailbox
    waiting: int
    oldest_s: float


class Gauges(msgspec.Struct, frozen=True):
    """How everything stands when somebody asks, beside what is counted.

    Attributes:
        engine: the store's own, as far as they are known; None: it has told nothing yet.
        totals: of all mailboxes; None: the store cannot be read now.
        oldest_waiting_s, oldest_in_hand_s: ages; 0 when nothing waits, or no page is in a hand.
        held: pulls that wait for a record.
        log: lines of the log.
        tries: failed ones that are remembered.
        under_way: what waits for the store.
        connections: who is connected.
        budget: what is in hand.
        health: how the nodes are that keep the store, if there are any.
        noted: tasks that are noted in the store when they are done.
        done_ms: when things were done last that keep a store healthy, in Unix milliseconds.
        upkeep_ms: when this server has last let go what is too old.
        certificate_end_s: until when its TLS certificate is good, in Unix seconds; 0: it has none.
        workers: processes that answer requests.
        workers_ended: how many have ended unasked, and were replaced.
        processes: numbers of the workers' own, if this is another one.
        worst: mailboxes that are told of one by one.
        oldest_pending_s: age of what waits longest to become a record; 0: nothing does.
    """

    engine: Engine | None
    totals: Totals | None
    oldest_waiting_s: float
    oldest_in_hand_s: float
    held: int
    log: LogLines
    tries: Tries
    under_way: UnderWay
    connections: ConnectionCounts
    budget: Budget
    health: Health = Health()
    noted: Collection[Task] = frozenset(Task)
    done_ms: Mapping[Task, int] = {}
    upkeep_ms: int = 0
    certificate_end_s: float = 0.0
    workers: int = 1
    workers_ended: int = 0
    processes: Sequence[int] = ()
    worst: Sequence[Unpulled] = ()
    oldest_pending_s: float = 0.0


def render_in_steps(figures: Figures, gauges: Gauges) -> Steps[bytes]:
    """All figures in Prometheus' text format, one a step: together they take some 10 ms."""
    families = itertools.chain(
        _Processes(gauges.processes).collect(),
        PlatformCollector(registry=None).collect(),
        _metrics(figures, gauges),
    )
    texts = []
    for family in families:
        texts.append(generate_latest(_Only(family)))
        yield
    return b"".join(texts)


def _of_the_store(under_way: UnderWay) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "pullstatus_store_queued",
        "Operations that wait for their turn at the store, and can still be dropped.",
        under_way.queued,
    )
    yield GaugeMetricFamily(
        "pullstatus_store_handed_over",
        "Operations at the store, which alone knows how they end.",
        under_way.handed_over,
    )
    yield GaugeMetricFamily("pullstatus_store_under_way_bytes", "Of both, about.", under_way.bytes)
    yield GaugeMetricFamily(
        "pullstatus_store_oldest_seconds",
        "For how long the oldest of them has waited. Alert on more than a second.",
        under_way.oldest_s,
    )


def _of_connections(connections: ConnectionCounts) -> Iterator[Metric]:
    yield GaugeMetricFamily("pullstatus_connections", "Connections there are.", connections.count)
    yield _by(
        "pullstatus_connections_refused",
        "Connections that were not served: over the bound of all, or of their address, or ended"
        " before their TLS handshake did.",
        "reason",
        connections.refused,
    )


def _of_the_budget(budget: Budget) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "pullstatus_in_hand_bytes",
        "Bytes of requests that are not answered, and of answers that are not read.",
        budget.bytes,
    )
    yield _by(
        "pullstatus_requests_shed",
        "Requests refused since too much was in hand, in all or of their address or application.",
        "reason",
        budget.refused,
    )


def _of_mailboxes(figures: Figures, totals: Totals, gauges: Gauges) -> Iterator[Metric]:
    """What only the store knows."""
    sums = totals.of
    behind = sum(sums[kind].accepted - sums[kind].followed for kind in Kind)
    yield GaugeMetricFamily(
        "pullstatus_unfollowed",
        "Records that are not indexed and counted yet; questions look through them.",
        behind,
    )
    yield GaugeMetricFamily(
        "pullstatus_unfollowed_seconds",
        "All accepted longer ago are; 0 when there is nothing else. It grows while the store is"
        " busy. Alert on an hour.",
        figures.behind_s if behind else 0.0,
    )
    waiting = GaugeMetricFamily(
        "pullstatus_waiting", "Records that wait, over all mailboxes.", labels=["kind"]
    )
    for kind in Kind:
        waiting.add_metric([kind.path], sums[kind].waiting)
    yield waiting
    yield GaugeMetricFamily(
        "pullstatus_oldest_waiting_seconds",
        "Age of the oldest record that waits anywhere; 0 when none does.",
        gauges.oldest_waiting_s,
    )
    yield from _of_the_worst(gauges.worst)
    yield GaugeMetricFamily(
        "pullstatus_in_hand",
        "Pages that readers were handed and have not acknowledged.",
        totals.in_hand.pages,
    )
    yield GaugeMetricFamily(
        "pullstatus_oldest_in_hand_seconds",
        "Time since the oldest of these pages was taken; 0 when there is none.",
        gauges.oldest_in_hand_s,
    )
    yield CounterMetricFamily(
        "pullstatus_quarantined",
        "Records found damaged on the disk, set aside and never handed out. Alert when it grows.",
        sum(each.quarantined for each in sums.values()),
    )
    yield CounterMetricFamily(
        "pullstatus_expired",
        "Records that waited longer than their application's limit.",
        sum(sums[kind].expired for kind in Kind),
    )
    yield GaugeMetricFamily(
        "pullstatus_pending",
        "Items that wait for a name, or for the other parts of a message; no records yet.",
        sums[Aside.PENDING].waiting,
    )
    yield GaugeMetricFamily(
        "pullstatus_oldest_pending_seconds",
        "Age of the oldest of these; 0 when there is none. All leave within an hour: alert on"
        " more.",
        gauges.oldest_pending_s,
    )
    yield GaugeMetricFamily(
        "pullstatus_parked",
        "Parked items that wait for somebody to see to them. Alert on any.",
        sums[Aside.PARKED].waiting,
    )
    yield CounterMetricFamily(
        "pullstatus_parked_expired",
        "Parked items that left unread: too old, or too many behind them. Alert when it grows.",
        sums[Aside.PARKED].expired,
    )
    yield GaugeMetricFamily(
        "pullstatus_mailboxes",
        "Mailboxes there are.",
        sum(each.mailboxes for each in sums.values()),
    )


def _of_the_worst(worst: Sequence[Unpulled]) -> Iterator[Metric]:
    labels = ["sdkappid", "kind"]
    waiting = GaugeMetricFamily(
        "pullstatus_application_waiting",
        "Records that wait for one application: of those alone in which the oldest record waits,"
        " or most do; so many of each as `--worst` says.",
        labels=labels,
    )
    oldest = GaugeMetricFamily(
        "pullstatus_application_oldest_waiting_seconds",
        "Age of the oldest of these. Alert on hours.",
        labels=labels,
    )
    for each in worst:
        values = [str(each.mailbox.sdkappid), each.mailbox.kind.path]
        waiting.add_metric(values, each.waiting)
        oldest.add_metric(values, each.oldest_s)
    yield waiting
    yield oldest


def _of_the_cluster(figures: Figures, health: Health) -> Iterator[Metric]:
    """How the nodes of a cluster are; all 0 where there is none."""
    yield GaugeMetricFamily(
        "pullstatus_cluster_streams", "Streams of a store in a cluster of nodes.", health.streams
    )
    yield GaugeMetricFamily(
        "pullstatus_cluster_streams_down",
        "Of these, those without a leader, or whose leader does not reach most of its nodes. Alert"
        " on any for 30 seconds.",
        health.down,
    )
    yield GaugeMetricFamily(
        "pullstatus_cluster_streams_without_writes",
        "Others whose leader has answered no write for a minute; of workers the one that has most"
        " of them. Alert on any.",
        health.without_writes,
    )
    yield CounterMetricFamily(
        "pullstatus_cluster_writes_unanswered",
        "Writes that were given up without an answer of the nodes. Alert when it grows on.",
        figures.writes_unanswered,
    )
    yield GaugeMetricFamily(
        "pullstatus_cluster_copies_away",
        "Copies of streams on nodes that cannot be reached, or that were removed. Alert on any for"
        " minutes.",
        health.copies_away,
    )
    yield GaugeMetricFamily(
        "pullstatus_cluster_copies_behind",
        "Other copies that lack something. Alert on any for minutes.",
        health.copies_behind,
    )
    yield GaugeMetricFamily(
        "pullstatus_cluster_copies_unproven",
        "Copies on nodes that do not say where they are monitored whether they sync what they"
        " acknowledge. Alert on any for minutes.",
        health.copies_unproven,
    )
    yield GaugeMetricFamily(
        "pullstatus_cluster_copies_short",
        "Copies on nodes that have lost messages which another node has. Alert on any.",
        health.copies_short,
    )
    yield GaugeMetricFamily(
        "pullstatus_cluster_lag",
        "Steps that the copy has yet to take that is furthest behind.",
        health.lag,
    )
    yield CounterMetricFamily(
        "pullstatus_cluster_mended",
        "Messages that one node had damaged or lost, and another one had. Alert when it grows.",
        figures.mended,
    )
    yield GaugeMetricFamily(
        "pullstatus_cluster_full_ratio",
        "How full the fullest stream or node is, of 1; 0 if none has a bound. Alert above 0.8.",
        health.full,
    )
    yield GaugeMetricFamily(
        "pullstatus_cluster_subjects",
        "Subjects of all streams, of which each node has those of its copies in memory: some 400"
        " bytes each. Alert before that is more than the nodes have.",
        health.subjects,
    )


def _of_care(gauges: Gauges) -> Iterator[Metric]:
    """When what keeps it healthy was done last, or has to be."""
    for task in filter(gauges.noted.__contains__, Task):
        yield GaugeMetricFamily(
            f"pullstatus_{task}_timestamp_seconds",
            f"When the newest {task} was done that is noted in the store, in Unix seconds; 0: none"
            " is. Alert when it is late."
            + (" Not over a database, whose own tools make them." if task is Task.BACKUP else ""),
            gauges.done_ms.get(task, 0) / 1000,
        )
    yield GaugeMetricFamily(
        "pullstatus_upkeep_timestamp_seconds",
        "When this server has last let go what is too old, in Unix seconds; 0: not yet. Alert when"
        " that is an hour ago or, while there was none, the start is.",
        gauges.upkeep_ms / 1000,
    )
    yield GaugeMetricFamily(
        "pullstatus_certificate_end_timestamp_seconds",
        "Until when the TLS certificate is good, in Unix seconds; 0: the server has none. Alert two"
        " weeks before.",
        gauges.certificate_end_s,
    )


def _by(name: str, text: str, label: str, counts: Mapping[Any, int]) -> Metric:
    """What is counted by one label, in the order of its values."""
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([str(value)], count)
    return family


class _Processes(Collector):
    """What the system says of this process, with what it says of others: workers of this one.

    The processor's time of those that are no more stays in the sum.
    """

    def __init__(self, others: Sequence[int]) -> None:
        self._others = others

    def collect(self) -> Iterator[Metric]:
        own = list(_of_process(os.getpid()))
        if self._others:
            ended = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = {"process_cpu_seconds_total": ended.ru_utime + ended.ru_stime}
            for number in self._others:
                for metric in _of_process(number):
                    for sample in metric.samples:
                        spent[sample.name] = spent.get(sample.name, 0.0) + sample.value
            for metric in own:
                if metric.name not in _OF_ONE:
                    metric.samples = [
                        sample._replace(value=sample.value + spent.get(sample.name, 0.0))
                        for sample in metric.samples
                    ]
        yield from own


_OF_ONE: Final = ("process_start_time_seconds", "process_max_fds")


def _of_process(number: int) -> Iterable[Metric]:
    return ProcessCollector(pid=lambda: number, registry=None).collect()


class _Only(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


def _metrics(figures: Figures, gauges: Gauges) -> Iterator[Metric]:
    yield from _of_records(figures)
    yield from _of_pulls(figures, gauges.held)
    yield from _of_calls(figures)
    yield from _of_questions(figures)
    yield from _of_batches(figures)
    yield _by(
        "pullstatus_requests_refused",
        "Requests that no call took: no HTTP, no such address, or a head that is refused; by HTTP"
        " status, which is 200 for an unknown call of v5.",
        "status",
        figures.refused,
    )
    yield from _failed_tries(figures, gauges.tries)
    yield _by(
        "pullstatus_connections_cut",
        "Connections closed since a deadline had passed, or too few bytes had come or were taken;"
        " by the name of that in the list of limits.",
        "deadline",
        figures.cut,
    )
    yield from _of_the_store(gauges.under_way)
    yield from _of_connections(gauges.connections)
    yield from _of_the_budget(gauges.budget)
    if gauges.totals is not None:
        yield from _of_mailboxes(figures, gauges.totals, gauges)
    yield CounterMetricFamily(
        "pullstatus_pages_given_again",
        "Pages handed out again to the reader that has them in hand, after a lost answer or a"
        " restart, or since two programs come under one name.",
        figures.pages_given_again,
    )
    yield from _of_callbacks(figures)
    if gauges.engine is not None:
        yield from _of_the_engine(gauges.engine)
    yield from _of_care(gauges)
    yield from _of_the_cluster(figures, gauges.health)
    yield _of_the_log(gauges.log)
    yield from _of_workers(gauges)
    yield InfoMetricFamily("pullstatus_build", "Which version this is.", {"version": VERSION})


def _of_records(figures: Figures) -> Iterator[Metric]:
    records_in = CounterMetricFamily(
        "pullstatus_records_in", "Records accepted, repeats included.", labels=["kind"]
    )
    repaired = CounterMetricFamily(
        "pullstatus_records_repaired",
        "Records of callbacks that were mended before they were accepted, repeats included.",
        labels=["kind"],
    )
    records_out = CounterMetricFamily(
        "pullstatus_records_out", "Records handed out by pulls.", labels=["kind"]
    )
    for kind in Kind:
        records_in.add_metric([kind.path], figures.records_in[kind])
        repaired.add_metric([kind.path], figures.repaired[kind])
        records_out.add_metric([kind.path], figures.records_out[kind])
    yield records_in
    yield repaired
    yield records_out


def _of_pulls(figures: Figures, held: int) -> Iterator[Metric]:
    yield _by("pullstatus_pulls", "Pulls answered.", "result", figures.pulls)
    yield CounterMetricFamily(
        "pullstatus_pulls_dropped",
        "Pulls whose peer had gone before they reached the store, or while they waited for a"
        " record: nothing was consumed.",
        figures.pulls_dropped,
    )
    yield CounterMetricFamily(
        "pullstatus_pulls_signed_again",
        "Pulls that were let in with a signature that had come before; the log tells whose.",
        figures.replays.total,
    )
    yield GaugeMetricFamily("pullstatus_pulls_held", "Pulls that wait for a record.", held)


def _of_calls(figures: Figures) -> Iterator[Metric]:
    unanswered = CounterMetricFamily(
        "pullstatus_unanswered",
        "Requests whose outcome is not known, and whose connection was closed. Alert when it"
        " grows.",
        labels=["call"],
    )
    seconds = HistogramMetricFamily(
        "pullstatus_request_seconds",
        "Time from the head of a request to its answer, which waits for the body and the commit;"
        " without that for which a pull waited for a record.",
        labels=["call"],
    )
    for call, count in figures.unanswered.items():
        unanswered.add_metric([call], count)
    for call in TIMED:
        taken = figures.seconds[call]
        seconds.add_metric([call], taken.cumulative(), taken.sum_s)
    yield unanswered
    yield seconds


def _of_questions(figures: Figures) -> Iterator[Metric]:
    questions = CounterMetricFamily(
        "pullstatus_questions",
        "Questions answered, which take nothing, by call and result.",
        labels=["call", "result"],
    )
    for (call, result), count in sorted(figures.questions.items()):
        questions.add_metric([call, str(result)], count)
    yield questions
    yield _by(
        "pullstatus_api3_calls",
        "Calls of API 3.0 answered, by the code of their error; none: they worked.",
        "code",
        figures.api3,
    )


def _of_batches(figures: Figures) -> Iterator[Metric]:
    batches = CounterMetricFamily(
        "pullstatus_batches",
        "Batches answered, by door and HTTP status.",
        labels=["door", "status"],
    )
    for (door, http_status), count in sorted(figures.batches.items()):
        batches.add_metric([door, str(http_status)], count)
    yield batches
    yield _by(
        "pullstatus_batches_dropped",
        "Batches whose peer had gone before they were whole, or reached the store: nothing was"
        " stored.",
        "door",
        figures.batches_dropped,
    )


def _of_callbacks(figures: Figures) -> Iterator[Metric]:
    items = CounterMetricFamily(
        "pullstatus_source_items",
        "Items that gateways sent by their own callbacks, by source and what became of them;"
        " repeat: it came before, and was there already.",
        labels=["source", "result"],
    )
    for (source, became), count in sorted(figures.source_items.items()):
        items.add_metric([source, became], count)
    yield items
    yield CounterMetricFamily(
        "pullstatus_items_parked",
        "What could not be read of callbacks and was put aside, repeats included.",
        figures.parked,
    )


def _of_the_engine(engine: Engine) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "pullstatus_accepting", "1 while there is room for more records, else 0.", int(engine.room)
    )
    yield GaugeMetricFamily("pullstatus_store_bytes", "Size of the store's files.", engine.bytes)
    if engine.free_bytes is not None:
        yield GaugeMetricFamily(
            "pullstatus_store_free_bytes",
            "What is free on the disk of the store's files. Alert when it will be gone in days.",
            engine.free_bytes,
        )
    yield GaugeMetricFamily(
        "pullstatus_store_log_bytes",
        "Size of the store's log, of them. Alert when it grows on.",
        engine.log_bytes,
    )
    yield HistogramMetricFamily(
        "pullstatus_commit_seconds",
        "Time a commit took.",
        engine.durations.cumulative(),
        engine.durations.sum_s,
    )
    yield SummaryMetricFamily(
        "pullstatus_commit_operations",
        "Appends and pulls that shared a commit.",
        engine.commits,
        engine.operations,
    )


def _of_the_log(log: LogLines) -> Metric:
    lines = CounterMetricFamily(
        "pullstatus_log_lines",
        "Lines of the log: written; summed, since many of their kind came in that second; or"
        " dropped, since standard error was not read or could not be written. Alert on dropped.",
        labels=["fate"],
    )
    for fate in LogLines.__struct_fields__:
        lines.add_metric([fate], getattr(log, fate))
    return lines


def _of_workers(gauges: Gauges) -> Iterator[Metric]:
    yield GaugeMetricFamily("pullstatus_workers", "Processes that answer requests.", gauges.workers)
    yield CounterMetricFamily(
        "pullstatus_workers_ended",
        "Such processes that ended unasked and were replaced. Alert when it grows.",
        gauges.workers_ended,
    )


def _failed_tries(figures: Figures, tries: Tries) -> Iterator[Metric]:
    yield _by(
        "pullstatus_failed_tries",
        "Requests refused for what they prove themselves by: a wrong signature (1001), a number of"
        " no application (1019), no token that there is (401), no SecretId that there is.",
        "wrong",
        figures.failed_tries,
    )
    yield CounterMetricFamily(
        "pullstatus_failed_tries_late",
        "Failed tries whose answer was held back, since their address has had many.",
        figures.failed_tries_late,
    )
    kept = GaugeMetricFamily(
        "pullstatus_failed_tries_kept",
        "Addresses and applications whose failed tries are remembered.",
        labels=["of"],
    )
    forgotten = CounterMetricFamily(
        "pullstatus_failed_tries_forgotten",
        "Those that were forgotten for others, since there were too many.",
        labels=["of"],
    )
    for name, buckets in (("addresses", tries.addresses), ("applications", tries.applications)):
        kept.add_metric([name], len(buckets))
        forgotten.add_metric([name], buckets.forgotten)
    yield kept
    yield forgotten
