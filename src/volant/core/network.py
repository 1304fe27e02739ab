"""The network: a bridge, a subnet and its rules. VMs are in the one named ``default`` unless they say otherwise."""

from __future__ import annotations

from typing import ClassVar, Literal

from volant.core.condition import Conditions
from volant.core.resource import Resource, Spec, Status

DEFAULT_NETWORK = "default"

DEFAULT_SUBNET = "192.168.127.0/24"
DEFAULT_BRIDGE = "vbr0"

DhcpSource = Literal["volant", "external"]


class NetworkSpec(Spec, frozen=True, kw_only=True):
    subnet: str = ""
    bridge: str = ""
    mtu: int = 1500
    dhcp: DhcpSource = "volant"
    """``external``: the bridge is somebody else's, who gives the addresses; ``subnet`` is what they must lie in, if not empty."""


class NetworkStatus(Status, frozen=True, kw_only=True):
    phase: Literal["Pending", "Ready", "Failed"] = "Pending"
    message: str = ""
    gateway: str = ""
    conditions: Conditions = ()


class Network(Resource[NetworkSpec, NetworkStatus], frozen=True, kw_only=True):
    kind: ClassVar[str] = "Network"
    plural: ClassVar[str] = "networks"
    spec_type: ClassVar[type[Spec]] = NetworkSpec
    status_type: ClassVar[type[Status]] = NetworkStatus
