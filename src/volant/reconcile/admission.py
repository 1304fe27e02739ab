"""Whether a guest may begin, or go on, from its plugin: the trust policy's word at each start, by the keys there are then."""

from __future__ import annotations

from volant.core.errors import Untrusted
from volant.core.plugin import Plugin
from volant.core.trust import Judge
from volant.core.vm import VM
from volant.store.plugins import PluginShelf


class Admission:
    def __init__(self, plugins: PluginShelf, trust: Judge) -> None:
        self._plugins = plugins
        self._trust = trust

    async def find_refusal(self, vm: VM) -> Untrusted | None:
        """Why ``vm`` may not start now; None when it may, or when its plugin is gone, which the start itself says."""
        if self._trust.policy == "off":
            return None
        own = [field for field in ("kernel", "initramfs") if getattr(vm.spec, field) is not None]
        if own and self._trust.policy == "enforce":
            return Untrusted(f"nobody vouches for the {own[0]} that it is to boot", hint=f"volar vms set {vm.name} --{own[0]} -")
        plugin = await self._plugins.find_of(vm)
        return None if plugin is None else await self._judge(plugin)

    async def check(self, plugin: Plugin) -> None:
        """Return when a guest may start from ``plugin`` now. Raises Untrusted."""
        if self._trust.policy == "off":
            return
        refusal = await self._judge(plugin)
        if refusal is not None:
            raise refusal

    async def _judge(self, plugin: Plugin) -> Untrusted | None:
        verdict = await self._trust.judge(plugin.spec.manifest, plugin.spec.signed)
        if verdict.refused:
            return Untrusted(f"its plugin {plugin.name!r} is not trusted: {verdict.message}", hint=verdict.hint or None)
        return None
