"""What the replicas of a deployment will be: everything that is left open filled in, and the plugin's version pinned."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from volant.core.errors import InvalidInput, WrongState
from volant.core.plugin_versions import name_version, split_reference
from volant.core.vm import VMSpec
from volant.intent.vm_checks import PLUGIN_HINT
from volant.intent.vms import VMIntent
from volant.store.contract import Key, Store
from volant.store.plugins import find_plugin
from volant.store.records import key_of


class Settled(NamedTuple):
    """``needs`` are the records that must not go while it is written down."""

    vm: VMSpec
    needs: tuple[Key, ...]


async def settle_replica(store: Store, vms: VMIntent, asked: VMSpec, project: str) -> Settled:
    """``asked`` as each replica will be.

    Raises:
        InvalidInput: what no VM can be; its field is a path, as in ``vm.memory_mb``. WrongState: the plugin is disabled, or the
            host's policy forbids it.
    """
    try:
        return await _settle(store, vms, asked, project)
    except InvalidInput as error:
        field = "vm" if error.field is None else f"vm.{error.field}"
        raise InvalidInput(error.message, field=field, hint=error.hint) from error


async def _settle(store: Store, vms: VMIntent, asked: VMSpec, project: str) -> Settled:
    plugin = await find_plugin(store, project, asked.plugin)
    if plugin is None or plugin.deleting:
        raise InvalidInput(f"there is no plugin named {asked.plugin[:80]!r}", field="plugin", hint=PLUGIN_HINT)
    if not plugin.spec.enabled:
        raise WrongState(f"the plugin {asked.plugin!r} is disabled", hint=f"volar plugins enable {asked.plugin}")
    # What a manifest publishes is one VM's, and a replica that slept by itself would be woken again as if it had failed.
    open_ = msgspec.structs.replace(asked, ports=(), auto_suspend_s=0)
    spec = await vms.settle_spec(open_, plugin)
    spec = await vms.cards.fit_mode(open_, spec, project)
    networks = await vms.cards.find_networks(spec, project)
    pinned = name_version(split_reference(plugin.name)[0], plugin.spec.version)
    needs = dict.fromkeys([key_of(plugin), *(key_of(network) for network in networks)])
    return Settled(msgspec.structs.replace(spec, plugin=pinned), tuple(needs))
