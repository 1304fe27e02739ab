"""Taking a parked clone: its record passes to the VM that is created, and what runs for it with the record.

Both have one uid: what lies on the host under it (process, tap, disk, logs) becomes the new VM's in the same transaction.
"""

from __future__ import annotations

import msgspec

from volant.core.plugin import Plugin
from volant.core.resource import Meta
from volant.core.vm import BOOTED, NETWORK_READY, SCHEDULED, VM, Address, StartRecord, VMSpec, VMStatus, is_parked
from volant.store.contract import Delete, Operation, Store
from volant.store.records import create_of, key_of, list_resources

_FREE = {"power": "running", "start": "auto", "ports": (), "auto_suspend_s": 0, "stop_grace_s": 10}
"""What a clone may be told when it is taken."""


async def find_parked(store: Store, plugin: Plugin, spec: VMSpec) -> VM | None:
    """A parked clone that ``spec`` can be had from; None when there is none, or it asks for something that none has."""
    if not plugin.wanted_pool or spec.start == "cold" or spec.power != "running":
        return None
    vms, _ = await list_resources(store, VM, plugin.meta.project)
    # However its plugin is named: what counts is that it was made from that very content.
    wanted = msgspec.structs.replace(spec, plugin=plugin.name, **_FREE)
    for vm in vms:
        if not is_parked(vm) or vm.deleting or vm.status.phase != "Parked" or vm.status.plugin_uid != plugin.uid:
            continue
        if msgspec.structs.replace(vm.spec, **_FREE) == wanted:
            return vm
    return None


def made_from(plugin: Plugin, addresses: tuple[Address, ...]) -> VMStatus:
    """The status that a VM of ``plugin`` begins with."""
    return VMStatus(addresses=addresses, plugin_uid=plugin.uid, plugin_version=plugin.spec.version)


def take_parked(parked: VM, meta: Meta, spec: VMSpec, addresses: tuple[Address, ...]) -> tuple[VM, list[Operation]]:
    """The VM that ``parked`` becomes, and what makes it so."""
    start = StartRecord(kind="pool", asked_at=meta.created_at, template=parked.status.template)
    # What was seen of it so far was seen of a clone that stood still.
    conditions = tuple(one for one in parked.status.conditions if one.type in (SCHEDULED, NETWORK_READY, BOOTED))
    status = msgspec.structs.replace(
        parked.status,
        addresses=addresses,
        start=start,
        phase="Starting",
        reason="Taken",
        message="it was taken from the pool",
        conditions=conditions,
        observed_generation=0,
    )
    vm = VM(meta=msgspec.structs.replace(meta, uid=parked.uid), spec=spec, status=status)
    return vm, [Delete(key_of(parked), parked.revision), create_of(vm)]
