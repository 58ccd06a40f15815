"""Every command and the server, in every surrounding: no traceback, no hang, a status of the help.

Commands come from the program's own tree, and their arguments from what they declare: a new one is
run here without being named here.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pullstatus.cli import main
from pullstatus.cli.statuses import meanings
from tests.harness import App, Program, clean_environment, replies, statuses
from tests.surroundings import (
    DEADLINE_S,
    PLATFORM,
    SURROUNDINGS,
    Forks,
    Outcome,
    Task,
    accepts,
    leaves,
)
from tools.postgresql import free_port

pytestmark = pytest.mark.anew

COMMAND = str(Path(sys.executable).with_name("pullstatus"))
COMMANDS = [" ".join(words) for words in leaves(main)]


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as forks:
        yield forks


# --- what to run ----------------------------------------------------------------------------------

SDKAPPID, APPKEY = "1400006666", "5f03a35d00ee52a21327ab048186a2c4"
SECRET_ID, SECRET_KEY = f"AKID{32 * '0'}", 32 * "0"
LISTENING = {"serve", "emulate"}
EXTRA: dict[str, list[list[str]]] = {
    "app delete": [["--erase"]],
    "app import": [["--csv"]],
    "app set": [["--arrears", "on"]],
    "backup": [["FOLDER/new.db"], ["--into", "FOLDER", "--keep", "1"]],
    "demo": [["--once", "--port", "0"]],
    "emulate": [["--example"], []],
    "erase": [
        ["--sdkappid", SDKAPPID, "--reason", "a test", "--yes"],
        ["--number", "+8613800000000", "--reason", "a test", "--yes"],
    ],
    "find": [["--number", "+8613800000000"]],
    "parked drop": [["--all", "--reason", "a test"]],
    "parked retry": [["--all"]],
    "parked route": [["--to", SDKAPPID, "--all"]],
    "pull": [["--to", "FOLDER/out.csv"], ["--to", "-"], ["--to", "sqlite:///FOLDER/out.db"]],
    "redeliver": [["--pull", "PULL", "--reason", "a test", "--yes"]],
    "reindex": [[]],
    "restore": [["--master-key-file", "FOLDER/mailboxes.db-master-key"]],
    "route add": [["--sdkappid", SDKAPPID, "--to", "1069"]],
    "route test": [["--to", "1069"]],
    "secret create": [["--app", SDKAPPID]],
    "secret set": [["--v1", "on"]],
    "serve": [[]],
    "sign": [[], ["--curl", "--url", "URL", "--sdkappid", SDKAPPID, "--type", "reply"]],
    "token set": [["--unsigned"]],
    "verify": [["--sig", "0" * 64, "--random", "7", "--time", "1700000000"]],
}
"""What a command is given beside what it requires; each list is a run of its own."""
VALUES = {
    "app create": {"sdkappid": "1400009999"},
    "app import": {"file": "FOLDER/applications.ndjson"},
    "push": {"file": "FOLDER/records.ndjson"},
    "source add": {"file": "FOLDER/source.toml"},
    "source check": {"source": "kannel", "request": "FOLDER/request.http"},
    "source show": {"name": "kannel"},
    "restore": {"file": "FOLDER/backup.db", "store_url": "sqlite:///FOLDER/restored.db"},
    "token create": {"name": "another"},
    "": {
        "file": "FOLDER/records.ndjson",
        "name": "feeder",
        "pull_id": "PULL",
        "secret_id": SECRET_ID,
        "sdkappid": SDKAPPID,
        "store_url": "sqlite:///FOLDER/mailboxes.db",
        "to": "FOLDER/out.ndjson",
        "url": "URL",
    },
}
"""What to give for a parameter, by its name; of another, the first value that its type has."""
SOURCE = """
name = "mine"
items = "body"
[reply]
number = "from"
text = "text"
"""
REQUEST = "GET /in/TOKEN/kannel?text=hello&from=%2B8613800000001&to=1069 HTTP/1.1\r\n\r\n"


def command_lines(words: str) -> Iterator[list[str]]:
    """Command lines of one command that are right, but for the words in capitals."""
    command: click.Command = main
    for word in words.split():
        assert isinstance(command, click.Group)
        command = command.commands[word]
    for extra in EXTRA.get(words, [[]]):
        given = [*words.split()]
        for parameter in command.params:
            flag = parameter.opts[0]
            named = parameter.name in ("store_url", "url")
            if (parameter.required or named) and flag not in extra:
                value = given_for(words, parameter)
                given += [value] if isinstance(parameter, click.Argument) else [flag, value]
        yield given + extra


def given_for(words: str, parameter: click.Parameter) -> str:
    value = (VALUES[""] | VALUES.get(words, {})).get(str(parameter.name))
    if value is not None:
        return value
    if isinstance(parameter.type, click.Choice):
        return str(parameter.type.choices[0])
    if isinstance(parameter.type, click.IntRange) and parameter.type.min is not None:
        return str(parameter.type.min)
    return "1"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store that has something of everything, a backup of it, and a file."""
    folder = tmp_path_factory.mktemp("stored")
    with Program(folder) as program:
        program.cli("app", "create", SDKAPPID, "--appkey", APPKEY)
        secret_key = folder / "secret_key"
        secret_key.write_text(f"{SECRET_KEY}\n")
        pair = ["--secret-id", SECRET_ID, "--secret-key-file", str(secret_key)]
        program.cli("secret", "create", "--app", SDKAPPID, *pair)
        app = App(int(SDKAPPID), APPKEY)
        program.until(lambda: program.post(*app.request(max=0)).result != 1019)
        program.feed(app, statuses(3))
        answer = program.pull(app, max=2)
        (folder / "pull_id").write_text(answer.header("pullstatus-pull-id") or "")
    program.cli("backup", str(folder / "backup.db"))
    lines = [json.dumps(record) for record in statuses(3)]
    (folder / "applications.ndjson").write_text('{"sdkappid":1400009998}\n')
    (folder / "records.ndjson").write_text("\n".join(lines) + "\n")
    (folder / "source.toml").write_text(SOURCE)
    (folder / "request.http").write_text(REQUEST)
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """What customers' commands talk to."""
    with Program(tmp_path_factory.mktemp("service")) as program:
        program.cli("app", "create", SDKAPPID, "--appkey", APPKEY)
        yield program


