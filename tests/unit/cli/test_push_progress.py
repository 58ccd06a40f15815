"""What a push remembers of a file: the same, another one, or one that was changed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path
from random import Random

import msgspec
import pytest

from pullstatus.cli.push.progress import Done, Goal, InDoubt, progress_of
from pullstatus.cli.push.source import Line, Source, batches
from pullstatus.client.slots import Slots
from pullstatus.errors import StoreFailed, StoreRefused
from pullstatus.records import Kind

GOAL = Goal("http://localhost:8080", 1400006666, Kind.REPLY)


def lines(*numbers: int) -> str:
    return "".join(f'{{"n":{number}}}\n' for number in numbers)


class Pushing:
    """`push` without a service: what it would send, and whether it was cut on its way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sent: list[int] = []
        self.keys: list[tuple[str, int, tuple[int, ...]]] = []
        self.unfinished = False
        self.said = ""

    def run(
        self,
        text: str | None = None,
        *,
        goal: Goal = GOAL,
        state: Path | None = None,
        again: bool = False,
        cut_after: int = -1,
        in_doubt: InDoubt | None = None,
        now_s: float = 1e9,
    ) -> list[int]:
        """The numbers that were sent; cut in the middle of the batch after `cut_after`."""
        if text is not None:
            self.path.write_text(text)
        self.sent, self.keys = [], []
        with (
            contextlib.closing(Source(self.path, None, GOAL.kind, whole=False)) as source,
            progress_of(
                source, goal, state, again=again, in_doubt=in_doubt, clock=lambda: now_s
            ) as progress,
        ):
            records, on_their_way = progress.go_on(source)
            self.said = progress.said
            work = [on_their_way] if on_their_way else []
            for batch in (*work, *batches(records, 3)):
                if batch is not on_their_way:
                    progress.sending(batch)
                self._send(batch, progress.done.run, progress.done.lines)
                if cut_after == 0:
                    return self.sent
                cut_after -= 1
                progress.sent()
            progress.end(whole=not records.unfinished)
            self.unfinished = bool(records.unfinished)
        return self.sent

    def _send(self, batch: list[Line], run: str, place: int) -> None:
        numbers = [json.loads(line.json)["n"] for line in batch]
        self.sent += numbers
        self.keys.append((run, place, tuple(numbers)))


@pytest.fixture
def pushing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pushing:
    monkeypatch.setattr(os, "fsync", lambda _file: None)
    return Pushing(tmp_path / "in.ndjson")


def test_file_that_grew_is_gone_on_with(pushing: Pushing) -> None:
    assert pushing.run(lines(*range(5))) == [0, 1, 2, 3, 4]
    assert pushing.run() == []
    assert pushing.run(lines(*range(7))) == [5, 6]
    assert not pushing.said
    whole = [{"n": n} for n in range(8)]
    assert pushing.run(json.dumps(whole, separators=(",", ":"))) == [7]


def test_another_file_is_pushed_from_its_start(pushing: Pushing) -> None:
    pushing.run(lines(*range(5)))
    [old, *_] = [run for run, _, _ in pushing.keys]
    assert pushing.run(lines(*range(100, 108))) == list(range(100, 108))
    assert "another file" in pushing.said
    assert pushing.keys[0][0] != old
    assert pushing.run() == []
    assert not pushing.said
    assert pushing.run(lines(7)) == [7]
    assert pushing.run(lines(8)) == [8]


