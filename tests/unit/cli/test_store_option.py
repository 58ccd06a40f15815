"""Which store a command means, and which commands may make one."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import click
import pytest
import structlog
from click.testing import CliRunner, Result

from pullstatus.apps import Command, GivenFile, masters_beside
from pullstatus.cli import config, main, serve, session
from pullstatus.errors import InvalidSetting
from pullstatus.server import logs
from pullstatus.server.serve import ServeOptions, Server

MAKERS = {("serve",), ("app", "create"), ("token", "create"), ("restore",)}
MORE = {
    ("app", "set"): ["--pull", "on"],
    ("secret", "set"): ["--v1", "on"],
    ("erase",): ["--sdkappid", "1400006666", "--reason", "asked", "--yes"],
    ("find",): ["--sid", "8:7"],
    ("route", "add"): ["--sdkappid", "1400006666", "--to", "1069"],
    ("route", "test"): ["--to", "1069"],
    ("token", "set"): ["--unsigned"],
    ("redeliver",): ["--pull", "1400006666/0/1", "--reason", "lost", "--yes"],
}
"""Options that are there to be chosen from."""
VALUES = {
    "sdkappid": "1400006666",
    "sdkappids": "1400006666",
    "pull_id": "1400006666/0/1",
    "file": "made-up.db",
    "item": "1",
    "items": "1",
    "to": "1400006667",
    "place": "1",
}
"""What its arguments are called, and what is one; any other may be anything."""
APPKEY = "5f03a35d00ee52a21327ab048186a2c4"


def commands(group: click.Group, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """All commands that use a store, by their names."""
    for name in group.list_commands(click.Context(group)):
        command = group.commands[name]
        if isinstance(command, click.Group):
            yield from commands(command, (*prefix, name))
        elif any("--store" in parameter.opts for parameter in command.params):
            yield (*prefix, name)


USING = sorted(commands(main))


def command_of(names: tuple[str, ...]) -> click.Command:
    found: click.Command = main
    for name in names:
        assert isinstance(found, click.Group)
        found = found.commands[name]
    return found


def arguments(names: tuple[str, ...]) -> list[str]:
    """What a command wants at least, in any sense."""
    given = list(names)
    for parameter in command_of(names).params:
        value = VALUES.get(str(parameter.name), "x")
        if isinstance(parameter.type, click.Choice):
            value = str(next(iter(parameter.type.choices)))
        if isinstance(parameter, click.Argument):
            given.append(_file_of(parameter.type) or value)
        elif parameter.required:
            given += [parameter.opts[0], value]
    return given + MORE.get(names, [])


def _file_of(kind: object) -> str:
    """A file that can be read, where one must be."""
    if isinstance(kind, click.File):
        return "-"
    return __file__ if isinstance(kind, click.Path) and kind.exists else ""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands are run; nothing on this machine names another store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "CONFIG_FILE", tmp_path / "etc.toml")
    for name in ("PULLSTATUS_STORE", "PULLSTATUS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments, input='{"sdkappid": 1400006666}\n')
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_the_list_of_commands_is_not_empty() -> None:
    assert set(USING) >= MAKERS
    assert len(USING) > len(MAKERS) + 10


@pytest.mark.parametrize("names", [("app", "list"), ("audit",)], ids=" ".join)
def test_a_store_that_cannot_be_looked_at_is_not_called_missing(
    folder: Path, names: tuple[str, ...]
) -> None:
    (folder / "loop").symlink_to("loop")
    result = run(*arguments(names), "--store", "sqlite:///loop/a.db")
    assert result.exit_code == 1
    assert "loop/a.db cannot be looked at: " in result.stderr


@pytest.mark.parametrize("names", [names for names in USING if names not in MAKERS], ids=" ".join)
@pytest.mark.parametrize("there", ["nothing", "empty file"])
def test_a_store_that_is_not_there_is_not_made(
    folder: Path, names: tuple[str, ...], there: str
) -> None:
    """Else a mistyped name is an empty store, of which all is well."""
    if there == "empty file":
        (folder / "nosuch.db").touch()
    before = sorted(folder.iterdir())
    result = run(*arguments(names), "--store", "sqlite:///nosuch.db")
    assert result.exit_code == 1
    if names[0] == "store":
        assert "needs none of this" in result.stderr, "whatever is there: they are for databases"
    else:
        assert "there is no store at" in result.stderr
        assert "nosuch.db" in result.stderr
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    "command", [("app", "create", "1400006666", "--appkey", APPKEY), ("token", "create", "gateway")]
)
def test_a_command_that_makes_a_store_says_so(folder: Path, command: tuple[str, ...]) -> None:
    made = run(*command, "--store", "sqlite:///new.db")
    assert made.exit_code == 0
    assert made.stderr == "made a new store: sqlite:///new.db\n"
    again = run("token", "create", "second", "--store", "sqlite:///new.db")
    assert again.stderr == ""
    backup = run("backup", "b.db", "--store", "sqlite:///new.db")
    assert backup.exit_code == 0
    keys = [file.name for file in folder.iterdir() if file.name.endswith("-master-key")]
    named = [word for key in keys for word in ("--master-key-file", key)]
    restored = run("restore", "b.db", "--store", "sqlite:///restored.db", *named)
    assert restored.stderr.endswith("made a new store: sqlite:///restored.db\n")
    assert sorted(file.name for file in folder.iterdir()) == [
        "b.db",
        "new.db",
        *keys,
        "restored.db",
    ]
    assert len(keys) == (command[0] == "app")


def test_where_the_store_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the command line, else in the environment, else in a file, else it is the usual one."""

    def meant(*flags: str) -> str:
        said = run("audit", *flags).stderr
        return said.partition("no store at ")[2].partition(";")[0].rpartition("/")[2]

    assert meant() == "pullstatus.db"
    (folder / "etc.toml").write_text('store = "sqlite:///etc.db"\nport = 1\n')
    assert meant() == "etc.db"
    (folder / "other.toml").write_text('store = "sqlite:///other.db"\n')
    monkeypatch.setenv("PULLSTATUS_CONFIG", "other.toml")
    assert meant() == "other.db"
    monkeypatch.setenv("PULLSTATUS_STORE", "sqlite:///environment.db")
    assert meant() == "environment.db"
    assert meant("--store", "sqlite:///flag.db") == "flag.db"
    monkeypatch.delenv("PULLSTATUS_STORE")
    (folder / "other.toml").write_text("port = 1\n")
    assert meant() == "pullstatus.db"


