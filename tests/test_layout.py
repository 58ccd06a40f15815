"""The import picture: who may import whom, checked in every file without running any.

    cli
    emulator, which sees client too           consumer, which sees client and below
    server  sources  dashboard
    mailbox -> apps
    store                                     client, which sees wire and below
    wire  receipts
    records
    json
    errors  limits  durations  turns  steps  clock  files  modes  mounts  child
    shared_memory  addresses  terminal  toml  version

A room imports from lower rows only; an arrow is the one import allowed inside a row. When the
picture should change, change it here and in the code.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "pullstatus"

ROWS = (
    ("cli",),
    ("emulator",),
    ("server", "sources", "dashboard"),
    ("mailbox", "apps"),
    ("store",),
    ("wire", "receipts"),
    ("records",),
    ("json",),
    (
        "errors",
        "limits",
        "durations",
        "turns",
        "steps",
        "clock",
        "files",
        "modes",
        "mounts",
        "child",
        "shared_memory",
        "addresses",
        "terminal",
        "toml",
        "version",
    ),
)
ENGINES_OWN = {"apsw", "sqlite3", "psycopg", "nats"}
SHARED = {"gathering", "verbs"}  # what engines of several kinds are made of
ENGINES = {folder.name for folder in (PACKAGE / "store").iterdir() if folder.is_dir()} - SHARED
BESIDE = {("mailbox", "apps")}

SEES = {
    room: {below for row in ROWS[depth + 1 :] for below in row}
    | {other for one, other in BESIDE if one == room}
    for depth, row in enumerate(ROWS)
    for room in row
}
SEES["client"] = {"wire", "records", "json", "errors", "limits", "terminal", "version"}
SEES["__init__"] = {"records", "errors", "client", "version"}
SEES["consumer"] = {"client", "__init__", "wire", "records"}
SEES["consumer"] |= {"errors", "limits", "mounts", "terminal"}
SEES["__main__"] = {"cli", "errors"}
SEES["cli"] |= {"consumer", "client", "__init__"}
SEES["emulator"] |= {"client", "__init__"}


# No I/O and no clock: what these import is all they can do.
PURE = {
    "server/connection_state.py": {"__future__", "enum", "math", "typing", "pullstatus"},
    "turns.py": {"__future__", "collections", "typing"},
    "steps.py": {"__future__", "collections", "typing"},
    "server/framing.py": {"__future__", "pullstatus"},
}


def room_of(package: Path, file: Path) -> str:
    """The room a file of the package belongs to."""
    first = file.relative_to(package).parts[0]
    return first.removesuffix(".py")


def imported_rooms(package: Path, file: Path) -> Iterator[tuple[int, str]]:
    """Every (line, room) that a file imports, wherever the statement stands."""
    here = [package.name, *file.relative_to(package).parent.parts]
    for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
        if isinstance(node, ast.Import):
            targets = [name.name.split(".") for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            base += node.module.split(".") if node.module else []
            targets = [[*base, name.name] for name in node.names]
        else:
            continue
        for root, *inside in targets:
            if root != package.name:
                continue
            named = inside[0] if inside else "__init__"
            is_module = (package / named).is_dir() or (package / f"{named}.py").is_file()
            # `from pullstatus import Reply` names no room: it goes through the front door.
            through_the_door = isinstance(node, ast.ImportFrom) and len(inside) == 1
            known = named in SEES or is_module or not through_the_door
            yield node.lineno, named if known else "__init__"


def violations(package: Path) -> list[str]:
    """What contradicts the picture, one line each."""
    found = []
    for file in sorted(package.rglob("*.py")):
        room = room_of(package, file)
        where = file.relative_to(package.parents[1])
        if room not in SEES:
            found.append(f"{where}: {room} is no room of the import picture")
            continue
        for line, other in imported_rooms(package, file):
            if other == room or other in SEES[room]:
                continue
            if other not in SEES:
                fault = "which is no room of the import picture"
            else:
                fault = f"which is {'above' if room in SEES[other] else 'beside'} {room}"
            found.append(f"{where}:{line} imports {other}, {fault}")
    return found


def test_layout_is_the_import_picture() -> None:
    assert (PACKAGE / "__init__.py").is_file()
    found = violations(PACKAGE)
    assert not found, "\n" + "\n".join(found)


def test_architecture_names_every_room() -> None:
    """And every room within a room, by its path."""
    text = (PACKAGE.parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rooms = {room_of(PACKAGE, file) for file in PACKAGE.rglob("*.py")} - {"__init__", "__main__"}
    rooms |= {str(file.parent.relative_to(PACKAGE)) for file in PACKAGE.glob("*/*/*.py")}
    assert [room for room in sorted(rooms) if f"`{room}`" not in text] == []


def engine_imports(package: Path) -> list[str]:
    """What ties group commit, or a rule that all engines share, to one of them."""
    found = []
    shared = [
        package / "store" / name
        for name in ("chunk.py", "readers.py", "acts.py", "fingerprints.py")
    ]
    rooms = [file for room in SHARED for file in (package / "store" / room).rglob("*.py")]
    for file in sorted([*filter(Path.exists, shared), *rooms]):
        for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
            if isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{name.name}" for name in node.names)]
            else:
                continue
            found += [
                f"{file.relative_to(package.parents[1])}:{node.lineno} imports {name}"
                for name in names
                if name.split(".")[0] in ENGINES_OWN
                or (name.startswith("pullstatus.store.") and name.split(".")[2] in ENGINES)
            ]
    return found


def test_what_engines_share_knows_none() -> None:
    assert (PACKAGE / "store" / "gathering" / "log.py").is_file()
    assert (PACKAGE / "store" / "chunk.py").is_file()
    found = engine_imports(PACKAGE)
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import apsw",
        "from apsw import Connection",
        "from pullstatus.store.sqlite import schema",
        "from pullstatus.store import sqlite",
        "def f():\n    from pullstatus.store.sqlite.log import Log",
        "import pullstatus.store.sqlite.log",
    ],
)
@pytest.mark.parametrize("file", ["store/gathering/a.py", "store/verbs/a.py", "store/chunk.py"])
def test_layout_catches_an_engine_in_what_all_share(tmp_path: Path, source: str, file: str) -> None:
    [found, *_] = engine_imports(build(tmp_path, file, source))
    assert found.startswith(f"src/pullstatus/{file}:")


@pytest.mark.parametrize("file", PURE)
def test_pure_files_import_no_more_than_they_say(file: str) -> None:
    tree = ast.parse((PACKAGE / file).read_bytes())
    imported = {
        (name or "").split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
        )
    }
    assert imported == PURE[file]
    assert {room for _, room in imported_rooms(PACKAGE, PACKAGE / file)} <= {"limits"}


def build(root: Path, file: str, source: str) -> Path:
    package = root / "src" / "pullstatus"
    for name in ("mailbox.py", "store/__init__.py", "wire/__init__.py", "wire/codes.py", file):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).touch()
    (package / file).write_text(source)
    return package


@pytest.mark.parametrize(
    ("file", "source", "fault"),
    [
        ("store/a.py", "import pullstatus.mailbox", ":1 imports mailbox, which is above store"),
        ("store/a.py", "from pullstatus import mailbox", ":1 imports mailbox, which is above"),
        ("store/a.py", "from ..mailbox import append", ":1 imports mailbox, which is above"),
        ("store/b/a.py", "from ... import mailbox", ":1 imports mailbox, which is above"),
        ("store/a.py", "from .. import Reply", ":1 imports __init__, which is beside store"),
        ("store/a.py", "import os\nimport pullstatus", ":2 imports __init__"),
        ("wire/a.py", "if TYPE_CHECKING:\n    from ..receipts import b", ":2 imports receipts"),
        ("wire/a.py", "def f():\n\n    from ..store import b", ":3 imports store, which is above"),
        ("apps.py", "from .mailbox import append", ":1 imports mailbox, which is above apps"),
        ("consumer/a.py", "from .. import cli", ":1 imports cli, which is above consumer"),
        ("server/a.py", "from ..dashboard import b", ":1 imports dashboard, which is beside"),
        ("server/a.py", "from ..client import b", ":1 imports client, which is beside server"),
        ("server/a.py", "from ..emulator import b", ":1 imports emulator, which is above server"),
        ("client/a.py", "from ..store import b", ":1 imports store, which is beside client"),
        ("wire/a.py", "from ..client import b", ":1 imports client, which is above wire"),
        ("__init__.py", "from .wire import b", ":1 imports wire, which is beside __init__"),
        ("server/a.py", "from ..utils import b", ":1 imports utils, which is no room"),
        ("utils.py", "", "utils.py: utils is no room"),
        ("common/a.py", "", "a.py: common is no room"),
    ],
)
def test_layout_catches(tmp_path: Path, file: str, source: str, fault: str) -> None:
    [found] = violations(build(tmp_path, file, source))
    assert found.startswith(f"src/pullstatus/{file}")
    assert fault in found


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("wire/a.py", "from . import codes\nfrom .codes import b\nfrom ..errors import c"),
        ("wire/__init__.py", "from .codes import b\nfrom pullstatus.wire import codes"),
        ("cli.py", "from pullstatus import Reply, config\nimport pullstatus.server.app"),
        ("mailbox.py", "from .apps import b\nfrom . import store, limits"),
        ("client/a.py", "from ..wire.codes import b\nfrom ..limits import c"),
        ("server/a.py", "import mailbox\nfrom config import b\nfrom starlette import server"),
        ("__main__.py", "from .cli import main"),
    ],
)
def test_layout_lets_pass(tmp_path: Path, file: str, source: str) -> None:
    assert violations(build(tmp_path, file, source)) == []
