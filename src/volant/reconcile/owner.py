"""What controllers have made: found by the uid of the resource that it goes with."""

from __future__ import annotations

from typing import Protocol

from volant.core.ids import Uid
from volant.core.resource import Wanted
from volant.core.vm import VM, VMSpec
from volant.core.vm_revision import NOBODY, Author
from volant.store.cache import Cache
from volant.store.owned import BY_OWNER, index_owner
from volant.store.records import read_resource

__all__ = ["BY_OWNER", "VMMaker", "index_owner", "list_owned"]


class VMMaker(Protocol):
    """How a controller makes a VM: the same way as everybody, with all checks and claims."""

    async def create(
        self,
        wanted: Wanted[VMSpec],
        *,
        project: str = "default",
        author: Author = NOBODY,
        dry_run: bool = False,
        owner: str | None = None,
    ) -> VM:
        """Raises as intent.vms.VMIntent.create."""
        ...


def list_owned(cache: Cache, uid: Uid) -> list[VM]:
    """The VMs of a deployment or a job, by name, as the cache has them; those that are being deleted too."""
    return [read_resource(VM, stored) for stored in cache.by_index(BY_OWNER, uid) if stored.key.kind == VM.kind]
