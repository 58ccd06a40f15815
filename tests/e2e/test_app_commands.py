"""Commands about applications: their keys, their names, many at once, and how they stand."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pullstatus import limits
from pullstatus.cli.output import moment
from tests.e2e.test_cli import FIXED_KEY, bad, good, on_a_terminal, run
from tests.harness import REPLY, STATUS, App, Program, reply, statuses

OTHER_KEY = "0123456789abcdef0123456789abcdef"

# --- keys -----------------------------------------------------------------------------------------


def ends(folder: Path) -> list[str]:
    """What the live keys of the one application end with, newest first."""
    [app] = good(folder, "app", "list", "--json")
    return [key["ends_with"] for key in app["appkeys"]]


def end(appkey: str) -> str:
    return appkey[-4:]


def test_rotation_keeps_the_newest_two(tmp_path: Path) -> None:
    keys = [good(tmp_path, "app", "create", "7")["appkey"]]
    keys += [good(tmp_path, "app", "rotate-key", "7")["appkey"] for _ in range(2)]
    assert len(set(keys)) == 3
    assert ends(tmp_path) == [end(keys[2]), end(keys[1])]


def test_rotation_is_finished_without_a_third_key(tmp_path: Path) -> None:
    """The newest key, which clients have moved to, stays good; and saying it again ends nothing."""
    good(tmp_path, "app", "create", "7")
    newest = good(tmp_path, "app", "rotate-key", "7")["appkey"]
    finished = good(tmp_path, "app", "rotate-key", "7", "--drop-old")
    assert "appkey" not in finished
    assert ends(tmp_path) == [end(newest)]
    again = good(tmp_path, "app", "rotate-key", "7", "--appkey", newest, "--drop-old")
    assert "appkey" not in again
    assert ends(tmp_path) == [end(newest)]


def test_rotation_to_a_live_key_says_what_to_do(tmp_path: Path) -> None:
    old = good(tmp_path, "app", "create", "7")["appkey"]
    good(tmp_path, "app", "rotate-key", "7", "--appkey", FIXED_KEY)
    for live in (FIXED_KEY.upper(), old):
        text = bad(tmp_path, "app", "rotate-key", "7", "--appkey", live)
        assert "live already" in text
        assert f"app drop-key 7 --ends-with {end(old)}" in text
        assert live.lower() not in text.lower()
    text = bad(tmp_path, "app", "rotate-key", "7", "--appkey", OTHER_KEY, "--drop-old")
    assert f"app drop-key 7 --ends-with {end(old)}" in text
    assert ends(tmp_path) == [end(FIXED_KEY), end(old)]
    good(tmp_path, "app", "rotate-key", "7", "--appkey", FIXED_KEY, "--drop-old")
    assert ends(tmp_path) == [end(FIXED_KEY)]


def test_the_only_key_can_be_replaced_at_once(tmp_path: Path) -> None:
    """For a key that leaked: whoever has it is out."""
    good(tmp_path, "app", "create", "7")
    made = good(tmp_path, "app", "rotate-key", "7", "--appkey", FIXED_KEY, "--drop-old")
    assert made["appkey"] == FIXED_KEY
    assert ends(tmp_path) == [end(FIXED_KEY)]


def test_drop_key_ends_the_one_that_is_meant(tmp_path: Path) -> None:
    good(tmp_path, "app", "create", "7", "--appkey", FIXED_KEY)
    good(tmp_path, "app", "rotate-key", "7", "--appkey", OTHER_KEY)
    shown = good(tmp_path, "app", "drop-key", "7", "--ends-with", end(FIXED_KEY).upper())
    assert [key["ends_with"] for key in shown["appkeys"]] == [end(OTHER_KEY)]
    assert "only live key" in bad(tmp_path, "app", "drop-key", "7", "--ends-with", end(OTHER_KEY))
    assert ends(tmp_path) == [end(OTHER_KEY)]


def test_drop_key_refuses_what_is_not_one_key(tmp_path: Path) -> None:
    good(tmp_path, "app", "create", "7", "--appkey", FIXED_KEY)
    good(tmp_path, "app", "rotate-key", "7", "--appkey", "f" + FIXED_KEY[1:])
    for given, text in (
        (end(FIXED_KEY), "2 live keys end so"),
        ("0000", "no live key"),
        ("", "1 to 32 hexadecimal digits"),
        ("xyz", "1 to 32 hexadecimal digits"),
        ("0" * 33, "1 to 32 hexadecimal digits"),
    ):
        assert text in bad(tmp_path, "app", "drop-key", "7", "--ends-with", given)
    assert len(ends(tmp_path)) == 2
    shown = good(tmp_path, "app", "drop-key", "7", "--ends-with", FIXED_KEY)
    assert len(shown["appkeys"]) == 1
    assert "does not exist" in bad(tmp_path, "app", "drop-key", "8", "--ends-with", "0")


def test_last_use_of_each_key_is_told_after_a_stop(tmp_path: Path) -> None:
    """Of those that live: what ends takes its note with it, and a wrong signature is no use."""
    program = Program(tmp_path)
    old = program.create_app()
    number = str(old.sdkappid)
    new = App(old.sdkappid, program.cli("app", "rotate-key", number)["appkey"])

    def used() -> list[str | None]:
        shown = program.cli("app", "show", number)
        return [key["last_used"] for key in shown["appkeys"]]

    assert used() == [None, None]
    began = int(time.time())
    with program:
        assert program.pull(old).result == 0
        assert program.pull(App(old.sdkappid, OTHER_KEY)).result == 1001
    [nothing, first] = used()
    assert nothing is None
    assert began <= seconds(first) <= time.time()
    assert program.cli("app", "show", number)["appkeys"][1]["last_used_from"] == "127.0.0.1"
    with program:
        assert program.pull(new).result == 0
    [second, kept] = used()
    assert kept == first
    assert seconds(second) >= seconds(first)
    [listed] = program.cli("app", "list")
    assert listed["last_pull"] == second
    assert old.appkey not in str(listed)
    program.cli("app", "drop-key", number, "--ends-with", old.appkey)
    assert used() == [second]
    program.cli("app", "rotate-key", number, "--appkey", old.appkey)
    assert used() == [None, second]
    program.cli("app", "delete", number)
    program.cli("app", "create", number, "--appkey", old.appkey)
    assert used() == [None]


def test_keys_and_tokens_have_their_time(tmp_path: Path) -> None:
    """What has not begun or has ended is refused as what never was, and the lists tell when."""
    program = Program(tmp_path)
    soon = program.create_token("short", app=None)
    app = program.create_app()
    number = str(app.sdkappid)
    later = "2999-01-01T00:00:00+00:00"
    new = program.cli("app", "rotate-key", number, "--not-before", later, "--old-until", later)
    assert [key["not_before"] for key in new["appkeys"]] == [seconds_of(later), None]
    assert [key["not_after"] for key in new["appkeys"]] == [None, seconds_of(later)]
    expiring = program.cli("token", "create", "expiring", "--expires", later)
    assert expiring["expires"] == seconds_of(later)
    with program:
        assert program.pull(App(app.sdkappid, new["appkey"])).result == 1001
        assert program.pull(app).result == 0
        for token in (soon, expiring["token"]):
            assert program.ingest(app, STATUS, statuses(1), token=token).http_status == 200
    shown = {row["name"]: row for row in program.cli("token", "list", "--json")}
    assert shown["feeder"]["last_used"] is None
    assert shown["expiring"]["last_used_from"] == "127.0.0.1"
    assert seconds(shown["expiring"]["last_used"]) <= time.time()
    for option in ("--not-before", "--old-until"):
        told = bad(tmp_path, "app", "rotate-key", number, option, "2h", exit_status=2)
        assert "a time to come is like" in told
    told = bad(tmp_path, "token", "create", "early", "--expires", "2h", exit_status=2)
    assert "a time to come is like" in told
    gone = ("--old-until", "2026-01-31", "--store", program.store)
    told = bad(tmp_path, "app", "rotate-key", number, *gone)
    assert "--drop-old ends the old key at once" in told
    keys = program.cli("app", "show", number, "--json")["appkeys"]
    assert [key["not_after"] for key in keys] == [None, seconds_of(later)]
    both = ("--drop-old", "--old-until", later)
    assert "exclude" in bad(tmp_path, "app", "rotate-key", number, *both, exit_status=2)


def seconds_of(text: str) -> str:
    """A moment as commands print it."""
    return moment(int(seconds(text)) * 1000)


def seconds(text: str | None) -> float:
    assert text is not None
    return datetime.fromisoformat(text).timestamp()


# --- names and lists ------------------------------------------------------------------------------


def test_an_application_has_a_name(tmp_path: Path) -> None:
    assert (
        good(tmp_path, "app", "create", "7", "--name", " Example 示例 ")["name"] == "Example 示例"
    )
    assert good(tmp_path, "app", "set", "7", "--name", "Other")["name"] == "Other"
    assert good(tmp_path, "app", "set", "7", "--pull", "off")["name"] == "Other"
    assert good(tmp_path, "app", "set", "7", "--name", "")["name"] == ""
    assert good(tmp_path, "app", "create", "8")["name"] == ""
    for name in ("x" * 65, "a\nb", "a\x1b[31m", "a\u202eb"):
        assert "printable characters" in bad(tmp_path, "app", "create", "9", "--name", name)
        assert "printable characters" in bad(tmp_path, "app", "set", "7", "--name", name)


def test_list_tells_who_has_stopped_pulling(shared: Program, app: App) -> None:
    began_s = int(time.time())
    shared.feed(app, statuses(3))
    shared.feed(app, [reply(1)])
    assert shared.pull(app, max=1).data
    at = ("--store", shared.store)
    [listed] = good(shared.folder, "app", "list", str(app.sdkappid), *at)
    assert listed["waiting"] == shared.waiting(app) + shared.waiting(app, REPLY) == 3
    assert began_s <= seconds(listed["oldest"]) <= time.time()
    assert began_s <= seconds(listed["last_pull"]) <= time.time()
    shown = good(shared.folder, "app", "show", str(app.sdkappid), *at)
    assert [row["kind"] for row in shown["mailboxes"]] == [STATUS.path, REPLY.path]
    assert shown["mailboxes"][0]["oldest"] is not None
    assert shown["mailboxes"][1]["last_pull"] is None
    shared.drain(app)
    shared.drain(app, REPLY)
    [listed] = good(shared.folder, "app", "list", str(app.sdkappid), *at)
    assert (listed["waiting"], listed["oldest"]) == (0, None)


def test_list_finds_and_sorts(shared: Program) -> None:
    apps = [shared.create_app("--name", f"Sorted {letter}") for letter in "bca"]
    for app, count in zip(apps, (1, 3, 2), strict=True):
        shared.feed(app, statuses(count))

    def listed(*arguments: str) -> list[int]:
        rows = good(shared.folder, "app", "list", *arguments, "--store", shared.store)
        return [[app.sdkappid for app in apps].index(row["sdkappid"]) for row in rows]

    assert listed("sorted") == [0, 1, 2]
    assert listed("SORTED", "--sort", "name") == [2, 0, 1]
    assert listed("sorted", "--sort", "waiting") == [1, 2, 0]
    assert listed("sorted", "--sort", "oldest") == [0, 1, 2]
    assert shared.pull(apps[0]).data
    assert listed("sorted", "--sort", "last-pull")[-1] == 0
    assert listed(str(apps[1].sdkappid)) == [1]
    assert good(shared.folder, "app", "list", "no such", "--store", shared.store) == []


def test_a_long_list_costs_a_few_questions_and_fits_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"{1_400_000_000 + number},Customer {number}" for number in range(200)]
    (tmp_path / "apps.csv").write_text("\n".join(["sdkappid,name", *lines]))
    good(tmp_path, "app", "create", "1")
    made = good(tmp_path, "app", "import", "apps.csv")
    assert len({row["appkey"] for row in made}) == 200
    monkeypatch.setenv("COLUMNS", "80")
    shown = on_a_terminal(tmp_path, "app list --sort name", columns=80).splitlines()
    assert max(map(len, shown)) <= 80
    rows = [line for line in shown if line.strip().startswith("14000")]
    assert len(rows) == 200  # a line each
    assert all("Customer" in row for row in rows)


def test_show_on_a_terminal_leaves_nothing_out(tmp_path: Path) -> None:
    good(tmp_path, "app", "create", "7", "--name", "Example")
    good(tmp_path, "app", "set", "7", "--arrears", "on", "--waiting-days", "30")
    text = on_a_terminal(tmp_path, "app show 7")
    for name in good(tmp_path, "app", "show", "7"):
        if name not in ("appkeys", "mailboxes"):
            assert re.search(rf"^ *{name} ", text, re.MULTILINE), name
    assert re.search(r"arrears +yes", text)
    assert re.search(r"waiting_days +30", text)
    assert "last_used" in text


# --- import ---------------------------------------------------------------------------------------

GOOD_CSV = f"""\ufeffsdkappid,name,appkey,pull,strict,allow,rate,waiting_days,window
1,"Example, Ltd",{FIXED_KEY},off,yes,192.0.2.0/24 2001:db8::1,9,30,60

