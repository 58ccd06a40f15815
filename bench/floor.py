"""The floor: a C program that hands out pages of a store in the product's format, and nothing else.

See `floor.c` for what it does and leaves out. It is compiled where there is a C compiler with
SQLite's headers; where there is none, the bench says so and measures the rest.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import apsw

from bench.measure import Bench, Side
from bench.process import Running
from bench.results import Line
from bench.server import Product, pull_request
from pullstatus.cli import load
from pullstatus.cli.load import Load
from pullstatus.store.sqlite.log import CHECKPOINT_PAGES

SOURCE = Path(__file__).with_name("floor.c")
PAGE_BYTES = 8192
RECORDS = 1_000_000  # more than the processor's caches hold; it goes round


class FloorMissing(Exception):
    """It cannot be compiled here; the text says why, and what to install."""


def compiled(folder: Path) -> Path:
    """The program, compiled into `folder`.

    Raises:
        FloorMissing: there is no C compiler, or no SQLite to compile with.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise FloorMissing("there is no C compiler: apt-get install gcc libsqlite3-dev")
    program = folder / "floor"
    command = [compiler, "-O2", f"-DFOLD_PAGES={CHECKPOINT_PAGES}", str(SOURCE)]
    ran = subprocess.run(
        [*command, "-o", str(program), "-lsqlite3"], capture_output=True, text=True, check=False
    )
    if ran.returncode:
        said = (ran.stderr.strip().splitlines() or ["nothing"])[0]
        raise FloorMissing(f"it did not compile ({said}): apt-get install gcc libsqlite3-dev")
    return program


def start(program: Path, product: Product) -> Running:
    """Start it on the first mailbox of a store that nobody serves."""
    command = [str(program), str(product.file), str(product.sdkappids[0])]
    return Running(command, product.folder / "floor.log")


def lay_on_pages(product: Product) -> None:
    """Give its file the page size that suits plain chunks, whatever suits those of the product."""
    with contextlib.closing(apsw.Connection(str(product.file))) as connection:
        # It cannot be changed with a write-ahead log.
        for statement in ("journal_mode = delete", f"page_size = {PAGE_BYTES}"):
            connection.execute(f"PRAGMA {statement}")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode = wal")


@contextlib.contextmanager
def beside(bench: Bench, unit: str) -> Iterator[Side]:
    """It on a filled store of its own, as one that takes turns.

    Raises:
        FloorMissing: see `compiled`.
    """
    with Product(bench.folder) as product:
        program = compiled(product.folder)
        bench.fill(product, bench.scaled(RECORDS))
        product.make_plain()
        lay_on_pages(product)
        with start(program, product) as running:

            def make() -> Load:
                return Load([pull_request()], connections=32)

            size = load.look(running.address, make().requests[0]).wire_bytes
            yield Side(Line("C and SQLite", unit), lambda: running, make, size)
