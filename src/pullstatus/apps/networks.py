"""Addresses and networks as they are compared with each other, however they are spelt.

An IPv4 address can be written as IPv6 (`::ffff:192.0.2.7`), and is when it comes over a socket for
both. What is compared here is always the IPv4 address itself.
"""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def address_of(text: str) -> Address:
    """The address that a text says.

    Raises:
        ValueError: none.
    """
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


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
