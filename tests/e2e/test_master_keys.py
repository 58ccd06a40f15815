"""Who needs a master key, and who works where none is at hand or none is even named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pullstatus.cli import main
from tests.e2e.conftest import master_key
from tools.postgresql import PostgreSQL

SOURCES = ["PULLSTATUS_MASTER_KEY_FILE", "PULLSTATUS_MASTER_KEY_COMMAND"]


def run(*words: str) -> Result:
    result = CliRunner().invoke(main, words, input='{"sdkappid": 1400006667}\n')
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def made(*words: str) -> dict[str, str]:
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    found: dict[str, str] = json.loads(result.stdout)
    return found


def furnish() -> str:
    """An application with two appkeys, a token whose gateway signs; how the first key ends."""
    first = made("app", "create", "1400006666")["appkey"]
    made("app", "rotate-key", "1400006666")
    made("token", "create", "gateway", "--signature-key-file", "signature-key")
    return first[-4:]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands are run."""
    monkeypatch.chdir(tmp_path)
    for name in SOURCES:
        monkeypatch.delenv(name, raising=False)
    Path("signature-key").write_text("12345678901234567890123456789012")
    return tmp_path


@pytest.fixture
def lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A store in a file, without the master key beside it."""
    monkeypatch.setenv("PULLSTATUS_STORE", "sqlite:///store.db?commits=thread")
    end = furnish()
    Path("store.db-master-key").unlink()
    return end, "is not in"


@pytest.fixture
def failing(lost: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The same, with a source that cannot be asked."""
    monkeypatch.setenv("PULLSTATUS_MASTER_KEY_COMMAND", "false")
    return lost[0], "the command for the master key ended with status 1"


@pytest.fixture
def unnamed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, postgresql: PostgreSQL
) -> Iterator[tuple[str, str]]:
    """A store in a database, and nobody says where its master key is."""
    with postgresql.database() as url:
        monkeypatch.setenv("PULLSTATUS_STORE", url)
        with master_key(folder):
            assert run("store", "init").exit_code == 0
            end = furnish()
        yield end, "say where its master key is with --master-key-file"


@pytest.fixture(params=["lost", "failing", "unnamed"])
def situation(request: pytest.FixtureRequest) -> tuple[str, str]:
    """How the key ends that is dropped, and what one that needs the master key is told."""
    found: tuple[str, str] = request.getfixturevalue(request.param)
    return found


def test_what_seals_and_opens_nothing_works_without_a_master_key(
    situation: tuple[str, str],
) -> None:
    end, told = situation
    for words in (
        ["app", "drop-key", "1400006666", "--ends-with", end],
        ["app", "set", "1400006666", "--rate", "5"],
        ["token", "create", "another"],
        ["token", "set", "gateway", "--unsigned"],
        ["token", "revoke", "another"],
        ["audit"],
    ):
        result = run(*words)
        assert result.exit_code == 0, (words, result.stderr)
    assert told not in run("backup", "backup.db").stderr, "which a database has its own ways for"


def test_what_makes_a_key_says_where_it_looked(situation: tuple[str, str]) -> None:
    _, told = situation
    signed = ["--signature-key-file", "signature-key"]
    for words in (
        ["app", "create", "7"],
        ["app", "import", "-"],
        ["app", "rotate-key", "1400006666", "--drop-old"],
        ["secret", "create", "--app", "1400006666"],
        ["token", "create", "another", *signed],
        ["token", "set", "gateway", *signed],
        ["keys", "rewrap"],
    ):
        result = run(*words)
        assert (result.exit_code, result.stdout) == (1, ""), words
        assert told in result.stderr, words


def test_who_drops_old_master_keys_is_told_to_name_them(unnamed: tuple[str, str]) -> None:
    assert unnamed[1] in run("keys", "rewrap", "--drop-old").stderr
