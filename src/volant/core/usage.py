"""What counts against a quota, and whether it still may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volant.core.errors import QuotaExceeded
from volant.core.quota import Quota, QuotaSpec, QuotaStatus
from volant.core.vm import VM

FIELDS = QuotaSpec.__struct_fields__
WORDS = {"cpu_cores": "cores", "memory_mb": "MiB of memory", "disk_mb": "MiB of disk", "vms": "VMs"}

NOTHING = QuotaStatus()


def usage_of(vm: VM) -> QuotaStatus:
    """What a VM counts for as long as it is there, whether it runs or not. Clones that a pool keeps count for nobody."""
    if vm.spec.power == "parked":
        return NOTHING
    root = (vm.spec.disk_mb or 0) if vm.spec.root == "disk" else 0
    return QuotaStatus(
        vms=1,
        cpu_cores=vm.spec.cpu_cores or 0,
        memory_mb=vm.spec.memory_mb or 0,
        disk_mb=root + sum(disk.size_mb or 0 for disk in vm.spec.disks if not disk.readonly),
    )


def usage_in(data: Mapping[str, Any]) -> QuotaStatus:
    """As ``usage_of``, of a VM's record."""
    spec = data["spec"]
    if spec["power"] == "parked":
        return NOTHING
    root = (spec["disk_mb"] or 0) if spec["root"] == "disk" else 0
    disks = sum(disk["size_mb"] or 0 for disk in spec["disks"] if not disk["readonly"])
    return QuotaStatus(vms=1, cpu_cores=spec["cpu_cores"] or 0, memory_mb=spec["memory_mb"] or 0, disk_mb=root + disks)


def add_usage(one: QuotaStatus, other: QuotaStatus, sign: int = 1) -> QuotaStatus:
    return QuotaStatus(**{name: getattr(one, name) + sign * getattr(other, name) for name in FIELDS})


def change_usage(quota: Quota, before: QuotaStatus, after: QuotaStatus, what: str = "") -> QuotaStatus:
    """What is used once ``before`` has become ``after``. What shrinks always may.

    Raises:
        QuotaExceeded: more would be used than the quota allows, and more than now. It says what is used, wanted and allowed.
    """
    used = add_usage(add_usage(quota.status, before, -1), after)
    for name in FIELDS:
        limit = getattr(quota.spec, name)
        more = getattr(after, name) - getattr(before, name)
        if limit is not None and more > 0 and getattr(used, name) > limit:
            words, option = WORDS.get(name, name), name.removesuffix("_mb").replace("_", "-")
            raise QuotaExceeded(
                f"{what or 'this'} needs {more} {words} more, and the quota {quota.name!r} allows {limit}, of which "
                f"{getattr(quota.status, name)} are used",
                hint=f"delete what is not needed, or: volar quotas set {quota.name} --{option} N",
            )
    # A drift that a recount has yet to mend is no reason to go below nothing.
    return QuotaStatus(**{name: max(0, getattr(used, name)) for name in FIELDS})