def wait_until_it_reads(pid: int) -> None:
    """Wait until a process sleeps in a read of its standard input."""
    deadline = time.monotonic() + DEADLINE_S
    while not Path(f"/proc/{pid}/syscall").read_text(encoding="ascii").startswith("0 0x0 "):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def ordinary() -> dict[str, list[tuple[list[str], Outcome]]]:
    """What became of each command's lines in ordinary surroundings, of those that were run."""
    return {}


@pytest.fixture
def run(
    forks: Forks,
    service: Program,
    stored: Path,
    ordinary: dict[str, list[tuple[list[str], Outcome]]],
    tmp_path: Path,
) -> Callable[[str, str], Iterator[tuple[list[str], Outcome]]]:
    """Runs all of a command's lines in some surroundings."""
    words_for = {
        "URL": f"http://127.0.0.1:{service.port}",
        "PULL": (stored / "pull_id").read_text(),
    }

    numbers = itertools.count()

    def run(words: str, surroundings: str) -> Iterator[tuple[list[str], Outcome]]:
        if surroundings != "ordinary":
            return play(words, surroundings)
        if words not in ordinary:
            ordinary[words] = [*play(words, surroundings)]
        return iter(ordinary[words])

    def play(words: str, surroundings: str) -> Iterator[tuple[list[str], Outcome]]:
        for line in command_lines(words):
            folder = tmp_path / f"{words} {next(numbers)}"
            shutil.copytree(stored, folder, ignore=shutil.ignore_patterns("log"))
            port, arguments = None, line
            if listens(words, line):
                port = free_port()
                arguments = [*line, "--port", str(port)]
            for word, value in {"FOLDER": str(folder), **words_for}.items():
                arguments = [given.replace(word, value) for given in arguments]
            environment = {
                "PULLSTATUS_APPKEY": APPKEY,
                "PULLSTATUS_TOKEN": service.token,
                "HOME": str(folder),
                "XDG_STATE_HOME": str(folder / "state"),
            }
            task = Task(arguments, surroundings, str(folder), port, environment)
            yield line, forks.run(task)
            shutil.rmtree(os.fsencode(folder), ignore_errors=True)

    return run


