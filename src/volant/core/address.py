"""Addresses: what a subnet offers, and names that follow from a VM's uid. Pure arithmetic."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

import msgspec

from volant.core.errors import InvalidInput
from volant.core.ids import Uid

SMALLEST_PREFIX_LENGTH = 16
LARGEST_PREFIX_LENGTH = 30
TAP_PREFIX = "vt-"


class SubnetPlan(msgspec.Struct, frozen=True):
    """The gateway is the first host address; guests get the others."""

    subnet: IPv4Network

    @property
    def gateway(self) -> IPv4Address:
        return self.subnet.network_address + 1

    @property
    def prefix_length(self) -> int:
        return self.subnet.prefixlen

    @property
    def broadcast(self) -> IPv4Address:
        return self.subnet.broadcast_address

    def hosts(self) -> Iterator[IPv4Address]:
        """What guests may get, in numeric order."""
        first, last = int(self.gateway) + 1, int(self.broadcast) - 1
        return (IPv4Address(number) for number in range(first, last + 1))


def plan_subnet(subnet: IPv4Network | str) -> SubnetPlan:
    """The plan of ``subnet``.

    Raises:
        InvalidInput: it is no IPv4 subnet, has host bits set, is too small or too large, or is not for hosts to use.
    """
    try:
        network = IPv4Network(subnet)
    except ValueError as error:
        raise InvalidInput(
            f"{str(subnet)[:60]!r} is not an IPv4 subnet", field="subnet", hint="for example 192.168.127.0/24"
        ) from error
    if not SMALLEST_PREFIX_LENGTH <= network.prefixlen <= LARGEST_PREFIX_LENGTH:
        raise InvalidInput(
            f"{network} has a prefix of {network.prefixlen} bits",
            field="subnet",
            hint=f"use one from /{SMALLEST_PREFIX_LENGTH} to /{LARGEST_PREFIX_LENGTH}",
        )
    if network.is_loopback or network.is_multicast or network.is_link_local or network.is_reserved or network.is_unspecified:
        raise InvalidInput(f"{network} is not a subnet for hosts", field="subnet", hint="for example 192.168.127.0/24")
    return SubnetPlan(network)


def mac_from_uid(uid: Uid) -> str:
    """A locally administered unicast MAC: 02 and five bytes of the uid's sha256."""
    digest = hashlib.sha256(uid.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def tap_name(uid: Uid) -> str:
    """The tap of a VM; 15 characters, as long as an interface's name may be."""
    return TAP_PREFIX + uid[:12]