@pytest.fixture
def given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[ServeOptions]:
    """What servers are made with, which are not started."""
    made: list[ServeOptions] = []

    def not_started(options: ServeOptions, **_more: object) -> None:
        made.append(options)
        raise InvalidSetting("not started")

    monkeypatch.setattr(serve, "Server", not_started)
    monkeypatch.setattr(logs, "configure", lambda *_args, **_more: None)
    return made


def test_the_file_that_config_names_is_the_only_one(
    folder: Path, given: list[ServeOptions]
) -> None:
    """What it leaves out is as ever, whatever another file in the usual place says."""
    key = folder / "etc.key"
    (folder / "etc.toml").write_text(f'store = "sqlite:///etc.db"\nmaster-key-file = "{key}"\n')
    run("serve")
    assert (given[-1].store, given[-1].masters) == ("sqlite:///etc.db", GivenFile(key))
    (folder / "other.toml").write_text("port = 1\n")
    run("serve", "--config", "other.toml")
    assert given[-1].store == "sqlite:///pullstatus.db"
    assert given[-1].masters == masters_beside("sqlite:///pullstatus.db")
    for text in ("port = 1\n", "ports = 1\n"):
        (folder / "other.toml").write_text(text)
        looked = json.loads(run("doctor", "--config", "other.toml").stdout)["findings"]
        [store] = [finding["found"] for finding in looked if finding["check"] == "store"]
        assert "pullstatus.db" in store


def test_a_pipe_of_settings_is_read_once(folder: Path, given: list[ServeOptions]) -> None:
    """Whoever writes it does so once."""
    os.mkfifo(folder / "pipe")
    writer = threading.Thread(
        target=(folder / "pipe").write_text, args=('store = "sqlite:///through.db"\n',)
    )
    writer.start()
    run("serve", "--config", "pipe")
    writer.join()
    assert given[-1].store == "sqlite:///through.db"
    assert given[-1].masters == masters_beside("sqlite:///through.db")


def test_a_file_of_settings_is_utf_8_and_says_each_once(
    folder: Path, given: list[ServeOptions]
) -> None:
    file = folder / "etc.toml"
    file.write_text("retention-days = 365\n", encoding="utf-8-sig")
    run("serve")
    assert given[-1].retention_days == 365
    file.write_text("retention-days = 365\n", encoding="utf-16")
    assert "save it as UTF-8" in run("serve").stderr
    file.write_text("retention-days = 365\nretention_days = 7\n")
    assert "sets retention_days and retention-days" in run("serve").stderr
    assert len(given) == 1


