"""The versions of VMs' configurations in the store."""

from __future__ import annotations

from volant.core.vm import VM
from volant.core.vm_revision import KEPT, NOBODY, VM_LABEL, Author, VMRevision, build_revision
from volant.store.contract import Delete, Operation, Store
from volant.store.records import create_of, key_of, list_resources


class History:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def list_of(self, vm: VM) -> list[VMRevision]:
        """Oldest first. A VM that was made by an earlier version of Volant and never changed since has none."""
        found, _ = await list_resources(self._store, VMRevision, vm.meta.project, {VM_LABEL: vm.uid})
        return sorted(found, key=lambda revision: revision.spec.number)

    def first_of(self, vm: VM) -> VMRevision:
        """The version that a VM is which has none written down."""
        return build_revision(vm, None, NOBODY, vm.meta.created_at)

    async def record(self, before: VM, after: VM, author: Author, now: str) -> list[Operation]:
        """What writes down that ``before`` became ``after``, in the transaction that makes it so.

        The oldest versions beyond KEPT go; a VM that has none gets the one that it was, too.
        """
        known = await self.list_of(before)
        operations: list[Operation] = []
        if not known:
            operations.append(create_of(self.first_of(before)))
        operations.append(create_of(build_revision(after, before, author, now)))
        too_many = max(0, len(known) + 1 - KEPT)
        return [*operations, *(Delete(key_of(revision)) for revision in known[:too_many])]
