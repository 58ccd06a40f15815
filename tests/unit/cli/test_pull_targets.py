"""Killed at every instant: nothing is lost, nothing is there twice, and no row is torn."""

from __future__ import annotations

import contextlib
import csv
import errno
import itertools
import json
import os
import pty
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import apsw
import httpx
import msgspec
import pytest

from pullstatus import AnswerLost, Client, NotConnected, Page, ReaderUnsupported, mounts
from pullstatus.cli.pull import _default_state
from pullstatus.client import slots
from pullstatus.client.keys import NextPage, decode_next_page
from pullstatus.client.outage import OnRetry
from pullstatus.client.records import Record, Reply
from pullstatus.client.service_name import service_name
from pullstatus.client.slots import SLOT_BYTES, Slots
from pullstatus.consumer import targets as pull_targets
from pullstatus.consumer.forms import BOM
from pullstatus.consumer.run import pull_into
from pullstatus.consumer.sqlite import SqliteTarget
from pullstatus.consumer.state import Source
from pullstatus.consumer.targets import FileTarget, StdoutTarget, Target
from pullstatus.consumer.ways import Job
from pullstatus.errors import InvalidSetting, PullstatusError, StoreFailed, StoreRefused
from pullstatus.records import Kind
from tests.sim import disk as simulated
from tests.unit.cli.service import Service

SOURCE = Source("http://a.test", 1400006666, Kind.REPLY)
NOW_S = 1_457_336_869.0
TEXTS = ("TD", 'a "b", c', "two\nlines", "好的 👍", "=1+1", "", "\r\n", ",,", '"')


def reply(number: int) -> dict[str, Any]:
    return {
        "nationcode": "86",
        "mobile": f"139{number:08d}",
        "text": TEXTS[number % len(TEXTS)],
        "sign": "Example",
        "time": 1_457_000_000 + number,
        "extend": "",
        "new": [number],
    }


class Killed(BaseException):
    """The process is gone."""


class Clock:
    """Counts instants, and kills at one of them."""

    def __init__(self) -> None:
        self.at = -1
        self.now = 0

    def __call__(self) -> None:
        self.now += 1
        if self.now == self.at:
            raise Killed

    def kill_at(self, instant: int) -> None:
        self.at, self.now = instant, 0


class Disk:
    """The calls through which files change, each an instant of the clock before and after.

    A write that is killed in its middle has written half.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def write(self, file: int, data: memoryview) -> int:
        self._cut(lambda: os.write(file, data[: len(data) // 2]))
        count = os.write(file, data)
        self._clock()
        return count

    def pwrite(self, file: int, data: bytes, start: int) -> int:
        self._cut(lambda: os.pwrite(file, data[: len(data.rstrip()) // 2], start))
        count = os.pwrite(file, data, start)
        self._clock()
        return count

    def ftruncate(self, file: int, size: int) -> None:
        self._clock()
        os.ftruncate(file, size)
        self._clock()

    def fsync(self, _file: int) -> None:
        self._clock()

    def _cut(self, half: Callable[[], object]) -> None:
        self._clock()
        try:
            self._clock()
        except Killed:
            half()
            raise


class Watcher:
    """Notes what a person would be told."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.counts: list[int] = []

    def page(self, page: Page[Record]) -> None:
        if page:
            self.counts.append(len(page))

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class Consumer:
    """`pullstatus pull` without its process: run it, kill it, run it again."""

    def __init__(self, folder: Path, form: str, service: Service) -> None:
        self.path = folder / f"replies.{form}"
        self.service = service
        self.clock = Clock()
        self.watcher = Watcher()
        self.random = Random(7)
        self.now_s = NOW_S
        self.sleep: Callable[[float], object] = lambda _s: None
        self.keyed: bool | None = None
        self.answer: Callable[[httpx.Request], httpx.Response] = service
        service.step = self.clock

    def open(
        self,
        source: Source = SOURCE,
        *,
        moved: bool = False,
        abandon: bool = False,
        exact: bool = False,
    ) -> Target:
        if self.path.suffix == ".db":
            return SqliteTarget(self.path, source, moved=moved, abandon=abandon)
        return FileTarget(self.path, source, moved=moved, abandon=abandon, exact=exact)

    def run(
        self,
        *,
        count_max: int = 3,
        moved: bool = False,
        abandon: bool = False,
        exact: bool = False,
        source: Source = SOURCE,
        follow: bool = False,
        reader: str | None = None,
    ) -> None:
        target = self.open(source, moved=moved, abandon=abandon, exact=exact)
        try:
            job = Job(
                target=target,
                connect=self.connect,
                kind=SOURCE.kind,
                count_max=count_max,
                reader=reader,
                follow=follow,
                abandon=abandon,
                watcher=self.watcher,
                clock=lambda: self.now_s,
                random=self.random,
            )
            pull_into(job, self.sleep)
        finally:
            target.close()

    def connect(
        self,
        *,
        reader: str | None = None,
        keyed: bool | None = None,
        on_retry: OnRetry | None = None,
    ) -> Client:
        return Client(
            SOURCE.url,
            SOURCE.sdkappid,
            "0" * 32,
            reader=reader,
            keyed=keyed if reader else self.keyed or keyed,
            on_retry=on_retry,
            transport=httpx.MockTransport(self.answer),
            sleep=lambda _s: None,
            clock=lambda: self.now_s,
            random=self.random,
        )

    def run_killed(self, instant: int, **options: Any) -> bool:  # noqa: ANN401 - those of run
        """Whether it was killed before its end."""
        self.clock.kill_at(instant)
        try:
            self.run(**options)
        except Killed:
            return True
        finally:
            self.clock.kill_at(-1)
        return False

    def records(self) -> list[dict[str, Any]]:
        """What is in the target; fails if a row is torn."""
        if not self.path.exists():
            return []
        if self.path.suffix == ".db":
            with sqlite3.connect(self.path) as connection:
                rows = connection.execute("SELECT json FROM replies ORDER BY number").fetchall()
            connection.close()
            return [json.loads(json_text) for (json_text,) in rows]
        content = self.path.read_bytes()
        if self.path.suffix == ".ndjson":
            content = content.removeprefix(BOM)
            assert content.endswith(b"\n") or not content
            return [json.loads(line) for line in content.splitlines()]
        with self.path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, strict=True))
        extras = [json.loads(row.pop("extra")) for row in rows]
        return [
            {**row, "time": int(row["time"])} | extra
            for row, extra in zip(rows, extras, strict=True)
        ]


FORMS = ("ndjson", "csv", "db")


WAYS = ("reader", "key")
by_key = pytest.mark.parametrize("consumer", ["key"], indirect=True)
by_reader = pytest.mark.parametrize("consumer", ["reader"], indirect=True)


@pytest.fixture(params=WAYS)
def consumer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[..., Consumer]:
    """Makes consumers, of a service that knows readers or of one that knows keys."""

    def make(form: str, count: int = 8, *, keyed: bool = True, folder: str = "") -> Consumer:
        readers = keyed and request.param == "reader"
        records = [reply(number) for number in range(count)]
        service = Service(records, keyed=keyed, readers=readers)
        (tmp_path / folder).mkdir(exist_ok=True)
        made = Consumer(tmp_path / folder, form, service)
        disk = Disk(made.clock)
        monkeypatch.setattr(pull_targets, "os", disk)
        monkeypatch.setattr(slots, "os", disk)
        return made

    return make


Make = Callable[..., Consumer]
each_form = pytest.mark.parametrize("form", FORMS)


@each_form
def test_everything_arrives_once(consumer: Make, form: str) -> None:
    one = consumer(form, 25)
    one.run(count_max=10)
    assert one.records() == one.service.records
    assert one.watcher.counts == [10, 10, 5]
    one.service.records += [reply(number) for number in range(25, 30)]
    one.run()
    assert one.records() == one.service.records


@each_form
def test_killed_at_each_instant_and_run_again(consumer: Make, form: str) -> None:
    """One kill, at every instant there is; the second run may ask for pages of another size."""
    instant, killed = 1, True
    while killed:
        one = consumer(form, folder=str(instant))
        killed = one.run_killed(instant)
        one.run(count_max=2)
        assert one.records() == one.service.records, f"killed at instant {instant}"
        assert not one.watcher.warnings
        instant += 1
    assert instant > (6 if form == "db" else 30)


@each_form
@pytest.mark.parametrize("seed", range(40))
def test_killed_again_and_again(consumer: Make, form: str, seed: int) -> None:
    chance = Random(seed)
    one = consumer(form, 20)
    for _ in range(100):
        if not one.run_killed(chance.randrange(1, 60), count_max=chance.randrange(1, 6)):
            break
    else:
        one.run()
    assert one.records() == one.service.records


@each_form
def test_other_service_killed_at_each_instant(consumer: Make, form: str) -> None:
    """Without keys a page in flight can be lost; it is said, and nothing is torn or doubled."""
    instant, killed = 1, True
    while killed:
        one = consumer(form, keyed=False, folder=str(instant))
        killed = one.run_killed(instant)
        one.run(count_max=2)
        found = one.records()
        assert found == [record for record in one.service.records if record in found]
        lost = [record for record in one.service.records if record not in found]
        assert len(lost) <= 3
        assert one.watcher.warnings or not lost, f"killed at instant {instant}"
        instant += 1


