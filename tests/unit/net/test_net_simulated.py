"""What the simulated fabric adds to the contract: faults on demand, and a memory that outlives who uses it."""

from __future__ import annotations

import os
from ipaddress import IPv4Address

import pytest

from volant.core.errors import HostError
from volant.net.plan import NetworkPlan
from volant.net.rules import build_rules
from volant.net.simulated import SimulatedFabric

PLAN = NetworkPlan(bridge="vbr0", gateway=IPv4Address("192.168.127.1"), prefix_length=24)


async def test_a_step_that_is_told_to_fail_does_nothing() -> None:
    def fail(step: str) -> None:
        if step == "ensure_network":
            raise HostError("the kernel says no")

    fabric = SimulatedFabric(fail)
    with pytest.raises(HostError, match="says no"):
        await fabric.ensure_network(PLAN)
    assert fabric.networks == {}


async def test_what_was_made_outlives_the_one_who_made_it() -> None:
    fabric = SimulatedFabric()
    await fabric.open()
    await fabric.ensure_network(PLAN)
    descriptor = await fabric.open_tap("vt-0", PLAN.bridge)
    await fabric.close()
    await fabric.open()
    assert await fabric.list_taps() == {"vt-0"}
    os.close(descriptor)
    assert await fabric.list_taps() == set()
    await fabric.close()


async def test_rules_that_are_installed_are_not_installed_again() -> None:
    fabric = SimulatedFabric()
    for _ in range(3):
        await fabric.apply_rules(build_rules([PLAN], []))
    assert fabric.applied == 1
