"""Whether a guest knows who it is: it may be a copy of another, or have been told by a volantd that is gone."""

from __future__ import annotations

import hashlib

import msgspec

from volant.core.vm import VM, Address
from volant.hypervisor.machine import Machine
from volant.node.run import Run

RENEW = "renew"
"""The agent's capability to become another machine while it runs."""


def identity_of(vm: VM, machine: Machine) -> str:
    """What stands for the name and the addresses that a guest of ``vm`` has. A parked clone's has none."""
    cards = [_card_of(address) for address in cards_of_run(vm, machine)]
    parts = (vm.uid, "" if vm.spec.power == "parked" else vm.name, cards)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def cards_of_run(vm: VM, machine: Machine) -> tuple[Address, ...]:
    """The cards of ``vm`` that its run has: one that was added since is not among them until the machine has it."""
    there = {nic.mac for nic in machine.networks}
    return tuple(address for address in vm.status.addresses if address.mac in there)


def _card_of(address: Address) -> dict[str, object]:
    """What the guest was told of a card. An address that it was given by others is no part of that."""
    told: dict[str, object] = {"network": address.network, "ip": address.ip, "mac": address.mac}
    told |= {"prefix_length": address.prefix_length, "gateway": address.gateway}
    if address.source == "external":
        told |= {"ip": "", "prefix_length": 0, "gateway": ""}
    return told if address.source == "static" else {**told, "source": address.source}


def is_settled(vm: VM, run: Run) -> bool:
    """True when the agent was told who it is, and that is what ``vm`` is now."""
    hello = run.agent.hello
    if hello is None or hello.state == "waiting":
        return False
    if RENEW not in hello.capabilities:
        return True  # an agent of an earlier version was configured once and cannot be a copy
    return (
        run.identity is not None
        and run.identity.document == hello.config_digest
        and run.identity.of == identity_of(vm, run.instance.machine)
    )


def differs(vm: VM, run: Run) -> bool:
    hello = run.agent.hello
    return run.agent.connected and hello is not None and hello.state == "configured" and not is_settled(vm, run)
