"""What lies on the disk: no appkey, whatever was done; and where its master key is taken from."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import stat
import subprocess
import threading
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner

from pullstatus import Client, Kind, limits
from pullstatus.cli import main
from pullstatus.errors import StoreUnavailable
from pullstatus.mailbox.following import Follower
from tests.e2e.test_cli import bad, good, run, start
from tests.harness import (
    COMMAND,
    PATIENCE_S,
    REPLY,
    STATUS,
    App,
    Program,
    clean_environment,
    reply,
    status,
    statuses,
    with_values,
)

FIXED_KEY = "5f03a35d00ee52a21327ab048186a2c4"
FORMAT_2 = Path(__file__).parents[1] / "store" / "sqlite" / "formats" / "2.sql"
MASTER = "mailboxes.db-master-key"
PATIENT = {"apps.registry.LATE_S": PATIENCE_S, "limits.CALLBACK_ANSWER_S": PATIENCE_S}


def holding(folder: Path, *canaries: str) -> dict[str, list[str]]:
    """Which files in a folder hold which of these."""
    return {
        file.name: held
        for file in sorted(folder.iterdir())
        if file.is_file()
        and (held := [one for one in canaries if one.encode() in file.read_bytes()])
    }


def in_base64(word: str) -> list[str]:
    """What of a word shows in base64, wherever it begins: parked items are kept so."""
    return [base64.b64encode(b"?" * pad + word.encode()).decode()[4:-4] for pad in range(3)]


def test_no_appkey_is_in_store_log_or_backup(tmp_path: Path) -> None:
    """Live, replaced, ended or deleted; while it runs, after a kill and after a stop."""
    with Program(tmp_path) as program:
        app, gone = program.create_app(), program.create_app()
        newer = program.cli("app", "rotate-key", str(app.sdkappid))["appkey"]
        assert program.pull(App(app.sdkappid, newer)).result == 0
        program.cli("app", "drop-key", str(app.sdkappid), "--ends-with", app.appkey[-4:])
        program.cli("app", "delete", str(gone.sdkappid))
        keys = (app.appkey, newer, gone.appkey)
        program.cli("backup", str(tmp_path / "copy.db"))
        assert holding(tmp_path, *keys) == {}
        program.kill()
        assert holding(tmp_path, *keys) == {}
        program.start()
        assert program.pull(App(app.sdkappid, newer)).result == 0
        program.restart()
        assert holding(tmp_path, *keys, program.token) == {}
        master = (tmp_path / MASTER).read_text().splitlines()[-1]
        assert stat.S_IMODE((tmp_path / MASTER).stat().st_mode) == 0o600
        assert list(holding(tmp_path, master)) == [MASTER]
        assert master not in program.log()


def test_appkeys_of_an_older_store_are_sealed_by_whoever_can(tmp_path: Path) -> None:
    """By a server before it serves, or by a backup; and no file holds them after that."""
    for number, opener in enumerate(("backup", "serve")):
        folder = tmp_path / str(number)
        folder.mkdir()
        readable(folder)
        assert holding(folder, FIXED_KEY)
        program = Program(folder)
        if opener == "backup":
            program.cli("backup", str(folder / "copy.db"))
            assert sealed(folder / "copy.db")
            assert holding(folder, FIXED_KEY) == {}
        with program:
            assert program.pull(App(7, FIXED_KEY)).result == 0
            assert holding(folder, FIXED_KEY) == {}
        assert sealed(folder / "mailboxes.db")
        assert holding(folder, FIXED_KEY) == {}


def readable(folder: Path) -> None:
    """A store of 0.1.0, with an appkey that anybody can read."""
    connection = apsw.Connection(str(folder / "mailboxes.db"))
    connection.execute(FORMAT_2.read_text(encoding="ascii"))
    connection.execute("DELETE FROM setting")
    key = {"appkey": FIXED_KEY, "created_ms": 1}
    setting = json.dumps({"sdkappid": 7, "appkeys": [key], "created_ms": 1})
    connection.execute("INSERT INTO setting VALUES ('application/7', ?, 1)", (setting.encode(),))
    connection.close()


def create(folder: Path, *store: str) -> str:
    """Make an application with the number 7 in a new store; returns its appkey."""
    done = run(folder, "app", "create", "7", *store)
    assert done.exit_status == 0, done.stderr
    return str(json.loads(done.stdout)["appkey"])


def sealed(file: Path) -> bool:
    with contextlib.closing(apsw.Connection(str(file))) as connection:
        value = connection.execute("SELECT value FROM setting WHERE name = 'application/7'").get
    return FIXED_KEY.encode() not in value and b'"sealed"' in value


def test_a_backup_that_leaves_readable_appkeys_in_the_files_is_no_full_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traces that were there before are told by `doctor`, and are not its matter."""
    store = ("--store", "sqlite:///mailboxes.db")
    readable(tmp_path)

    async def refuses(*_: object, **__: object) -> None:
        raise StoreUnavailable("a server is beside it")

    monkeypatch.setattr("pullstatus.apps.traces.rewrite_store", refuses)
    done = run(tmp_path, "backup", "copy.db", *store)
    assert done.exit_status == 3
    assert "traces of what was removed are left" in done.stderr
    assert json.loads(done.stdout)["backup"] == "copy.db"
    assert sealed(tmp_path / "copy.db")
    assert run(tmp_path, "backup", "again.db", *store).exit_status == 0


