"""What an hour without a fault looks like."""

from __future__ import annotations

import pytest

from tests.e2e.alarms.stories import Story, figures
from tests.harness import Program, statuses


@pytest.fixture(scope="session")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Records come in and go out, some wait for a moment; one poll in two finds nothing."""
    program = Program(tmp_path_factory.mktemp("ordinary"))
    app = program.create_app()
    with program:
        scrapes = []
        for _ in range(2):
            program.feed(app, statuses(30))
            program.pull(app, max=20)
            scrapes.append(figures(program))
            program.drain(app)
    return Story(*scrapes)