@by_key
@each_form
def test_page_in_flight_too_long_is_not_asked_for(consumer: Make, form: str) -> None:
    """After a day the service may have forgotten the key, and would give another page."""
    one = consumer(form)
    killed_at = next(n for n in range(1, 99) if _in_flight_after(consumer, form, n))
    one = consumer(form, folder="late")
    assert one.run_killed(killed_at)
    one.now_s += 24 * 3600 + 1
    with pytest.raises(StoreRefused, match=r"pulls list --key [0-9a-f]{32}.*--abandon-page"):
        one.run()
    one.run(abandon=True)
    found = one.records()
    assert found == [record for record in one.service.records if record in found]
    assert "is not asked for again" in one.watcher.warnings[0]


@each_form
def test_late_attempt_loses_nothing(consumer: Make, form: str) -> None:
    """Held up on its way, repeated, answered with an empty page: its key is kept for the next run.

    Killed at every instant, too, before the held one arrives with records behind it.
    """
    instant, killed = 1, True
    while killed:
        one = consumer(form, 0, folder=str(instant))
        one.keyed = True
        one.service.hold = True
        killed = one.run_killed(instant)
        one.run()
        assert one.service.held
        one.service.records += [reply(number) for number in range(5)]
        one.service.arrive()
        assert one.service.waiting == 2
        one.run(count_max=2)
        assert one.records() == one.service.records, f"killed at instant {instant}"
        assert not one.watcher.warnings
        instant += 1
    assert instant > (2 if form == "db" else 10)


@by_key
@each_form
def test_page_that_may_come_late_is_not_forgotten_in_silence(consumer: Make, form: str) -> None:
    """The last run ended well, with an attempt that had no answer; a day later nobody can know."""
    one = consumer(form, 0)
    one.keyed = True
    one.service.hold = True
    one.run()
    one.now_s += 24 * 3600 + 1
    with pytest.raises(StoreRefused, match=r"pulls list --key [0-9a-f]{32}.*--abandon-page"):
        one.run()
    one.service.records += [reply(0)]
    one.run(abandon=True)
    assert one.records() == one.service.records


@each_form
def test_service_that_was_not_there_leaves_nothing_to_abandon(consumer: Make, form: str) -> None:
    one = consumer(form)
    one.service.down = True
    with pytest.raises(NotConnected):
        one.run()
    one.service.down = False
    one.now_s += 30 * 24 * 3600
    one.run()
    assert one.records() == one.service.records


@each_form
def test_state_of_the_version_before_is_gone_on_with(consumer: Make, form: str) -> None:
    """It had no word for a key that is kept at rest: what it noted was in flight.

    And it kept addresses as they were given.
    """
    one = consumer(form)
    target = one.open(msgspec.structs.replace(SOURCE, url="http://A.test:80"))
    target.ask(
        msgspec.json.decode(b'{"key":"old","count_max":2,"asked_s":%f}' % NOW_S, type=NextPage)
    )
    target.close()
    one.run()
    assert one.records() == one.service.records
    assert one.watcher.counts == [2, 3, 3]
    if form == "db":
        with sqlite3.connect(one.path) as connection:
            rows = connection.execute("SELECT url FROM pullstatus_pull").fetchall()
        connection.close()
        assert rows == [(SOURCE.url,)]


def test_state_that_0_1_0_kept_for_standard_output_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was named by the address as it was given."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    url = "http://127.0.0.1:8080/"
    source = Source(service_name(url), 1400006666, Kind.REPLY)
    own = _default_state(source, url)
    former = own.with_name("1400006666-replies-1842f31c.state")
    assert (own.parent, own == former) == (tmp_path / "pullstatus", False)
    own.parent.mkdir()
    former.touch()
    assert _default_state(source, url) == former
    own.touch()
    assert _default_state(source, url) == own


@by_reader
@each_form
def test_page_in_flight_comes_a_year_later(consumer: Make, form: str) -> None:
    """Killed at any instant, and by an attempt that arrives late: the service keeps the page."""
    instant, killed = 1, True
    while killed:
        one = consumer(form, folder=str(instant))
        one.service.hold = True
        killed = one.run_killed(instant)
        one.service.arrive()
        one.now_s += 365 * 24 * 3600
        one.run(count_max=2)
        assert one.records() == one.service.records, f"killed at instant {instant}"
        assert not one.watcher.warnings
        instant += 1


def _in_flight_after(consumer: Make, form: str, instant: int) -> bool:
    """Whether the page was taken when killed at that instant, but nothing of it written."""
    one = consumer(form, folder=f"probe{instant}")
    one.run_killed(instant)
    return bool(one.service.pulled) and not one.records()


