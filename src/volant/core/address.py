"""Addresses: what a subnet gives to whom, and what a VM's MAC and tap are called. Pure, so that intent and the hands agree."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

import msgspec

from volant.core.errors import InvalidInput
from volant.core.ids import Uid

TAP_PREFIX = "vt-"
SHORTEST_PREFIX = 16
LONGEST_PREFIX = 30
PRIVATE = tuple(IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"))
"""RFC 1918, section 3, and RFC 6598, section 7: ranges that never hide a host of the internet."""

_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")


class SubnetPlan(msgspec.Struct, frozen=True):
    network: IPv4Network

    @property
    def gateway(self) -> IPv4Address:
        """The bridge's own address: the first of the subnet."""
        return self.network.network_address + 1

    @property
    def prefix_length(self) -> int:
        return self.network.prefixlen

    @property
    def capacity(self) -> int:
        """How many guests the subnet can address."""
        return self.network.num_addresses - 3

    def hosts(self) -> Iterator[IPv4Address]:
        """Every address that a guest may have, in numeric order: all but the network's, the gateway's and the broadcast."""
        first = int(self.network.network_address)
        for number in range(first + 2, first + self.network.num_addresses - 1):
            yield IPv4Address(number)


def plan_subnet(network: IPv4Network) -> SubnetPlan:
    """Raises InvalidInput when guests cannot be given addresses out of ``network``."""
    if not SHORTEST_PREFIX <= network.prefixlen <= LONGEST_PREFIX:
        raise InvalidInput(
            f"{network} is not between /{SHORTEST_PREFIX} and /{LONGEST_PREFIX}",
            field="subnet",
            hint="192.168.127.0/24 has room for 253 VMs",
        )
    if not any(network.subnet_of(range_) for range_ in PRIVATE):
        raise InvalidInput(
            f"{network} is not private and may belong to others",
            field="subnet",
            hint=f"take one within {', '.join(map(str, PRIVATE))}",
        )
    return SubnetPlan(network)


@functools.lru_cache(maxsize=256)
def parse_subnet(text: str) -> SubnetPlan:
    """``plan_subnet`` of ``192.168.127.0/24``. Raises InvalidInput."""
    try:
        network = IPv4Network(text)
    except ValueError as error:
        message = f"{text[:80]!r} is not an IPv4 subnet: {error}"
        raise InvalidInput(message, field="subnet", hint="write 192.168.127.0/24") from error
    return plan_subnet(network)


def check_bridge_name(name: str, field: str = "bridge") -> str:
    """Return ``name`` when Linux takes it for an interface and it can be no tap of ours, else raise InvalidInput."""
    if not _INTERFACE.fullmatch(name) or name == "lo" or name.startswith(TAP_PREFIX):
        raise InvalidInput(
            f"{name[:80]!r} cannot be the name of a bridge",
            field=field,
            hint=f"use 1 to 15 letters, digits, dots, hyphens and underscores, not beginning with {TAP_PREFIX!r}",
        )
    return name


def check_tap_name(name: str) -> str:
    """Return ``name`` when it is what a tap of ours may be called, else raise InvalidInput."""
    if not name.startswith(TAP_PREFIX) or not _INTERFACE.fullmatch(name):
        raise InvalidInput(f"{name[:80]!r} is no tap of ours: their names begin with {TAP_PREFIX!r}", field="tap")
    return name


def mac_from_uid(uid: Uid) -> str:
    """A locally administered unicast address (IEEE 802, section 8.2) that stays with the VM: ``02`` and 5 bytes of a hash."""
    return mac_from_seed(uid)


def mac_from_seed(seed: str) -> str:
    return ":".join(f"{byte:02x}" for byte in b"\x02" + hashlib.sha256(seed.encode()).digest()[:5])


def tap_name(uid: Uid) -> str:
    """15 bytes, the longest name an interface can have: ``vt-`` and 48 random bits of the uid."""
    return TAP_PREFIX + uid[:12]
