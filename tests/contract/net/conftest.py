"""Fabrics to ask, and namespaces that are removed whatever a test does."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from ipaddress import IPv4Address

import pytest

from volant.net.fabric import Fabric, HostFabric
from volant.net.namespace import NamespaceThread, ensure_namespace, remove_namespace
from volant.net.plan import NetworkPlan
from volant.net.simulated import SimulatedFabric

PLAN = NetworkPlan(bridge="vbr0", gateway=IPv4Address("192.168.127.1"), prefix_length=24)


@pytest.fixture
def plan() -> NetworkPlan:
    return PLAN


@pytest.fixture
async def new_namespace() -> AsyncIterator[Callable[[], str]]:
    """Chooses names; what has been made under them is removed in the end."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    names: list[str] = []

    def choose() -> str:
        names.append(f"volant-test-{secrets.token_hex(4)}")
        return names[-1]

    yield choose
    for name in names:
        await remove_namespace(name, force=True)


@pytest.fixture
async def namespace(new_namespace: Callable[[], str]) -> str:
    name = new_namespace()
    await ensure_namespace(name)
    return name


@pytest.fixture
async def enter() -> AsyncIterator[Callable[[str], Awaitable[NamespaceThread]]]:
    """Threads in namespaces, ended when the test is."""
    async with AsyncExitStack() as stack:

        async def start(name: str) -> NamespaceThread:
            thread = NamespaceThread(name)
            await thread.start()
            stack.push_async_callback(thread.stop)
            return thread

        yield start


@pytest.fixture
async def host_fabric(namespace: str) -> AsyncIterator[HostFabric]:
    fabric = HostFabric(namespace)
    await fabric.open()
    yield fabric
    await fabric.close()


@pytest.fixture
async def simulated_fabric() -> AsyncIterator[SimulatedFabric]:
    fabric = SimulatedFabric()
    await fabric.open()
    yield fabric
    await fabric.close()


@pytest.fixture(params=[pytest.param("host_fabric", marks=pytest.mark.vm), "simulated_fabric"])
def fabric(request: pytest.FixtureRequest) -> Fabric:
    """Every Fabric, open."""
    fabric: Fabric = request.getfixturevalue(request.param)
    return fabric
