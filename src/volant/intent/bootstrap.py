"""What volantd asks for itself when it starts: its node and the default network."""

from __future__ import annotations

import msgspec

from volant.core.address import check_bridge_name, parse_subnet
from volant.core.clock import Clock, format_time
from volant.core.condition import Condition, set_condition
from volant.core.errors import InvalidInput, StaleRevision
from volant.core.ids import new_uid
from volant.core.network import DEFAULT_BRIDGE, DEFAULT_NETWORK, DEFAULT_SUBNET, Network, NetworkSpec, NetworkStatus
from volant.core.node import NODE_READY, Node, NodeSpec, NodeStatus
from volant.core.plugin import Plugin
from volant.core.plugin_versions import is_default, version_of, version_of_snapshot
from volant.core.resource import Meta
from volant.core.snapshot import Snapshot
from volant.core.vm import VM
from volant.store.contract import Operation, Store
from volant.store.records import create_of, find_resource, list_resources, update_of

BATCH = 20
"""So many records in one transaction, which has a limit in bytes."""


async def register_node(store: Store, clock: Clock, name: str, status: NodeStatus) -> Node:
    """Make or refresh this host's record. What an operator decided of it stays."""
    now = format_time(clock.now())
    heard = Condition(type=NODE_READY, status="True", reason="Heard", message="its volantd says so")
    while True:
        node = await find_resource(store, Node, "", name)
        conditions = set_condition(() if node is None else node.status.conditions, heard, now)
        status = msgspec.structs.replace(status, heard_at=now, conditions=conditions)
        if node is None:
            meta = Meta(name=name, uid=new_uid(), project="", created_at=now)
            node = Node(meta=meta, spec=NodeSpec(), status=status)
            revision = await store.transact([create_of(node)])
        else:
            # Who starts here is no longer being removed.
            meta = msgspec.structs.replace(node.meta, deleting_at=None)
            node = msgspec.structs.replace(node, meta=meta, status=status)
            try:
                revision = await store.transact([update_of(node)])
            except StaleRevision:
                continue
        return msgspec.structs.replace(node, revision=revision)


async def note_plugin_versions(store: Store) -> None:
    """Write down which version each VM and snapshot of an older database was made from: there was only one then."""
    plugins, _ = await list_resources(store, Plugin, None)
    only = {(plugin.meta.project, plugin.name): plugin.spec.version for plugin in plugins if is_default(plugin.name)}
    vms, _ = await list_resources(store, VM, None)
    snapshots, _ = await list_resources(store, Snapshot, None)
    changes: list[Operation] = []
    for vm in vms:
        name, version = version_of(vm)
        version = version or only.get((vm.meta.project, name), "")
        if version != vm.status.plugin_version:
            status = msgspec.structs.replace(vm.status, plugin_version=version)
            changes.append(update_of(msgspec.structs.replace(vm, status=status)))
    for snapshot in snapshots:
        name, version = version_of_snapshot(snapshot)
        version = version or only.get((snapshot.meta.project, name), "")
        # One that was not taken yet is of no plugin so far.
        if name and version != snapshot.status.plugin_version:
            told = msgspec.structs.replace(snapshot.status, plugin_version=version)
            changes.append(update_of(msgspec.structs.replace(snapshot, status=told)))
    for start in range(0, len(changes), BATCH):
        await store.transact(changes[start : start + BATCH])


async def ensure_default_network(store: Store, clock: Clock, spec: NetworkSpec, project: str = "default") -> Network:
    """Make the default network, or change it to ``spec`` while no VM has an address in it.

    Raises:
        InvalidInput: the subnet cannot be used, or VMs have addresses in the old one.
    """
    spec = msgspec.structs.replace(spec, subnet=spec.subnet or DEFAULT_SUBNET, bridge=spec.bridge or DEFAULT_BRIDGE)
    parse_subnet(spec.subnet)
    check_bridge_name(spec.bridge)
    network = await find_resource(store, Network, project, DEFAULT_NETWORK)
    if network is None:
        meta = Meta(name=DEFAULT_NETWORK, uid=new_uid(), project=project, created_at=format_time(clock.now()))
        network = Network(meta=meta, spec=spec, status=NetworkStatus())
        await store.transact([create_of(network)])
        return network
    if network.spec == spec:
        return network
    vms, _ = await list_resources(store, VM, None)
    users = [vm.name for vm in vms if any(address.network == network.name for address in vm.status.addresses)]
    if users:
        raise InvalidInput(
            f"the default network is {network.spec.subnet} on {network.spec.bridge} and {len(users)} VMs have addresses in it",
            field="subnet",
            hint="keep the old settings, or delete those VMs first",
        )
    meta = msgspec.structs.replace(network.meta, generation=network.meta.generation + 1)
    network = msgspec.structs.replace(network, meta=meta, spec=spec)
    await store.transact([update_of(network)])
    return network
