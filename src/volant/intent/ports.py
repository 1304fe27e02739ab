"""Published ports: which ones a VM has, and that no two VMs of a network have the same."""

from __future__ import annotations

from volant.core.claim import Claim, ClaimSpec, build_claim, port_claim_name
from volant.core.errors import AlreadyExists, InvalidInput
from volant.core.manifest import Manifest
from volant.core.published import port_claim_names
from volant.core.vm import VM, PublishedPort, VMSpec
from volant.store.contract import Store
from volant.store.records import find_resource

MAX_PORTS = 64
"""Each is a claim, and all of them are made in one transaction."""

_EMPTY_HINT = 'give the VM ports of its own; "ports": [] publishes none'


def choose_ports(spec: VMSpec, manifest: Manifest) -> tuple[PublishedPort, ...]:
    """The ports that ``spec`` asks for, else those that the manifest exposes on the host, by host port.

    Raises:
        InvalidInput: a port of the host stands for two of the guest's, a protocol is not offered, or there are too many.
    """
    return check_ports(_read_exposed(manifest) if spec.ports is None else spec.ports)


def check_ports(ports: tuple[PublishedPort, ...]) -> tuple[PublishedPort, ...]:
    """``ports`` by host port. Raises InvalidInput when they cannot all be published."""
    if len(ports) > MAX_PORTS:
        raise InvalidInput(f"{len(ports)} ports are published, and there may be {MAX_PORTS}", field="ports")
    seen: set[int] = set()
    for port in ports:
        if port.host_port in seen:
            raise InvalidInput(f"port {port.host_port} of the host is published twice", field="ports")
        seen.add(port.host_port)
    return tuple(sorted(ports, key=lambda port: port.host_port))


def _read_exposed(manifest: Manifest) -> tuple[PublishedPort, ...]:
    found = []
    for exposed in manifest.network.expose:
        if exposed.host_port is None:
            continue
        if exposed.protocol != "tcp":
            raise InvalidInput(
                f"its plugin publishes port {exposed.port} by {exposed.protocol}, and only tcp is offered yet",
                field="ports",
                hint=_EMPTY_HINT,
            )
        found.append(PublishedPort(port=exposed.port, host_port=exposed.host_port))
    return tuple(found)


def port_claims(vm: VM, created_at: str) -> list[Claim]:
    """One for each published port; they are made in the transaction that makes ``vm``."""
    spec = ClaimSpec(thing="port", owner_kind=VM.kind, owner_name=vm.name, owner_uid=vm.uid)
    return [build_claim(name, spec, created_at) for name in port_claim_names(vm)]


async def describe_port_conflict(store: Store, vm: VM) -> AlreadyExists | None:
    """What to raise when another VM has a port that ``vm`` is to publish; ``None`` when none has."""
    for port in vm.spec.ports or ():
        name = port_claim_name(vm.spec.network, port.protocol, port.host_port)
        claim = await find_resource(store, Claim, "", name)
        if claim is not None and claim.spec.owner_uid != vm.uid:
            return refuse_port(port, claim)
    return None


def refuse_port(port: PublishedPort, claim: Claim) -> AlreadyExists:
    """What to raise for ``port``, which is somebody else's by ``claim``."""
    owner = claim.spec
    words, group = ("deployment", "deployments") if owner.owner_kind == "Deployment" else (owner.owner_kind, "vms")
    return AlreadyExists(
        f"port {port.host_port} of the host is published by the {words} {owner.owner_name!r} already",
        hint=f"choose another host_port, or: volar {group} delete {owner.owner_name}",
    )
