"""The network: a bridge, a subnet and its rules. One is managed today and named ``default``."""

from __future__ import annotations

from typing import ClassVar, Literal

from volant.core.condition import Conditions
from volant.core.resource import Resource, Spec, Status

DEFAULT_NETWORK = "default"


class NetworkSpec(Spec, frozen=True, kw_only=True):
    subnet: str = "192.168.127.0/24"
    bridge: str = "vbr0"
    mtu: int = 1500


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