2,,,,,,,,
"""
GOOD_NDJSON = f"""
{{"sdkappid": 1, "name": "Example, Ltd", "appkey": "{FIXED_KEY}", "pull": false, "strict": true,\
 "allow": ["192.0.2.0/24", "2001:db8::1"], "rate": 9, "waiting_days": 30, "window": 60}}
{{"sdkappid": 2}}
"""


@pytest.mark.parametrize("content", [GOOD_CSV, GOOD_NDJSON], ids=["csv", "ndjson"])
@pytest.mark.parametrize("as_csv", [False, True])
def test_import_makes_all(tmp_path: Path, content: str, as_csv: bool) -> None:
    good(tmp_path, "app", "create", "3")
    (tmp_path / "apps").write_text(content, encoding="utf-8")
    if as_csv:
        done = run(tmp_path, "app", "import", "apps", "--csv")
        assert (done.exit_status, done.stderr) == (0, "")
        made: list[Any] = list(csv.DictReader(io.StringIO(done.stdout)))
    else:
        made = good(tmp_path, "app", "import", "apps")
    assert [int(row["sdkappid"]) for row in made] == [1, 2]
    assert made[0]["appkey"] == FIXED_KEY
    assert re.fullmatch("[0-9a-f]{32}", made[1]["appkey"])
    first = good(tmp_path, "app", "show", "1")
    wanted = {
        "name": "Example, Ltd",
        "enabled": True,
        "pull": False,
        "strict": True,
        "arrears": False,
        "allow": ["192.0.2.0/24", "2001:db8::1/128"],
        "rate": 9,
        "waiting_days": 30,
        "window": 60,
    }
    assert first | wanted == first
    second, alone = (good(tmp_path, "app", "show", number) for number in ("2", "3"))
    changing = ("sdkappid", "created", "appkeys")
    assert [second[name] for name in second if name not in changing] == [
        alone[name] for name in alone if name not in changing
    ]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "line 1: must name the columns"),
        ("name\nx\n", "line 1: must name the columns"),
        ("sdkappid,nmae\n1,x\n", "line 1: must name the columns"),
        ("sdkappid,name,name\n1,x,y\n", "line 1: a column is there twice"),
        ('{"sdkappid":6,"sdkappid":7}\n', "line 1: a member is there twice"),
        ("sdkappid\n", "no application"),
        ("sdkappid,name\n5,x\n6\n", "line 3: has 1 cells where line 1 names 2"),
        ("sdkappid,name\n5,x\nx,y\n", "line 3: sdkappid: Expected int"),
        ("sdkappid\n5\n0\n", "line 3: an sdkappid is a number from 1"),
        ("sdkappid\n5\n\n6\n5\n", "line 5: sdkappid stands in line 2 already"),
        ("sdkappid,pull\n5,maybe\n", "line 2: pull: Expected bool"),
        ("sdkappid,rate\n5,-1\n", "line 2: rate: Expected int"),
        ("sdkappid,rate\n5,1000001\n", "line 2: rate is a number"),
        ("sdkappid,waiting_days\n5,9999\n", "line 2: waiting_days is a number"),
        ("sdkappid,window\n5,9\n", "line 2: window is a number"),
        ("sdkappid,window\n5,601\n", "line 2: window is a number"),
        ("sdkappid,allow\n5,everywhere\n", "line 2: an allowed network"),
        ("sdkappid,appkey\n5,CANARY\n", "line 2: an appkey is 32"),
        ('sdkappid,name\n5,"a\nb"\n6,x\n', "line 2: a name is up to 64 printable"),
        ('sdkappid,name\n5,"a"b\n', "line 2: this is not CSV"),
        ('{"sdkappid": 5}\n{"sdkappid": "6"}\n', "line 2: sdkappid: Expected int"),
        ('{"sdkappid": 5}\n{"sdkappid": \n', "line 2: this is not JSON"),
        ('{"sdkappid": 5}\n\n[]\n', "line 3: "),
        ('{"sdkappid": 5, "nmae": "x"}\n', "unknown field nmae"),
        ('{"name": "x"}\n', "required field sdkappid"),
        ("sdkappid\n5\n7\n", "line 3: application 7 exists"),
        ("sdkappid\n" + "\n".join(map(str, range(100, 1200))), "over 1000 applications"),
        ("sdkappid\n" + " " * limits.IMPORT_BYTES_MAX, "bytes; make it several"),
        ("sdkappid\n" + "x\n" * 30, "and 20 more. Nothing was made"),
    ],
)
def test_import_makes_none_when_a_line_is_wrong(tmp_path: Path, content: str, text: str) -> None:
    good(tmp_path, "app", "create", "7")
    (tmp_path / "apps").write_text(content, encoding="utf-8")
    told = bad(tmp_path, "app", "import", "apps")
    assert text in told
    assert "CANARY" not in told
    assert len(told) < 1500
    assert [row["sdkappid"] for row in good(tmp_path, "app", "list")] == [7]


def test_import_of_what_is_no_text_or_no_file(tmp_path: Path) -> None:
    good(tmp_path, "app", "create", "7")
    (tmp_path / "apps").write_bytes("sdkappid\n1\n".encode("utf-16"))
    assert "not UTF-8" in bad(tmp_path, "app", "import", "apps")
    bad(tmp_path, "app", "import", "missing", exit_status=2)
    bad(tmp_path, "app", "import", ".", exit_status=2)


def test_imported_applications_are_good_at_once(shared: Program) -> None:
    (shared.folder / "many").write_text("sdkappid\n1600000001\n1600000002\n")
    made = shared.cli("app", "import", str(shared.folder / "many"))
    for row in made:
        assert shared.pull(App(row["sdkappid"], row["appkey"])).result == 0
    assert json.dumps(made)
