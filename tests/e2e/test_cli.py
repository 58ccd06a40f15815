"""The command line as a process: what it prints, where, and with which exit status."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pullstatus.cli import main
from tests.harness import COMMAND, PATIENCE_S, App, Program, clean_environment, status, statuses

FIXED_KEY = "5f03a35d00ee52a21327ab048186a2c4"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    exit_status: int
    stdout: str
    stderr: str


def run(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> Done:
    """Run a command there, to its end; within this process, which is much quicker."""
    settings = dict.fromkeys(name for name in os.environ if name.startswith("PULLSTATUS_"))
    with contextlib.chdir(folder):
        done = CliRunner().invoke(main, arguments, env=settings | (environment or {}))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


def start(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> Done:
    """The same in a process of its own."""
    done = subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        env=clean_environment() | (environment or {}),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


MADE = "made a new store: sqlite:///pullstatus.db\n"


def good(folder: Path, *arguments: str) -> Any:  # noqa: ANN401 - any JSON
    """Run a command that must work and print JSON, with nothing else to say than a new store."""
    done = run(folder, *arguments)
    assert (done.exit_status, done.stderr.replace(MADE, "")) == (0, "")
    return json.loads(done.stdout)


def bad(folder: Path, *arguments: str, exit_status: int = 1) -> str:
    """Run a command that must fail, plainly; returns what it says."""
    done = (start if arguments[0] == "serve" else run)(folder, *arguments)
    assert done.exit_status == exit_status, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "Error: " in done.stderr
    return done.stderr


# --- help -----------------------------------------------------------------------------------------


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command, with the words that lead to it."""
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands(main)), ids=" ".join)
def test_help_of_every_command(path: tuple[str, ...]) -> None:
    """A sentence for the command, and one for each of its options."""
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    # click keeps the help option that it makes first, so with other settings it would stay.
    with click.Context(command, info_name="pullstatus", **main.context_settings) as context:
        text = command.get_help(context)
    assert (command.help or "").strip()
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, parameter.name
            assert parameter.opts[0] in text


def test_help_and_version_of_the_program(tmp_path: Path) -> None:
    for flag in ("--help", "-h"):
        done = start(tmp_path, flag)
        assert done.exit_status == 0
        for name in ("serve", "app", "token"):
            assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE)
    assert re.fullmatch(
        r"pullstatus \d+\.\d+\.\d+(\.dev\d+)?\n", start(tmp_path, "--version").stdout
    )
    assert list(tmp_path.iterdir()) == []


def test_unknown_commands_and_options_are_usage_errors(tmp_path: Path) -> None:
    assert "No such command" in bad(tmp_path, "pul", exit_status=2)
    assert "No such option" in bad(tmp_path, "serve", "--prot", "1", exit_status=2)
    assert "Missing argument" in bad(tmp_path, "app", "create", exit_status=2)
    assert "not a valid integer" in bad(tmp_path, "app", "create", "x", exit_status=2)
    assert list(tmp_path.iterdir()) == []


def test_commands_work_and_fail_as_processes_too(tmp_path: Path) -> None:
    made = start(tmp_path, "app", "create", "7")
    assert (made.exit_status, made.stderr) == (0, MADE)
    assert json.loads(made.stdout)["sdkappid"] == 7
    again = start(tmp_path, "app", "create", "7")
    assert again == Done(1, "", "Error: application 7 exists\n")
    assert start(tmp_path, "app", "create").exit_status == 2


# --- applications ---------------------------------------------------------------------------------


def test_app_create_shows_its_key_once(tmp_path: Path) -> None:
    made = good(tmp_path, "app", "create", "1400000001")
    assert re.fullmatch(r"[0-9a-f]{32}", made["appkey"])
    assert (made["sdkappid"], made["enabled"], made["pull"]) == (1400000001, True, True)
    for arguments in (("list",), ("show", "1400000001"), ("show", "1400000001", "--json")):
        assert made["appkey"] not in run(tmp_path, "app", *arguments).stdout
    [listed] = good(tmp_path, "app", "list")
    assert listed["appkeys"][0]["ends_with"] == made["appkey"][-4:]


def test_app_create_with_a_key_of_ones_own(tmp_path: Path) -> None:
    made = good(tmp_path, "app", "create", "1", "--appkey", FIXED_KEY, "--no-pull")
    assert made["appkey"] == FIXED_KEY
    assert made["pull"] is False


