"""`serve --workers` over PostgreSQL: workers of several servers are one service."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from pullstatus.cli.serve import WORKERS_BY_CORES_MAX
from tests.e2e.test_workers import (
    PATIENT,
    WORKERS,
    connected,
    lines,
    post_over,
    pull_over,
    workers_of,
)
from tests.harness import Program, Record, statuses
from tools.postgresql import PostgreSQL

ROUNDS = 2  # of everybody's posting what everybody else may pull


@pytest.fixture
def keyed(tmp_path: Path, environment: dict[str, str]) -> Callable[..., Program]:
    """Makes servers that have one master key."""

    def make(name: str, workers: int, store: str, token: str | None = None) -> Program:
        folder = tmp_path / name
        folder.mkdir()
        return Program(
            folder,
            "--workers",
            str(workers),
            command=PATIENT,
            environment=environment,
            store=store,
            token=token,
        )

    return make


@pytest.fixture
def url(postgresql: PostgreSQL) -> Iterator[str]:
    with postgresql.database() as found:
        yield found


def test_what_one_worker_has_accepted_all_hand_out_at_once(
    keyed: Callable[..., Program], url: str
) -> None:
    """Those of its own server, and those of another; also when one of them has died."""
    one = keyed("one", WORKERS, url)
    other = keyed("other", WORKERS, url, one.token)
    with one, other, connected(one) as ours, connected(other) as theirs:
        app = one.create_app()
        doors = [
            (
                partial(post_over, wire, program, app),
                partial(pull_over, wire, app),
            )
            for program, wires in ((one, ours), (other, theirs))
            for _, wire in sorted(wires.items())
        ]
        numbers = itertools.count(1)

        def pass_round(post: Callable[[list[Record]], None], pull: Callable[[], object]) -> None:
            assert pull() == []
            sent = statuses(1, next(numbers))
            post(sent)
            assert pull() == sent

        for _ in range(ROUNDS):
            for (post, _), (_, pull) in itertools.permutations(doors, 2):
                pass_round(post, pull)
        sent = statuses(2, next(numbers))
        doors[0][0](sent)  # by the one that dies
        os.kill(workers_of(one)[1], signal.SIGKILL)
        assert ours[1].ended()
        assert doors[3][1]() == sent
        for (post, _), (_, pull) in itertools.permutations(doors[1:], 2):
            pass_round(post, pull)
        one.until(lambda: len(lines(one, "worker started")) > WORKERS)
        with connected(one) as anew:
            assert pull_over(anew[1], app) == []
            post_over(anew[1], one, app, statuses(1, next(numbers)))
            assert len(doors[3][1]()) == 1
    assert one.cli("audit")["sound"]


def test_as_many_as_there_are_cores(keyed: Callable[..., Program], url: str) -> None:
    with keyed("one", 0, url) as program:
        app = program.create_app()
        program.feed(app, statuses(150))
        assert program.drain(app) == statuses(150)
        cores = len(os.sched_getaffinity(0))
        due = min(cores, WORKERS_BY_CORES_MAX)
        program.until(lambda: program.metrics().get("pullstatus_workers", 1) == due)
