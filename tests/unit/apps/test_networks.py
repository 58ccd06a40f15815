"""Addresses and networks, however they are spelt."""

from __future__ import annotations

import pytest
from uvicorn.middleware.proxy_headers import _TrustedHosts

from pullstatus.apps.networks import address_of, network_of, proxies_of, site_of, spellings
from pullstatus.apps.registry import LiveApplication
from pullstatus.apps.values import Application, check_networks
from pullstatus.errors import InvalidSetting


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::/0", "::/0"),
    ],
)
def test_a_network_has_one_spelling(text: str, network: str) -> None:
    assert str(network_of(text)) == network
    assert check_networks([text]) == (network,)


@pytest.mark.parametrize("allowed", ["::ffff:192.0.2.0/120", "192.0.2.0/24"])
def test_an_allow_list_fits_whatever_it_was_written_as(allowed: str) -> None:
    """Also one that was stored as it was written."""
    live = LiveApplication(Application(7, (), 0, allow=(allowed,)), 1)
    assert live.allows("192.0.2.7")
    assert live.allows("::ffff:192.0.2.7")
    assert not live.allows("198.51.100.7")
    assert not live.allows("2001:db8::7")


@pytest.mark.parametrize(
    "text",
    [
        *("*", "localhost", "nonsense", "10.0.0.7,*", "/run/proxy.sock", "[::1]", "10.0.0.7:80"),
        *("10.0.0.0/33", "10.0.0.1/8", "10.0.0.7 10.0.0.8"),
        *("0.0.0.0/0", "::/0", "::ffff:0:0/96"),
    ],
)
def test_proxies_are_addresses_and_networks(text: str) -> None:
    with pytest.raises(InvalidSetting):
        proxies_of(text)


def test_proxies_are_believed_by_each_kind_of_socket() -> None:
    proxies = proxies_of("10.0.0.7, ::ffff:10.1.0.0/112,2001:db8::7,")
    assert [str(one) for one in proxies] == ["10.0.0.7/32", "10.1.0.0/16", "2001:db8::7/128"]
    trusted = _TrustedHosts([told for network in proxies for told in spellings(network)])
    for address in ("10.0.0.7", "10.1.2.3", "2001:db8::7"):
        assert address in trusted
        assert f"::ffff:{address}" in trusted or ":" in address
    for address in ("10.0.0.8", "::ffff:10.2.0.1", "2001:db8::8", "nonsense", ""):
        assert address not in trusted


def test_an_address_has_one_spelling() -> None:
    assert address_of("::ffff:192.0.2.7") == address_of("192.0.2.7")
    with pytest.raises(ValueError, match="nonsense"):
        address_of("nonsense")


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("(no address)", ""),
        ("no address", ""),
        ("", ""),
    ],
)
def test_address_counts_as_its_network(address: str, counts_as: str) -> None:
    assert site_of(address) == counts_as