def test_two_first_starts_at_once_make_one_master_key(tmp_path: Path) -> None:
    made: list[subprocess.CompletedProcess[str]] = []

    def create(number: int) -> None:
        command = [COMMAND, "app", "create", str(number), "--store", "sqlite:///mailboxes.db"]
        made.append(
            subprocess.run(
                command,
                cwd=tmp_path,
                env=clean_environment(),
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
        )

    threads = [threading.Thread(target=create, args=(number,)) for number in (7, 8, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [done.returncode for done in made] == [0, 0, 0], made
    apps = [
        App(one["sdkappid"], one["appkey"]) for one in (json.loads(each.stdout) for each in made)
    ]
    with Program(tmp_path) as program:
        assert [program.pull(app).result for app in apps] == [0, 0, 0]
    assert len(good(tmp_path, "keys", "list", "--json", "--store", program.store)) == 1


def test_restore_elsewhere_needs_the_master_key_and_says_which(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    appkey = create(here, "--store", "sqlite:///mailboxes.db")
    good(here, "backup", "copy.db", "--store", "sqlite:///mailboxes.db")
    [key] = good(here, "keys", "list", "--json", "--store", "sqlite:///mailboxes.db")
    assert (key["at_hand"], key["sealing"], key["appkeys"]) == (True, True, 1)
    shutil.move(here / "copy.db", there)
    restore = ("restore", "copy.db", "--store", "sqlite:///mailboxes.db")
    text = bad(there, *restore)
    assert key["master_key"] in text
    assert MASTER in text
    assert "--master-key-file" in text
    assert [file.name for file in there.iterdir()] == ["copy.db"]
    shutil.copy(here / MASTER, there / "kept")
    assert run(there, *restore, "--master-key-file", "kept").exit_status == 0
    text = bad(there, "serve", "--port", "0", "--store", "sqlite:///mailboxes.db")
    assert key["master_key"] in text
    (there / "kept").rename(there / MASTER)
    with Program(there) as program:
        assert program.pull(App(7, appkey)).result == 0


def test_a_store_of_which_some_stays_shut_is_no_good_one_unless_said_so(tmp_path: Path) -> None:
    """`keys rewrap`, `restore` and `migrate` tell how much, and with which status."""
    store = ("--store", "sqlite:///mailboxes.db")
    create(tmp_path, *store)
    [lost] = good(tmp_path, "keys", "list", "--json", *store)
    (tmp_path / MASTER).unlink()
    done = run(tmp_path, "keys", "rewrap", "--lost", *store)
    assert done.exit_status == 0
    assert "keys of 1 application cannot be opened" in done.stderr
    assert lost["master_key"] in done.stderr
    good(tmp_path, "app", "create", "8", *store)
    for _ in range(2):
        done = run(tmp_path, "keys", "rewrap", *store)
        assert done.exit_status == 1
        assert "keys of 1 application cannot be opened" in done.stderr
        assert sum(row["appkeys"] for row in json.loads(done.stdout)) == 2
    good(tmp_path, "backup", "copy.db", *store)
    named = ("--master-key-file", MASTER)
    restore = ("restore", "copy.db", "--store", "sqlite:///new.db", *named)
    migrate = ("migrate", "--from", store[1], "--to", "sqlite:///moved.db", *named)
    for command in (restore, migrate):
        text = bad(tmp_path, *command)
        assert "keys of 1 application cannot be opened" in text
        assert "--lost" in text
    assert not list(tmp_path.glob("new.db*"))
    for command in (restore, migrate):
        done = run(tmp_path, *command, "--lost")
        assert done.exit_status == 0, done.stderr
        assert "keys of 1 application cannot be opened" in done.stderr


def test_a_backup_whose_master_key_is_lost_is_restored_if_that_is_said(tmp_path: Path) -> None:
    store = ("--store", "sqlite:///mailboxes.db")
    create(tmp_path, *store)
    good(tmp_path, "backup", "copy.db", *store)
    there = ("--store", "sqlite:///new.db")
    text = bad(tmp_path, "restore", "copy.db", *there)
    assert "not in" in text
    assert "--lost" in text
    assert run(tmp_path, "restore", "copy.db", "--lost", *there).exit_status == 0
    for command in (("app", "create", "8"), ("serve", "--port", "0")):
        text = bad(tmp_path, *command, *there)
        assert "not in" in text
        assert "pullstatus keys rewrap --lost" in text
    assert run(tmp_path, "keys", "rewrap", "--lost", *there).exit_status == 0
    good(tmp_path, "app", "create", "8", *there)
    good(tmp_path, "app", "rotate-key", "7", "--drop-old", *there)
    assert run(tmp_path, "keys", "rewrap", *there).exit_status == 0


def test_commands_that_open_no_appkey_need_no_master_key(tmp_path: Path) -> None:
    """As on a copy of a store: they tell, audit, and end keys."""
    store = ("--store", "sqlite:///mailboxes.db")
    create(tmp_path, *store)
    newest = good(tmp_path, "app", "rotate-key", "7", *store)["appkeys"][0]["ends_with"]
    (tmp_path / MASTER).unlink()
    [listed] = good(tmp_path, "app", "list", "--json", *store)
    assert listed["appkeys"][0]["ends_with"] == newest
    good(tmp_path, "app", "set", "7", "--strict", "on", *store)
    good(tmp_path, "audit", *store)
    good(tmp_path, "backup", "copy.db", *store)
    good(tmp_path, "app", "drop-key", "7", "--ends-with", newest, *store)
    good(tmp_path, "app", "delete", "7", *store)
    assert not (tmp_path / MASTER).exists()


@pytest.mark.parametrize("how", ["file", "command", "credential", "environment", "settings"])
def test_master_key_comes_from_elsewhere(tmp_path: Path, how: str) -> None:
    store = ("--store", "sqlite:///mailboxes.db")
    elsewhere = tmp_path / "pullstatus-master-key"
    elsewhere.write_text("ab" * 32)
    elsewhere.chmod(0o400)
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    if how == "file":
        flags = ("--master-key-file", str(elsewhere))
    elif how == "command":
        flags = ("--master-key-command", f"cat {elsewhere}")
    elif how == "credential":
        environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    elif how == "environment":
        environment = {"PULLSTATUS_MASTER_KEY_FILE": str(elsewhere)}
    else:
        (tmp_path / "settings.toml").write_text(f'master-key-command = "cat {elsewhere}"')
        environment = {"PULLSTATUS_CONFIG": str(tmp_path / "settings.toml")}
    done = run(tmp_path, "app", "create", "7", *store, *flags, environment=environment)
    assert done.exit_status == 0, done.stderr
    assert not (tmp_path / MASTER).exists()
    appkey = json.loads(done.stdout)["appkey"]
    program = Program(tmp_path, *flags, environment=environment)
    program.environment |= environment
    with program:
        assert program.pull(App(7, appkey)).result == 0
    assert "ab" * 32 not in program.log()
    assert (str(elsewhere) in program.log()) == (how in ("file", "credential", "environment"))
    assert "not in" in bad(tmp_path, "app", "create", "8", *store)


def test_two_sources_are_one_too_many(tmp_path: Path) -> None:
    two = ("--master-key-file", "a", "--master-key-command", "b")
    assert "exclude each other" in bad(tmp_path, "app", "create", "7", *two, exit_status=2)


def test_master_key_is_changed_under_a_running_server(tmp_path: Path) -> None:
    with Program(tmp_path) as program:
        app = program.create_app()
        program.feed(app, statuses(2))
        before = (tmp_path / MASTER).read_text().splitlines()[-1]
        program.cli("keys", "rewrap")
        assert program.pull(app, max=1).result == 0
        later = program.create_app()
        [new] = program.cli("keys", "rewrap", "--drop-old")
        assert (new["at_hand"], new["sealing"], new["appkeys"]) == (True, True, 2)
        assert before not in (tmp_path / MASTER).read_text()
        assert len(program.pull(app).data) == 1
        program.restart()
        assert program.pull(app).result == 0
        assert program.pull(later).result == 0
        assert {row["action"] for row in program.cli("acts", "list", "--json")} >= {"keys rewrap"}


def test_master_keys_that_cannot_be_read_once_they_are_changed_are_no_failure(
    tmp_path: Path,
) -> None:
    keys, vault, asked = (tmp_path / name for name in ("keys", "vault", "asked"))
    vault.write_text(
        f"#!/bin/sh\necho >> {asked}\n[ $(wc -l < {asked}) -gt 3 ] && exit 1\ncat {keys}\n"
    )
    vault.chmod(0o700)
    flags = ("--store", "sqlite:///mailboxes.db", "--master-key-command", str(vault))
    keys.write_text("ab" * 32)
    create(tmp_path, *flags)
    keys.write_text("\n".join(("cd" * 32, "ab" * 32)))
    done = run(tmp_path, "keys", "rewrap", *flags)
    assert (done.exit_status, done.stdout) == (0, "")
    assert "done; how the master keys stand cannot be read now" in done.stderr
    asked.unlink()
    [new, old] = good(tmp_path, "keys", "list", "--json", *flags)
    assert (new["sealing"], new["appkeys"], old["appkeys"]) == (True, 1, 0)


@pytest.mark.parametrize("first", ["app", "secret", "token"])
def test_the_first_call_of_what_was_just_made_waits_for_a_vault_that_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Over both faces, and at a door whose requests are signed."""
    vault, mine, key = (tmp_path / name for name in ("vault", "mine", "key"))
    mine.touch(0o600)
    mine.write_text("ab" * 32)
    vault.write_text(f"#!/bin/sh\nsleep 1\ncat {mine}\n")
    vault.chmod(0o700)
    key.write_text("a-key")
    monkeypatch.setenv("PULLSTATUS_MASTER_KEY_FILE", str(mine))  # of the commands
    flags, late = ("--master-key-command", str(vault)), with_values(PATIENT)
    with Program(tmp_path, *flags, command=late) as program:
        app = program.create_app()
        if first == "app":
            assert program.pull(app).result == 0
        elif first == "secret":
            made = program.cli("secret", "create", "--app", str(app.sdkappid))
            pair = {name: made[name] for name in ("secret_id", "secret_key")}
            url = f"http://{program.host}:{program.port}"
            with Client(url, app.sdkappid, **pair, attempts_max=1, timeout_s=PATIENCE_S) as client:
                assert not client.pull(Kind.REPLY)
        else:
            signed = ("--signature-key-file", str(key))
            made = program.cli("token", "create", "signed", *signed)
            answer = program.post(f"/in/{made['token']}/twilio", {})
            assert answer.http_status == 401  # and not 503
    assert "cannot be opened" not in program.log()


def test_a_server_goes_on_and_follows_while_its_vault_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is taken away is; only what is under a new master key is shut until it is back."""
    old, new = ("ab" * 32, "cd" * 32)
    keys, mine, vault, away, asked = (tmp_path / name for name in "kmvan")
    vault.write_text(f"#!/bin/sh\necho >> {asked}\n[ -e {away} ] && exit 1\ncat {keys}\n")
    vault.chmod(0o700)
    keys.write_text(old)
    mine.touch(0o600)
    mine.write_text(old)
    monkeypatch.setenv("PULLSTATUS_MASTER_KEY_FILE", str(mine))
    with Program(tmp_path, "--master-key-command", str(vault)) as program:
        app = program.create_app()
        token = program.create_token("gateway", app=app)
        posted = f"/callbacks/{token}"
        assert program.post(posted, statuses(1)).http_status == 200
        away.touch()
        asked.unlink()
        mine.write_text(f"{new}\n{old}")
        program.cli("keys", "rewrap")
        shut = program.create_app()
        program.cli("token", "create", "signed", "--signature-key-file", str(keys))
        program.cli("token", "revoke", "gateway")
        program.until(lambda: program.post(posted, statuses(1, 2)).http_status == 401)
        assert program.post(posted, statuses(1, 3)).http_status == 401
        assert len(program.pull(app).data) <= 2
        assert program.pull(shut).result == 1007
        told = ("signature key not opened", "appkey not opened", "ended with status 1")
        program.until(lambda: all(each in program.log() for each in told))
        keys.write_text(f"{new}\n{old}")
        away.unlink()
        program.until(lambda: program.pull(shut).result == 0)
        assert len(asked.read_text().splitlines()) < 20
    assert "chore" not in program.log()


def test_master_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    store = ("--store", "sqlite:///mailboxes.db")
    create(tmp_path, *store)
    (tmp_path / MASTER).chmod(0o644)
    for command in (("app", "create", "8"), ("serve", "--port", "0"), ("keys", "list")):
        done = start(tmp_path, *command, *store)
        assert done.exit_status == 1
        assert "chmod 600" in done.stderr
        assert "Traceback" not in done.stderr


# --- erasure --------------------------------------------------------------------------------------


def test_erased_records_are_in_no_file_and_all_counts_add_up(tmp_path: Path) -> None:
    """Of what waited, was handed out, is in a reader's hand or parked; while a server goes on."""
    number, text = "13899991234", "the text of somebody"
    with Program(tmp_path) as program:
        app, other = program.create_app(), program.create_app()
        token = program.create_token("callbacks", app=app)
        mine = [status(each, mobile=number) for each in range(1, 8)]
        program.feed(app, mine)
        program.feed(app, [reply(1, mobile=number, text=text)])
        program.feed(other, statuses(3))
        assert len(program.pull(app, max=2).data) == 2
        target, body = app.request(STATUS, 2)
        held = program.post(target, body, {"Pullstatus-Reader": "billing"})
        assert len(held.data) == 2
        parked = json.dumps([{"mobile": number, "report_status": 7}]).encode()
        assert program.post(f"/callbacks/{token}", parked).http_status == 200
        assert set(holding(tmp_path, number, text))
        erased = program.cli(
            "erase", "--sdkappid", str(app.sdkappid), "--reason", "he asked", "--yes"
        )
        assert erased == {"erased": app.sdkappid, "waiting": 3 + 1 + 1, "removed": 7 + 1 + 1}
        assert holding(tmp_path, number, text) == {}
        assert program.drain(app) == []
        program.feed(app, statuses(2, 100))
        assert program.drain(app) == statuses(2, 100)
        assert program.drain(other) == statuses(3)
        again = program.cli("erase", "--sdkappid", str(app.sdkappid), "--reason", "twice", "--yes")
        assert again["waiting"] == 0
        program.cli("backup", str(tmp_path / "copy.db"))
        assert holding(tmp_path, number, text) == {}
    assert holding(tmp_path, number, text) == {}
    audited = program.cli("audit", "--json")
    assert audited["sound"]
    [rows] = [
        [row for row in audited["mailboxes"] if row["mailbox"].startswith(f"{app.sdkappid}/")]
    ]
    assert sum(row["erased"] for row in rows) == 5
    assert sum(row["handed_out"] for row in rows) == 4 + 2
    acts = [row for row in program.cli("acts", "list", "--json") if row["action"] == "erase"]
    assert [row["detail"] for row in acts] == [{"sdkappid": app.sdkappid}] * 2
    assert acts[1]["reason"] == "he asked"


def test_erased_number_is_in_no_file_and_its_neighbours_are_where_they_were(
    tmp_path: Path,
) -> None:
    """Of two applications; what waited, was handed out, is in hand, keyed or parked."""
    number, other, text = "13899991234", "13755501235", "the text of somebody"
    hers = {"mobile": number}
    with Program(tmp_path) as program:
        app, second = program.create_app(), program.create_app()
        token = program.create_token("callbacks", app=app)
        mixed = [status(each, mobile=number if each % 3 == 0 else other) for each in range(1, 31)]
        program.feed(app, mixed)
        program.feed(app, [reply(1, **hers, text=text), reply(2)])
        program.feed(second, [status(1, mobile=f"+86{number}"), status(2, mobile=f"86{number}")])
        program.feed(second, [status(3, nationcode="852", **hers)])
        keyed = program.pull(app, max=4, key="again").data
        target, body = app.request(STATUS, 4)
        reader = {"Pullstatus-Reader": "billing"}
        in_hand = program.post(target, body, reader).data
        items = [{"mobile": number, "report_status": 7}, {"mobile": other, "report_status": 7}]
        assert program.post(f"/callbacks/{token}", items).http_status == 200
        held = holding(tmp_path, text, number, *in_base64(number)).values()
        assert len({word for words in held for word in words}) > 2
        counted = program.cli("erase", "--number", f"+86{number}", "--dry-run")
        assert counted == {"waiting": 12 - 2 + 1, "handed_out": 2, "parked": 1}
        words = ["erase", "--number", number, "--nationcode", "86", "--reason", "she asked"]
        assert program.cli(*words, "--yes") == counted
        nothing = {"waiting": 0, "handed_out": 0, "parked": 0}
        assert program.cli(*words, "--yes") == nothing
        abroad = f'"nationcode":"852","mobile":"{number}"'
        assert holding(tmp_path, text, *in_base64(number)) == {}
        for name in holding(tmp_path, number):
            content = (tmp_path / name).read_bytes()
            assert content.count(number.encode()) == content.count(abroad.encode()), name
        rest = [each for each in mixed if each["mobile"] == other]
        assert program.pull(app, max=4, key="again").data == rest[:3]
        assert [each for each in keyed if each["mobile"] == other] == rest[:3]
        target, body = app.request(STATUS, 4)
        again = program.post(target, body, reader)
        assert again.data == [each for each in in_hand if each["mobile"] == other]
        assert program.pull(app, max=10).data == rest[6:16]
        assert program.drain(app) == rest[16:]
        assert program.drain(app, REPLY) == [reply(2)]
        assert [each["nationcode"] for each in program.drain(second)] == ["852"]
        assert len(program.cli("parked", "list", "--sdkappid", str(app.sdkappid), "--json")) == 1
        assert number not in program.log()
    audited = program.cli("audit", "--json")
    assert audited["sound"]
    rows = [row for row in program.cli("acts", "list", "--json") if row["action"] == "erase"]
    assert [row["detail"] for row in rows] == [{"by": "number"}] * 2


@pytest.mark.parametrize(
    "words",
    [
        ("--number", "13800000000"),
        ("--number", "+8613800000000", "--nationcode", "86"),
        ("--number", "+86 138"),
        ("--number", "+1234"),
        ("--number", "+8613800000000", "--sdkappid", "7"),
        ("--sdkappid", "7", "--dry-run"),
        (),
    ],
)
def test_what_is_no_number_is_refused_and_not_repeated(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    program = Program(tmp_path)
    given = ("erase", *words, "--reason", "she asked", "--yes", "--store", program.store)
    text = bad(tmp_path, *given, exit_status=2)
    assert "138" not in text.replace("+8613800000000, or", "")
    assert "Traceback" not in text


def test_number_may_come_by_standard_input(tmp_path: Path) -> None:
    with Program(tmp_path) as program:
        app = program.create_app()
        program.feed(app, statuses(3))
        words = ["erase", "--number", "-", "--reason", "she asked", "--store", program.store]
        number = "+86{mobile}".format(**statuses(1)[0])
        done = CliRunner().invoke(main, words, input=f"{number}\n")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["waiting"] >= 1


@pytest.mark.parametrize("more", ["+8613800000001", "\n\n +8613800000001\n"])
def test_of_more_than_one_number_by_standard_input_none_is_erased(
    tmp_path: Path, more: str
) -> None:
    with Program(tmp_path) as program:
        app = program.create_app()
        program.feed(app, statuses(3))
        words = ["erase", "--number", "-", "--reason", "she asked", "--store", program.store]
        number = "+86{mobile}".format(**statuses(1)[0])
        done = CliRunner().invoke(main, words, input=f"{number}\n{more}")
        assert done.exit_code == 2
        assert "one at a time" in done.stderr
        assert len(program.drain(app)) == 3


def test_erasure_of_an_application_that_is_gone(tmp_path: Path) -> None:
    """What it was handed stays in the store after `app delete`: this removes it."""
    number = "13899991234"
    program = Program(tmp_path)
    with program:
        app = program.create_app()
        program.feed(app, [status(1, mobile=number)])
        assert len(program.pull(app).data) == 1
    program.cli("app", "delete", str(app.sdkappid))
    assert holding(tmp_path, number)
    why = ("--reason", "he asked", "--yes")
    assert program.cli("erase", "--sdkappid", str(app.sdkappid), *why)["removed"] == 1
    assert holding(tmp_path, number) == {}
    text = bad(tmp_path, "erase", "--sdkappid", "4711", *why, "--store", program.store)
    assert "nothing was ever accepted" in text


def test_a_store_that_cannot_be_rewritten_now_is_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command says so, and the next start does it before it serves."""
    number = "13899991234"
    with Program(tmp_path) as program:
        app = program.create_app()
        program.feed(app, [status(each, mobile=number) for each in range(1, 200)])
        monkeypatch.setattr(limits, "REWRITE_BESIDE_BYTES_MAX", 1)
        words = [
            "erase",
            "--sdkappid",
            str(app.sdkappid),
            "--reason",
            "a",
            "--store",
            program.store,
        ]
        done = run(tmp_path, *words, "--yes")
        assert done.exit_status == 3  # the records are gone, and what the command promises is not
        assert "pullstatus rewrite" in done.stderr
        assert json.loads(done.stdout) == {
            "erased": app.sdkappid,
            "waiting": 199,
            "removed": 199,
            "traces_left": True,
        }
        program.restart()
        assert holding(tmp_path, number) == {}
        assert "store written anew" in program.log()


def test_what_is_stored_still_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where what is derived of it is made anew all the while; called again it is finished."""

    async def nothing(*_: object) -> None:
        pass

    number = "13899991234"
    with Program(tmp_path) as program:
        app = program.create_app()
        program.feed(app, [status(1, mobile=number)])
    erase = ("erase", "--sdkappid", str(app.sdkappid), "--reason", "he asked", "--yes")
    with monkeypatch.context() as patch:
        patch.setattr(Follower, "follow", nothing)
        text = bad(tmp_path, *erase, "--store", program.store, exit_status=4)
    assert f"of application {app.sdkappid} entries" in text
    assert "are stored still: 1;" in text
    assert "erase again once that has ended" in text
    assert holding(tmp_path, number)
    assert program.cli(*erase) == {"erased": app.sdkappid, "waiting": 0, "removed": 1}
    assert holding(tmp_path, number) == {}


@pytest.mark.parametrize(
    "words",
    [
        ["erase", "--sdkappid", "7", "--reason", "a", "--yes"],
        ["erase", "--number", "+8613899991234", "--reason", "a", "--yes"],
        ["keys", "rewrap"],
        ["keys", "rewrap", "--drop-old"],
    ],
)
def test_traces_that_are_left_are_no_full_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """The status says so, the output of an erasure, and `doctor`, until they are gone."""
    with Program(tmp_path) as program:
        program.cli("app", "create", "7")
        store = ["--store", program.store]
        app = App(7, str(program.cli("app", "rotate-key", "7")["appkey"]))
        program.feed(app, [status(1, mobile="13899991234")])
        with monkeypatch.context() as patch:
            patch.setattr(limits, "REWRITE_BESIDE_BYTES_MAX", 1)
            done = run(tmp_path, *words, *store)
        assert done.exit_status == 3, done
        assert "traces of what was removed are left" in done.stderr
        told = json.loads(done.stdout)
        assert isinstance(told, list) or told["traces_left"] is True
        assert traces_told(tmp_path, program) == ["warning"]
        done = run(tmp_path, *words, *store)
        assert done.exit_status == 0, done
        assert "traces_left" not in done.stdout
        assert traces_told(tmp_path, program) == []


def traces_told(folder: Path, program: Program) -> list[str]:
    """Of what level `doctor` finds traces."""
    found = json.loads(run(folder, "doctor", "--store", program.store, "--json").stdout)["findings"]
    return [each["level"] for each in found if each["check"] == "traces"]