@pytest.mark.parametrize("appkey", ["", "abc", FIXED_KEY + " ", FIXED_KEY[:-1] + "g"])
def test_app_create_refuses_what_is_no_key(tmp_path: Path, appkey: str) -> None:
    text = bad(tmp_path, "app", "create", "1", f"--appkey={appkey}")
    assert "32 hexadecimal digits" in text
    assert len(appkey) < 10 or appkey not in text


@pytest.mark.parametrize(
    ("sdkappid", "exit_status", "said"),
    [("0", 1, "1 to 2147483647"), ("2147483648", 2, "0<=x<=2147483647")],
)
def test_app_create_refuses_numbers_out_of_range(
    tmp_path: Path, sdkappid: str, exit_status: int, said: str
) -> None:
    """Beyond what there can be is a mistake of the command line, as of all commands."""
    assert said in bad(tmp_path, "app", "create", sdkappid, exit_status=exit_status)


def test_app_commands_about_one_that_is_or_is_not_there(tmp_path: Path) -> None:
    good(tmp_path, "app", "create", "7")
    assert "application 7 exists" in bad(tmp_path, "app", "create", "7")
    for command in ("show", "enable", "disable", "rotate-key", "delete"):
        assert "application 8 does not exist" in bad(tmp_path, "app", command, "8")
    assert "application 8 does not exist" in bad(tmp_path, "app", "set", "8", "--pull", "on")
    assert "application 8 does not exist" in bad(
        tmp_path, "token", "create", "t", "--sdkappid", "8"
    )


def test_app_set_changes_what_is_named_and_nothing_else(tmp_path: Path) -> None:
    before = good(tmp_path, "app", "create", "7")
    del before["appkey"]
    changed = good(
        *(tmp_path, "app", "set", "7", "--pull", "off", "--strict", "on", "--arrears", "on"),
        *("--allow", "192.0.2.0/24", "--allow", "2001:db8::1", "--rate", "9"),
    )
    assert changed == before | {
        "pull": False,
        "strict": True,
        "arrears": True,
        "allow": ["192.0.2.0/24", "2001:db8::1/128"],
        "rate": 9,
    }
    assert good(tmp_path, "app", "disable", "7") == changed | {"enabled": False}
    assert good(tmp_path, "app", "enable", "7") == changed
    reset = ("--pull", "on", "--strict", "off", "--arrears", "off", "--allow-any", "--rate", "0")
    assert good(tmp_path, "app", "set", "7", *reset) == before


def test_app_set_refuses_nonsense(tmp_path: Path) -> None:
    good(tmp_path, "app", "create", "7")
    assert "name what to change" in bad(tmp_path, "app", "set", "7", exit_status=2)
    assert "CIDR" in bad(tmp_path, "app", "set", "7", "--allow", "192.0.2.1/24")
    assert "CIDR" in bad(tmp_path, "app", "set", "7", "--allow", "everywhere")
    both = ("--allow", "192.0.2.0/24", "--allow-any")
    assert "contradict" in bad(tmp_path, "app", "set", "7", *both, exit_status=2)
    bad(tmp_path, "app", "set", "7", "--pull", "maybe", exit_status=2)
    bad(tmp_path, "app", "set", "7", "--rate", "-1", exit_status=2)


def test_app_show_tells_how_its_mailboxes_stand(shared: Program, app: App) -> None:
    shared.feed(app, statuses(5))
    shared.pull(app, max=2)
    shown = good(shared.folder, "app", "show", str(app.sdkappid), "--store", shared.store)
    [row] = shown["mailboxes"]
    wanted = {"kind": "delivery-statuses", "accepted": 5, "handed_out": 2, "waiting": 3}
    assert row | wanted == row


def test_app_delete_asks_to_be_told_when_records_wait(shared: Program, app: App) -> None:
    number, at = str(app.sdkappid), ("--store", shared.store)
    shared.feed(app, statuses(2))
    assert "2 records wait" in bad(shared.folder, "app", "delete", number, *at)
    assert shared.pull(app, max=1).data == [status(1)]
    deleted = good(shared.folder, "app", "delete", number, "--erase", *at)
    assert deleted["deleted"] == app.sdkappid
    shared.until(lambda: shared.pull(app).result == 1019)


# --- tokens ---------------------------------------------------------------------------------------


