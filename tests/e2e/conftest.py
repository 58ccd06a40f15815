"""One server for all tests that neither stop it nor need settings of its own."""

from collections.abc import Iterator

import pytest

from tests.harness import App, Program


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A running server that many tests share, each with applications of its own."""
    program = Program(tmp_path_factory.mktemp("shared"))
    program.set_aside(120)
    with program:
        yield program


@pytest.fixture
def app(shared: Program) -> App:
    """A new application on the shared server."""
    return shared.spare_app()
