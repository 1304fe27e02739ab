"""Claims make things unique: a record whose name is the thing, made in the transaction that makes its owner.

No allocator keeps state of its own, so none can leak: a claim whose owner is gone is swept.
"""

from __future__ import annotations

import hashlib
from typing import ClassVar

from volant.core.ids import Uid
from volant.core.resource import Meta, Resource, Spec, Status


class ClaimSpec(Spec, frozen=True, kw_only=True):
    thing: str
    """What is claimed: ``ip``, ``mac``, ``port``, ``slot`` or ``device``."""
    owner_kind: str
    owner_name: str
    owner_uid: Uid
    node: str = ""
    """Set on claims that hold on one host only."""


class ClaimStatus(Status, frozen=True, kw_only=True):
    pass


class Claim(Resource[ClaimSpec, ClaimStatus], frozen=True, kw_only=True):
    kind: ClassVar[str] = "Claim"
    plural: ClassVar[str] = "claims"
    spec_type: ClassVar[type[Spec]] = ClaimSpec
    status_type: ClassVar[type[Status]] = ClaimStatus


def build_claim(name: str, spec: ClaimSpec, created_at: str) -> Claim:
    """A claim named ``name``, in no project. Its uid follows from its name and owner, so building it twice is the same claim."""
    uid = Uid(hashlib.sha256(f"{name}\0{spec.owner_uid}".encode()).hexdigest()[:32])
    return Claim(meta=Meta(name=name, uid=uid, project="", created_at=created_at), spec=spec, status=ClaimStatus())


def ip_claim_name(network: str, ip: str) -> str:
    return f"ip.{network}.{ip}"


def mac_claim_name(mac: str) -> str:
    return f"mac.{mac}"


def slot_claim_name(node: str, slot: int) -> str:
    """A slot decides a VM's host user (and later its vsock CID) on its node."""
    return f"slot.{node}.{slot}"


def port_claim_name(network: str, protocol: str, host_port: int) -> str:
    """A published port is one of the host's addresses on which a network's guests are reached."""
    return f"port.{network}.{protocol}.{host_port}"


def device_claim_name(node: str, address: str) -> str:
    """A device of a node, by its place there, is one VM's."""
    return f"device.{node}.{address}"
