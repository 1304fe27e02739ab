"""What dnsmasq is told. That it answers so is told by tests/contract/net."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from volant.net.dhcp import Lease, Served, build_dhcp_command, end_earlier, write_leases
from volant.net.plan import NetworkPlan

PLAN = NetworkPlan(bridge="vbr0", gateway=IPv4Address("192.168.127.1"), prefix_length=24, mtu=1400)
LEASES = Path("/var/lib/volant/dhcp/leases.conf")
OTHER = NetworkPlan(bridge="vbr-lan", gateway=IPv4Address("10.1.0.1"), prefix_length=16)


def test_every_network_has_its_own_range_and_router() -> None:
    words = build_dhcp_command([PLAN, OTHER], [], None, LEASES)
    assert "--interface=vbr0" in words and "--interface=vbr-lan" in words
    assert "--dhcp-range=set:vbr0,192.168.127.0,static,255.255.255.0,24h" in words
    assert "--dhcp-range=set:vbr-lan,10.1.0.0,static,255.255.0.0,24h" in words
    assert "--dhcp-option=tag:vbr0,option:router,192.168.127.1" in words
    assert "--dhcp-option=tag:vbr0,option:mtu,1400" in words


def test_it_is_nobody_answers_only_those_it_knows_and_no_names() -> None:
    words = build_dhcp_command([PLAN], [], None, LEASES)
    for word in ("--user=nobody", "--port=0", "--dhcp-ignore=tag:!known", "--leasefile-ro", f"--conf-file={LEASES}"):
        assert word in words


@pytest.mark.parametrize(
    ("servers", "option"),
    [
        ([], "--dhcp-option=option:dns-server"),
        (["10.0.0.53", "10.0.0.54"], "--dhcp-option=option:dns-server,10.0.0.53,10.0.0.54"),
        (["127.0.0.53", "fe80::1", "no address,at all"], "--dhcp-option=option:dns-server"),
    ],
)
def test_it_names_servers_that_guests_can_reach(servers: list[str], option: str) -> None:
    assert option in build_dhcp_command([PLAN], servers, None, LEASES)


def test_leases_are_the_same_text_in_any_order() -> None:
    leases = [Lease(ip=f"192.168.127.{i}", mac=f"02:00:00:00:00:0{i}") for i in range(2, 5)]
    texts = {write_leases([Served(plan=PLAN, leases=order)]) for order in itertools.permutations(leases)}
    assert texts == {"".join(f"dhcp-host=02:00:00:00:00:0{i},192.168.127.{i},24h\n" for i in range(2, 5))}


@pytest.mark.parametrize("content", ["", "no number 1", "4194305 1", "1 0"])
def test_another_process_with_a_number_that_was_ours_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "dnsmasq.pid").write_text(content)
    end_earlier(tmp_path)  # process 1 with another start time, or what is no process
    assert not (tmp_path / "dnsmasq.pid").exists()
    end_earlier(tmp_path)
