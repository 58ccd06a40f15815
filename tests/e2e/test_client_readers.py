"""A client with a reader, over a network that loses answers, in processes that are killed.

What is run is what people copy: the program of the README, in both colours, and the one that the
how-to gives for a transaction of one's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from pullstatus import AsyncClient, Client
from tests.committed import EXTRA, NOTING, ways
from tests.harness import PATIENCE_S, ROOT, App, Program, clean_environment, statuses
from tests.proxy import CuttingProxy
from tools.postgresql import PostgreSQL

COUNT = 500
KILLS = 6
Drain = Callable[[str, App], list[str]]


@pytest.fixture
def proxy(shared: Program) -> Iterator[CuttingProxy]:
    with CuttingProxy(shared.host, shared.port) as proxy:
        yield proxy


def sids(count: int) -> list[str]:
    return [record["sid"] for record in statuses(count)]


# --- answers that are cut -------------------------------------------------------------------------


def drain(address: str, app: App) -> list[str]:
    with Client(address, app.sdkappid, app.appkey, reader="r", sleep=lambda _s: None) as client:
        found: list[str] = []
        for batch in client.delivery_statuses(max=1, follow=False):
            with batch:
                found += [status.sid for status in batch]
        return found


def drain_async(address: str, app: App) -> list[str]:
    async def scenario() -> list[str]:
        async with AsyncClient(
            address, app.sdkappid, app.appkey, reader="r", sleep=lambda _s: asyncio.sleep(0)
        ) as client:
            found: list[str] = []
            async for batch in client.delivery_statuses(max=1, follow=False):
                with batch:
                    found += [status.sid for status in batch]
            return found

    return asyncio.run(scenario())


@pytest.mark.parametrize("drained", [drain, drain_async])
def test_answers_cut_at_every_byte_lose_nothing(
    shared: Program, app: App, proxy: CuttingProxy, drained: Drain
) -> None:
    """From the very first request on: that asks what the service can do, the next is a pull."""
    cuts = 560  # an answer has no more bytes
    shared.feed(app, statuses(cuts))
    for size in range(cuts):
        proxy.cut(size, None)
    assert drained(proxy.address, app) == sids(cuts)
    assert 400 < proxy.cuts < cuts  # so the last of them got through whole
    assert shared.waiting(app) == 0


# --- processes that are killed --------------------------------------------------------------------


def program_of(page: str, beginning: str) -> str:
    """The one program of a document that begins like this."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    [program] = [one for one in found if one.startswith(beginning)]
    return str(program)


HOW_TO = "docs/how-to/consume-into-a-database.md"
README = program_of("README.md", "import pullstatus\n\nwith pullstatus.Client(")

SAVE = """
import os, time
def save(sid, delivered, received_at):
    with open("seen", "a") as seen:
        seen.write(sid + "\\n")
    time.sleep(0.002)
appkey = os.environ["PULLSTATUS_APPKEY"]
"""


def blocking(program: str) -> str:
    return f"{SAVE}\n{program}"


def awaiting(program: str) -> str:
    """The same program, with await."""
    body = program.removeprefix("import pullstatus\n")
    body = body.replace("with pullstatus.Client", "async with pullstatus.AsyncClient")
    body = body.replace("for batch in", "async for batch in")
    main = textwrap.indent(body, "    ")
    return f"{SAVE}\nimport asyncio, pullstatus\nasync def main():\n{main}\nasyncio.run(main())\n"


def keeping(program: str) -> str:
    """The same program with a file of its own instead of a reader, as for older services."""
    assert 'reader="billing"' in program
    return blocking(program.replace('reader="billing"', 'state="pages.state"'))


def run(
    code: str, program: Program, app: App, folder: Path, **variables: str
) -> subprocess.Popen[bytes]:
    code = code.replace("http://127.0.0.1:8080", f"http://{program.host}:{program.port}")
    code = code.replace("1400006666", str(app.sdkappid))
    environment = clean_environment() | {
        "PULLSTATUS_APPKEY": app.appkey,
        "PULLSTATUS_URL": f"http://{program.host}:{program.port}",
        **variables,
    }
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment)


