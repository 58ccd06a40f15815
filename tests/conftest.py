"""What a run needs beside Python packages, and what it says at its end.

A test that needs a program of the system is marked `needs("wrk")`; one that needs anything else, by
what `ELSE` calls it. Where it is missing the test is left out, and the end of the run says so and
how to have it; with `CI` set, it fails instead.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TextIO, cast

import hypothesis
import pytest
import structlog

from tests import warm
from tools.postgresql import DEBIAN, PostgreSQL, roomy_memory

PACKAGES = {
    "wrk": "wrk",
    "nginx": "nginx-light",
    "cc": "gcc libsqlite3-dev",
    "postgres": "postgresql",
    "fusermount3": "fuse3",
    "mkfs.ext4": "e2fsprogs",
    "nft": "nftables",
    "ip": "iproute2",
    "systemd-analyze": "systemd",
    "dpkg-deb": "dpkg",
    "unshare": "util-linux",
    "man": "man-db",
    "promtool": "prometheus",
    "/usr/sbin/bearerbox": "kannel",
}
"""Programs that tests run, and the Debian packages they are in: also in requirements/debian.txt."""

ELSE = {
    "root": "run the tests as root",
    "/dev/fuse": "the kernel's module fuse",
    "/lib64/ld-linux-x86-64.so.2": "an x86-64 machine",
}
"""What else tests need of the system, and how to have it."""

HYPOTHESIS_SEED = "hypothesis_seed"


class Said:
    """Where servers in this process log: with what pytest shows of a test, and nowhere between two.

    A thread of theirs may be late, and its line would stand among the dots. It is standard error,
    since beside them a command may run, whose standard output is read as JSON.
    """

    def __init__(self) -> None:
        self.of_a_test = False

    def write(self, text: str) -> None:
        if self.of_a_test and sys.__stderr__ is not None:
            sys.__stderr__.write(text)

    def flush(self) -> None:
        if self.of_a_test and sys.__stderr__ is not None:
            sys.__stderr__.flush()


SAID = Said()


SIGNALS: Final[dict[int, Any]] = dict.fromkeys(
    (*warm.ENDING, signal.SIGUSR1, signal.SIGUSR2), signal.SIG_DFL
) | {signal.SIGINT: signal.default_int_handler}
"""What they do in each test: what was begun in the background does not hear INT."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Have Hypothesis begin from one seed in all processes, so that a run can be had again."""
    # Tests start the program by the thousand. Where nothing compiled is kept, each compiles all of
    # it, which is half of what such a process does.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if sys.platform == "linux":
        subprocess._fork_exec = warm.fork_exec  # type: ignore[attr-defined]
    _hear_signals()
    gc.disable()  # until the tests are collected, of which nothing becomes garbage
    # Tests make stores by the thousand, each syncs what it accepts, and nobody takes the power.
    tempfile.tempdir = None if (memory := roomy_memory()) is None else str(memory)
    # How long an example takes, or to make one, says more of what else the machine does than of
    # what is tested.
    hypothesis.settings.register_profile(
        "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("patient")
    config.addinivalue_line("markers", "needs(program): a program of the system that it runs")
    config.addinivalue_line(
        "markers", "anew: it starts programs as people do, not from `tests.warm`"
    )
    config.addinivalue_line("markers", "early: it takes long and does little; begun first")
    if config.getoption(HYPOTHESIS_SEED) is None:
        config.option.hypothesis_seed = str(random.SystemRandom().getrandbits(32))
    structlog.configure(
        # As it is by itself, a trace is coloured in with all of its locals: a second each.
        processors=[
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        ],
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", SAID)),
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have what takes long by waiting begin first: beside it others work, and nobody awaits it."""
    items.sort(key=lambda item: item.get_closest_marker("early") is None)


def pytest_collection_finish() -> None:
    """Look for garbage from now on, and not among what was loaded."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A running PostgreSQL, in which each test makes a database of its own."""
    with PostgreSQL() as server:
        yield server


@pytest.hookimpl(wrapper=True, trylast=True)  # within what captures
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    _set_up(item)
    yield from _in_a_test()


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call() -> Iterator[None]:
    yield from _in_a_test()


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown() -> Iterator[None]:
    yield from _in_a_test()
    _hear_signals()  # a server that was run within this process leaves them as if that had ended


def _hear_signals() -> None:
    for number, handler in SIGNALS.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _in_a_test() -> Iterator[None]:
    SAID.of_a_test = True
    try:
        yield
    finally:
        SAID.of_a_test = False


def _set_up(item: pytest.Item) -> None:
    warm.WARM.anew = item.get_closest_marker("anew") is not None
    for mark in item.iter_markers("needs"):
        program = mark.args[0]
        if not _installed(program):
            how = ELSE.get(program) or f"apt-get install {PACKAGES[program]}"
            lacking = f"{program} is missing: {how}"
            if os.environ.get("CI"):
                pytest.fail(lacking, pytrace=False)
            pytest.skip(lacking)


def _installed(program: str) -> bool:
    """Whether it is there; Debian has the programs of its PostgreSQL outside of the path."""
    if program == "root":
        return os.geteuid() == 0
    if program.startswith("/"):  # also programs that are in nobody's path
        return Path(program).exists()
    places = [os.environ.get("PATH", os.defpath), *map(str, DEBIAN.glob("*/bin"))]
    return shutil.which(program, path=os.pathsep.join(places)) is not None


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what was left out, and how to run again what failed."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
    )
    if reasons:
        terminalreporter.section("left out")
        for reason, count in reasons.items():
            terminalreporter.line(f"{count} tests: {reason}")
    failed = [
        report.nodeid
        for outcome in ("failed", "error")
        for report in terminalreporter.stats.get(outcome, [])
    ]
    if failed:
        terminalreporter.section("failed, and how to run it again")
        seeds = f"PULLSTATUS_SEED={os.environ.get('PULLSTATUS_SEED', '1')}"
        for nodeid in dict.fromkeys(failed):
            again = f"--hypothesis-seed={config.getoption(HYPOTHESIS_SEED)} {nodeid!r}"
            terminalreporter.line(f'{seeds} make test ARGS="{again}"')