def listens(words: str, line: Sequence[str]) -> bool:
    """Whether a command goes on until it is told to stop."""
    return words in LISTENING and "--example" not in line


# --- the rules ------------------------------------------------------------------------------------


def faults(words: str, outcome: Outcome) -> Iterator[str]:
    """What is wrong with how a command ended."""
    if outcome.status is None:
        yield "it hung"
    elif outcome.status not in meanings(words):
        yield f"status {outcome.status}, which its help does not define"
    for sign in ("Traceback", "Exception ignored", "most recent call"):
        if sign in outcome.said or sign in outcome.raised:
            yield f"{sign}: {(outcome.raised or outcome.said)[-1500:]}"
            break


HARMLESS = {
    name
    for name in SURROUNDINGS
    if name in ("ordinary", "ascii", "latin-1", "undecodable variables")
    or ("closed" in name and "1" not in name)
    or "," in name  # the variables
}
"""In which each command does its work: nothing that it needs is missing."""
SERVED = (
    HARMLESS
    | {name for name in SURROUNDINGS if "closed" in name or "output" in name}
    | {
        "no user",
        "broken pipe",
    }
)
"""In which a server serves, too: to say where it listens is not what it is for."""


WHOLE = {
    "ordinary",
    "closed 0 1 2",
    "a kubernetes service of our name, no home, a socks proxy, no certificates",
    "no user",
    "a folder of somebody else",
    "full output",
    "5 descriptors",
    "no room",
    "ascii",
}
"""One of each kind, in which all commands are run."""
OPENING = ["app list", "audit", "backup", "pull", "push", "serve"]
"""What is enough in most others: what meets the surroundings is the same for all commands."""
SHARES = 4


def commands_in(surroundings: str) -> list[str]:
    """What is run there: besides `OPENING` a share of all, another one in those that come next."""
    if surroundings in WHOLE:
        return COMMANDS
    share = COMMANDS[[*SURROUNDINGS].index(surroundings) % SHARES :: SHARES]
    return sorted({*OPENING, *share})


def test_every_command_is_run_in_all_kinds_of_surroundings() -> None:
    assert set(SURROUNDINGS) > WHOLE
    assert set(OPENING) < set(COMMANDS)
    others = [set(commands_in(name)) for name in SURROUNDINGS if name not in WHOLE]
    assert set.intersection(*others) == set(OPENING)
    assert all(sum(words in some for some in others) >= 3 for words in COMMANDS)


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_every_command_says_a_line_and_ends(
    run: Callable[[str, str], Iterator[tuple[list[str], Outcome]]], surroundings: str
) -> None:
    found = []
    for words in commands_in(surroundings):
        for line, outcome in run(words, surroundings):
            wrong = [*faults(words, outcome)]
            works = surroundings in (SERVED if listens(words, line) else HARMLESS)
            if "home that is nowhere" in surroundings and line[-2:] == ["--to", "-"]:
                works = False  # there is nowhere to note the key of the page
            if works and outcome.status:
                # What is given need not be right; then it is refused everywhere alike.
                elsewhere = {tuple(line): one.status for line, one in run(words, "ordinary")}
                if outcome.status != elsewhere[tuple(line)]:
                    wrong.append(f"it should work here, and does not: {outcome}")
            if works and outcome.served != listens(words, line):
                wrong.append(f"nobody was served: {outcome}")
            found += [f"{' '.join(line)}: {fault}" for fault in wrong]
    assert not found, "\n\n".join(found)


def test_most_of_what_is_run_here_is_right(
    run: Callable[[str, str], Iterator[tuple[list[str], Outcome]]],
) -> None:
    """Otherwise nothing would be tried but how command lines are refused."""
    for_files = [words for words in COMMANDS if not words.startswith("store ")]
    statuses = [outcome.status for words in for_files for _, outcome in run(words, "ordinary")]
    assert statuses.count(0) >= 0.8 * len(statuses), statuses


