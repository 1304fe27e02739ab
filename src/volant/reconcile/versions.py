"""What goes with a VM that goes: the versions of its configuration."""

from __future__ import annotations

from volant.core.vm import VM
from volant.core.vm_revision import VM_LABEL, VMRevision
from volant.store.contract import MAX_OPERATIONS, Delete, Store


async def forget_versions(store: Store, vm: VM) -> None:
    """Before the VM itself goes: nobody makes a version of one that is being deleted, and nobody would find them later."""
    versions = (await store.list(VMRevision.kind, vm.meta.project, {VM_LABEL: vm.uid})).items
    for start in range(0, len(versions), MAX_OPERATIONS):
        await store.transact([Delete(stored.key) for stored in versions[start : start + MAX_OPERATIONS]])
