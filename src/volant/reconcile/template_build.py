"""Making a template that no VM's start leaves behind: of a guest that Volant boots for itself, without network or secrets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from volant.core.cards import bare_cards
from volant.core.clock import Clock, format_time
from volant.core.errors import HostError, TimedOut
from volant.core.ids import Uid, new_run_id, new_uid
from volant.core.readiness import is_readiness_told
from volant.core.resource import Meta
from volant.core.template import TemplateKind
from volant.core.vm import VM, VMStatus
from volant.guest.document import encode_document
from volant.guest.preamble import ZERO_SECRET
from volant.guest.probe import await_echo
from volant.guest.state import AgentState
from volant.node.local import LocalNode
from volant.node.run import Run
from volant.reconcile.templates import TemplateKeeper, save_paused
from volant.reconcile.vm_start import VMStarter
from volant.reconcile.vm_status import SETTLED_AFTER_S
from volant.volume.saved import discard_saved

BUILD_SLOT = -2
"""Its user is below every VM's and below that of the proof of KVM."""

BOOT_TIMEOUT_S = 120.0
READY_TIMEOUT_S = 300.0


class TemplateBuilder:
    """Builds one template at a time. ``active`` are the units that it has in hand, which nobody may sweep."""

    def __init__(self, keeper: TemplateKeeper, starter: VMStarter, node: LocalNode, clock: Clock) -> None:
        self._keeper = keeper
        self._starter = starter
        self._node = node
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self.active: set[Uid] = set()

    async def build(self, like: VM, key: str, kind: TemplateKind) -> None:
        """Make template ``key`` for VMs of the shape of ``like``.

        Raises:
            VolantError: it could not be made; nothing is left.
        """
        async with self._one_at_a_time:
            vm = self._imagine(like, key)
            self.active.add(vm.uid)
            try:
                unfinished = await self._take(vm, key, kind)
                await self._keeper.publish(key, self._starter.describe_template(vm, kind), unfinished)
            finally:
                await self._node.release(vm.uid)
                self.active.discard(vm.uid)

    def _imagine(self, like: VM, key: str) -> VM:
        uid = new_uid()
        return VM(
            meta=Meta(name=f"template-{key[:12]}", uid=uid, project=like.meta.project, created_at=format_time(self._clock.now())),
            spec=msgspec.structs.replace(like.spec, power="parked", env={}, ports=(), snapshot="", start="cold"),
            status=VMStatus(slot=BUILD_SLOT, run_id=new_run_id(), addresses=bare_cards(uid, like.spec)),
        )

    async def _take(self, vm: VM, key: str, kind: TemplateKind) -> Path:
        manifest, machine, media = await self._starter.resolve(vm)
        asked = self._clock.monotonic()
        run = await self._starter.boot(vm, machine, manifest, media, held=kind == "booted", asked=asked)
        path = self._keeper.store.path(key)
        if kind == "booted":
            await await_echo(run.instance.connect_agent, self._clock, timeout_s=BOOT_TIMEOUT_S)
            return await save_paused(run, path)
        await self._make_ready(vm, run, has_check=is_readiness_told(manifest))
        await run.hold()
        unfinished = await save_paused(run, path, resume=False)
        try:
            await self._starter.parts.copy_own(vm, manifest, unfinished)
        except BaseException:
            await discard_saved(unfinished)
            raise
        return unfinished

    async def _make_ready(self, vm: VM, run: Run, *, has_check: bool) -> None:
        await run.link.wait_for(lambda state: state.connected and state.hello is not None, BOOT_TIMEOUT_S)
        # Zeros, so that whoever starts from the template can reach it and tell it who it is.
        document = await self._starter.build_guest_document(vm, run, ZERO_SECRET)
        await run.link.configure(encode_document(document))
        state = await run.link.wait_for(_is_decided, READY_TIMEOUT_S)
        if not _is_healthy(state):
            message = state.workload.message if state.workload is not None else ""
            raise HostError(f"its workload did not become healthy: {message or state.reason or 'it ended'}")
        if not has_check:
            # What fails, mostly fails at once; nothing else would tell.
            await self._clock.sleep(SETTLED_AFTER_S)
            if not _is_healthy(run.agent):
                raise TimedOut("its workload did not stay up")
        await run.link.sync()


def _is_healthy(state: AgentState) -> bool:
    workload, health = state.workload, state.health
    return workload is not None and workload.state == "running" and health is not None and health.state == "healthy"


def _is_decided(state: AgentState) -> bool:
    return _is_healthy(state) or (state.workload is not None and state.workload.state in ("failed", "backoff", "exited"))
