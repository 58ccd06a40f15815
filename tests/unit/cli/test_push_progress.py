"""What a push remembers of a file: the same, another one, or one that was changed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from random import Random

import msgspec
import pytest

from pullstatus import mounts
from pullstatus.cli.push.progress import Done, Goal, InDoubt, progress_of
from pullstatus.cli.push.source import Line, Source, batches
from pullstatus.client.slots import Slots
from pullstatus.errors import StoreFailed, StoreRefused
from pullstatus.records import Kind

GOAL = Goal("http://localhost:8080", 1400006666, Kind.REPLY)


def lines(*numbers: int) -> str:
    return "".join(f'{{"n":{number}}}\n' for number in numbers)


class Killed(BaseException):
    """A process is; nothing that it would write after that is written."""


@contextlib.contextmanager
def killed(monkeypatch: pytest.MonkeyPatch, step: int, *, after: bool) -> Iterator[list[str]]:
    """Kill whoever takes this step on disk, before it or after it; yields the steps taken."""
    taken: list[str] = []

    def cut(name: str, take: Callable[..., None]) -> Callable[..., None]:
        def stepped(*given: object, **named: object) -> None:
            if len(taken) > step or (len(taken) == step and not after):
                raise Killed
            taken.append(name)
            take(*given, **named)
            if len(taken) > step:
                raise Killed

        return stepped

    with monkeypatch.context() as patched:
        patched.setattr(Slots, "write", cut("write", Slots.write))
        patched.setattr(Path, "unlink", cut("unlink", Path.unlink))
        with contextlib.suppress(Killed):
            yield taken


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
        token: str = "a token",
        again: bool = False,
        moved: bool = False,
        cut_after: int = -1,
        in_doubt: InDoubt | None = None,
        now_s: float = 1e9,
        after_first: Callable[[], None] = lambda: None,
    ) -> list[int]:
        """The numbers that were sent; cut in the middle of the batch after `cut_after`."""
        if text is not None:
            self.path.write_text(text)
        self.sent, self.keys = [], []
        with (
            contextlib.closing(Source(self.path, None, GOAL.kind, whole=False)) as source,
            progress_of(
                source,
                goal,
                state,
                token=token,
                again=again,
                moved=moved,
                in_doubt=in_doubt,
                clock=lambda: now_s,
            ) as progress,
        ):
            records, on_their_way = progress.go_on(source)
            self.said = progress.said
            work = [on_their_way] if on_their_way else []
            for batch in (*work, *batches(records, 3)):
                progress.sending(batch)
                self._send(batch, progress.done.run, progress.done.lines)
                if cut_after == 0:
                    return self.sent
                cut_after -= 1
                if self.sent == [0, 1, 2]:
                    after_first()
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


@pytest.mark.parametrize("way", InDoubt)
def test_batch_that_went_by_another_token_is_asked_about(pushing: Pushing, way: InDoubt) -> None:
    """The service knows a batch again by the token's name, too: it might be stored twice."""
    pushing.run(lines(*range(8)), cut_after=1)
    with pytest.raises(StoreRefused, match=r"lines 4 to 6.*another token.*--in-doubt"):
        pushing.run(token="the next")
    assert pushing.sent == []
    assert pushing.run(token="the next", in_doubt=way, cut_after=0) == (
        [3, 4, 5] if way is InDoubt.SEND else [6, 7]
    )
    [*_, (_, _, numbers)] = pushing.keys
    assert pushing.run(token="the next")[: len(numbers)] == list(numbers)
    assert pushing.run(token="a third") == []


def test_batch_that_went_by_the_same_token_has_its_key_still(pushing: Pushing) -> None:
    pushing.run(lines(*range(8)), cut_after=1)
    [*_, cut] = pushing.keys
    with pytest.raises(StoreRefused):
        pushing.run(token="the next")
    assert pushing.run() == [3, 4, 5, 6, 7]
    assert pushing.keys[0] == cut


def test_batch_in_doubt_that_is_sent_counts_from_then_on(pushing: Pushing) -> None:
    pushing.run(lines(*range(8)), cut_after=1)
    pushing.run(now_s=1e9 + 70 * 3600, cut_after=0)
    with pytest.raises(StoreRefused, match="--in-doubt"):
        pushing.run(now_s=1e9 + 75 * 3600)
    pushing.run(now_s=1e9 + 75 * 3600, in_doubt=InDoubt.SEND, cut_after=0)
    assert pushing.run(now_s=1e9 + 140 * 3600) == [3, 4, 5, 6, 7]


