"""A progress bar for commands that take long; silent where nobody looks."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from pullstatus.store import Progress


@contextlib.contextmanager
def progress(what: str) -> Iterator[Progress]:
    """A bar on standard error, gone when done; for `done` of `total` steps."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.progress import Progress as Bar

    from pullstatus.cli.tables import console

    with Bar(console=console(err=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield report
