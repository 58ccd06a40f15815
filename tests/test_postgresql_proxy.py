"""The proxy of PostgreSQL's messages cuts where it is told to, and what is left is as it says."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from tests.postgresql_proxy import MessageProxy, Way
from tools.postgresql import PostgreSQL


@pytest.fixture
def database(postgresql: PostgreSQL) -> Iterator[str]:
    """The name of a database with a table."""
    with postgresql.database() as url:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE t (n int)")
        yield str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])


@pytest.fixture
def proxy(postgresql: PostgreSQL) -> Iterator[MessageProxy]:
    with MessageProxy(postgresql.port) as proxy:
        yield proxy


def insert(url: str, number: int) -> None:
    """Two round trips: the second writes and commits."""
    with psycopg.connect(url, autocommit=True) as connection, connection.pipeline() as pipeline:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM t")
        pipeline.sync()
        connection.execute("INSERT INTO t VALUES (%s)", (number,))
        connection.execute("COMMIT")
        pipeline.sync()


def test_every_byte_of_a_commit(postgresql: PostgreSQL, proxy: MessageProxy, database: str) -> None:
    """Less than all of it has not happened; whatever is lost of its answer, it has."""
    url = postgresql.tcp_url(database, port=proxy.port)
    insert(url, 0)
    [sizes] = proxy.commits
    stored = {0}
    places = [
        *((Way.TO_SERVER, size) for size in (0, 1, sizes.to_server // 2, sizes.to_server - 6)),
        *((Way.TO_CLIENT, size) for size in (0, 1, sizes.to_client // 2, sizes.to_client - 1)),
    ]
    for number, (way, size) in enumerate(places, 1):
        proxy.cut(way, size)
        with pytest.raises(psycopg.OperationalError):
            insert(url, number)
        if way is Way.TO_CLIENT:
            stored.add(number)
    assert proxy.cuts == len(places)
    insert(url, 99)
    with psycopg.connect(postgresql.url(database)) as connection:
        assert {number for (number,) in connection.execute("SELECT n FROM t")} == stored | {99}


def test_a_commit_that_was_prepared_before(
    postgresql: PostgreSQL, proxy: MessageProxy, database: str
) -> None:
    with psycopg.connect(
        postgresql.tcp_url(database, port=proxy.port), autocommit=True, prepare_threshold=0
    ) as connection:
        for _ in range(3):
            connection.execute("BEGIN")
            connection.execute("INSERT INTO t VALUES (1)")
            connection.execute("COMMIT")
        assert len(proxy.commits) == 3


def test_a_commit_is_held(postgresql: PostgreSQL, proxy: MessageProxy, database: str) -> None:
    thread = threading.Thread(
        target=insert, args=(postgresql.tcp_url(database, port=proxy.port), 1)
    )
    with psycopg.connect(postgresql.url(database), autocommit=True) as connection:
        with proxy.held() as flight:
            thread.start()
            assert flight.wait(60)
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
        thread.join(60)
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (1,)