def test_batch_that_a_clock_ahead_has_dated_is_asked_about(pushing: Pushing) -> None:
    """How long ago that was, nobody knows."""
    pushing.run(lines(*range(8)), cut_after=1, now_s=1e9 + 100 * 3600)
    with pytest.raises(StoreRefused, match="--in-doubt"):
        pushing.run(now_s=1e9 + 73 * 3600)
    assert pushing.run(now_s=1e9 + 73 * 3600, in_doubt=InDoubt.SKIP) == [6, 7]


@pytest.mark.parametrize("name", ["in.ndjson", "other.ndjson"])
def test_batch_that_an_older_version_has_not_dated(
    pushing: Pushing, tmp_path: Path, name: str
) -> None:
    """It is as old as the file of the progress."""
    pushing.run(lines(*range(8)), cut_after=1)
    place = tmp_path / "in.ndjson.pushed"
    pushing.path.rename(tmp_path / name)
    pushing = Pushing(tmp_path / name)
    with Slots(place, msgspec.json.Decoder(Done).decode) as slots:
        assert slots.value is not None
        slots.write(msgspec.structs.replace(slots.value, sent_s=None))
    os.utime(place, (1e9, 1e9))
    for _ in range(2):
        with pytest.raises(StoreRefused, match="--in-doubt"):
            pushing.run(now_s=1e9 + 72 * 3600)
    assert pushing.run(now_s=1e9 + 70 * 3600) == [3, 4, 5, 6, 7]


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


def new_inode_of(path: Path, gone: Path, text: str) -> None:
    """`path` is written anew, and gets the number that `gone` had."""
    gone.rename(path)
    path.write_text(text)


def test_progress_does_not_go_along_with_an_inode_that_another_file_has(
    pushing: Pushing, tmp_path: Path
) -> None:
    """Numbers of removed files are given away: the other file's own progress stays."""
    other = Pushing(tmp_path / "other.ndjson")
    pushing.run(lines(*range(5)))
    other.run(lines(*range(10, 13)))
    new_inode_of(other.path, pushing.path, lines(*range(10, 14)))
    assert pushing.run(lines(50)) == [50]
    assert "progress goes along" not in pushing.said
    assert other.run() == [13]
    assert (pushing.run(), other.run()) == ([], [])


def test_progress_does_not_go_along_with_what_is_no_file(pushing: Pushing, tmp_path: Path) -> None:
    pushing.run(lines(*range(5)))
    (tmp_path / "folder").mkdir()
    with Slots(tmp_path / "in.ndjson.pushed", msgspec.json.Decoder(Done).decode) as slots:
        assert slots.value is not None
        inode = (tmp_path / "folder").stat().st_ino
        slots.write(msgspec.structs.replace(slots.value, inode=inode))
    assert pushing.run(lines(50)) == [50]
    assert "progress goes along" not in pushing.said


def test_progress_to_one_mailbox_is_not_that_of_a_file_for_another(
    pushing: Pushing, tmp_path: Path
) -> None:
    replies = Pushing(tmp_path / "replies.ndjson")
    statuses = Goal(GOAL.service, GOAL.sdkappid, Kind.DELIVERY_STATUS)
    pushing.run(lines(*range(5)), goal=statuses)
    replies.run(lines(*range(10, 13)))
    new_inode_of(replies.path, pushing.path, lines(*range(10, 14)))
    assert pushing.run(lines(50), goal=statuses) == [50]
    assert replies.run() == [13]


def test_push_that_was_cut_short_is_not_forgotten_for_a_rotated_log(
    pushing: Pushing, tmp_path: Path
) -> None:
    rotated = Pushing(tmp_path / "in.ndjson.1")
    archived = tmp_path / "archive" / "in.ndjson.1"
    archived.parent.mkdir()
    rotated.run(lines(*range(8)), cut_after=1)
    cut = rotated.keys[-1]
    pushing.run(lines(*range(10, 15)))
    rotated.path.rename(archived)
    pushing.path.rename(rotated.path)
    assert pushing.run(lines(50)) == [50]
    with pytest.raises(StoreRefused, match=r"cut short after 6 records.*Finish"):
        rotated.run()
    rest = Pushing(archived)
    assert rest.run(state=tmp_path / "in.ndjson.1.pushed") == [3, 4, 5, 6, 7]
    assert rest.keys[0] == cut
    assert rotated.run(lines(*range(10, 16))) == [15]


