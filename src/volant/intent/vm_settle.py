"""What a VM will be: what was left open filled in from its plugin, and whether it can be so here."""

from __future__ import annotations

import msgspec

from volant.core.defaults import fill_in
from volant.core.errors import InvalidInput
from volant.core.hardware import Hardware, find_lack
from volant.core.kernel_words import DEFAULT_ALLOW, check_words
from volant.core.node import Node
from volant.core.placement import check_placement
from volant.core.plugin import Plugin
from volant.core.trust import Policy
from volant.core.vm import VMSpec
from volant.intent.devices import check_devices
from volant.intent.ports import choose_ports
from volant.intent.vm_checks import BootFiles, check_boot_files, check_command, check_env, check_without_agent
from volant.store.contract import Store
from volant.store.records import list_resources


class SpecSettler:
    """``files`` are what VMs may boot from instead of their plugin's; ``policy`` is the host's about signatures."""

    def __init__(
        self,
        store: Store,
        *,
        files: BootFiles | None = None,
        policy: Policy = "off",
        cmdline_allow: tuple[str, ...] = DEFAULT_ALLOW,
    ) -> None:
        self._store = store
        self._files = files
        self._policy = policy
        self._cmdline_allow = cmdline_allow

    async def settle(self, asked: VMSpec, plugin: Plugin) -> VMSpec:
        """``asked`` with everything that it leaves open, when a VM of ``plugin`` may be so.

        Raises:
            InvalidInput: a value that cannot be right; its field is named. WrongState: the host's policy forbids it.
        """
        check_env(asked.env)
        check_command(asked.command)
        check_placement(asked.placement)
        spec = fill_in(asked, plugin.manifest)
        if plugin.manifest.agent == "none":
            check_without_agent(spec)
        spec = msgspec.structs.replace(
            spec,
            ports=choose_ports(spec, plugin.manifest),
            kernel_cmdline=check_words(spec.kernel_cmdline, self._cmdline_allow),
        )
        await check_boot_files(spec, self._files, self._policy)
        await self._check_host(spec, plugin.manifest.hardware)
        await check_devices(self._store, spec, plugin.manifest, self._files)
        return spec

    async def _check_host(self, spec: VMSpec, hardware: Hardware) -> None:
        nodes, _ = await list_resources(self._store, Node, "")
        if not nodes:
            return
        assert spec.memory_mb is not None and spec.cpu_cores is not None
        memory = max(node.status.memory_mb for node in nodes)
        if spec.memory_mb > memory:
            raise InvalidInput(f"{spec.memory_mb} MiB is more memory than any host has ({memory} MiB)", field="memory_mb")
        cores = max(node.status.cpu_cores for node in nodes)
        if spec.cpu_cores > cores:
            raise InvalidInput(f"{spec.cpu_cores} cores are more than any host has ({cores})", field="cpu_cores")
        lacks = [find_lack(hardware, node.status) for node in nodes]
        lack = lacks[0]
        if lack is not None and all(lacks):
            raise InvalidInput(
                f"its plugin asks for hardware that no host has: {lack.reason}",
                field="plugin",
                hint=f"{lack.field} of its manifest asks for it",
            )