def test_token_create_list_and_revoke(tmp_path: Path) -> None:
    good(tmp_path, "app", "create", "7")
    free = good(tmp_path, "token", "create", "gateway-1")
    bound = good(tmp_path, "token", "create", "b.2_x", "--sdkappid", "7")
    for made in (free, bound):
        assert re.fullmatch(r"pst_[0-9a-f]{64}", made["token"])
    assert free["token"] != bound["token"]
    done = run(tmp_path, "token", "list")
    assert free["token"] not in done.stdout
    listed = json.loads(done.stdout)
    assert [(row["name"], row["sdkappid"]) for row in listed] == [("b.2_x", 7), ("gateway-1", None)]
    assert "exists" in bad(tmp_path, "token", "create", "gateway-1")
    good(tmp_path, "token", "revoke", "gateway-1")
    assert [row["name"] for row in good(tmp_path, "token", "list")] == ["b.2_x"]
    assert "no token has this name" in bad(tmp_path, "token", "revoke", "gateway-1")
    assert good(tmp_path, "token", "create", "gateway-1")["token"] != free["token"]


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "é", "x" * 65])
def test_token_name_out_of_bounds(tmp_path: Path, name: str) -> None:
    assert "1 to 64 letters" in bad(tmp_path, "token", "create", "--", name)


# --- the store ------------------------------------------------------------------------------------


def test_store_by_flag_environment_and_default(tmp_path: Path) -> None:
    """The flag wins over the environment; without both it is a file of the folder one is in."""
    from_environment = {"PULLSTATUS_STORE": f"sqlite:///{tmp_path}/env.db"}
    run(tmp_path, "app", "create", "1")
    run(tmp_path, "app", "create", "2", environment=from_environment)
    flag = ("--store", f"sqlite:///{tmp_path}/flag.db")
    run(tmp_path, "app", "create", "3", *flag, environment=from_environment)
    for name, sdkappid in (("pullstatus.db", 1), ("env.db", 2), ("flag.db", 3)):
        listed = good(tmp_path, "app", "list", "--store", f"sqlite:///{name}")
        assert [row["sdkappid"] for row in listed] == [sdkappid]


def test_store_is_private_to_its_owner(tmp_path: Path) -> None:
    good(tmp_path, "app", "create", "1")
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file.name


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mysql://a", "?monitor=HOST,HOST,HOST; there is no other engine"),
        (
            "pullstatus.db",
            "a store URL is sqlite:///FILE or postgresql://HOST/DATABASE or jetstream:",
        ),
        ("jetstream://a/x", "where every node can be asked"),
        ("sqlite://", "followed by the path of a file"),
        ("sqlite:///", "followed by the path of a file"),
        ("sqlite:///missing/file.db", "does not exist; make it"),
        ("sqlite:///.", "is a folder"),
    ],
)
@pytest.mark.parametrize("command", [("app", "create", "7"), ("serve", "--port", "0")])
def test_store_that_is_none(tmp_path: Path, command: tuple[str, ...], url: str, text: str) -> None:
    status = 1 if "file.db" in url or url == "sqlite:///." else 2
    assert text in bad(tmp_path, *command, "--store", url, exit_status=status)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("app", "list"), ("serve", "--port", "0")])
def test_store_that_is_another_file(tmp_path: Path, command: tuple[str, ...]) -> None:
    file = tmp_path / "letter"
    file.write_text("Dear reader, this is no database.\n" * 100)
    bad(tmp_path, *command, "--store", "sqlite:///letter")
    assert file.read_text().startswith("Dear reader")


# --- output ---------------------------------------------------------------------------------------


def test_output_is_json_unless_on_a_terminal(tmp_path: Path) -> None:
    good(tmp_path, "app", "create", "1400000001")
    assert good(tmp_path, "token", "list", "--json") == []
    good(tmp_path, "token", "create", "gateway")
    for command, word in (("app list", "1400000001"), ("token list", "gateway")):
        assert word in on_a_terminal(tmp_path, command)
        with pytest.raises(json.JSONDecodeError):
            json.loads(on_a_terminal(tmp_path, command))
        assert json.loads(on_a_terminal(tmp_path, f"{command} --json"))


