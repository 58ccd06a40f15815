"""Consumers and gateways that are killed, at a server over PostgreSQL: as at one over a file."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import test_client, test_client_readers
from tests.e2e.test_client import Shell, base_url
from tests.harness import App, Program
from tests.proxy import CuttingProxy
from tools.postgresql import PostgreSQL


@pytest.fixture
def shared(
    tmp_path: Path, postgresql: PostgreSQL, environment: dict[str, str]
) -> Iterator[Program]:
    """Takes the place of the server over a file."""
    folder = tmp_path / "server"
    folder.mkdir()
    with postgresql.database() as url:
        with Program(folder, environment=environment, store=url) as program:
            yield program
        assert program.cli("audit")["sound"]


@pytest.fixture
def app(shared: Program) -> App:
    return shared.create_app()


def test_consumer_killed_again_and_again(tmp_path: Path, shared: Program, app: App) -> None:
    shell = Shell(tmp_path, base_url(shared), app, shared.token)
    test_client.test_consumer_killed_again_and_again(
        shell, shared, app, "out.ndjson", test_client.read_ndjson
    )


def test_push_killed_again_and_again(tmp_path: Path, shared: Program, app: App) -> None:
    shell = Shell(tmp_path, base_url(shared), app, shared.token)
    with CuttingProxy(shared.host, shared.port) as proxy:
        test_client.test_push_killed_again_and_again(shell, shared, app, proxy)


def test_consumer_with_a_reader_killed_again_and_again(
    tmp_path: Path, shared: Program, app: App
) -> None:
    test_client_readers.test_the_program_of_the_readme_sees_every_record(
        shared, app, tmp_path, test_client_readers.blocking, signal.SIGKILL
    )
