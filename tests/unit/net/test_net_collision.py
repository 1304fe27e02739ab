"""Collisions: whose is a subnet already?"""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network

from volant.net.collision import describe_collisions
from volant.net.links import Link

LINKS = [Link(index, name, "", "", 1500, True, 0) for index, name in enumerate(["lo", "eth0", "vbr0"], start=1)]
SUBNET = IPv4Network("192.168.127.0/24")


def describe(addresses: list[tuple[int, str]], routes: list[tuple[int, str]], ours: int = 3) -> list[str]:
    found = [(index, IPv4Interface(text)) for index, text in addresses]
    return list(describe_collisions(SUBNET, ours, LINKS, found, [(index, IPv4Network(text)) for index, text in routes]))


def test_other_subnets_our_own_bridge_and_default_routes_are_no_collision() -> None:
    addresses = [(1, "127.0.0.1/8"), (2, "192.168.1.5/24"), (3, "192.168.127.1/24")]
    assert describe(addresses, [(2, "0.0.0.0/0"), (3, "192.168.127.0/24"), (2, "192.168.1.0/24")]) == []


def test_an_overlapping_address_is_told_once() -> None:
    assert describe([(2, "192.168.127.77/16")], [(2, "192.168.0.0/16")]) == ["address 192.168.127.77/16 on eth0"]


def test_an_overlapping_route_is_told_wherever_it_leads() -> None:
    routes = [(2, "192.168.127.128/25"), (0, "192.168.0.0/16"), (2, "10.0.0.0/8")]
    assert describe([], routes) == ["route 192.168.127.128/25 by eth0", "route 192.168.0.0/16 by several interfaces"]


def test_our_bridges_own_subnet_on_another_interface_is_a_collision() -> None:
    assert describe([(3, "192.168.127.1/24")], [], ours=0) == ["address 192.168.127.1/24 on vbr0"]