@pytest.mark.parametrize("flag", ["--master-key-file", "--master-key-command"])
def test_a_master_key_that_is_named_nearer_is_meant(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: list[ServeOptions], flag: str
) -> None:
    """On the command line, else in the environment, else in the file."""
    file, command = GivenFile(Path("near")), Command("near")
    due, other = (file, "COMMAND") if flag.endswith("file") else (command, "FILE")
    (folder / "etc.toml").write_text(f'master-key-{other.lower()} = "far"\n')
    run("serve", flag, "near")
    assert given[-1].masters == due
    monkeypatch.setenv(f"PULLSTATUS_MASTER_KEY_{other}", "far")
    run("serve", flag, "near")
    assert given[-1].masters == due
    assert "exclude each other" not in run("app", "create", "7", flag, "near").stderr
    both = ("--master-key-file", "near", "--master-key-command", "near")
    assert "exclude each other" in run("serve", *both).stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("store = 5", "store takes a URL in quotes"),
        ('store = "mysql:///x"', "a store URL is sqlite:///"),
        ("store = ", "is no TOML"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_names_no_store_is_named_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, told: str
) -> None:
    """And is not looked at when the store is named elsewhere."""
    monkeypatch.setenv("PULLSTATUS_CONFIG", "wrong.toml")
    if text is not None:
        (folder / "wrong.toml").write_text(text)
    result = run("app", "list")
    assert result.exit_code == 1
    assert "wrong.toml" in result.stderr
    assert told in result.stderr
    assert "no store at" in run("app", "list", "--store", "sqlite:///x.db").stderr


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql:///x", "a store URL is sqlite:///"),
        ("sqlite:///x.db?file-system=ext4", "file-system=any"),
        ("sqlite:///x.db?mode=ro", "file-system=any"),
        ("sqlite:///x.db#a", "it has no # in it"),
        ("sqlite:///x.db?commits=thread#a", "it has no # in it"),
        ("sqlite:///:memory:", "no store is in memory only"),
        ("sqlite:///x.db?", "file-system=any"),
        ("sqlite:///x.db?file-system=any&", "file-system=any"),
        ("sqlite:///x.db?commits=here", "commits=process or commits=thread"),
        ("sqlite:///x.db?commits=thread&commits=process", "commits=process or commits=thread"),
    ],
)
def test_what_names_no_store_is_a_wrong_option(folder: Path, url: str, told: str) -> None:
    result = run("app", "list", "--store", url)
    assert result.exit_code == 2
    assert "Invalid value for '--store'" in result.stderr
    assert told in result.stderr


def test_a_name_that_no_file_can_have_is_said_plainly(folder: Path) -> None:
    for name in ("x" * 300, "x" * 250, "x/" * 3000):
        for command in (["app", "list"], ["app", "create", "7"], ["audit"]):
            result = run(*command, "--store", f"sqlite:///{folder}/{name}")
            assert (result.exit_code, result.stdout) == (1, ""), (name[:9], command)
            assert isinstance(result.exception, SystemExit)
            assert "Error: " in result.stderr


@pytest.mark.parametrize("usual", [True, False], ids=["usual place", "named"])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('port = "many"', "'many' is not a valid integer"),
        ("port = 70000", "70000 is not in the range"),
        ('log-level = "loud"', "'loud' is not one of"),
        ('tls-key = "none.pem"', "does not exist"),
        ('store = "x.db"', "a store URL is sqlite:///"),
        ('retention_days = "long"', "'long' is not a valid float"),
    ],
)
def test_a_wrong_setting_is_said_with_its_file(
    folder: Path, text: str, told: str, *, usual: bool
) -> None:
    """Not with a flag that nobody gave."""
    name = "etc.toml" if usual else "named.toml"
    (folder / name).write_text(text)
    result = run("serve", *([] if usual else ["--config", name]))
    assert result.exit_code == 2
    setting = text.partition(" ")[0].replace("_", "-")
    assert f"Invalid value for {setting} in " in result.stderr
    assert name in result.stderr
    assert told in " ".join(result.stderr.split())
    assert "--" not in result.stderr.partition("Invalid value for")[2].partition(":")[0]


def test_a_new_store_is_told_of_without_its_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql://mailboxes:hunter2@db1/mailboxes?sslpassword=hunter3"
    session.say_created(url)
    told = [capsys.readouterr().err]
    monkeypatch.setattr(serve, "shorten_waits", lambda: None)
    server = SimpleNamespace(
        store=SimpleNamespace(created=True), options=ServeOptions(url), address="http://127.0.0.1:1"
    )
    with structlog.testing.capture_logs() as logged:
        serve._ready(cast("Server", server))
    told.append(str(logged))
    assert all("postgresql://db1/mailboxes" in text and "hunter" not in text for text in told)
