"""Things that take posts and hand out pages, measured in turns by the same loads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bench import drain
from bench.drain import Drain, by_front, by_posts
from bench.measure import Bench, Side
from bench.process import Running
from bench.records import as_array
from bench.results import Line
from bench.server import PAGE, Product, ingest_request, pull_request
from pullstatus.cli.load import Load, Request


class Subject(NamedTuple):
    """Something that answers.

    Attributes:
        behind: roots of the database's processes.
        post: of a body, into the queue that `pull` takes from.
        fill: lays so many records ready there, or more; returns how many.
    """

    label: str
    running: Callable[[], Running]
    behind: tuple[int, ...]
    post: Callable[[bytes], Request]
    pull: Callable[[], Request]
    fill: Callable[[int], int]


class Measure(NamedTuple):
    """What is asked of all: posts of so many records, or, with none, pulls of pages.

    Attributes:
        goal: how many times the rate of what people build instead the product should bring.
    """

    name: str
    unit: str
    records: int
    connections: int
    goal: float


def of_product(label: str, product: Product, behind: tuple[int, ...]) -> Subject:
    """The product, being served; its one application's mailbox."""

    def post(body: bytes) -> Request:
        return ingest_request(product.token, PAGE, body=body)

    return Subject(
        label, product.server, behind, post, pull_request, by_posts(product.server, post)
    )


def of_peer(label: str, running: Running, behind: tuple[int, ...]) -> Subject:
    """A front of the peers (`bench.peers.front`); one queue of it."""
    return Subject(
        label,
        lambda: running,
        behind,
        lambda body: Request("/ingest/all", body),
        lambda: Request("/pull/all", b'{"type":0,"max":%d}' % PAGE),
        by_front(running, "all"),
    )


def in_turns(
    bench: Bench, measure: Measure, subjects: Sequence[Subject], lines: Mapping[str, Line]
) -> None:
    """Take a measure of all, run by run, into the line of each by its label."""
    if not measure.records:
        drain.in_turns(
            bench,
            [
                Drain(
                    bench,
                    lines[each.label],
                    each.running,
                    lambda each=each: Load([each.pull()], measure.connections),  # type: ignore[misc]
                    each.fill,
                    each.behind,
                )
                for each in subjects
            ],
        )
        return
    body = as_array(measure.records)
    bench.in_turns(
        [
            Side(
                lines[each.label],
                each.running,
                lambda each=each: Load([each.post(body)], measure.connections),  # type: ignore[misc]
                None,
                measure.records,
                behind=each.behind,
            )
            for each in subjects
        ]
    )
