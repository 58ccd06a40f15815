"""Addresses and networks as they are compared with each other, however they are spelt.

An IPv4 address can be written as IPv6 (`::ffff:192.0.2.7`), and is when it comes over a socket for
both. What is compared here is always the IPv4 address itself.
"""

from __future__ import annotations

import functools
import ipaddress

from pullstatus.errors import InvalidSetting

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_SITE_BITS = 64


def address_of(text: str) -> Address:
    """The address that a text says.

    Raises:
        ValueError: none.
    """
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def plain(text: str) -> Address | None:
    """The address that a text says, without a zone; None if it is none."""
    try:
        return address_of(text.partition("%")[0])
    except ValueError:
        return None


@functools.lru_cache(maxsize=1024)  # a failed try asks twice, and whoever fails often, for each
def site_of(text: str) -> str:
    """What an address counts as: itself, or of IPv6 its network of 64 bits; "" if it is none.

    A customer of a network has that many addresses at least.
    """
    address = plain(text)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, _SITE_BITS), strict=False))
    return "" if address is None else str(address)


def network_of(text: str) -> Network:
    """The network that a text says, as CIDR or a single address.

    Raises:
        ValueError: none.
    """
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        assert mapped is not None
        return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED.prefixlen))
    return network


def proxies_of(text: str) -> tuple[Network, ...]:
    """The proxies that a list of addresses and networks names, separated by commas.

    Raises:
        InvalidSetting: a part is neither, or is so wide that everybody is believed.
    """
    try:
        found = tuple(network_of(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise InvalidSetting(
            "trusted proxies are addresses and networks such as 10.0.0.7, 10.1.0.0/16 or"
            " 2001:db8::7, separated by commas; no names, no *"
        ) from error
    if any(network.prefixlen == 0 for network in found):
        raise InvalidSetting(
            "a network of all addresses has everybody believed who sends X-Forwarded-For;"
            " name the proxies"
        )
    return found


def spellings(network: Network) -> tuple[str, ...]:
    """A network as each kind of socket tells its addresses."""
    if isinstance(network, ipaddress.IPv6Network):
        return (str(network),)
    length = network.prefixlen + _MAPPED.prefixlen
    return (str(network), f"::ffff:{network.network_address}/{length}")
