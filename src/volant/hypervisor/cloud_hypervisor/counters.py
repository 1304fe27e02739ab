"""What passed through each device, by Cloud Hypervisor's own account (``vm.counters``)."""

from __future__ import annotations

from collections.abc import Mapping

from volant.hypervisor.cloud_hypervisor.api import Api
from volant.hypervisor.cloud_hypervisor.config import MIB, disk_id, network_id
from volant.hypervisor.driver import Counters, DiskCounters, NetworkCounters
from volant.hypervisor.machine import Machine


async def read_counters(api: Api, machine: Machine) -> Counters:
    """Raises as ``Api.put``."""
    found = await api.counters()
    memory = (await api.info()).memory_actual_size
    return Counters(
        disks={disk.serial: _read_disk(found[disk_id(disk.serial)]) for disk in machine.disks if disk_id(disk.serial) in found},
        networks={nic.tap: _read_network(found[network_id(nic.bus)]) for nic in machine.networks if network_id(nic.bus) in found},
        memory_mib=machine.memory_mib if memory is None else min(machine.memory_mib, max(0, memory) // MIB),
    )


def _read_disk(values: Mapping[str, int]) -> DiskCounters:
    return DiskCounters(
        read_bytes=values.get("read_bytes", 0),
        written_bytes=values.get("write_bytes", 0),
        reads=values.get("read_ops", 0),
        writes=values.get("write_ops", 0),
    )


def _read_network(values: Mapping[str, int]) -> NetworkCounters:
    return NetworkCounters(
        received_bytes=values.get("rx_bytes", 0),
        sent_bytes=values.get("tx_bytes", 0),
        received_packets=values.get("rx_frames", 0),
        sent_packets=values.get("tx_frames", 0),
    )
