"""What a VM's published ports are claimed by."""

from __future__ import annotations

from volant.core.claim import port_claim_name
from volant.core.vm import VM


def port_claim_names(vm: VM) -> list[str]:
    return [port_claim_name(vm.spec.network, port.protocol, port.host_port) for port in vm.spec.ports or ()]