def on_a_terminal(folder: Path, command: str, columns: int = 120) -> str:
    """What a command prints when its standard output is a terminal."""
    spawn = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    done = subprocess.run(
        [sys.executable, "-c", spawn, COMMAND, *command.split()],
        cwd=folder,
        env=clean_environment() | {"TERM": "dumb", "COLUMNS": str(columns), "LINES": "25"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return done.stdout


# --- serve ----------------------------------------------------------------------------------------


def test_serve_settings_by_flag_environment_and_file(tmp_path: Path) -> None:
    """The flag wins over the environment, and that over the file."""
    config = tmp_path / "pullstatus.toml"
    config.write_text('port = 1\nhost = "127.0.0.3"\nlog-level = "error"\n')
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = str(taken.getsockname()[1])
        environment = {"PULLSTATUS_HOST": "127.0.0.2", "PULLSTATUS_PORT": port}
        text = bad_serve(tmp_path, "--config", str(config), environment=environment)
        assert f"cannot listen on 127.0.0.2:{port}: Address already in use" in text
    environment = {"PULLSTATUS_PORT": "2"}
    flags = ("--config", str(config))
    program = Program(tmp_path, *flags, environment=environment, logs_start=False)
    with program:  # its own flag is --port 0
        assert program.host == "127.0.0.3"
        app = program.create_app()
        assert program.pull(app).result == 0
        assert "pull refused" not in program.log()


def bad_serve(folder: Path, *flags: str, environment: dict[str, str] | None = None) -> str:
    done = start(folder, "serve", *flags, environment=environment)
    assert done.exit_status in (1, 2)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("port = ", "is no TOML"),
        (
            "prot = 1",
            "sets prot, which is no setting of serve: admin, host, insecure, log-level,",
        ),
        ("[port]\na = 1", "port takes one value"),
        ('port = "many"', "not a valid integer"),
        ("port = 70000", "not in the range"),
        ("retention-days = inf", "retention-days in c.toml: inf is not in the range"),
        ("retention-days = nan", "retention-days in c.toml: nan is no finite number"),
        ('retention-days = "1e12"', "not in the range 1<=x<=36500"),
        ('log-level = "loud"', "is not one of"),
        ("port = 2026-11-30", "c.toml: port takes a whole number"),
        ("port = true", "c.toml: port takes a whole number"),
        ("port = 28431.7", "c.toml: port takes a whole number"),
        (f"port = 0x{'f' * 5000}", "c.toml: port is beyond all whole numbers"),
        ("retention-days = true", "c.toml: retention-days takes a number"),
        ("retention-days = 0xffffffffffffffff", "c.toml: retention-days is beyond all"),
        ("insecure = 3", "c.toml: insecure takes true or false"),
        ("insecure = 1979-05-27T07:32:00Z", "c.toml: insecure takes true or false"),
        ("host = 5", "c.toml: host takes a text in quotes"),
        ("log-level = false", "c.toml: log-level takes a text in quotes"),
        ("tls-key = true", "c.toml: tls-key takes a text in quotes"),
        ("tls-key = 5", "c.toml: tls-key takes a text in quotes"),
        ('tls-key = "a\\u0000b"', "c.toml: tls-key holds a NUL"),
        ('master-key-file = "a\\u0000b"', "c.toml: master-key-file holds a NUL"),
        ('store = "sqlite:///a\\u0000b"', "c.toml: store holds a NUL"),
        ('admin = "127.0.0.1\\n:80"', "admin in c.toml: is HOST:PORT"),
        ('host = ""', "host in c.toml: is an address or a name"),
        ('host = "127.0.0.1\\n"', "host in c.toml: is an address or a name"),
        ("config = 'x'", "sets config"),
    ],
)
def test_serve_config_file_that_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    assert told in bad_serve(tmp_path, environment={"PULLSTATUS_CONFIG": "c.toml"})


def test_serve_config_file_that_is_missing(tmp_path: Path) -> None:
    assert "cannot be read" in bad_serve(tmp_path, "--config", "c.toml")


def test_serve_beyond_this_machine_needs_tls_or_a_word(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "mailbox.example"):
        assert "--insecure" in bad_serve(tmp_path, "--host", host, "--port", "0")
    with Program(tmp_path, "--host", "127.9.9.9") as program:
        assert program.host == "127.9.9.9"


def test_serve_with_tls_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("nothing")
    alone = bad_serve(tmp_path, "--tls-certificate", "a.pem")
    assert "go together" in alone
    missing = bad_serve(tmp_path, "--tls-certificate", "b.pem", "--tls-key", "a.pem")
    assert "does not exist" in missing
    useless = bad_serve(tmp_path, "--tls-certificate", "a.pem", "--tls-key", "a.pem")
    assert "the TLS certificate and key cannot be used" in useless


def test_serve_with_an_address_that_is_not_ours(tmp_path: Path) -> None:
    assert "cannot listen on 192.0.2.1:0" in bad_serve(
        tmp_path, "--host", "192.0.2.1", "--port", "0", "--insecure"
    )