def test_log_whose_new_name_had_a_file_of_the_same_inode(pushing: Pushing, tmp_path: Path) -> None:
    """A name's progress counts for what it remembers, not for the number of its inode."""
    rotated = Pushing(tmp_path / "in.ndjson.1")
    rotated.run(lines(*range(10, 13)))
    new_inode_of(pushing.path, rotated.path, lines(*range(5)))
    assert pushing.run() == [0, 1, 2, 3, 4]
    pushing.path.write_text(lines(*range(7)))
    pushing.path.rename(rotated.path)
    assert pushing.run(lines(50)) == [50]
    assert rotated.run() == [5, 6]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("first", ["in.ndjson", "in.ndjson.1", "in.ndjson.2"])
def test_push_that_is_killed_at_any_step_on_disk_goes_on(
    pushing: Pushing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, after: bool
) -> None:
    """Three logs that were rotated, the names of two of them changed; whichever is pushed first."""
    names = ["in.ndjson", "in.ndjson.1", "in.ndjson.2", "aside"]
    for step in count():
        folder = tmp_path / str(step)
        folder.mkdir()
        logs = {name: Pushing(folder / name) for name in names}
        for number, name in enumerate(names):
            logs[name].run(lines(*range(10 * number, 10 * number + 4)))
        for number in (2, 1, 0):  # what was last takes the place of the one that is removed
            logs[names[number]].path.rename(logs[names[number + 1]].path)
        new_inode_of(logs["in.ndjson"].path, logs["aside"].path, lines(50, 51))
        logs["in.ndjson.1"].path.rename(folder / "x")
        logs["in.ndjson.2"].path.rename(logs["in.ndjson.1"].path)
        (folder / "x").rename(logs["in.ndjson.2"].path)
        for number, name in enumerate(["in.ndjson.2", "in.ndjson.1"]):
            with logs[name].path.open("a") as log:
                log.write(lines(10 * number + 4))
        with killed(monkeypatch, step, after=after) as taken:
            logs[first].run()
        fresh = logs[first].keys
        for name in names[:3]:
            logs[name].run()
            fresh += logs[name].keys
        sent = [numbers for _, _, numbers in dict.fromkeys(fresh)]
        assert sorted(n for numbers in sent for n in numbers) == [4, 14, 50, 51]
        assert [logs[name].run() for name in names[:3]] == [[], [], []]
        if len(taken) < step:
            return


def test_push_that_was_gone_on_with_is_not_to_be_finished(pushing: Pushing, tmp_path: Path) -> None:
    """It was cut short twice: on its way, and before the place that it had was told."""
    other = Pushing(tmp_path / "other.ndjson")
    pushing.run(lines(*range(8)), cut_after=1)
    stale = (tmp_path / "in.ndjson.pushed").read_bytes()
    pushing.path.rename(other.path)
    assert other.run() == [3, 4, 5, 6, 7]
    (tmp_path / "in.ndjson.pushed").write_bytes(stale)
    assert pushing.run(lines(50)) == [50]
    assert other.run(lines(*range(9))) == [8]


