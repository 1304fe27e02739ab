"""What a guest is told of its network cards, and what it has told about them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from volant.core.condition import Condition
from volant.core.network import Network
from volant.core.vm import NETWORK_READY, VM, Address
from volant.guest import document
from volant.guest.protocol import Hello
from volant.hypervisor.machine import Machine
from volant.reconcile.guest_demands import AgentTooOld

DHCP = "dhcp"
"""The agent's capability to ask the network for its address."""


def describe_network(vm: VM, networks: Sequence[Network], machine: Machine, nameservers: tuple[str, ...]) -> document.Network:
    """The cards of ``vm`` that are to be used, ``networks`` being those they are in. ``machine`` says by what they are found.

    A card without an address has no interface, unless the guest is to ask for one. Only the first leads to the world.
    """
    interfaces: list[document.Interface] = []
    there = {nic.mac for nic in machine.networks}
    for index, (address, network) in enumerate(zip(vm.status.addresses, networks, strict=True)):
        asks = address.source != "static"
        if (not address.ip and not asks) or address.mac not in there:
            continue
        device_mac = next((nic.device_mac for nic in machine.networks if nic.mac == address.mac), "")
        interfaces.append(
            document.Interface(
                mac=address.mac,
                device_mac=device_mac or msgspec.UNSET,
                name=f"eth{index}",
                address="" if asks else f"{address.ip}/{address.prefix_length}",
                gateway="" if asks or index > 0 else address.gateway,
                mtu=network.spec.mtu,
                dhcp=asks,
            )
        )
    first = vm.status.addresses[0] if vm.status.addresses else None
    return document.Network(
        interfaces=tuple(interfaces),
        # What a network of somebody else's names is better than what this host uses.
        nameservers=nameservers if interfaces and first is not None and first.source != "external" else (),
        hosts={} if first is None or not first.ip or first.source == "external" else {first.ip: (vm.name,)},
    )


def check_guest_network(vm: VM, hello: Hello | None) -> None:
    """Raises AgentTooOld when the agent would not ask for its address."""
    asks = any(address.source != "static" for address in vm.status.addresses)
    if asks and hello is not None and DHCP not in hello.capabilities:
        raise AgentTooOld(f"its agent, {hello.agent}, is too old to ask for its address: build its plugin again")


def judge_network(vm: VM) -> Condition:
    """NetworkReady of a VM that has been given its taps."""
    if not vm.status.addresses:
        return Condition(type=NETWORK_READY, status="True", reason="NoCard", message="it is reached by its channel alone")
    # Until the guest says what it was given (lease.py).
    waiting = [address for address in vm.status.addresses if address.source != "static"]
    if waiting:
        return Condition(
            type=NETWORK_READY, status="False", reason="WaitingForLease",
            message=f"no address was given to it on network {waiting[0].network} yet",
        )  # fmt: skip
    return Condition(type=NETWORK_READY, status="True", reason="Connected", message=describe_addresses(vm.status.addresses))


def describe_addresses(addresses: Sequence[Address]) -> str:
    return ", ".join(f"{address.ip} on network {address.network}" for address in addresses)
