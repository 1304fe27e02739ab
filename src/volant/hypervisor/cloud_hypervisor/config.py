"""A machine as Cloud Hypervisor is told of it: ``VmConfig`` and its parts. Pure.

Files are named by the numbers of inherited descriptors. Ids follow from serials and places alone, never from a VM's identity:
what was saved names its devices by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volant.hypervisor.cloud_hypervisor.vsock import CID
from volant.hypervisor.cloud_hypervisor.work import AGENT, fd_path
from volant.hypervisor.machine import BlockDevice, Machine, NetworkDevice

NAME = "cloud-hypervisor"
MACHINE_TYPE = "cloud-hypervisor"
CPU_MODEL = "host"
BALLOON_PLACE = 7
"""No device stands at a place as on QEMU's microvm; it only says that there is one."""

MIB = 1 << 20

SAFE_PARTS = frozenset(
    {
        "cpus", "memory", "payload", "rate_limit_groups", "disks", "net", "rng", "balloon", "serial", "console", "debug_console",
        "vsock", "iommu", "watchdog", "rtc", "pvpanic", "pvmemcontrol", "pci_segments", "platform", "landlock_enable", "numa",
    }
)  # fmt: skip
"""What the configuration of a machine of ours may hold once it was saved; all but what we wrote is a default or empty."""


def disk_id(serial: str) -> str:
    return f"disk-{serial}"


def network_id(bus: int) -> str:
    return f"net-{bus}"


def build_config(machine: Machine, *, kernel: int, initramfs: int, disks: Mapping[str, int], work: int) -> dict[str, Any]:
    """Everything but the network cards, whose taps the process is sent (``build_network``). ``disks`` by serial."""
    config: dict[str, Any] = {
        "cpus": {"boot_vcpus": machine.cpu_cores, "max_vcpus": machine.cpu_cores},
        # Memory with a file behind it is saved without its holes, and given back when a balloon takes it.
        "memory": {"size": machine.memory_mib * MIB, "shared": True},
        "payload": {"kernel": fd_path(kernel), "initramfs": fd_path(initramfs), "cmdline": machine.kernel_cmdline},
        "disks": [build_disk(disk, fd_path(disks[disk.serial])) for disk in machine.disks],
        "rng": {"src": "/dev/urandom"},
        # Its terminal is one that the holder reads: stdin and stdout.
        "serial": {"mode": "Tty"},
        "console": {"mode": "Off"},
    }
    if machine.has_agent:
        config["vsock"] = {"cid": CID, "socket": agent_path(work)}
    if machine.balloon >= 0:
        config["balloon"] = {"size": 0, "deflate_on_oom": True, "free_page_reporting": True}
    return config


def build_disk(disk: BlockDevice, path: str) -> dict[str, Any]:
    return {
        "id": disk_id(disk.serial),
        "path": path,
        "readonly": disk.readonly,
        "serial": disk.serial,
        # Never to be guessed from what a guest wrote to its first sector.
        "image_type": "Qcow2" if disk.format == "qcow2" else "Raw",
    }


def build_network(network: NetworkDevice) -> dict[str, Any]:
    """Of one queue pair; the tap is sent along."""
    return {"id": network_id(network.bus), "mac": network.mac, "num_queues": 2}


def agent_path(work: int) -> str:
    return f"{fd_path(work)}/{AGENT}"


def build_kernel_cmdline(extra: str) -> str:
    """Where the console is, and to end rather than hang: a triple fault is what every version takes for a reset."""
    return " ".join(["console=ttyS0", "quiet", "reboot=t", "panic=-1", *extra.split()])


def rewrite_config(config: Any, machine: Machine, *, disks: Mapping[str, int], work: int) -> dict[str, Any]:
    """What was saved as a configuration, on the files of ``machine``.

    Raises:
        ValueError: it is not the configuration of a machine like ``machine``.
    """
    if not isinstance(config, dict):
        raise ValueError("it is no object")
    strange = sorted(name for name, value in config.items() if name not in SAFE_PARTS and value)
    if strange:
        raise ValueError(f"it has {', '.join(strange)[:100]}, which no machine here has")
    paths = {disk_id(disk.serial): fd_path(disks[disk.serial]) for disk in machine.disks}
    saved_disks = _by_id(config.get("disks"))
    cards = {network_id(network.bus) for network in machine.networks}
    if saved_disks.keys() != paths.keys() or _by_id(config.get("net")).keys() != cards:
        raise ValueError("it has other devices")
    rewritten = {**config, "disks": [{**disk, "path": paths[name]} for name, disk in saved_disks.items()]}
    if machine.has_agent:
        vsock = config.get("vsock")
        if not isinstance(vsock, dict):
            raise ValueError("it has no vsock")
        rewritten["vsock"] = {**vsock, "socket": agent_path(work)}
    # What was written to a file or a socket there would be written to again.
    return {**rewritten, "serial": {"mode": "Tty"}, "console": {**_part(config, "console"), "mode": "Off"}}


def _part(config: dict[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _by_id(devices: Any) -> dict[str, dict[str, Any]]:
    if devices is None:
        return {}
    if not isinstance(devices, list) or not all(isinstance(device, dict) for device in devices):
        raise ValueError("its devices are no list")
    found = {str(device.get("id")): device for device in devices}
    if len(found) != len(devices):
        raise ValueError("two of its devices have one id")
    return found