@pytest.mark.parametrize("back", [False, True])
def test_progress_in_two_places_counts_where_it_came_further(
    pushing: Pushing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    """A push that takes it over and is killed before the old place is told."""
    other = Pushing(tmp_path / "other.ndjson")
    pushing.run(lines(*range(5)))
    pushing.path.rename(other.path)
    for step in range(3):
        with killed(monkeypatch, step, after=True):
            other.run()
    if back:
        other.path.rename(pushing.path)
        assert pushing.run(lines(*range(7))) == [5, 6]
        pushing.path.rename(other.path)
    assert other.run(lines(*range(9))) == ([7, 8] if back else [5, 6, 7, 8])
    other.path.rename(pushing.path)
    assert pushing.run(lines(*range(10))) == [9]


def test_progress_that_an_older_version_left_in_two_places(
    pushing: Pushing, tmp_path: Path
) -> None:
    other = Pushing(tmp_path / "other.ndjson")
    pushing.run(lines(*range(5)))
    stale = (tmp_path / "in.ndjson.pushed").read_bytes()
    pushing.path.rename(other.path)
    assert other.run(lines(*range(7))) == [5, 6]
    (tmp_path / "in.ndjson.pushed").write_bytes(stale)
    other.path.rename(pushing.path)
    assert pushing.run() == []
    assert pushing.run(lines(*range(8))) == [7]


def test_file_that_got_shorter_under_another_name_is_refused(
    pushing: Pushing, tmp_path: Path
) -> None:
    pushing.run(lines(*range(5)))
    pushing.path.rename(tmp_path / "other.ndjson")
    other = Pushing(tmp_path / "other.ndjson")
    for now in (lines(0, 1), lines(0, 1, 7, 3, 4, 5)):
        with pytest.raises(StoreRefused, match=r"has changed or is not all there.*--again"):
            other.run(now)
    assert other.run(lines(*range(6))) == [5]


def test_copy_keeps_the_progress_it_has(pushing: Pushing, tmp_path: Path) -> None:
    """An editor writes a file anew beside its old one, which is a backup then."""
    backup = Pushing(tmp_path / "backup.ndjson")
    pushing.run(lines(*range(5)))
    pushing.path.rename(backup.path)
    pushing.path.write_text(lines(*range(6)))
    assert backup.run() == []
    assert pushing.run() == [5]


def test_again_leaves_the_progress_of_another_file(pushing: Pushing, tmp_path: Path) -> None:
    rotated = Pushing(tmp_path / "in.ndjson.1")
    pushing.run(lines(*range(8)), cut_after=1)
    cut = pushing.keys[-1]
    pushing.path.rename(rotated.path)
    assert pushing.run(lines(50), again=True) == [50]
    assert rotated.run() == [3, 4, 5, 6, 7]
    assert rotated.keys[0] == cut


def test_again_is_gone_on_with_where_it_was_cut(pushing: Pushing, tmp_path: Path) -> None:
    """What an earlier push of the file came to is forgotten, under whatever name that was."""
    other = Pushing(tmp_path / "other.ndjson")
    pushing.run(lines(*range(5)))
    pushing.path.rename(other.path)
    other.run(lines(*range(8)), again=True, cut_after=0)
    assert other.run() == list(range(8))
    other.path.rename(pushing.path)
    assert pushing.run(lines(*range(9))) == [8]


def test_what_is_kept_aside_of_files_that_are_gone_is_removed(
    pushing: Pushing, tmp_path: Path
) -> None:
    """Logs of which only the newest is pushed; removed ones' inodes are given away again."""
    names = [pushing.path, tmp_path / "in.ndjson.1", tmp_path / "in.ndjson.2"]
    for night in range(12):
        assert pushing.run(lines(100 * night, 100 * night + 1)) == [100 * night, 100 * night + 1]
        if night:
            names[1].rename(names[2])
        names[0].rename(names[1])
        if night:
            names[2].rename(names[0])
    assert len([*tmp_path.glob("*.pushed")]) <= 3


def test_progress_in_a_place_of_its_own_goes_along_where_the_folder_can_be_written_to(
    pushing: Pushing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "states" / "state"
    state.parent.mkdir()
    rotated = Pushing(tmp_path / "in.ndjson.1")
    pushing.run(lines(1), state=state)
    pushing.path.rename(rotated.path)
    assert pushing.run(lines(50), state=state) == [50]
    assert rotated.run(lines(1, 2)) == [2]

    def open_there(path: Path) -> int:
        if not path.exists():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return os.open(path, os.O_RDWR)

    rotated.path.unlink()
    pushing.path.rename(rotated.path)
    pushing.path.write_text(lines(60))
    monkeypatch.setattr("pullstatus.client.slots.open_file", open_there)
    assert pushing.run(state=state) == [60]


def refuse_to_open(patch: pytest.MonkeyPatch, place: Path) -> None:
    """As a disk does that is mounted for reading: only who writes is refused."""

    def open_there(path: Path) -> int:
        if path == place:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    patch.setattr("pullstatus.client.slots.open_file", open_there)


@pytest.mark.parametrize("writable", [True, False])
def test_place_that_is_named_later_goes_on_after_what_lies_beside_the_file(
    pushing: Pushing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writable: bool
) -> None:
    state, beside = tmp_path / "states" / "state", tmp_path / "in.ndjson.pushed"
    state.parent.mkdir()
    pushing.run(lines(*range(5)), cut_after=1)
    cut, known = pushing.keys[-1], beside.read_bytes()
    with monkeypatch.context() as patched:
        if not writable:
            refuse_to_open(patched, beside)
            with pytest.raises(StoreRefused, match=r"cannot be opened: Read-only.*the same at"):
                pushing.run()
        assert pushing.run(state=state) == [3, 4]
        assert pushing.keys == [cut]
        assert pushing.said == f"{pushing.path} was pushed before, as is kept beside it"
        assert pushing.run(lines(*range(6)), state=state) == [5]
        assert not pushing.said
    assert beside.read_bytes() == known
    assert pushing.run() == [3, 4, 5]
    assert pushing.run(lines(*range(7))) == [6]
    assert pushing.run(lines(*range(8)), state=state) == [7]


def test_place_that_is_named_later_for_a_file_that_was_replaced(
    pushing: Pushing, tmp_path: Path
) -> None:
    """By a copy that has grown, as rsync does: its name and its records tell what it is."""
    pushing.run(lines(*range(5)))
    (tmp_path / "copy").write_text(lines(*range(6)))
    (tmp_path / "copy").replace(pushing.path)
    assert pushing.run(state=tmp_path / "state") == [5]
    (tmp_path / "copy").write_text(lines(9))
    (tmp_path / "copy").replace(pushing.path)
    assert pushing.run(state=tmp_path / "another") == [9]
    (tmp_path / "copy").write_text(lines(0, 9))
    (tmp_path / "copy").replace(pushing.path)
    with pytest.raises(StoreRefused, match="has changed or is not all there"):
        pushing.run(state=tmp_path / "a third")


@pytest.mark.parametrize("again", [True, False])
def test_place_that_was_begun_again_does_not_go_on_after_what_lies_beside_the_file(
    pushing: Pushing, tmp_path: Path, again: bool
) -> None:
    state = tmp_path / "state"
    pushing.run(lines(*range(8)))
    assert pushing.run(state=state, again=again, cut_after=0) == ([0, 1, 2] if again else [])
    assert pushing.run(state=state) == ([*range(8)] if again else [])
    assert pushing.run() == []


def test_place_that_is_named_does_not_push_what_is_just_pushed(
    pushing: Pushing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where that may be read only."""
    beside = tmp_path / "in.ndjson.pushed"
    pushing.run(lines(*range(5)))
    with Slots(beside, msgspec.json.Decoder(Done).decode):
        for again in (False, True):
            with pytest.raises(StoreRefused, match=rf"{beside} is in use"):
                pushing.run(state=tmp_path / "state", again=again)
        refuse_to_open(monkeypatch, beside)
        with pytest.raises(StoreRefused, match=rf"{beside} is in use"):
            pushing.run(state=tmp_path / "state")


def test_place_that_is_named_beside_one_that_cannot_be_read(
    pushing: Pushing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another user's cannot: nobody knows how far the file was pushed."""
    state, beside = tmp_path / "state", tmp_path / "in.ndjson.pushed"
    pushing.run(lines(*range(5)))
    beside.write_bytes(beside.read_bytes()[:300])
    with pytest.raises(StoreRefused, match="is damaged"):
        pushing.run(state=state)
    refuse_to_open(monkeypatch, beside)
    with pytest.raises(StoreRefused, match=r"may tell how far.*--again"):
        pushing.run(state=state)
    assert pushing.run(state=state, again=True) == [*range(5)]
    assert pushing.run(lines(*range(6)), state=state) == [5]


def test_file_of_another_name_goes_along_with_a_service_that_moves(
    pushing: Pushing, tmp_path: Path
) -> None:
    renamed = Pushing(tmp_path / "renamed.ndjson")
    pushing.run(lines(*range(5)))
    pushing.path.rename(renamed.path)
    moved = Goal("http://new.example", GOAL.sdkappid, GOAL.kind)
    assert renamed.run(lines(*range(6)), goal=moved, moved=True) == [5]
    assert renamed.run(lines(*range(7)), goal=moved) == [6]


def test_file_of_another_name_is_pushed_whole_to_another_service(
    pushing: Pushing, tmp_path: Path
) -> None:
    """Nobody has said that it is the same."""
    renamed = Pushing(tmp_path / "renamed.ndjson")
    pushing.run(lines(*range(5)))
    pushing.path.rename(renamed.path)
    assert renamed.run(goal=Goal("http://b", GOAL.sdkappid, GOAL.kind)) == [*range(5)]


def test_place_may_be_a_link(pushing: Pushing, tmp_path: Path) -> None:
    place = tmp_path / "in.ndjson.pushed"
    pushing.run(lines(1))
    place.rename(tmp_path / "moved.pushed")
    place.symlink_to("moved.pushed")
    assert pushing.run(lines(1, 2)) == [2]
    (tmp_path / "again.pushed").hardlink_to(tmp_path / "moved.pushed")
    assert pushing.run(lines(1, 2, 3)) == [3]


@pytest.mark.parametrize("pushed", [False, True])
def test_file_is_pushed_under_one_name_at_a_time(
    pushing: Pushing, tmp_path: Path, pushed: bool
) -> None:
    """Two first pushes, of two names, or one that goes on beside it."""
    pushing.path.write_text(lines(*range(5)))
    other = Pushing(tmp_path / "other.ndjson")
    other.path.hardlink_to(pushing.path)
    if pushed:
        other.run()
    with (
        contextlib.closing(Source(pushing.path, None, GOAL.kind, whole=False)) as source,
        progress_of(source, GOAL, None, again=False) as progress,
    ):
        records, _ = progress.go_on(source)
        with pytest.raises(StoreRefused, match=r"in\.ndjson\.pushed is in use"):
            other.run()
        assert len([*records]) == (0 if pushed else 5)
    assert other.run() == ([] if pushed else [0, 1, 2, 3, 4])
    assert pushing.run() == []


def test_two_first_pushes_of_a_file_do_not_pass_each_other(
    pushing: Pushing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before one has written anything, the other pushes all of it under another name."""
    pushing.path.write_text(lines(*range(5)))
    other = Pushing(tmp_path / "other.ndjson")
    other.path.hardlink_to(pushing.path)
    write = Slots.write

    def write_late(slots: Slots[Done], done: Done) -> None:
        monkeypatch.setattr(Slots, "write", write)
        assert other.run() == [0, 1, 2, 3, 4]
        write(slots, done)

    monkeypatch.setattr(Slots, "write", write_late)
    assert pushing.run() == []


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


def test_service_that_has_another_address_is_gone_on_with(pushing: Pushing) -> None:
    """By who says that it is the same; its keys stay, so what was on its way is known again."""
    pushing.run(lines(*range(8)), cut_after=1)
    cut = pushing.keys[-1]
    elsewhere = Goal("https://elsewhere", GOAL.sdkappid, GOAL.kind)
    with pytest.raises(StoreRefused, match="give --moved if that is the same service"):
        pushing.run(goal=elsewhere)
    assert pushing.run(goal=elsewhere, moved=True) == [3, 4, 5, 6, 7]
    assert pushing.keys[0] == cut
    assert pushing.run(lines(*range(9)), goal=elsewhere) == [8]
    for other in (
        Goal("https://elsewhere", 1, GOAL.kind),
        Goal("https://elsewhere", GOAL.sdkappid, Kind.DELIVERY_STATUS),
    ):
        with pytest.raises(StoreRefused, match="give --again"):
            pushing.run(goal=other, moved=True)


def test_one_push_of_a_file_at_a_time(pushing: Pushing) -> None:
    pushing.run(lines(1))
    with (
        Slots(pushing.path.with_name("in.ndjson.pushed"), msgspec.json.Decoder(Done).decode),
        pytest.raises(StoreRefused, match="in use"),
    ):
        pushing.run()


@pytest.mark.parametrize("act", ["removed", "moved", "replaced"])
def test_progress_that_loses_its_name_ends_the_push(pushing: Pushing, act: str) -> None:
    """Its lock goes with it: another push of the file would begin from its start, beside this."""
    place = pushing.path.with_name("in.ndjson.pushed")
    old = place.with_name("old")
    pushing.path.write_text(lines(*range(7)))

    def lose() -> None:
        if act == "removed":
            place.unlink()
        else:
            place.rename(old)
        if act == "replaced":
            place.touch()

    with pytest.raises(StoreFailed, match=r"pushed was moved, removed or replaced"):
        pushing.run(after_first=lose)
    assert pushing.sent == [0, 1, 2]
    if act != "removed":
        old.replace(place)
        assert pushing.run() == [0, 1, 2, 3, 4, 5, 6]  # the first three with the same key again


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


class Folder:
    """Logs that change their names, and what came of them at a service that knows its batches."""

    NAMES = ("in.ndjson", "in.ndjson.1", "in.ndjson.2", "other.ndjson")

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, chance: Random) -> None:
        self._monkeypatch = monkeypatch
        self._chance = chance
        self._fresh = count()
        self._keys: set[tuple[str, int, tuple[int, ...]]] = set()
        self.logs = {name: Pushing(path / name) for name in self.NAMES}
        self.arrived: list[int] = []
        self.content: set[int] = set()
        for name in self.NAMES:
            self.grow(name)

    def some(self) -> str:
        """Any of the names."""
        return self._chance.choice(self.NAMES)

    def grow(self, name: str) -> None:
        """A few records more, into a new file if there is none."""
        numbers = [next(self._fresh) for _ in range(self._chance.randrange(1, 7))]
        self.content.update(numbers)
        with self.logs[name].path.open("a") as log:
            log.write(lines(*numbers))

    def push(self, name: str) -> None:
        """Killed or cut anywhere, or refused while the push of another is to be finished."""
        step = self._chance.randrange(12)
        after = self._chance.random() < 0.5
        log = self.logs[name]
        with (
            contextlib.suppress(StoreRefused),
            killed(self._monkeypatch, step, after=after),
        ):
            log.run(cut_after=self._chance.randrange(-1, 2))
        self._arrive(log)

    def finish(self, name: str) -> None:
        """To its end; another may have to be first, as is said then."""
        log = self.logs[name]
        for _ in self.NAMES:
            try:
                log.run()
            except StoreRefused as error:
                [first] = re.findall(r"Finish .*/(\S+) first", str(error))
                place = log.path.with_name(name + ".pushed")
                self.logs[first].run(state=place)
                self._arrive(self.logs[first])
            else:
                break
            finally:
                self._arrive(log)
        else:
            pytest.fail(f"{name} stays refused")

    def finish_all(self) -> None:
        for name in self.NAMES:
            self.finish(name)

    def exchange(self, one: str, other: str) -> None:
        """Two files change their names."""
        aside = self.logs[one].path.with_name("aside")
        self.logs[one].path.rename(aside)
        self.logs[other].path.replace(self.logs[one].path)
        aside.rename(self.logs[other].path)

    def rotate(self) -> None:
        """The last one is removed; another file may get its inode."""
        [first, second, third, other] = (self.logs[name].path for name in self.NAMES)
        self.finish("in.ndjson.2")
        if self._chance.random() < 0.5:
            third.unlink()
            second.rename(third)
            first.rename(second)
        else:
            self.finish("other.ndjson")
            content = other.read_text()
            new_inode_of(other, third, content)
            second.rename(third)
            first.rename(second)
        self.grow("in.ndjson")
        self.push("in.ndjson")
        self.finish("other.ndjson")

    def link(self, name: str) -> None:
        """A second name for a while."""
        alias = Pushing(self.logs[name].path.with_name("alias.ndjson"))
        alias.path.hardlink_to(self.logs[name].path)
        self.logs["alias"] = alias
        self.push("alias")
        self.push(name)
        self.push("alias")
        alias.path.unlink()

    def _arrive(self, log: Pushing) -> None:
        for key in log.keys:
            if key not in self._keys:
                self._keys.add(key)
                self.arrived += key[2]
        log.keys = []


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_to_names_while_pushes_are_killed(
    pushing: Pushing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = Random(seed)
    folder = Folder(tmp_path, monkeypatch, chance)
    for _ in range(25):
        match chance.randrange(8):
            case 0:
                folder.exchange(*chance.sample(Folder.NAMES, 2))
            case 1:
                folder.rotate()
            case 2:
                folder.link(folder.some())
            case 3 | 4:
                folder.grow(folder.some())
            case _:
                folder.push(folder.some())
    folder.finish_all()
    assert sorted(folder.arrived) == sorted(folder.content)


def test_file_that_is_mounted_without_its_folder_is_refused(
    pushing: Pushing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered beside it would be gone with the container, and all be sent again."""
    told = f"23 22 8:1 /srv/x {pushing.path} rw - ext4 /dev/sda1 rw\n"
    monkeypatch.setattr(mounts, "read_mounts", lambda: told)
    with pytest.raises(StoreRefused, match=r"mounted by itself, so .*\.pushed, .*--state"):
        pushing.run(lines(0))
    kept = pushing.path.parent / "kept"
    kept.mkdir()
    assert pushing.run(state=kept / "progress") == [0]
    assert pushing.run(state=kept / "progress") == []
