"""What a VM holds beside its record: the claims that go when it goes."""

from __future__ import annotations

from collections.abc import Iterator

from volant.core.claim import ip_claim_name, mac_claim_name, slot_claim_name
from volant.core.published import port_claim_names
from volant.core.vm import VM
from volant.store.cache import Cache
from volant.store.contract import Delete, Key, Operation, Store, Stored

BY_CLAIMANT = "claimant"
"""The cache's index of claims by the uid of who has them."""


def index_claimant(stored: Stored) -> Iterator[str]:
    if stored.key.kind == "Claim":
        yield stored.data["spec"]["owner_uid"]


async def release_claims(store: Store, cache: Cache, vm: VM) -> list[Operation]:
    """What gives back all claims of ``vm``, for the transaction in which it goes."""
    names = [mac_claim_name(address.mac) for address in vm.status.addresses]
    names += [ip_claim_name(address.network, address.ip) for address in vm.status.addresses if address.ip]
    names += port_claim_names(vm)
    if vm.status.slot is not None:
        names.append(slot_claim_name(vm.status.node, vm.status.slot))
    # What its record does not name, such as devices; the cache may lag, so that it alone would not do.
    names += [stored.key.name for stored in cache.by_index(BY_CLAIMANT, vm.uid)]
    operations: list[Operation] = []
    for name in dict.fromkeys(names):
        key = Key("Claim", "", name)
        stored = await store.get(key)
        if stored is not None and stored.data["spec"]["owner_uid"] == vm.uid:
            operations.append(Delete(key, stored.revision))
    return operations