# --- what the platform sets -----------------------------------------------------------------------


def every_option(command: click.Command = main) -> Iterator[click.Option]:
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from every_option(below)
    yield from (one for one in command.params if isinstance(one, click.Option))


def test_the_platform_sets_none_of_our_variables_but_the_port() -> None:
    """A Service called `pullstatus`, or one whose name begins so, gives its variables such ends."""
    ours = {"PULLSTATUS_APPKEY", "PULLSTATUS_TOKEN"}
    for option in every_option():
        names = option.envvar or ()
        ours |= {names} if isinstance(names, str) else set(names)
    injected = re.compile(
        r"PULLSTATUS_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?|NAME)"
        r"|PULLSTATUS_(\w+_)?ENV_\w+"
    )
    assert all(map(injected.fullmatch, PLATFORM))
    assert {name for name in ours if injected.fullmatch(name)} == {"PULLSTATUS_PORT"}


@pytest.mark.parametrize(
    "value", ["tcp://10.43.214.28:8080", "udp://[fd00::1]:53", "sctp://10.0.0.1:1"]
)
@pytest.mark.parametrize("command", sorted(LISTENING))
def test_the_address_of_a_service_is_no_port(command: str, value: str) -> None:
    """It is not heeded, and that is said; what is no such address is still a mistake."""

    def resolved(port: str) -> object:
        context = click.Context(main.commands[command], info_name=command)
        [option] = [one for one in main.commands[command].params if one.name == "port"]
        with pytest.MonkeyPatch.context() as patched, context:
            patched.setenv("PULLSTATUS_PORT", port)
            value, _ = option.handle_parse_result(context, {}, [])
        return value

    assert resolved(value) == 8080
    assert resolved("8090") == 8090
    with pytest.raises(click.BadParameter):
        resolved("tcp")


# --- numbers --------------------------------------------------------------------------------------


NUMBERS = [str(1 << 31), str(1 << 63), "9" * 30, "-1", f"-{'9' * 30}"]
"""What no store can look for, or nobody has."""


def lines_of_numbers(words: str) -> Iterator[list[str]]:
    """Command lines of one command in which one of its numbers is such."""
    line = next(command_lines(words))
    command: click.Command = main
    for word in words.split():
        assert isinstance(command, click.Group)
        command = command.commands[word]
    for parameter, number in itertools.product(command.params, NUMBERS):
        if not parameter.type.name.startswith("integer"):
            continue
        if isinstance(parameter, click.Option):
            yield [*line, parameter.opts[0], number]
        elif parameter.required:
            place = line.index(given_for(words, parameter))
            yield [*line[:place], number, *line[place + 1 :]]
        else:
            yield [number if word == "--all" else word for word in line]


