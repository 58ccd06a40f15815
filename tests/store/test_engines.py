"""Engines are found by the scheme of a URL, and imported when one asks for them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pullstatus.errors import InvalidSetting
from pullstatus.store import (
    backup_store,
    check_store_url,
    engines,
    init_store,
    jetstream,
    open_store,
    postgresql,
    restore_store,
    sqlite,
)
from pullstatus.store.engines import CopyingModule, DatabaseModule, EngineModule, Row
from tests.store.build import new_act

pytestmark = pytest.mark.anyio


def no_progress(_done: int, _total: int) -> None:
    pass


def test_the_embedded_engine_offers_all_there_is() -> None:
    """A type checker reads this, too."""
    module: EngineModule = sqlite
    copying: CopyingModule = sqlite
    assert engines.engine_of("sqlite:///x.db") is module
    assert engines.copying_engine_of("sqlite:///x.db") is copying


@pytest.mark.parametrize("url", ["mysql://x/y", "", "store.db", "SQLITE:///x.db", "://x"])
async def test_an_unknown_scheme_is_told_those_that_there_are(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {**engines.ENGINES, "other": Row("no.such.module", "other://HOST")}
    monkeypatch.setattr(engines, "ENGINES", more)
    told = re.escape(
        "sqlite:///FILE or postgresql://HOST/DATABASE or"
        " jetstream://HOST,HOST,HOST/NAME?monitor=HOST,HOST,HOST or other://HOST"
    )
    for refused in (lambda: check_store_url(url), lambda: engines.copying_engine_of(url)):
        with pytest.raises(InvalidSetting, match=f"a store URL is {told}"):
            refused()
    with pytest.raises(InvalidSetting):
        await open_store(url)


async def test_an_engine_that_makes_no_copies_says_what_to_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plain_engine", ModuleType("plain_engine"))
    row = Row("plain_engine", "plain://HOST", "use plain-dump")
    monkeypatch.setattr(engines, "ENGINES", {"plain": row})
    file = tmp_path / "b"
    with pytest.raises(InvalidSetting, match=r"plain://HOST.*: use plain-dump"):
        await backup_store("plain://a", file, no_progress)
    with pytest.raises(InvalidSetting, match=r"plain://HOST.*: use plain-dump"):
        await restore_store("plain://a", file, act=new_act("restore"), progress=no_progress)


def test_the_engine_in_a_database_offers_what_is_needed_there() -> None:
    module: EngineModule = postgresql
    database: DatabaseModule = postgresql
    assert engines.engine_of("postgresql:///x") is module
    assert engines.database_engine_of("postgresql:///x") is database
    with pytest.raises(InvalidSetting, match="pg_basebackup"):
        engines.copying_engine_of("postgresql:///x")
    with pytest.raises(InvalidSetting, match="needs none of this"):
        engines.database_engine_of("sqlite:///x.db")


async def test_the_engine_in_a_cluster_offers_what_is_needed_there() -> None:
    module: EngineModule = jetstream
    database: DatabaseModule = jetstream
    url = "jetstream://a/x?monitor=a"
    assert engines.engine_of(url) is module
    assert engines.database_engine_of(url) is database
    copying: CopyingModule = jetstream
    assert engines.copying_engine_of(url) is copying


async def test_only_an_engine_that_has_partitions_is_asked_for_some() -> None:
    with pytest.raises(InvalidSetting, match="no partitions: leave --partitions out"):
        await init_store("postgresql://127.0.0.1:1/x", partitions=3)
    with pytest.raises(InvalidSetting, match="needs none of this"):
        await init_store("sqlite:///x.db", partitions=3)


@pytest.mark.anew
def test_an_engine_is_imported_when_it_is_asked_for() -> None:
    program = (
        "import sys; from pullstatus import store; assert 'apsw' not in sys.modules;"
        "store.check_store_url('sqlite:///x.db'); assert 'apsw' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.anew
@pytest.mark.parametrize(
    ("package", "url", "extra"),
    [
        ("psycopg", "postgresql:///x", "postgresql"),
        ("nats", "jetstream://a/x?monitor=a", "jetstream"),
    ],
)
def test_an_engine_whose_packages_are_missing_names_its_extra(
    package: str, url: str, extra: str
) -> None:
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from pullstatus.errors import InvalidSetting\nfrom pullstatus import store\n"
        f"try: store.check_store_url({url!r})\nexcept InvalidSetting as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)
    assert f"checkout[{extra}]" in told.stdout.decode()
