"""What a store's URL may say, and that no password is ever in it."""

from pathlib import Path

import pytest

from pullstatus.errors import InvalidSetting
from pullstatus.store.jetstream.location import Address, Login, login, parse_url


def test_a_url_names_nodes_where_they_tell_of_themselves_and_a_store() -> None:
    location = parse_url("jetstream://n0:4001,n1,[::1]:4003/sms?monitor=n0:8001,n1,[::1]")
    assert location.servers == (("n0", 4001), ("n1", 4222), ("::1", 4003))
    assert location.monitors == (("n0", 8001), ("n1", 8222), ("::1", 8222))
    assert (location.store, location.tls, location.certificate) == ("sms", None, None)
    assert (location.alone, location.insecure) == (False, False)
    assert location.name == "jetstream://n0:4001,n1:4222,[::1]:4003/sms"
    assert location.shown == "store sms at n0:4001, n1:4222, [::1]:4003"


def test_it_says_how_nodes_are_reached() -> None:
    location = parse_url(
        "jetstream://a/x?monitor=a&tls=/ca.pem&tls-certificate=c.pem&tls-key=k.pem"
        "&single-node-for-tests=yes&insecure=yes"
    )
    assert (location.tls, location.certificate) == ("/ca.pem", ("c.pem", "k.pem"))
    assert (location.alone, location.insecure) == (True, True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_is_near(host: str) -> None:
    assert Address(host, 1).near


@pytest.mark.parametrize("host", ["10.0.0.1", "fe80::1", "n0", "127.0.0.1.example"])
def test_what_else_there_is_is_not(host: str) -> None:
    assert not Address(host, 1).near


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("nats://a/x?monitor=a", "jetstream://HOST"),
        ("jetstream:a", "jetstream://HOST"),
        ("jetstream://a/x?monitor=a#b", "jetstream://HOST"),
        ("jetstream://a/x?monitor=a&monitor=b", "jetstream://HOST"),
        ("jetstream://a/x?monitor", "jetstream://HOST"),
        ("jetstream://[::1/x?monitor=a", "the nodes"),
        ("jetstream://a/x", "monitor"),
        ("jetstream://a/x?monitor=", "monitor"),
        ("jetstream://a/?monitor=a", "name of a store"),
        ("jetstream://a/X?monitor=a", "name of a store"),
        ("jetstream://a/x/y?monitor=a", "name of a store"),
        (f"jetstream://a/{'x' * 33}?monitor=a", "name of a store"),
        ("jetstream:///x?monitor=a", "the nodes"),
        ("jetstream://a,,b/x?monitor=a", "the nodes"),
        ("jetstream://a:0/x?monitor=a", "the nodes"),
        ("jetstream://a:65536/x?monitor=a", "the nodes"),
        ("jetstream://::1/x?monitor=a", "the nodes"),
        ("jetstream://a,a/x?monitor=a", "the nodes"),
        ("jetstream://a/x?monitor=a:b", "monitor"),
        ("jetstream://a/x?monitor=a,a:8222", "monitor"),
        ("jetstream://a/x?monitor=a&tls-key=k", "tls-key"),
        ("jetstream://a/x?monitor=a&tls-key=k&tls-certificate=c", "tls-key"),
        ("jetstream://a/x?monitor=a&insecure=1", "insecure"),
        ("jetstream://a/x?monitor=a&single-node-for-tests=", "single-node-for-tests"),
        ("jetstream://a/x?monitor=a&commits=thread", "commits"),
    ],
)
def test_others_are_refused(url: str, named: str) -> None:
    with pytest.raises(InvalidSetting, match=named):
        parse_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "jetstream://me:s3cret@a/x?monitor=a",
        "jetstream://s3cret@a/x?monitor=a",
        "jetstream://a/x?monitor=a&password=s3cret",
        "jetstream://a/x?monitor=a&user=s3cret",
    ],
)
def test_a_password_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidSetting, match="PULLSTATUS_NATS_PASSWORD") as refusal:
        parse_url(url)
    assert "s3cret" not in str(refusal.value)


def test_who_we_are_stands_in_the_environment(tmp_path: Path) -> None:
    assert login({}).anonymous
    assert login({"PULLSTATUS_NATS_USER": ""}).anonymous
    both = {"PULLSTATUS_NATS_USER": "me", "PULLSTATUS_NATS_PASSWORD": "s3cret"}
    assert login(both) == Login("me", "s3cret")
    assert "s3cret" not in repr(login(both))
    file = tmp_path / "s3cret"
    file.touch()
    assert login({"PULLSTATUS_NATS_CREDENTIALS": str(file)}).credentials == str(file)
    for wrong in (
        {"PULLSTATUS_NATS_USER": "s3cret"},
        {"PULLSTATUS_NATS_PASSWORD": "s3cret"},
        both | {"PULLSTATUS_NATS_CREDENTIALS": str(file)},
        {"PULLSTATUS_NATS_CREDENTIALS": f"{file}.not"},
    ):
        with pytest.raises(InvalidSetting, match="PULLSTATUS_NATS") as refusal:
            login(wrong)
        assert "s3cret" not in str(refusal.value)