@pytest.mark.parametrize(
    "now",
    [
        lines(0, 1, 2, 3, 4, 50, 6, 7, 8, 9),
        lines(0, 1, 2, 3, 4),
        lines(1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
        lines(99, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
        lines(0),
        lines(0, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109),
        lines(0)[:-2],
    ],
)
def test_changed_file_is_refused(pushing: Pushing, now: str) -> None:
    """Neither skipped nor pushed twice, and nothing is forgotten: put back, it goes on."""
    pushing.run(lines(*range(10)))
    for _ in range(2):
        if now == lines(0)[:-2]:
            assert pushing.run(now) == []  # nothing but a line that waits
            assert pushing.unfinished
        else:
            with pytest.raises(StoreRefused, match=r"has changed or is not all there.*--again"):
                pushing.run(now)
    assert pushing.run(lines(*range(11))) == [10]
    assert pushing.run(lines(0) if now == lines(0)[:-2] else now, again=True)


def test_emptied_file_tells_nothing(pushing: Pushing) -> None:
    pushing.run(lines(*range(5)))
    assert pushing.run("") == []
    assert pushing.run(lines(*range(6))) == [5]
    assert pushing.run("") == []
    assert pushing.run(lines(9)) == [9]


def test_unfinished_line_waits_and_is_sent_once(pushing: Pushing) -> None:
    whole = lines(*range(12, 16))
    for cut in range(len(whole)):
        pushing.run(whole[:cut], again=True)
        before = pushing.sent
        assert before + pushing.run(whole) == [12, 13, 14, 15]


def test_batch_on_its_way_is_sent_again_as_it_was(pushing: Pushing) -> None:
    pushing.run(lines(*range(8)), cut_after=1)
    cut = pushing.keys[-1]
    assert cut[1:] == (3, (3, 4, 5))
    assert pushing.run(lines(*range(9))) == [3, 4, 5, 6, 7, 8]
    assert pushing.keys[0] == cut


@pytest.mark.parametrize("way", InDoubt)
@pytest.mark.parametrize("name", ["in.ndjson", "other.ndjson"])
def test_batch_that_the_service_has_forgotten_is_asked_about(
    pushing: Pushing, tmp_path: Path, name: str, way: InDoubt
) -> None:
    """Sent again after 72 hours it would be stored twice, if it had come."""
    pushing.run(lines(*range(8)), cut_after=1)
    pushing.path.rename(tmp_path / name)
    pushing = Pushing(tmp_path / name)
    late_s = 1e9 + 72 * 3600
    for _ in range(2):
        with pytest.raises(StoreRefused, match=r"lines 4 to 6.*pullstatus find.*--in-doubt"):
            pushing.run(now_s=late_s)
    assert pushing.sent == []
    sent = [3, 4, 5, 6, 7] if way is InDoubt.SEND else [6, 7]
    assert pushing.run(now_s=late_s, in_doubt=way) == sent
    assert pushing.run(now_s=2 * late_s) == []


def test_batch_in_doubt_that_is_sent_counts_from_then_on(pushing: Pushing) -> None:
    pushing.run(lines(*range(8)), cut_after=1)
    pushing.run(now_s=1e9 + 70 * 3600, cut_after=0)
    with pytest.raises(StoreRefused, match="--in-doubt"):
        pushing.run(now_s=1e9 + 75 * 3600)
    pushing.run(now_s=1e9 + 75 * 3600, in_doubt=InDoubt.SEND, cut_after=0)
    assert pushing.run(now_s=1e9 + 140 * 3600) == [3, 4, 5, 6, 7]


def test_push_that_was_cut_short_is_not_forgotten_for_another_file(
    pushing: Pushing, tmp_path: Path
) -> None:
    pushing.run(lines(*range(8)), cut_after=1)
    pushing.path.rename(tmp_path / "old.ndjson")
    assert pushing.run("") == []
    for _ in range(2):
        with pytest.raises(
            StoreRefused, match=r"cut short after 6 records.*Finish .*/old\.ndjson.*--again"
        ):
            pushing.run(lines(50))
    old = Pushing(tmp_path / "old.ndjson")
    assert old.run(state=tmp_path / "in.ndjson.pushed") == [3, 4, 5, 6, 7]
    assert pushing.run() == [50]


def test_progress_is_not_shared_by_two_files(pushing: Pushing, tmp_path: Path) -> None:
    state = tmp_path / "state"
    pushing.run(lines(1), state=state)
    other = Pushing(tmp_path / "other.ndjson")
    with pytest.raises(StoreRefused, match=r"that of another file, in\.ndjson.*--state"):
        other.run(lines(2), state=state)
    assert other.run(state=state, again=True) == [2]


def test_progress_of_a_rotated_log_goes_along(pushing: Pushing, tmp_path: Path) -> None:
    """What came to it after its last push is neither lost nor pushed with all else again."""
    pushing.run(lines(*range(5)))
    pushing.path.write_text(lines(*range(7)))
    rotated = tmp_path / "in.ndjson.1"
    pushing.path.rename(rotated)
    assert pushing.run(lines(50)) == [50]
    assert f"{rotated} now" in pushing.said
    assert Pushing(rotated).run() == [5, 6]
    assert pushing.run(lines(50, 51)) == [51]


def test_progress_goes_along_with_a_file_that_was_renamed(pushing: Pushing, tmp_path: Path) -> None:
    """As a log is that was rotated: its content tells which file it is."""
    pushing.run(lines(*range(5)))
    pushing.path.rename(tmp_path / "in.1.ndjson")
    (tmp_path / "in.ndjson.pushed").rename(tmp_path / "in.1.ndjson.pushed")
    assert pushing.run(lines(50)) == [50]
    assert Pushing(tmp_path / "in.1.ndjson").run(lines(*range(6))) == [5]


def test_progress_goes_along_through_one_rotation_after_the_other(
    pushing: Pushing, tmp_path: Path
) -> None:
    """Where a log is now, progress of the one before it may be, which goes along likewise."""
    logs = [pushing, *(Pushing(tmp_path / f"in.ndjson.{number}") for number in (1, 2, 3))]
    for night in range(5):
        first = 100 * night
        assert pushing.run(lines(first, first + 1)) == [first, first + 1]
        for age in (2, 1, 0):
            if logs[age].path.exists():
                logs[age].path.rename(logs[age + 1].path)
        tail = lines(*range(first, first + 3))
        logs[1].path.write_text(tail)
        if night % 2:  # whichever of the two is pushed first
            assert pushing.run(lines(first + 50)) == [first + 50]
            assert logs[1].run() == [first + 2]
            pushing.path.unlink()
        else:
            assert logs[1].run() == [first + 2]
        assert [log.run() for log in logs[1:] if log.path.exists()] == [[]] * min(night + 1, 3)


@pytest.mark.parametrize("way", ["renamed", "hard link", "link", "link elsewhere"])
def test_file_is_known_under_another_name(pushing: Pushing, tmp_path: Path, way: str) -> None:
    pushing.run(lines(*range(5)), cut_after=1)
    cut = pushing.keys[-1]
    (tmp_path / "links").mkdir()
    other = Pushing(tmp_path / ("links/other" if way == "link elsewhere" else "other.ndjson"))
    match way:
        case "renamed":
            pushing.path.rename(other.path)
        case "hard link":
            other.path.hardlink_to(pushing.path)
        case _:
            other.path.symlink_to(pushing.path)
    assert other.run() == [3, 4]
    assert other.keys == [cut]
    assert other.path.is_symlink() or other.said == f"{other.path} was pushed as in.ndjson"
    if way == "renamed":
        assert pushing.run(lines(50)) == [50]
    else:
        assert pushing.run(lines(*range(6))) == [5]
        assert other.run(lines(*range(7))) == [6]
    assert other.run(again=True)[0] == 0


def test_link_that_was_pushed_by_an_older_version(pushing: Pushing, tmp_path: Path) -> None:
    """It kept progress beside the link."""
    pushing.run(lines(*range(5)))
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "link.ndjson"
    link.symlink_to(pushing.path)
    (tmp_path / "in.ndjson.pushed").rename(tmp_path / "links" / "link.ndjson.pushed")
    assert Pushing(link).run() == []
    assert pushing.run(lines(*range(6))) == [5]


def test_file_is_not_known_by_its_inode_alone(pushing: Pushing, tmp_path: Path) -> None:
    """A removed file's number is given away again, and a link may be pushed elsewhere, too."""
    pushing.run(lines(*range(5)))
    other = Pushing(tmp_path / "other.ndjson")
    pushing.path.rename(other.path)
    assert other.run(lines(7, 8)) == [7, 8]
    pushing.path.hardlink_to(other.path)
    (tmp_path / "in.ndjson.pushed").unlink()
    elsewhere = Goal(GOAL.service, 1, GOAL.kind)
    assert pushing.run(goal=elsewhere) == [7, 8]
    assert other.run() == []


def test_two_files_that_changed_names(pushing: Pushing, tmp_path: Path) -> None:
    other = Pushing(tmp_path / "other.ndjson")
    pushing.run(lines(*range(5)))
    other.run(lines(*range(10, 13)))
    pushing.path.rename(tmp_path / "aside")
    other.path.rename(pushing.path)
    (tmp_path / "aside").rename(other.path)
    assert (pushing.run(), other.run()) == ([], [])
    assert (pushing.run(lines(*range(10, 14))), other.run(lines(*range(6)))) == ([13], [5])


def test_file_that_is_pushed_right_now_under_another_name(pushing: Pushing, tmp_path: Path) -> None:
    pushing.run(lines(1))
    pushing.path.rename(tmp_path / "other.ndjson")
    with (
        Slots(tmp_path / "in.ndjson.pushed", msgspec.json.Decoder(Done).decode),
        pytest.raises(StoreRefused, match=r"in\.ndjson\.pushed is in use"),
    ):
        Pushing(tmp_path / "other.ndjson").run()


def test_other_mailbox_and_service_are_refused(pushing: Pushing) -> None:
    pushing.run(lines(1))
    for other in (
        Goal("http://elsewhere", GOAL.sdkappid, GOAL.kind),
        Goal(GOAL.service, 1, GOAL.kind),
        Goal(GOAL.service, GOAL.sdkappid, Kind.DELIVERY_STATUS),
    ):
        with pytest.raises(StoreRefused, match="was pushed to http://localhost:8080"):
            pushing.run(goal=other)
    assert pushing.run(goal=other, again=True) == [1]


def test_one_push_of_a_file_at_a_time(pushing: Pushing) -> None:
    pushing.run(lines(1))
    with (
        Slots(pushing.path.with_name("in.ndjson.pushed"), msgspec.json.Decoder(Done).decode),
        pytest.raises(StoreRefused, match="in use"),
    ):
        pushing.run()


def test_progress_is_no_file_of_somebody_else(pushing: Pushing, tmp_path: Path) -> None:
    """Neither FILE itself nor any other, however short, is written over."""
    for path in (pushing.path, tmp_path / "notes"):
        path.write_text(lines(1))
        with pytest.raises(StoreRefused, match="no state of ours"):
            pushing.run(lines(1), state=path)
        assert path.read_text() == lines(1)


def test_place_for_progress_that_cannot_be_made_is_told_with_the_way_out(pushing: Pushing) -> None:
    with pytest.raises(StoreRefused, match=r"cannot be opened.*--state"):
        pushing.run(lines(1), state=pushing.path.parent / "nowhere" / "state")


def test_full_disk_is_told_and_the_next_run_goes_on(
    pushing: Pushing, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushing.run(lines(*range(5)))

    real = os.pwrite

    def full(file: int, data: bytes, start: int) -> int:
        if len(data) < 3000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, data[:2000], start)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(StoreFailed, match=r"cannot be written: No space"):
            pushing.run(lines(*range(7)))
    assert pushing.sent == []
    assert pushing.run() == [5, 6]


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_to_files_nothing_is_skipped_or_sent_twice(
    pushing: Pushing, seed: int
) -> None:
    """Files of one name that grow, are cut, cut short and replaced, while pushes are cut."""
    chance = Random(seed)
    fresh = iter(range(10_000))
    content = [next(fresh) for _ in range(5)]
    keys: dict[tuple[int, ...], set[str]] = {}
    arrived: list[int] = []

    def push(cut_after: int = -1) -> None:
        for again in (False, True):
            try:
                pushing.run(lines(*content), cut_after=cut_after, again=again)
            except StoreRefused:
                arrived[:] = [n for n in arrived if n not in content]  # --again doubles on purpose
                continue
            break
        for run, place, numbers in pushing.keys:
            key = f"{run} {place}"
            if key not in keys.setdefault(numbers, set()):
                keys[numbers].add(key)
                arrived.extend(numbers)

    for _ in range(40):
        match chance.randrange(4):
            case 0:
                content += [next(fresh) for _ in range(chance.randrange(1, 6))]
            case 1:
                push(cut_after=chance.randrange(3))
            case 2:
                push()
                assert set(content) <= set(arrived)
                content = [next(fresh) for _ in range(chance.randrange(1, 6))]
            case 3:
                push()
                content = content[: chance.randrange(len(content) + 1)]
                content += [next(fresh) for _ in range(chance.randrange(1, 3))]
    push()
    assert set(content) <= set(arrived)
    assert len(arrived) == len(set(arrived))
