"""What a store's URL may say, and that no password is ever in it."""

import pytest
from psycopg.pq import Conninfo

from pullstatus.errors import InvalidSetting
from pullstatus.store import check_store_url, store_file
from pullstatus.store.postgresql.location import parse_url
from pullstatus.store.postgresql.refusals import Known
from pullstatus.store.postgresql.session import arguments, turned


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db/mailboxes",
        "postgresql://pullstatus@db1:5432,db2:5433/mailboxes?sslmode=verify-full",
        "postgresql:///mailboxes?host=%2Fvar%2Frun%2Fpostgresql&user=me",
        "postgresql://[::1]:5432/mailboxes",
        "postgresql://",
        "postgresql://db1,db2/x?target_session_attrs=read-write",
    ],
)
def test_urls_of_libpq_are_taken_as_they_are(url: str) -> None:
    location = parse_url(url)
    assert location.conninfo == url
    assert (location.apart, location.bytes_max) == (None, None)
    assert store_file(url) is None


def test_our_own_words_are_not_for_libpq() -> None:
    location = parse_url("postgresql://db/x?commits=thread&max-bytes=1000&sslmode=require")
    assert location.conninfo == "postgresql://db/x?sslmode=require"
    assert (location.apart, location.bytes_max) == (False, 1000)


@pytest.mark.parametrize(
    "url",
    [
        "postgres://db/x",
        "postgresql:db",
        "postgresql://db/x?commits=fork",
        "postgresql://db/x?max-bytes=many",
        "postgresql://db/x?max-bytes=0",
        "postgresql://db/x?user=a&user=b",
        "postgresql://db/x?user",
        "postgresql://db/x#y",
        "postgresql://db/x?options=-cfsync%3Doff",
        "postgresql://db/x?target_session_attrs=any",
    ],
)
def test_others_are_refused(url: str) -> None:
    with pytest.raises(InvalidSetting):
        check_store_url(url)


def test_what_every_connection_is_set_to_is_not_dropped_from_a_url_in_silence() -> None:
    """Else it would look as if it held."""
    known = arguments(parse_url("postgresql://db/x"), Known()).keys()
    words = known & {each.keyword.decode() for each in Conninfo.get_defaults()}
    said = words - {"host", "dbname", "target_session_attrs"}
    assert {"connect_timeout", "application_name", "keepalives", "options"} < said
    for word in said:
        with pytest.raises(InvalidSetting, match=f"cannot have {word}: pullstatus sets it"):
            check_store_url(f"postgresql://db/x?sslmode=require&{word}=1")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cret@db/x",
        "postgresql://db/x?password=s3cret",
        "postgresql://db/x?sslpassword=s3cret",
    ],
)
def test_a_password_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidSetting, match="PGPASSFILE") as refusal:
        check_store_url(url)
    assert "s3cret" not in str(refusal.value)


def test_other_hosts_come_first_once_the_first_one_is_not_to_be_trusted() -> None:
    hosts = {"host": "a,b,c", "port": "1,2,3", "dbname": "x"}
    assert turned(hosts, 0) == hosts
    assert turned(hosts, 1) == {"host": "b,c,a", "port": "2,3,1", "dbname": "x"}
    assert turned(hosts, 5)["host"] == "c,a,b"
    assert turned({"host": "a,b", "port": "5432"}, 1) == {"host": "b,a", "port": "5432"}
    assert turned({"dbname": "x"}, 1) == {"dbname": "x"}
