"""The wheel, as people get it: what is in it, what it asks for, and that this is enough.

It is built from the checkout and installed without extras into an environment that has the
packages it asks for, and theirs, in the versions that are here, and nothing else; so it is with the
command line; and with all of its extras into one that has the lowest versions that it says it can
live with.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from importlib import metadata
from pathlib import Path

import pytest

from tests import harness
from tests.harness import ROOT, Program, clean_environment, made, statuses

BARE = {"anyio", "httpx", "msgspec"}
COMMANDS = {"click", "rich"}


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command away from the checkout."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = run(*build, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    [made] = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def described(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def installed(wheel: Path, described: Message, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs' folder of an environment with the wheel, and with what it asks for only."""
    return install(wheel, asked(described, extra=None), tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="module")
def commands(wheel: Path, described: Message, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the extra `cli`."""
    packages = asked(described, extra=None) | asked(described, extra="cli")
    return install(wheel, packages, tmp_path_factory.mktemp("cli"))


def install(wheel: Path, packages: set[str], folder: Path) -> Path:
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(
        run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder).stdout[:-1]
    )
    for distribution in closure(packages):
        copy(distribution, site)
    pip(python, wheel)
    return folder / "bin"


def pip(python: Path, *words: str | Path) -> None:
    """Install into another environment, which needs no pip for that."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    install = ["install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    done = run(*command, "--python", python, *install, *words, cwd=python.parent)
    assert done.returncode == 0, done.stderr


def asked(described: Message, extra: str | None) -> set[str]:
    """The packages that are asked for, with an extra or without."""
    found = set()
    for line in described.get_all("Requires-Dist", []):
        name, marker = re.split(r"[^\w.-]", line, maxsplit=1)[0], line.partition(";")[2]
        wanted = re.search(r"extra == ['\"](.+?)['\"]", marker)
        if (wanted[1] if wanted else None) == extra:
            found.add(name)
    return found


def closure(names: set[str]) -> Iterator[metadata.Distribution]:
    """Those packages, and what they need in turn."""
    seen, due = set(), sorted(names)
    while due:
        name = re.sub(r"[-_.]+", "-", due.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            assert name not in names  # for another Python or system: a marker says so
            continue
        yield distribution
        lines = [line for line in distribution.requires or [] if "extra ==" not in line]
        due += [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines]


def copy(distribution: metadata.Distribution, site: Path) -> None:
    """Put an installed package into another environment."""
    for file in distribution.files or []:
        if ".." in file.parts or file.suffix == ".pyc":
            continue
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(distribution.locate_file(file)), target)


# --- what is in it --------------------------------------------------------------------------------


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        about = {name.partition(".dist-info/")[2] for name in archive.namelist()} - {""}
    here = ROOT / "src"
    sources = {
        str(path.relative_to(here))
        for path in (here / "pullstatus").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert names == sources
    assert "pullstatus/py.typed" in names
    assert {"METADATA", "entry_points.txt", "licenses/LICENSE"} <= about


def test_wheel_is_about_us(described: Message) -> None:
    assert described["Name"] == "pullstatus"
    assert described["Requires-Python"] == ">=3.11"
    assert described["License-Expression"] == "Apache-2.0"


def test_bare_install_asks_for_what_a_client_needs(described: Message) -> None:
    assert asked(described, extra=None) == BARE
    assert asked(described, extra="cli") == COMMANDS
    assert COMMANDS | {"apsw", "starlette", "uvicorn"} <= asked(described, extra="server")
    extras = described.get_all("Provides-Extra", [])
    assert sorted(extras) == ["cli", "jetstream", "postgresql", "server"]


# --- what it does ---------------------------------------------------------------------------------


PULLS = """
import sys
from pullstatus import Client
with Client(*sys.argv[1:]) as client:
    for batch in client.delivery_statuses(follow=False):
        with batch:
            print(len(batch))
assert not {"click", "rich"} & set(sys.modules)
"""


def test_bare_install_is_a_client(installed: Path, tmp_path: Path) -> None:
    with Program(tmp_path) as program:
        app = program.create_app()
        program.feed(app, statuses(3))
        address = f"http://{program.host}:{program.port}"
        arguments = [address, str(app.sdkappid), app.appkey]
        done = run(installed / "python", "-c", PULLS, *arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["pull"]])
@pytest.mark.parametrize("program", [["pullstatus"], ["python", "-m", "pullstatus"]])
def test_bare_install_says_what_the_commands_take(
    installed: Path, tmp_path: Path, program: list[str], arguments: list[str]
) -> None:
    done = run(installed / program[0], *program[1:], *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.endswith("pip install '/path/to/checkout[cli]'")


def test_install_with_commands_pulls_and_pushes(commands: Path, tmp_path: Path) -> None:
    with Program(tmp_path) as program:
        pull_push_and_sign(program, commands, tmp_path)


def pull_push_and_sign(
    program: Program, installed: Path, tmp_path: Path, **environment: str
) -> None:
    command = str(installed / "pullstatus")
    app = program.create_app()
    program.feed(app, statuses(3))
    environment |= {
        "PULLSTATUS_URL": f"http://{program.host}:{program.port}",
        "PULLSTATUS_SDKAPPID": str(app.sdkappid),
        "PULLSTATUS_APPKEY": app.appkey,
        "PULLSTATUS_TOKEN": program.token,
    }
    which = ["--type", "delivery-status"]
    done = run(command, "pull", *which, "--to", "out.ndjson", cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.ndjson").read_bytes().count(b"\n") == 3
    done = run(command, "push", "out.ndjson", *which, cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert program.drain(app) == statuses(3)
    done = run(command, "sign", cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr


def test_install_with_commands_says_what_a_server_takes(commands: Path, tmp_path: Path) -> None:
    done = run(commands / "pullstatus", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "serve" in done.stdout
    done = run(commands / "pullstatus", "serve", cwd=tmp_path)
    assert done.returncode == 1
    assert "pip install '/path/to/checkout[server]'" in done.stderr


def test_installed_package_is_typed(installed: Path, tmp_path: Path) -> None:
    """A type checker elsewhere sees our types: py.typed is found, and nothing is Any."""
    page = tmp_path / "api.py"
    shutil.copy(ROOT / "tests" / "typing" / "api.py", page)
    command = ["--strict", "--python-executable", str(installed / "python")]
    cache = ["--cache-dir", os.devnull]
    done = run(sys.executable, "-m", "mypy", *command, *cache, page, cwd=tmp_path)
    assert done.returncode == 0, done.stdout


# --- on the lowest versions that it asks for ------------------------------------------------------

ALL_HELP = """
import sys
from click import Group
from click.testing import CliRunner
from pullstatus.cli import main

def walk(command, *path):
    done = CliRunner().invoke(main, [*path, "--help"])
    assert done.exit_code == 0, (path, done.output, done.exception)
    below = command.commands if isinstance(command, Group) else {}
    return 1 + sum(walk(below[name], *path, name) for name in below)

print(walk(main))
"""


@pytest.fixture
def lowest(wheel: Path, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """The programs' folder of an installation on requirements/lowest.txt, and what it needs set."""
    site = tmp_path / "site"
    pip(made("lowest") / "bin" / "python", "--target", site, wheel)
    return site / "bin", {"PYTHONPATH": str(site)}


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="packages that old are built for Python 3.11 only"
)
def test_lowest_versions_it_asks_for_are_enough(
    lowest: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, environment = lowest
    command = programs / "pullstatus"
    python = made("lowest") / "bin" / "python"
    done = run(python, "-c", ALL_HELP, cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 25
    done = run(command, "demo", "--once", "--port", "0", cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert "result 0, count 8" in done.stdout

    monkeypatch.setattr(harness, "COMMAND", str(command))
    with Program(tmp_path, environment=environment) as program:
        pull_push_and_sign(program, programs, tmp_path, **environment)
        for wrong in (b"Host : a", b"Host: a\r\nX: a\r\n b", b"X\xff: a"):
            request = b"POST /v5/tlssmssvr/pullstatus HTTP/1.1\r\n" + wrong + b"\r\n\r\n"
            assert program.exchange(request).http_status == 400, wrong
    store = ["--store", f"sqlite:///{tmp_path}/mailboxes.db"]
    for words in (
        ["audit"],
        ["pulls", "list"],
        ["redeliver", "--sid", statuses(1)[0]["sid"], "--reason", "a test"],
        ["backup", "copy.db"],
    ):
        done = run(command, *words, *store, cwd=tmp_path, **environment)
        assert (done.returncode, done.stderr) == (0, "")


def test_lowest_versions_are_the_ones_that_are_asked_for(described: Message) -> None:
    """Pinned anew whenever a lower bound changes."""
    pinned = dict(
        re.findall(r"(?m)^([\w-]+)==([\w.]+)", (ROOT / "requirements/lowest.txt").read_text())
    )
    bounds = [
        (found[1], found[2])
        for line in described.get_all("Requires-Dist", [])
        if (found := re.match(r"([\w-]+).*?>=([\w.]+)", line))
    ]
    assert len(set(bounds)) == 17
    for name, bound in bounds:
        assert re.fullmatch(rf"{re.escape(bound)}(\.0)*", pinned[name]), name