@pytest.mark.parametrize("words", [one for one in COMMANDS if [*lines_of_numbers(one)]])
def test_no_number_is_too_large_for_a_line(
    words: str, stored: Path, service: Program, tmp_path: Path
) -> None:
    shutil.copytree(stored, tmp_path / "stored", ignore=shutil.ignore_patterns("log"))
    given = {
        "FOLDER": str(tmp_path / "stored"),
        "URL": f"http://127.0.0.1:{service.port}",
        "PULL": (stored / "pull_id").read_text(),
    }
    environment = {
        "PULLSTATUS_APPKEY": APPKEY,
        "PULLSTATUS_TOKEN": service.token,
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    for arguments in lines_of_numbers(words):
        line = arguments
        for word, value in given.items():
            line = [argument.replace(word, value) for argument in line]
        if not listens(words, line):
            done = CliRunner(env=environment).invoke(main, line)
            assert isinstance(done.exception, SystemExit | None), (line, done.exc_info)
            assert done.exit_code in meanings(words), (line, done.output)


# --- help -----------------------------------------------------------------------------------------


def help_of(words: str, columns: int = 80) -> str:
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(main, [*words.split(), "--help"]).stdout


@pytest.mark.parametrize("words", COMMANDS)
def test_help_says_every_status(words: str) -> None:
    said = "".join(help_of(words).split()).partition("Exitstatus:")[2]  # wherever it was wrapped
    due = "; ".join(f"{number} {text}" for number, text in meanings(words).items()) + "."
    assert said == "".join(due.split())


@pytest.mark.parametrize("words", ["", "app", "pulls", "token"])
def test_lists_of_commands_are_not_cut(words: str) -> None:
    said = help_of(words)
    assert "..." not in said.replace("[ARGS]...", "")
    assert max(map(len, said.splitlines())) <= 80


# --- real starts ----------------------------------------------------------------------------------


def started(
    *arguments: str, environment: dict[str, str], closed: str = ""
) -> subprocess.CompletedProcess[str]:
    """A command as a shell starts it, with some descriptors closed."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
        env=environment,
    )


@pytest.mark.parametrize("nowhere", [">&-", ">/dev/null"])
def test_nothing_goes_lost_into_an_output_that_leads_nowhere(
    service: Program, tmp_path: Path, nowhere: str
) -> None:
    """It must not pass for one that has taken the records, nor may a file get its number."""
    app = App(int(SDKAPPID), APPKEY)
    service.feed(app, replies(3))
    environment = {**os.environ, "PULLSTATUS_APPKEY": APPKEY, "XDG_STATE_HOME": str(tmp_path)}
    line = ["pull", "--type", "reply", "--sdkappid", SDKAPPID]
    line += ["--url", f"http://127.0.0.1:{service.port}", "--to", "-"]
    done = started(*line, closed=nowhere, environment=environment)
    assert done.returncode == 1
    assert "would be lost" in done.stderr
    again = started(*line, environment=environment)
    assert again.returncode == 0
    assert len(again.stdout.splitlines()) == 3


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_a_server_without_standard_streams_stops_cleanly(tmp_path: Path, closed: str) -> None:
    port = free_port()
    with subprocess.Popen(
        ["sh", "-c", f'exec "$0" serve --port {port} {closed}', COMMAND],
        stdout=subprocess.DEVNULL,
        cwd=tmp_path,
    ) as server:
        deadline = time.monotonic() + DEADLINE_S
        while not accepts(port):
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        server.terminate()
        assert server.wait(DEADLINE_S) == 0


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_processes_of_a_server_without_standard_streams_have_some(
    tmp_path: Path, closed: str
) -> None:
    """Else the store's file or a socket gets their numbers, and what is printed goes there."""
    port = free_port()
    with subprocess.Popen(
        ["sh", "-c", f'exec "$0" serve --port {port} --workers 2 {closed}', COMMAND],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd=tmp_path,
    ) as server:
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
        deadline = time.monotonic() + DEADLINE_S
        # Two workers, and the store's process.
        while not accepts(port) or len(processes := children.read_text().split()) < 3:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        streams = {
            Path(f"/proc/{process}/fd/{number}").readlink()
            for process in (server.pid, *processes)
            for number in range(3)
        }
        server.terminate()
        assert server.wait(DEADLINE_S) == 0
    assert streams == {Path(os.devnull)}


def test_ctrl_c_is_its_own_status(tmp_path: Path) -> None:
    """130, as shells have it; 1 would say that something failed."""
    with subprocess.Popen(
        [COMMAND, "verify", "--body", "-", "--address", "x"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PULLSTATUS_APPKEY": APPKEY},
        text=True,
    ) as process:
        # It waits for its input once it runs; a signal before that ends the interpreter.
        wait_until_it_reads(process.pid)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert said.strip() == "Interrupted"


@pytest.mark.parametrize("words", [["serve"], ["emulate"], ["demo"]])
@pytest.mark.parametrize("files", [6, 10, 20])
def test_a_server_with_too_few_descriptors_says_so_in_a_line(
    tmp_path: Path, words: list[str], files: int
) -> None:
    """The library of the event loop would abort without a word, or print tracebacks."""
    done = subprocess.run(
        ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", COMMAND, *words, "--port", "0"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert f"{files} open files are too few" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.iterdir())
