"""Addresses: whatever subnet is taken, guests get distinct addresses that are theirs alone."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.address import (
    PRIVATE,
    check_bridge_name,
    check_tap_name,
    mac_from_uid,
    parse_subnet,
    plan_subnet,
    tap_name,
)
from volant.core.errors import InvalidInput
from volant.core.ids import Uid

uids = st.text("0123456789abcdef", min_size=32, max_size=32).map(Uid)


@st.composite
def subnets(draw: st.DrawFn) -> IPv4Network:
    range_ = draw(st.sampled_from(PRIVATE))
    prefix = draw(st.integers(22, 30))
    offset = draw(st.integers(0, range_.num_addresses - 1))
    return IPv4Network((range_.network_address + offset, prefix), strict=False)


@given(subnets())
def test_hosts_are_all_the_usable_addresses_in_order(network: IPv4Network) -> None:
    plan = plan_subnet(network)
    hosts = list(plan.hosts())
    assert len(hosts) == plan.capacity
    assert all(low < high for low, high in pairwise(hosts))
    assert set(hosts) | {plan.gateway} == set(network.hosts())
    assert plan.gateway not in hosts


def test_the_default_network() -> None:
    plan = parse_subnet("192.168.127.0/24")
    assert (plan.gateway, plan.prefix_length, plan.capacity) == (IPv4Address("192.168.127.1"), 24, 253)
    assert next(plan.hosts()) == IPv4Address("192.168.127.2")


def test_the_largest_network() -> None:
    plan = parse_subnet("10.7.0.0/16")
    assert sum(1 for _ in plan.hosts()) == plan.capacity == 65533


@pytest.mark.parametrize(
    "text",
    [
        "192.168.127.1/24", "192.168.127.0/31", "10.0.0.0/15", "8.8.8.0/24", "127.0.0.0/24", "224.0.0.0/24", "169.254.0.0/24",
        "0.0.0.0/24", "fd00::/64", "", "everything", "192.168.0.0/16/2",
    ],
)  # fmt: skip
def test_what_is_no_subnet_for_guests_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_subnet(text)
    assert refused.value.field == "subnet"


@given(uids)
def test_a_mac_is_local_and_unicast(uid: Uid) -> None:
    assert re.fullmatch(r"02(:[0-9a-f]{2}){5}", mac_from_uid(uid))


@given(st.lists(uids, unique=True, min_size=2, max_size=50))
def test_macs_differ(uids: list[Uid]) -> None:
    assert len({mac_from_uid(uid) for uid in uids}) == len(uids)


@given(uids)
def test_a_tap_name_fits_and_is_one_of_ours(uid: Uid) -> None:
    assert check_tap_name(tap_name(uid)) == f"vt-{uid[:12]}"
    with pytest.raises(InvalidInput):
        check_bridge_name(tap_name(uid))


@pytest.mark.parametrize("name", ["vbr0", "a", "br-volant.1_x", "x" * 15])
def test_names_a_bridge_may_have(name: str) -> None:
    assert check_bridge_name(name) == name


@pytest.mark.parametrize("name", ["", "lo", "vt-x", "x" * 16, "a b", "a/b", ".", "..", "-a", "vbr0\n", "ü"])
def test_names_a_bridge_may_not_have(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_bridge_name(name)
    assert refused.value.field == "bridge"


@pytest.mark.parametrize("name", ["eth0", "vt", "vt-/", "vt-0123456789abc", "vt-\n"])
def test_names_that_are_no_tap_of_ours(name: str) -> None:
    with pytest.raises(InvalidInput):
        check_tap_name(name)