def kill_until_all_is_seen(
    code: str,
    program: Program,
    app: App,
    folder: Path,
    how: signal.Signals,
    seen: Callable[[], list[str]],
    **variables: str,
) -> None:
    """Run it again and again, and end it somewhere in its work, until nothing is left."""
    chance = random.Random(how)
    for _ in range(KILLS):
        process = run(code, program, app, folder, **variables)
        due = min(COUNT, len(seen()) + chance.randrange(1, COUNT // KILLS))
        try:
            program.until(lambda due=due: len(seen()) >= due)  # type: ignore[misc]
            time.sleep(chance.random() / 20)  # somewhere in its work
        finally:
            process.send_signal(how)
            assert process.wait(PATIENCE_S) == -how
    process = run(code, program, app, folder, **variables)
    try:
        program.until(lambda: set(seen()) >= set(sids(COUNT)))
        program.until(lambda: program.waiting(app) == 0)
    finally:
        process.kill()
        process.wait(PATIENCE_S)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("colour", [blocking, awaiting, keeping])
def test_the_program_of_the_readme_sees_every_record(
    shared: Program, app: App, tmp_path: Path, colour: Callable[[str], str], how: signal.Signals
) -> None:
    shared.feed(app, statuses(COUNT))

    def seen() -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return (tmp_path / "seen").read_text(encoding="utf-8").split("\n")[:-1]
        return []

    kill_until_all_is_seen(colour(README), shared, app, tmp_path, how, seen)
    assert len(seen()) <= COUNT + KILLS * 100  # a kill costs one page more at most


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_transaction_of_ones_own_does_each_page_once(
    shared: Program, app: App, tmp_path: Path, how: signal.Signals
) -> None:
    shared.feed(app, statuses(COUNT))
    code = program_of(HOW_TO, "import os\nimport sqlite3\n")

    def stored() -> list[str]:
        with contextlib.suppress(sqlite3.OperationalError):  # before it has made its tables
            path = f"file:{tmp_path}/mine.db?mode=ro"
            with contextlib.closing(
                sqlite3.connect(path, uri=True, timeout=PATIENCE_S)
            ) as database:
                return [sid for (sid,) in database.execute("SELECT sid FROM inbox ORDER BY rowid")]
        return []

    kill_until_all_is_seen(
        by_sevens(code),
        shared,
        app,
        tmp_path,
        how,
        stored,
        PYTHONPATH=NOTING,
        COMMITS=str(tmp_path / "commits"),
    )
    assert stored() == sids(COUNT)
    assert ways(tmp_path / "commits") == {EXTRA}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_transaction_of_postgresql_does_each_page_once(
    shared: Program, app: App, tmp_path: Path, postgresql: PostgreSQL, how: signal.Signals
) -> None:
    no_text = {**statuses(1)[0], "sid": "8:\0"}  # of which PostgreSQL stores none
    shared.feed(app, [*statuses(COUNT), no_text])
    code = program_of(HOW_TO, "import os\n\nimport psycopg\n")
    with postgresql.database() as url:

        def stored() -> list[str]:
            with (
                contextlib.suppress(psycopg.errors.UndefinedTable),  # before it has made its tables
                psycopg.connect(url) as database,
            ):
                return [sid for (sid,) in database.execute("SELECT sid FROM inbox ORDER BY ctid")]
            return []

        place = psycopg.conninfo.conninfo_to_dict(url)
        kill_until_all_is_seen(
            by_sevens(code),
            shared,
            app,
            tmp_path,
            how,
            stored,
            PGHOST=str(place["host"]),
            PGPORT=str(place["port"]),
            PGDATABASE=str(place["dbname"]),
            PGUSER=str(place["user"]),
        )
        assert stored() == [*sids(COUNT), "8:\ufffd"]


def by_sevens(code: str) -> str:
    """The same program with smaller pages, so that there are more of them."""
    smaller = code.replace("delivery_statuses()", "delivery_statuses(max=7)")
    assert smaller != code
    return smaller


def test_a_program_without_a_reader_loses_its_page(
    shared: Program, app: App, tmp_path: Path
) -> None:
    """The tests are tested: the same program without the one word that they are about."""
    shared.feed(app, statuses(COUNT))
    code = blocking(README.replace(', reader="billing"', ""))
    assert code != blocking(README)
    code = code.replace("time.sleep(0.002)", "time.sleep(3600)")  # until it is killed
    process = run(code, shared, app, tmp_path)
    try:
        shared.until((tmp_path / "seen").exists)
    finally:
        process.kill()
        process.wait(PATIENCE_S)
    saved = (tmp_path / "seen").read_text(encoding="utf-8").split("\n")[:-1]
    left = shared.waiting(app)
    assert len(saved) + left < COUNT