def test_everything_is_synced_before_the_next_page_is_asked_for(
    consumer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut takes what was not synced: when a page is asked for, that is nothing."""
    one = consumer("csv", 8)
    unsynced: set[int] = set()
    written = asked = 0

    class Watched(Disk):
        def write(self, file: int, data: memoryview) -> int:
            nonlocal written
            written += 1
            unsynced.add(file)
            return os.write(file, data)

        def pwrite(self, file: int, data: bytes, start: int) -> int:
            unsynced.add(file)
            return os.pwrite(file, data, start)

        def fsync(self, file: int) -> None:
            unsynced.discard(file)

    def step() -> None:
        nonlocal asked
        asked += 1
        assert not unsynced

    disk = Watched(one.clock)
    monkeypatch.setattr(pull_targets, "os", disk)
    monkeypatch.setattr(slots, "os", disk)
    one.service.step = step
    one.run()
    assert not unsynced
    last = 2 if one.service.readers else 0  # an empty page: it acknowledges the one before
    assert (written, asked) == (3, 6 + last)


class Naming(Disk):
    """Knows which names of files a power cut would take: their folder was not synced since."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.unsure: set[Path] = set()
        self._opened: dict[int, Path] = {}

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        is_new = not path.exists()
        file = os.open(path, flags, mode)
        self._opened[file] = path.resolve()
        if is_new:
            self.unsure.add(path.resolve())
        self._clock()
        return file

    def fsync(self, file: int) -> None:
        self._clock()
        folder = self._opened[file]
        self.unsure = {path for path in self.unsure if path.parent != folder}
        self._clock()


@pytest.mark.parametrize("form", ["ndjson", "csv"])
@pytest.mark.parametrize("linked", [False, True])
def test_names_are_on_disk_before_a_page_is_asked_for(
    consumer: Make, monkeypatch: pytest.MonkeyPatch, form: str, *, linked: bool
) -> None:
    """Whoever made the files may have been killed before it could see to that."""
    instant, killed = 1, True
    while killed:
        one = consumer(form, 5, folder=str(instant))
        disk = Naming(one.clock)
        monkeypatch.setattr(pull_targets, "os", disk)
        monkeypatch.setattr(slots, "os", disk)
        if linked:
            elsewhere = one.path.parent / "elsewhere"
            elsewhere.mkdir()
            one.path.symlink_to(elsewhere / one.path.name)

        def step(one: Consumer = one, disk: Naming = disk) -> None:
            assert not disk.unsure
            one.clock()

        one.service.step = step
        killed = one.run_killed(instant)
        one.run()
        assert one.records() == one.service.records
        assert not disk.unsure
        instant += 1
    assert instant > 30


def test_resting_target_is_good_for_ever(consumer: Make) -> None:
    """Only a page in flight grows old."""
    one = consumer("ndjson")
    one.run()
    one.now_s += 30 * 24 * 3600
    one.service.records.append(reply(99))
    one.run()
    assert one.records() == one.service.records


def killed_in_a_page(consumer: Make, form: str = "ndjson") -> Consumer:
    """One of which the half of a page is written."""
    for instant in range(1, 99):
        one = consumer(form, folder=f"half{instant}")
        assert one.run_killed(instant)
        if one.path.exists() and one.path.stat().st_size:
            return one
    raise AssertionError


def test_file_that_somebody_else_wrote_to_is_refused(consumer: Make) -> None:
    one = killed_in_a_page(consumer)
    with one.path.open("ab") as file:
        file.write(b"mine\n")
    with pytest.raises(StoreRefused, match="somebody else"):
        one.run()
    assert one.path.read_bytes().endswith(b"mine\n")
    one.path.rename(one.path.with_suffix(".old"))
    one.run()
    assert one.records() == one.service.records


def test_file_that_got_shorter_is_refused_while_a_page_is_in_flight(consumer: Make) -> None:
    one = consumer("ndjson")
    instant = 30
    assert one.run_killed(instant)
    one.path.write_bytes(one.path.read_bytes()[:10])
    with pytest.raises(StoreRefused, match="shorter"):
        one.run()


def test_file_that_was_moved_away_is_begun_anew(consumer: Make) -> None:
    """As log rotation does."""
    one = consumer("csv", 2)
    one.run()
    one.path.unlink()
    one.service.records.append(reply(3))
    one.run()
    assert one.records() == [reply(3)]


@pytest.mark.parametrize(
    ("form", "content", "fault"),
    [("ndjson", b"{}", "line end"), ("csv", b"a,b\r\n", "columns"), ("csv", b"x", "columns")],
)
def test_file_of_another_shape_is_refused(
    consumer: Make, form: str, content: bytes, fault: str
) -> None:
    one = consumer(form)
    one.path.write_bytes(content)
    with pytest.raises(StoreRefused, match=fault):
        one.run()
    assert one.path.read_bytes() == content
    assert one.service.waiting == 8


def test_file_that_was_there_is_added_to(consumer: Make) -> None:
    one = consumer("ndjson", 1)
    one.path.write_bytes(b'{"mine": 1}\n')
    one.run()
    assert one.records() == [{"mine": 1}, reply(0)]


@pytest.mark.parametrize("form", ["ndjson", "csv"])
@pytest.mark.parametrize("exact", [False, True])
def test_file_that_begins_with_a_byte_order_mark_keeps_what_is_in_it(
    consumer: Make, form: str, *, exact: bool
) -> None:
    """As editors leave it, between two runs and beside one."""
    one = consumer(form, 4)
    one.run(exact=exact)
    one.path.write_bytes(BOM + one.path.read_bytes().removeprefix(BOM))
    before = one.path.read_bytes()
    one.open().close()
    assert one.path.read_bytes() == before
    one.service.records += [reply(number) for number in range(4, 12)]
    one.run(exact=exact)
    assert one.path.read_bytes().startswith(before)
    assert one.records() == one.service.records


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_file_that_is_nothing_but_a_byte_order_mark_is_begun_anew(
    consumer: Make, form: str
) -> None:
    one = consumer(form, 1)
    one.path.write_bytes(BOM)
    one.run()
    assert one.records() == one.service.records
    assert one.path.read_bytes().startswith(b"{" if form == "ndjson" else BOM + b"nationcode,")


def test_zeros_of_a_power_cut_are_written_over(consumer: Make) -> None:
    """Some file systems make a file longer before they write what is in it."""
    one = killed_in_a_page(consumer)
    with one.path.open("ab") as file:
        file.write(b"\0" * 100)
    one.run()
    assert one.records() == one.service.records


def test_target_of_another_mailbox_is_refused(consumer: Make) -> None:
    one = consumer("ndjson")
    one.run()
    for other in (
        Source(SOURCE.url, SOURCE.sdkappid, Kind.DELIVERY_STATUS),
        Source(SOURCE.url, 1, SOURCE.kind),
    ):
        with pytest.raises(StoreRefused, match="belongs to"):
            FileTarget(one.path, other)
    FileTarget(one.path, Source("http://new.test", SOURCE.sdkappid, SOURCE.kind)).close()


def test_follow_says_when_it_tries_next(consumer: Make) -> None:
    """And what is wrong once, not again and again."""
    one = consumer("ndjson")
    pauses: list[float] = []

    def step() -> None:
        raise httpx.ConnectError("refused")

    def sleep(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 3:
            raise Killed

    one.service.step, one.sleep = step, sleep
    with pytest.raises(Killed):
        one.run(follow=True)
    first, *others = one.watcher.warnings
    assert first.endswith(f"; the next attempt is in {pauses[0]:.0f} s")
    assert others == [
        f"the same again; the next attempt is in {pause_s:.0f} s" for pause_s in pauses[1:]
    ]


# --- named otherwise ------------------------------------------------------------------------------


MOVED = Source("https://new.test", SOURCE.sdkappid, SOURCE.kind)


def killed_with_a_page_in_flight(consumer: Make, form: str, **options: Any) -> Consumer:  # noqa: ANN401
    """One that has a page in flight, of which nothing is written."""
    instant = next(n for n in range(1, 99) if _in_flight_after(consumer, form, n))
    one = consumer(form, folder="one")
    assert one.run_killed(instant, **options)
    return one


@each_form
def test_page_in_flight_is_not_forgotten_for_another_address(consumer: Make, form: str) -> None:
    one = killed_with_a_page_in_flight(consumer, form)
    with pytest.raises(StoreRefused, match=r"asked for at http://a\.test.*--abandon-page"):
        one.run(source=MOVED)
    one.run()
    one.run(source=MOVED)
    assert one.records() == one.service.records


@each_form
def test_page_in_flight_comes_at_another_address_of_the_service(consumer: Make, form: str) -> None:
    """Killed at each instant, and there at one more: nothing is lost, nothing is there twice."""
    instant, killed = 1, True
    while killed:
        one = consumer(form, folder=str(instant))
        killed = one.run_killed(instant)
        one.run_killed(instant % 40, source=MOVED, moved=True)
        one.run(source=MOVED, moved=True)
        one.service.records.append(reply(99))
        one.run(source=MOVED)
        assert one.records() == one.service.records, f"killed at instant {instant}"
        assert not one.watcher.warnings
        instant += 1
    assert instant > 6


@each_form
def test_page_that_is_given_up_at_another_address_is_not_there_twice(
    consumer: Make, form: str
) -> None:
    """It was the same service all the while: what is written of the page stays, and is told."""
    instant, killed = 1, True
    while killed:
        one = consumer(form, folder=str(instant))
        killed = one.run_killed(instant)
        one.run(source=MOVED, abandon=True)
        one.run(source=MOVED)
        found = one.records()
        assert found == [record for record in one.service.records if record in found]
        lost = len(one.service.records) - len(found)
        assert lost <= 3
        assert one.watcher.warnings or not lost, f"killed at instant {instant}"
        instant += 1
    assert instant > 6


@by_reader
@each_form
def test_page_of_another_service_is_taken_for_no_other_of_its_name(
    consumer: Make, form: str
) -> None:
    """Both name their pages alike; what was in flight to the first one is given up."""
    instant, killed = 1, True
    while killed:
        one = consumer(form, folder=str(instant))
        killed = one.run_killed(instant)
        other = consumer(form, 0).service
        one.service = one.answer = other
        other.step = one.clock
        one.run(source=MOVED, abandon=True)
        said = len(one.watcher.warnings)
        one.run(source=MOVED)
        assert len(one.watcher.warnings) == said  # what it does not know is not told again
        other.records += [reply(number) for number in range(20, 28)]
        one.run(source=MOVED)
        assert one.records()[-8:] == other.records, f"killed at instant {instant}"
        instant += 1


@by_reader
@each_form
def test_page_that_is_written_may_be_in_hand_until_a_pull_has_told(
    consumer: Make, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """The service goes away behind a page, and is at another address then."""
    one = consumer(form, 5)
    with monkeypatch.context() as patched:
        patched.setattr(one.watcher, "page", lambda _page: setattr(one.service, "down", True))
        with pytest.raises(NotConnected):
            one.run()
    one.service.down = False
    assert len(one.records()) == 3
    with pytest.raises(StoreRefused, match="--moved"):
        one.run(source=MOVED)
    one.run(source=MOVED, moved=True)
    assert one.records() == one.service.records


@by_reader
@each_form
@pytest.mark.parametrize("how", ["moved", "abandon"])
def test_service_that_moves_and_comes_back_has_one_reader(
    consumer: Make, form: str, how: str
) -> None:
    """Killed at its other address, with a page in the reader's hand or not."""
    options: dict[str, Any] = {how: True}
    for instant in range(1, 40):
        one = consumer(form, 2, folder=str(instant))
        one.run()
        one.service.records += [reply(number) for number in range(2, 8)]
        one.run_killed(instant, source=MOVED)
        one.run(**options)
        found = one.records()
        assert found == [record for record in one.service.records if record in found]
        assert one.watcher.warnings or found == one.service.records, f"killed at instant {instant}"
        assert len(one.service.hands) == 1
        one.service.records += [reply(9)]
        one.run(source=MOVED, **options)
        assert one.records()[len(found) :] == [reply(9)]
        assert len(one.service.hands) == 1


@by_reader
@each_form
def test_page_that_came_to_a_follower_is_in_its_hand_at_another_address(
    consumer: Make, form: str
) -> None:
    """Of a page that comes while the mailbox is empty nothing is noted before it is there."""
    one = consumer(form, 2)
    Following(one, [0, 3])
    one.service.step = killing(8)
    with pytest.raises(Killed):
        one.run(follow=True)
    one.service.step, one.answer = one.clock, one.service
    assert (len(one.records()), one.service.waiting) == (2, 0)
    one.run(source=MOVED)
    assert one.records() == one.service.records


@each_form
def test_page_in_flight_at_another_address_can_be_given_up(consumer: Make, form: str) -> None:
    one = killed_with_a_page_in_flight(consumer, form)
    one.run(source=MOVED, abandon=True)
    one.run(source=MOVED)
    one.run()
    # It was the same service: a reader's page comes there, too, and the target keeps its name.
    lost = 0 if one.service.readers else 3
    assert one.records() == one.service.records[lost:]


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_page_in_flight_is_not_forgotten_for_another_name(consumer: Make, form: str) -> None:
    """Files with the day in their names: nobody would come back to yesterday's."""
    one = killed_with_a_page_in_flight(consumer, form)
    yesterday, one.path = one.path, one.path.with_stem("today")
    with pytest.raises(StoreRefused, match=rf"--state .*{yesterday.name}\.state.*--abandon-page"):
        one.run()
    one.path = yesterday
    one.run()
    one.path = yesterday.with_stem("today")
    one.service.records.append(reply(99))
    one.run()
    assert one.records() == [reply(99)]


@pytest.mark.parametrize("name", ["mine", "states/mine", "mine.STATE"])
def test_page_in_flight_is_not_forgotten_for_another_state(consumer: Make, name: str) -> None:
    """However that is called, and of the same file or another; unless it is a copy of its own."""
    one = killed_with_a_page_in_flight(consumer, "ndjson")
    beside = one.path.with_name(one.path.name + ".state")
    state = one.path.parent / name
    state.parent.mkdir(exist_ok=True)
    with pytest.raises(StoreRefused, match=rf"{beside} waits for a page"):
        FileTarget(one.path, SOURCE, state)
    assert not state.exists()
    shutil.copy(beside, state)
    kept = beside.read_bytes()
    beside.unlink()
    other = one.path.with_name("today.ndjson")
    for path, own in ((other, state.with_name("another")), (state.with_name("b.csv"), None)):
        with pytest.raises(StoreRefused, match=rf"{state} waits for a page"):
            FileTarget(path, SOURCE, own)
    beside.write_bytes(kept)  # both are of one reader, to which the page comes
    if one.service.readers:
        one.run()
        assert one.records() == one.service.records


def test_page_of_a_running_consumer_is_its_own(consumer: Make) -> None:
    """Two that share a mailbox, each with its own file."""
    one = killed_with_a_page_in_flight(consumer, "ndjson")
    running = one.open()
    two = consumer("csv", folder="one")
    two.random = Random(8)  # for another name
    two.run()
    assert two.records() == two.service.records
    running.close()


def test_standard_output_does_not_forget_a_page_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "made" / "anew" / "a.state"
    named: list[Path] = []
    monkeypatch.setattr(slots, "sync_folder", named.append)
    target = StdoutTarget(SOURCE, state)
    target.ask(NextPage("a", 1, NOW_S))
    target.close()
    assert named == [tmp_path, tmp_path / "made", tmp_path / "made" / "anew", state]
    assert state.parent.stat().st_mode & 0o77 == 0
    for source, path in ((MOVED, state), (MOVED, state.with_name("b.state"))):
        with pytest.raises(StoreRefused, match=r"http://a\.test"):
            StdoutTarget(source, path)
    target = StdoutTarget(MOVED, state, moved=True)
    assert target.known.next_page == NextPage("a", 1, NOW_S)
    target.close()
    target = StdoutTarget(SOURCE, state)
    target.rest()
    target.close()
    StdoutTarget(MOVED, state).close()


def test_file_of_a_shell_is_synced_before_its_page_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is acknowledged next, and nobody reads that file meanwhile."""
    json_text = b'{"text":"1"}'
    page: Page[Record] = Page(
        kind=Kind.REPLY, records=(Reply(json=json_text),), key="", keyed=False, pull_id="1-1-1"
    )
    synced: list[tuple[int, str | None]] = []
    state = tmp_path / "a.state"
    with (tmp_path / "out").open("w") as stdout, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stdout)
        with contextlib.closing(StdoutTarget(SOURCE, state)) as target:
            sync = os.fsync

            def fsync(file: int) -> None:
                if file == stdout.fileno():
                    synced.append((os.fstat(file).st_size, target.known.written))
                sync(file)

            patched.setattr(os, "fsync", fsync)
            target.settle(page)
            assert target.known.written == "1-1-1"
    assert synced == [(len(json_text) + 1, None)]


@pytest.mark.parametrize("mode", ["r", "w", "r+"])
def test_what_would_be_thrown_away_is_not_pulled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """As jobs of cron have their output; one that is closed is opened for reading."""
    with Path(os.devnull).open(mode) as stdout, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stdout)
        with pytest.raises(StoreRefused, match="would be lost"):
            StdoutTarget(SOURCE, tmp_path / "a.state")
    assert not list(tmp_path.iterdir())


def test_folder_that_a_run_before_has_made_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one may have been killed behind the `mkdir`. One that is somebody's needs no rights."""
    named: list[Path] = []
    monkeypatch.setattr(slots, "sync_folder", named.append)
    StdoutTarget(SOURCE, tmp_path / "a.state").close()
    assert named == [tmp_path]

    def refuse(_path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(slots, "sync_folder", refuse)
    StdoutTarget(SOURCE, tmp_path / "a.state").close()


def test_terminal_gets_no_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spelt out, it is the same JSON; a pipe gets the bytes that were sent."""
    json_text = '{"text":"\x9b31m\u202e好"}'.encode()
    page: Page[Record] = Page(
        kind=Kind.REPLY, records=(Reply(json=json_text),), key="a", keyed=True
    )
    master, slave = pty.openpty()
    reading, writing = os.pipe()
    for place, out, due in (
        (master, slave, '{"text":"\\u009b31m\\u202e好"}\r\n'.encode()),
        (reading, writing, json_text + b"\n"),
    ):
        with os.fdopen(out, "w") as stdout, monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", stdout)
            with contextlib.closing(StdoutTarget(SOURCE, tmp_path / f"{out}.state")) as target:
                target.settle(page)
            assert os.read(place, 4096) == due
        os.close(place)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://127.0.0.1:8080", "http://LOCALHOST:8080/", True),
        ("http://[::1]:8080", "http://localhost.:8080//", True),
        ("https://Mailbox.example.com", "https://mailbox.example.com:443/", True),
        ("http://a", "http://a:80", True),
        ("http://a/sms/", "http://a/sms", True),
        ("http://user:pw@a", "http://a", True),
        ("http://[2001:DB8::1]:80", "http://[2001:db8::1]", True),
        ("http://a", "https://a", False),
        ("http://a:0", "http://a", False),
        ("http://a", "http://b", False),
        ("http://a/sms", "http://a/SMS", False),
        ("http://localhost:8080", "http://localhost:8081", False),
    ],
)
def test_service_is_known_however_its_address_is_spelt(one: str, other: str, same: bool) -> None:
    assert (service_name(one) == service_name(other)) is same
    assert service_name(service_name(one)) == service_name(one)
    assert "pw" not in service_name(one)


def test_head_is_written_when_there_is_none(consumer: Make) -> None:
    for count, content in enumerate((b"", b"\xef\xbb\xbf")):
        one = consumer("csv", 4, folder=str(count))
        one.path.write_bytes(content)
        one.run()
        assert one.records() == one.service.records
        one.path.write_bytes(content)
        one.service.records.append(reply(99))
        one.run()
        assert one.records() == [reply(99)]
        assert one.path.read_bytes().startswith(b"\xef\xbb\xbfnationcode,")


def test_head_with_or_without_byte_order_mark_is_gone_on_with(consumer: Make) -> None:
    one = consumer("csv", 2)
    one.run(exact=True)
    assert one.path.read_bytes().startswith(b"nationcode,")
    one.service.records += [reply(4), reply(5)]
    one.run()
    one.service.records += [reply(6)]
    one.run(exact=True)
    assert one.records() == one.service.records
    assert b",=1+1," not in one.path.read_bytes()


@pytest.mark.parametrize("exact", [False, True])
def test_page_in_flight_is_written_as_it_was_begun(consumer: Make, *, exact: bool) -> None:
    """Half of it may be there already, whatever the next run asks for."""
    instant, killed = 1, True
    while killed:
        one = consumer("csv", 6, folder=str(instant))
        killed = one.run_killed(instant, exact=exact)
        one.run(exact=not exact)
        assert one.records() == one.service.records, f"killed at instant {instant}"
        instant += 1


@pytest.mark.parametrize("form", ["ndjson", "csv"])
@pytest.mark.parametrize("change", ["moved", "removed", "emptied", "replaced"])
def test_file_changes_while_it_is_followed(
    consumer: Make, monkeypatch: pytest.MonkeyPatch, form: str, change: str
) -> None:
    """As rotation of logs does: what comes next is in the file of that name, with its head."""
    one = consumer(form, 6)
    old = one.path.with_stem("old")
    pages = 0

    def page(_page: Page[Record]) -> None:
        nonlocal pages
        pages += 1
        if pages > 1:
            return
        if change == "moved":
            one.path.rename(old)
        elif change == "removed":
            one.path.unlink()
        elif change == "emptied":
            os.truncate(one.path, 0)
        else:
            old.write_bytes(b"")
            old.replace(one.path)

    monkeypatch.setattr(one.watcher, "page", page)
    one.run()
    assert one.records() == one.service.records[3:]
    if change == "moved":
        one.path = old
        assert one.records() == one.service.records[:3]


def test_file_that_is_removed_while_a_page_is_written_gets_it_again(
    consumer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = consumer("csv", 3)

    class Removed(Disk):
        def write(self, file: int, data: memoryview) -> int:
            one.path.unlink(missing_ok=True)
            return super().write(file, data)

    with monkeypatch.context() as patched:
        patched.setattr(pull_targets, "os", Removed(one.clock))
        with pytest.raises(StoreFailed, match="was removed"):
            one.run()
    one.run()
    assert one.records() == one.service.records


@pytest.mark.parametrize("lost", ["", "-wal", "-shm"])
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_no_page_is_acknowledged_into_a_database_that_has_no_name(
    consumer: Make, monkeypatch: pytest.MonkeyPatch, lost: str, mode: str
) -> None:
    """With a write-ahead log SQLite goes on in it as if nothing had happened."""
    one = consumer("db")
    with contextlib.closing(sqlite3.connect(one.path)) as database:
        database.execute(f"PRAGMA journal_mode = {mode}")
        acts: list[object] = []

        def page(_page: Page[Record]) -> None:
            if not acts:
                file = one.path.with_name(one.path.name + lost)
                acts.append(file.exists() and file.rename(one.path.with_name(f"old{lost}")))

        with monkeypatch.context() as patched:
            patched.setattr(one.watcher, "page", page)
            if lost and mode == "delete":
                one.run()
                return
            with pytest.raises(StoreFailed, match=r"was moved, removed|cannot be used"):
                one.run()
    assert one.service.waiting
    one.path.with_name(f"old{lost}").rename(one.path.with_name(one.path.name + lost))
    one.run()
    assert sorted(map(str, one.records())) == sorted(map(str, one.service.records))


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_state_does_not_part_from_its_file(
    consumer: Make, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """The folder of both is moved: what would come next is in another one than its state."""
    one = consumer(form)
    folder, old = one.path.parent, one.path.parent.with_name("old")

    def page(_page: Page[Record]) -> None:
        if not old.exists():
            folder.rename(old)
            folder.mkdir()

    with monkeypatch.context() as patched:
        patched.setattr(one.watcher, "page", page)
        with pytest.raises(StoreFailed, match=r"state was moved, removed"):
            one.run()
    assert one.records() == []
    shutil.rmtree(folder)
    old.rename(folder)
    one.run()
    assert one.records() == one.service.records


@pytest.mark.parametrize("form", ["ndjson", "csv", "db"])
def test_personal_data_is_for_its_owner_alone(consumer: Make, form: str) -> None:
    before = os.umask(0)
    try:
        one = consumer(form, 3)
        one.run()
        killed_with_a_page_in_flight(consumer, form)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in one.path.parent.iterdir()}
    modes |= {path.name: path.stat().st_mode & 0o777 for path in one.path.parent.glob("one/*")}
    files = {name: mode for name, mode in modes.items() if "." in name}
    assert len(files) >= (1 if form == "db" else 2)
    assert set(files.values()) == {0o600}


def test_target_that_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.ndjson")
    with pytest.raises(StoreRefused, match="no regular file"):
        FileTarget(tmp_path / "a.ndjson", SOURCE)
    with pytest.raises(StoreRefused, match="its records and its state"):
        FileTarget(tmp_path / "b.ndjson", SOURCE, tmp_path / "b.ndjson")
    with pytest.raises(StoreFailed, match="cannot be used"):
        SqliteTarget(tmp_path / "nowhere" / "a.db", SOURCE)


def mount_alone(file: Path, patch: pytest.MonkeyPatch) -> None:
    """Have a file look like one that a container was given without its folder."""
    told = f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 8:1 /srv/x {file} rw - ext4 /dev/sda1 rw\n"
    patch.setattr(mounts, "read_mounts", lambda: told)


@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-journal"])
def test_database_that_is_mounted_by_itself_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Its log, or the journal of a commit that was cut off, would be gone with the container."""
    mount_alone(tmp_path / f"a.db{end}", monkeypatch)
    (tmp_path / "link.db").symlink_to(tmp_path / "a.db")
    for name in ("a.db", "link.db"):
        with pytest.raises(StoreRefused, match=rf"/a\.db{end} is mounted by itself.*the folder it"):
            SqliteTarget(tmp_path / name, SOURCE)
    assert [path.name for path in tmp_path.iterdir()] == ["link.db"]
    SqliteTarget(tmp_path / "other.db", SOURCE).close()


@by_reader
def test_database_of_two_names_is_refused(consumer: Make) -> None:
    """By the other one it has no log, and the log that was left is folded over what came by it."""
    one = consumer("db")
    one.run()
    name, other = one.path, one.path.with_name("other.db")
    with contextlib.closing(sqlite3.connect(name)) as database:
        database.execute("PRAGMA journal_mode = wal")
    other.hardlink_to(name)
    for one.path in (name, other):
        with pytest.raises(StoreRefused, match=rf"{one.path} has 2 names .*-inum \d+"):
            one.run()
    other.unlink()
    one.path = name.with_name("link.db")
    one.path.symlink_to(name)
    one.service.records.append(reply(9))
    one.run()
    one.path = name
    assert one.records() == one.service.records


@by_reader
def test_database_that_gets_a_second_name_while_it_is_used_is_told_of(
    consumer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = consumer("db")
    other = one.path.with_name("other.db")

    def page(_page: Page[Record]) -> None:
        if not other.exists():
            other.hardlink_to(one.path)

    monkeypatch.setattr(one.watcher, "page", page)
    with pytest.raises(StoreRefused, match="has 2 names"):
        one.run()
    assert one.service.waiting
    other.unlink()
    monkeypatch.undo()
    one.run()
    assert one.records() == one.service.records


@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
def test_database_whose_log_or_journal_has_another_name_is_refused(
    tmp_path: Path, end: str
) -> None:
    """SQLite removes a name when it is done, and what is left under another is an old log."""
    elsewhere, file = tmp_path / "elsewhere", tmp_path / f"a.db{end}"
    elsewhere.touch()
    file.symlink_to(elsewhere)
    with pytest.raises(StoreRefused, match=rf"{end} is no ordinary file"):
        SqliteTarget(tmp_path / "a.db", SOURCE)
    file.unlink()
    file.hardlink_to(elsewhere)
    with pytest.raises(StoreRefused, match=rf"{end} has 2 names"):
        SqliteTarget(tmp_path / "a.db", SOURCE)
    file.unlink()
    SqliteTarget(tmp_path / "a.db", SOURCE).close()


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_file_that_is_mounted_without_its_state_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    file, state = tmp_path / f"a.{form}", tmp_path / f"a.{form}.state"
    mount_alone(file, monkeypatch)
    for named in (None, state, tmp_path / "b.state"):
        with pytest.raises(StoreRefused, match=r"mounted by itself, so [ab]\..*--state"):
            FileTarget(file, SOURCE, named)
    assert not any(tmp_path.iterdir())
    (tmp_path / "kept").mkdir()
    FileTarget(file, SOURCE, tmp_path / "kept" / "a.state").close()
    mount_alone(state, monkeypatch)
    FileTarget(file, SOURCE).close()


@pytest.mark.parametrize("kind", ["ext4", "tmpfs", "ramfs"])
def test_file_whose_folder_is_mounted_too_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What is beside it is kept as it is, unless it lies in memory."""
    file = tmp_path / "a.ndjson"
    mount_alone(file, monkeypatch)
    told = f"{mounts.read_mounts()}24 22 8:1 /srv {tmp_path} rw - {kind} /dev/sda1 rw\n"
    monkeypatch.setattr(mounts, "read_mounts", lambda: told)
    if kind == "ext4":
        FileTarget(file, SOURCE).close()
    else:
        with pytest.raises(StoreRefused, match="is mounted by itself"):
            FileTarget(file, SOURCE)


def test_link_to_itself_is_no_target(tmp_path: Path) -> None:
    for name in ("a.db", "a.ndjson", "a.state"):
        (tmp_path / name).symlink_to(name)
    for make in (
        lambda: SqliteTarget(tmp_path / "a.db", SOURCE),
        lambda: FileTarget(tmp_path / "a.ndjson", SOURCE),
        lambda: FileTarget(tmp_path / "b.ndjson", SOURCE, tmp_path / "a.state"),
    ):
        with pytest.raises(PullstatusError, match="Too many levels of symbolic links"):
            make()


def test_memory_is_no_database_for_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    SqliteTarget(Path(":memory:"), SOURCE).close()
    assert (tmp_path / ":memory:").stat().st_size


ODD = (
    {"time": 2**63},
    {"time": -(2**63) - 1},
    {"time": 10**30},
    {"time": "9" * 5000},
    {"time": 1e308},
    {"time": None, "text": None},
    {"new": 2**70, "deep": {"a": [[-(2**65)]]}},
    {"text": "\0\x01\u2028\x7f"},
    {"text": "\ud83d half a pair"},
    {"text": ["a list"], "mobile": {"b": 1}},
    {"extra": "1", "json": "2", "number": 3, "": 4, "a,b": 5, '"': 6, "=1": 7, "sdkappid": 8},
    {f"m{number}": number for number in range(2000)},
    {"deep": json.loads("[" * 10 + "]" * 10)},
    {"text": "x" * 100_000},
)


@each_form
@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_odd_record_holds_nobody_up(consumer: Make, form: str, odd: dict[str, Any]) -> None:
    """It is gone from the service: it is kept, and what comes after it comes."""
    one = consumer(form, 0)
    one.service.records += [reply(1), {**reply(2), **odd}, reply(3)]
    one.run()
    first, kept, last = one.records()
    assert (first, last) == (reply(1), reply(3))
    if form != "csv":
        mended = json.loads(json.dumps(one.service.records[1]).replace("\\ud83d", "\\ufffd"))
        assert kept == mended


def test_full_disk_is_told_and_the_next_run_goes_on(
    consumer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for form in ("ndjson", "csv"):
        one = consumer(form, 8, folder=form)

        class Full(Disk):
            left = 300

            def write(self, file: int, data: memoryview) -> int:
                if not self.left:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                count = os.write(file, data[: self.left])
                self.left -= count
                return count

        with monkeypatch.context() as patched:
            patched.setattr(pull_targets, "os", Full(one.clock))
            with pytest.raises(StoreFailed, match="cannot be written: No space"):
                one.run()
        one.run()
        assert one.records() == one.service.records


def test_target_in_use_is_refused(consumer: Make) -> None:
    one = consumer("ndjson")
    target = one.open()
    with pytest.raises(StoreRefused, match="in use"):
        one.open()
    target.close()
    one.open().close()


def test_database_serves_one_process_for_each_mailbox(consumer: Make) -> None:
    """Two that ask for the same page would write it twice: only one of them can settle it."""
    one = consumer("db")
    first, second = one.open(), one.open()
    first.ask(NextPage("a", 1, NOW_S))
    with pytest.raises(StoreRefused, match="another process"):
        second.ask(NextPage("b", 1, NOW_S))
    third = one.open()
    assert third.known.next_page == NextPage("a", 1, NOW_S)
    page: Page[Record] = Page(kind=Kind.REPLY, records=(Reply(),), key="a", keyed=True)
    first.settle(page)
    with pytest.raises(StoreRefused, match="another process"):
        third.settle(page)
    for target in (first, second, third):
        target.close()


def test_database_serves_one_process_for_each_reader(consumer: Make) -> None:
    """Two under one name are handed the same page, and only one of them can store it."""
    one = consumer("db")
    first, second = one.open(), one.open()
    first.read_as("a")
    with pytest.raises(StoreRefused, match="another process"):
        second.read_as("b")
    third = one.open()
    third.read_as("a")
    page: Page[Record] = Page(
        kind=Kind.REPLY, records=(Reply(),), key="", keyed=True, pull_id="1400006666-1-1"
    )
    first.settle(page)
    with pytest.raises(StoreRefused, match="another process"):
        third.settle(page)
    for target in (first, second, third):
        target.close()
    assert len(one.records()) == 1


def test_database_holds_several_mailboxes(consumer: Make) -> None:
    one = consumer("db", 2)
    one.run()
    other = SqliteTarget(one.path, Source(SOURCE.url, 1, Kind.DELIVERY_STATUS))
    assert other.known.next_page is None
    other.close()
    with sqlite3.connect(one.path) as connection:
        assert connection.execute("SELECT count(*) FROM replies").fetchone() == (2,)
        at = connection.execute("SELECT replied_at FROM replies").fetchone()
    connection.close()
    assert at == ("2016-03-03T18:13:20+08:00",)


def test_database_of_before_gets_the_members_that_it_lacks(consumer: Make) -> None:
    """As one made when `extend` was not known: its rows stay, and the next ones are whole."""
    one = consumer("db", 1)
    one.run()
    with sqlite3.connect(one.path) as connection:
        connection.execute("ALTER TABLE replies DROP COLUMN extend")
    connection.close()
    target = one.open()
    target.ask(NextPage("a", 1, NOW_S))
    target.settle(Page(kind=Kind.REPLY, records=(Reply(extend="7"),), key="a", keyed=True))
    target.close()
    with sqlite3.connect(one.path) as connection:
        rows = connection.execute("SELECT extend FROM replies ORDER BY number").fetchall()
    connection.close()
    assert rows == [("",), ("7",)]


FORMAT_1 = """
CREATE TABLE pullstatus_pull (
    url       TEXT NOT NULL,
    sdkappid  INTEGER NOT NULL,
    type      INTEGER NOT NULL,
    keyed     INTEGER,                      -- does the service know Idempotency-Key?
    in_flight TEXT,                         -- the page that was asked for, or will be, JSON
    PRIMARY KEY (url, sdkappid, type)
);
CREATE TABLE delivery_statuses (
    number INTEGER PRIMARY KEY,  -- in the order of their hand-out
    sdkappid INTEGER NOT NULL,
    received_at TEXT,  -- user_receive_time with its zone, NULL if it is none
    user_receive_time TEXT NOT NULL DEFAULT '',
    nationcode TEXT NOT NULL DEFAULT '',
    mobile TEXT NOT NULL DEFAULT '',
    report_status TEXT NOT NULL DEFAULT '',
    errmsg TEXT NOT NULL DEFAULT '',
    description TEXT NOT NULL DEFAULT '',
    sid TEXT NOT NULL DEFAULT '',
    ext TEXT NOT NULL DEFAULT '',
    json TEXT NOT NULL  -- the record as it was sent
    );
CREATE TABLE replies (
    number INTEGER PRIMARY KEY,  -- in the order of their hand-out
    sdkappid INTEGER NOT NULL,
    replied_at TEXT,  -- time as text with its zone, NULL if it is none
    nationcode TEXT NOT NULL DEFAULT '',
    mobile TEXT NOT NULL DEFAULT '',
    text TEXT NOT NULL DEFAULT '',
    sign TEXT NOT NULL DEFAULT '',
    time INTEGER NOT NULL DEFAULT 0,
    extend TEXT NOT NULL DEFAULT '',
    json TEXT NOT NULL  -- the record as it was sent
    );
"""
"""What version 0.1.0 made."""


def asked_by(connection: sqlite3.Connection, table: str, column: str) -> str:
    """How SQLite finds the rows with one value."""
    plan = f"EXPLAIN QUERY PLAN SELECT json FROM {table} WHERE {column} = '1'"
    return str(connection.execute(plan).fetchone()[3])


def test_database_of_the_format_before_is_brought_up_to_date(consumer: Make) -> None:
    """Its rows and its page in flight stay; what people look up is found by an index."""
    one = consumer("db", 4)
    page = NextPage("kept", 3, NOW_S)
    flight = (SOURCE.url, SOURCE.sdkappid, int(SOURCE.kind), 1, msgspec.json.encode(page).decode())
    with sqlite3.connect(one.path) as connection:
        connection.executescript(FORMAT_1)
        connection.execute("INSERT INTO pullstatus_pull VALUES (?, ?, ?, ?, ?)", flight)
        connection.execute("INSERT INTO replies (sdkappid, text, json) VALUES (1, 'old', '{}')")
    connection.close()
    target = one.open()
    assert target.known.next_page == page
    target.close()
    one.run()
    with sqlite3.connect(one.path) as connection:
        texts = [text for (text,) in connection.execute("SELECT text FROM replies")]
        assert texts[0] == "old"
        assert len(texts) == 5
        assert connection.execute("SELECT format FROM pullstatus_format").fetchall() == [(2,)]
        for table, column in (
            ("delivery_statuses", "sid"),
            ("delivery_statuses", "mobile"),
            ("replies", "mobile"),
        ):
            assert f"USING INDEX {table}_{column}" in asked_by(connection, table, column)
    connection.close()


def test_database_of_a_format_to_come_is_refused_as_it_is(consumer: Make) -> None:
    one = consumer("db", 1)
    one.run()
    with sqlite3.connect(one.path) as connection:
        connection.execute("UPDATE pullstatus_format SET format = 3")
        connection.execute("ALTER TABLE replies DROP COLUMN extend")
        before = connection.execute("SELECT sql FROM sqlite_schema").fetchall()
    with pytest.raises(StoreRefused, match="format 3, and this version knows 2 at most: install"):
        one.open()
    assert connection.execute("SELECT sql FROM sqlite_schema").fetchall() == before
    connection.close()


def test_table_of_somebody_else_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE replies (x)")
    SqliteTarget(path, SOURCE).close()
    columns = connection.execute("PRAGMA table_info(replies)").fetchall()
    connection.close()
    assert [name for _, name, *_ in columns] == ["x"]


@pytest.mark.parametrize("content", [b"not a database, but long enough to be looked at" * 99])
def test_database_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(content)
    with pytest.raises(StoreFailed, match="cannot be used"):
        SqliteTarget(path, SOURCE)
    assert path.read_bytes() == content


def test_database_of_another_program_is_refused(tmp_path: Path) -> None:
    """A server's own store above all."""
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA application_id = 1886153836")
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(StoreRefused, match="another program"):
        SqliteTarget(path, SOURCE)


# --- by reader ------------------------------------------------------------------------------------


class CutConnection:
    """A connection of `sqlite3` to a disk on which power can be cut."""

    def __init__(self, disk: simulated.Disk) -> None:
        self._apsw = apsw.Connection(disk.path(), vfs=simulated.VFS_NAME)
        self._apsw.pragma("locking_mode", "normal")  # so that a commit removes its journal

    @property
    def in_transaction(self) -> bool:
        return self._apsw.in_transaction

    def execute(self, sql: str, bindings: Sequence[Any] = ()) -> CutCursor:
        return CutCursor(self._apsw.execute(sql, bindings), self._apsw)

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        self._apsw.executemany(sql, rows)

    def close(self) -> None:
        self._apsw.close()


class CutCursor:
    """What such a connection answers."""

    def __init__(self, cursor: apsw.Cursor, connection: apsw.Connection) -> None:
        self._rows = cursor.fetchall()
        self.rowcount = connection.changes()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def fetchone(self) -> Any:  # noqa: ANN401 - as of sqlite3
        return next(iter(self._rows), None)

    def fetchall(self) -> list[Any]:
        return self._rows


@pytest.mark.parametrize("seed", range(2))
def test_power_cuts_take_nothing_of_a_database(
    consumer: Make, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """At each call that changes the disk; what was acknowledged is there, whatever comes of it."""
    disk = simulated.Disk()

    monkeypatch.setattr(
        "pullstatus.consumer.sqlite.sqlite3",
        SimpleNamespace(Error=sqlite3.Error, connect=lambda *_a, **_o: CutConnection(disk)),
    )
    for left in itertools.count():
        one = consumer("db", 5, folder=f"cut{left}")
        disk = simulated.Disk()
        disk.left = left
        with contextlib.suppress(simulated.PowerCut):
            one.run()
        through = disk.left >= 0
        disk = disk.crash(Random(left * 1000 + seed))
        one.run()
        found = CutConnection(disk).execute("SELECT json FROM replies ORDER BY number")
        assert [json.loads(row) for (row,) in found] == one.service.records, f"cut at {left}"
        assert not one.watcher.warnings
        if through:
            break
    assert left > 60


def test_power_cuts_leave_a_mailbox_at_one_of_two_addresses(
    consumer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each call of a run that goes on at the new one."""
    disk = simulated.Disk()
    monkeypatch.setattr(
        "pullstatus.consumer.sqlite.sqlite3",
        SimpleNamespace(Error=sqlite3.Error, connect=lambda *_a, **_o: CutConnection(disk)),
    )
    for left in itertools.count():
        one = consumer("db", 5, folder=f"cut{left}")
        disk = simulated.Disk()
        one.run()
        one.service.records += [reply(number) for number in range(5, 9)]
        one.service.step = killing(2)
        with pytest.raises(Killed):
            one.run()
        one.service.step = one.clock
        disk.left = left
        with contextlib.suppress(simulated.PowerCut):
            one.run(source=MOVED, moved=True)
        through = disk.left >= 0
        disk = disk.crash(Random(left))
        one.run(source=MOVED, moved=True)
        found = CutConnection(disk).execute("SELECT json FROM replies ORDER BY number")
        assert [json.loads(row) for (row,) in found] == one.service.records, f"cut at {left}"
        if through:
            break
    assert left > 20


def reader_of(one: Consumer) -> str:
    """The name under which a consumer was handed its last page."""
    [name] = one.service.hands
    return name


@by_reader
@each_form
def test_each_pull_acknowledges_what_is_written(consumer: Make, form: str) -> None:
    """Also the first of the next run; the last of a run takes nothing."""
    one = consumer(form, 5)
    one.run()
    one.service.records += [reply(5)]
    one.run()
    assert one.records() == one.service.records
    acks = [headers.get("Pullstatus-Ack") for headers in one.service.asked]
    first, second, third = (f"1400006666-1-{seq}" for seq in (1, 4, 6))
    assert acks == [None, first, second, second, third]
    assert re.fullmatch("pull-[0-9a-f]{16}", reader_of(one))


@by_key
@each_form
def test_page_in_flight_under_a_key_comes_by_it_first(consumer: Make, form: str) -> None:
    """Left by a run before the service knew readers; killed at any instant then, and after it."""
    instant, killed = 1, True
    while killed:
        one = consumer(form, folder=str(instant))
        killed = one.run_killed(instant)
        left = one.open()
        flight = left.known.key_in_doubt
        left.close()
        one.service.readers = True
        one.service.asked.clear()
        one.run_killed(7)
        one.run(count_max=2)
        assert one.records() == one.service.records, f"killed at instant {instant}"
        assert not one.watcher.warnings
        keys = [headers.get("Idempotency-Key") for headers in one.service.asked]
        assert set(keys) <= ({flight.key, None} if flight else {None})
        assert keys == sorted(keys, key=lambda key: key is None)
        assert not keys or flight is None or keys[0] == flight.key
        instant += 1
    assert instant > 6


@by_reader
@each_form
def test_page_that_an_operator_took_away_is_said(consumer: Make, form: str) -> None:
    """Killed at each instant, and released then: nothing is torn, nothing comes twice."""
    instant, killed = 1, True
    said = 0
    while killed:
        one = consumer(form, folder=str(instant))
        killed = one.run_killed(instant)
        in_hand = [name for name, hand in one.service.hands.items() if hand.first_seq]
        for name in in_hand:
            one.service.release(name)
        one.run()
        found = one.records()
        assert found == [record for record in one.service.records if record in found]
        lost = len(one.service.records) - len(found)
        assert lost <= (3 if in_hand else 0)
        # Of a first page of which nothing was written nobody knows here.
        assert one.watcher.warnings or not lost or found == one.service.records[3:]
        said += len(one.watcher.warnings)
        assert all(name in text for text in one.watcher.warnings for name in in_hand)
        instant += 1
    assert said


@by_reader
@each_form
def test_reader_unknown_after_a_restore_goes_on_and_says_so(consumer: Make, form: str) -> None:
    one = consumer(form, 9)
    one.run()
    one.service.restore(cursor=6)
    one.service.records += [reply(9)]
    one.run()
    assert one.records() == [*one.service.records[:9], *one.service.records[6:]]
    [said] = one.watcher.warnings
    assert "1400006666-1-7" in said
    assert "restored from a backup" in said
    one.service.records += [reply(10)]
    one.run()
    assert one.records()[-1] == reply(10)
    assert len(one.watcher.warnings) == 1


@by_reader
@each_form
def test_targets_have_names_of_their_own_and_keep_them(consumer: Make, form: str) -> None:
    one = consumer(form, 3)
    one.run(reader="billing")
    one.service.records += [reply(3)]
    one.run()
    one.run(reader="billing")
    assert set(one.service.hands) == {"billing"}
    with pytest.raises(StoreRefused, match="as reader billing, and keeps that name, not other"):
        one.run(reader="other")
    two = consumer(form, folder="two")
    two.service = two.answer = one.service
    two.random = Random(8)
    two.run()
    assert len(one.service.hands) == 2
    assert one.records() == one.service.records


@by_reader
@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_name_of_another_target_is_refused(consumer: Make, form: str) -> None:
    """As a copy of a target has it: both would be handed the same pages."""
    one = consumer(form, 3)
    one.run(reader="billing")
    state = one.path.with_name(one.path.name + ".state")
    one.path = one.path.with_stem("copy")
    with pytest.raises(StoreRefused, match=rf"{state.name} has the reader's name billing, too"):
        one.run(reader="billing")
    one.path.with_name(one.path.name + ".state").write_bytes(state.read_bytes())
    with pytest.raises(StoreRefused, match=rf"{state.name} has the reader's name billing, too"):
        one.run()


@by_reader
@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_name_of_a_running_target_is_refused(consumer: Make, form: str) -> None:
    """What it remembers may change at any moment, but never its name."""
    one = consumer(form, 3)
    one.run(reader="billing")
    running = one.open()
    one.path = one.path.with_stem("copy")
    with pytest.raises(StoreRefused, match=r"has the reader's name billing, too"):
        one.run(reader="billing")
    running.close()


def killing(step: int) -> Callable[[], None]:
    """What kills at a step of a service: each pull has one before it is carried out, one after."""
    steps = itertools.count(1)

    def count() -> None:
        if next(steps) == step:
            raise Killed

    return count


@by_reader
@each_form
def test_service_that_knows_no_readers_any_more(consumer: Make, form: str) -> None:
    """By keys if nothing can be in hand; else it is said, until that is given up."""
    one = consumer(form, 3)
    one.run()
    one.service.readers = False
    one.service.records += [reply(3)]
    with pytest.raises(ReaderUnsupported, match="does not say"):
        one.run(reader=reader_of(one))
    one.run()
    one.service.readers = True
    one.service.records += [reply(number) for number in range(4, 12)]
    one.service.step = killing(2)
    with pytest.raises(Killed):  # behind a page that was taken
        one.run()
    one.service.step = one.clock
    assert one.service.waiting == 5
    one.service.readers = False
    with pytest.raises(ReaderUnsupported, match=reader_of(one)) as caught:
        one.run()
    assert "--abandon-page" in caught.value.fix
    one.run(abandon=True)
    assert one.records() == one.service.records[:4] + one.service.records[7:]
    one.service.readers = True
    one.run()
    assert (
        one.records()
        == one.service.records[:4]
        + one.service.records[7:]
        + (
            one.service.records[4:7]  # it was in hand all the while
        )
    )


def loses_a_page_aloud(
    one: Consumer, other: Service, source: Source, *, abandon: bool = False
) -> None:
    """A service that knows no keys takes over, and its first answer is lost: nothing is repeated.

    A repeat would bring the page behind it.
    """
    before = len(one.records())
    one.service = one.answer = other
    other.hold = True
    with pytest.raises(AnswerLost) as caught:
        one.run(source=source, abandon=abandon)
    assert caught.value.may_have_consumed
    other.arrive()
    one.run(source=source)
    assert "may be lost" in one.watcher.warnings[-1]
    assert one.records()[before:] == other.records[3:]


@each_form
@pytest.mark.parametrize("abandon", [False, True])
def test_what_a_service_knows_is_not_known_of_another(
    consumer: Make, form: str, *, abandon: bool
) -> None:
    """That it brings a page again, above all."""
    if abandon:
        one = killed_with_a_page_in_flight(consumer, form)
    else:
        one = consumer(form, 3)
        one.run()
    other = consumer(form, 8, keyed=False).service
    loses_a_page_aloud(one, other, MOVED, abandon=abandon)


@by_reader
@each_form
def test_what_a_service_knew_is_not_known_of_the_one_in_its_place(
    consumer: Make, form: str
) -> None:
    one = consumer(form, 3)
    one.run()
    loses_a_page_aloud(one, consumer(form, 8, keyed=False).service, SOURCE)


@by_reader
@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_page_that_is_half_written_can_be_given_up(consumer: Make, form: str) -> None:
    """What is there of it stays, no row is torn, and the service is told that it is done with."""
    one = killed_in_a_page(consumer, form)
    one.run(abandon=True)
    found = one.records()
    assert found[-5:] == one.service.records[3:]
    assert found[:-5] == one.service.records[: len(found) - 5]
    assert len(found) < 8
    [said] = one.watcher.warnings
    assert "page 1400006666-1-1 is not written to its end" in said


@by_reader
@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_page_of_a_service_that_is_gone_for_good_can_be_given_up(consumer: Make, form: str) -> None:
    one = killed_with_a_page_in_flight(consumer, form)
    one.service.down = True
    with pytest.raises(NotConnected):
        one.run(abandon=True)
    one.service.down = False
    one.path = one.path.with_stem("today")
    one.run()
    assert one.records() == one.service.records[3:]


@by_reader
def test_acknowledgement_that_is_dropped_on_the_way_writes_nothing_twice(consumer: Make) -> None:
    one = consumer("ndjson", 5)
    serve = one.service.__call__

    def without(request: httpx.Request) -> httpx.Response:
        request.headers.pop("Pullstatus-Ack", None)
        return serve(request)

    one.answer = without
    with pytest.raises(ReaderUnsupported, match="comes again although it was acknowledged"):
        one.run()
    assert one.records() == one.service.records[:3]


# --- followed -------------------------------------------------------------------------------------


class Following:
    """One that is followed: the service holds pulls of an empty mailbox, as far as it is asked to.

    At each of `moments` so many records come, while a pull is held.
    """

    def __init__(self, one: Consumer, moments: list[int]) -> None:
        self._one = one
        self._moments = moments
        self.waits: list[str | None] = []
        self.pauses: list[float] = []
        self.early = False
        one.answer = self.answer
        one.sleep = self.sleep

    def answer(self, request: httpx.Request) -> httpx.Response:
        one = self._one
        if request.method == "POST":
            wait = request.headers.get("Pullstatus-Wait")
            self.waits.append(wait)
            if wait not in (None, "0") and not one.service.waiting:
                if not self._moments:
                    raise Killed
                count = self._moments.pop(0)
                first = len(one.service.records)
                one.service.records += [reply(n) for n in range(first, first + count)]
                one.now_s += 0.1 if count or self.early else int(wait or 0)
        return one.service(request)

    def sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)
        if len(self.pauses) > 9:
            raise Killed


@by_reader
@each_form
def test_follower_is_held_instead_of_pausing(consumer: Make, form: str) -> None:
    one = consumer(form, 2)
    following = Following(one, [0, 0, 1, 0, 4])
    with pytest.raises(Killed):
        one.run(follow=True)
    assert one.records() == one.service.records
    assert len(one.records()) == 7
    # After a page it looks at once whether there is more; what waits is never held.
    assert following.waits == ["0", "0", *["20"] * 3, "0", "20", "20", "0", "0", "20"]
    assert not following.pauses


@by_reader
def test_follower_pauses_behind_empty_pages_that_come_early(consumer: Make) -> None:
    one = consumer("ndjson", 0)
    following = Following(one, [0] * 99)
    following.early = True
    with pytest.raises(Killed):
        one.run(follow=True)
    assert len(following.pauses) == 10
    assert following.pauses[-1] >= 5


@by_reader
@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_follower_that_is_stopped_while_nothing_came_leaves_nothing_behind(
    consumer: Make, form: str
) -> None:
    """It writes nothing while it is held, and a target of another name may go on."""
    one = consumer(form, 2)
    Following(one, [0, 0])
    with pytest.raises(Killed):
        one.run(follow=True)
    one.path = one.path.with_stem("tomorrow")
    one.answer = one.service
    one.service.records += [reply(9)]
    one.run()
    assert one.records() == [reply(9)]


@by_key
def test_follower_by_key_looks_now_and_then(consumer: Make) -> None:
    """And for readers whenever the service was away, which it is while it is updated."""
    one = consumer("ndjson", 2)

    def sleep(_pause_s: float) -> None:
        slept.append(one.service.readers)
        if len(slept) == 3:
            one.service.down = True
        elif len(slept) == 4:
            one.service.down, one.service.readers = False, True
            Following(one, [1])

    slept: list[bool] = []
    one.sleep = sleep
    with pytest.raises(Killed):
        one.run(follow=True)
    assert one.records() == one.service.records
    assert len(one.records()) == 3
    assert "Idempotency-Key" in one.service.asked[0]
    assert "Pullstatus-Reader" in one.service.asked[-1]


# --- the state file -------------------------------------------------------------------------------


def test_slots_keep_the_value_before_when_a_write_is_torn(tmp_path: Path) -> None:
    """Cut anywhere, whatever was in the slot before: the value is the new one or the last one."""
    path = tmp_path / "state"
    pages = [NextPage(f"key-{number}", number, NOW_S) for number in range(4)]
    with Slots(path, decode_next_page) as state:
        for page in pages[:3]:
            state.write(page)
    before = path.read_bytes()
    with Slots(path, decode_next_page) as state:
        state.write(pages[3])
    after = path.read_bytes()
    start = 0 if before[:SLOT_BYTES] != after[:SLOT_BYTES] else SLOT_BYTES
    for cut in range(start, start + SLOT_BYTES + 1, 37):
        path.write_bytes(after[:cut] + before[cut:])
        with Slots(path, decode_next_page) as state:
            assert state.value in (pages[2], pages[3])
            state.write(pages[0])
            assert state.value == pages[0]
        with Slots(path, decode_next_page) as state:
            assert state.value == pages[0]


def test_slots_keep_the_value_before_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it stays so: the slot of the last whole value is not the next to be written."""
    path = tmp_path / "state"
    pages = [NextPage(f"key-{number}", number, NOW_S) for number in range(4)]
    real = os.pwrite

    def little(file: int, data: bytes, start: int) -> int:
        if len(data) < SLOT_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, data[:20], start)

    with Slots(path, decode_next_page) as state:
        state.write(pages[0])
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", little)
            for page in pages[1:3]:
                with pytest.raises(StoreFailed, match="No space"):
                    state.write(page)
        assert slots.peek(path, decode_next_page) is None  # it is locked
    assert slots.peek(path, decode_next_page) == pages[0]
    with Slots(path, decode_next_page) as state:
        assert state.value == pages[0]
        state.write(pages[3])
    assert slots.peek(path, decode_next_page) == pages[3]


def test_slots_keep_the_value_before_when_one_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the write behind it is torn: it goes to the other slot all the same."""
    path = tmp_path / "state"
    pages = [NextPage(f"key-{number}", number, NOW_S) for number in range(3)]
    real = os.pwrite

    def torn(file: int, data: bytes, start: int) -> int:
        real(file, data[:20], start)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for count in (1, 2):
        with Slots(path, decode_next_page) as state:
            for page in pages[:count]:
                state.write(page)
            with pytest.raises(InvalidSetting, match="no room"):
                state.write(NextPage("k" * SLOT_BYTES, 1, NOW_S))
            assert state.value == pages[count - 1]
            with monkeypatch.context() as patched:
                patched.setattr(os, "pwrite", torn)
                with pytest.raises(StoreFailed):
                    state.write(pages[2])
        with Slots(path, decode_next_page) as state:
            assert state.value == pages[count - 1]
            state.write(pages[2])
        assert slots.peek(path, decode_next_page) == pages[2]


def test_slots_that_are_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"a file of somebody's" * 999)
    with pytest.raises(StoreRefused, match="damaged"):
        Slots(path, decode_next_page)
    with Slots(tmp_path / "other", msgspec.json.Decoder(Source).decode) as state:
        state.write(SOURCE)
    with pytest.raises(StoreRefused, match="another version"):
        Slots(tmp_path / "other", decode_next_page)
