"""Emptying a node: one step at a time, as budgets allow. Who drains asks again until nothing is left."""

from __future__ import annotations

import contextlib

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.errors import NotFound, StaleRevision, WrongState
from volant.core.job import JOB_LABEL
from volant.core.vm import VM, is_parked
from volant.intent.eviction import Eviction
from volant.intent.nodes import NodeIntent
from volant.intent.vms import VMIntent
from volant.store.cache import Cache
from volant.store.contract import Store
from volant.store.records import update_of


class Blocked(msgspec.Struct, frozen=True, kw_only=True):
    """A VM that stays for now, and why."""

    vm: str
    project: str
    reason: str


class DrainStep(msgspec.Struct, frozen=True, kw_only=True):
    """What one step did: ``moved`` are deleted to be made elsewhere, ``stopped`` were asked to stop, ``going`` are on their way.
    With none of them and nothing ``blocked`` the node is empty but for VMs that do not run."""

    node: str
    moved: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    going: tuple[str, ...] = ()
    blocked: tuple[Blocked, ...] = ()

    @property
    def left(self) -> int:
        return len(self.moved) + len(self.stopped) + len(self.going) + len(self.blocked)


class DrainIntent:
    def __init__(self, store: Store, clock: Clock, nodes: NodeIntent, vms: VMIntent, cache: Cache | None = None) -> None:
        self._store = store
        self._clock = clock
        self._nodes = nodes
        self._vms = vms
        self._eviction = Eviction(store, clock, cache)

    async def step(self, name: str, *, stop: bool = False, force: bool = False) -> DrainStep:
        """Cordon the node, and take away what can go now. ``stop``: VMs that nobody makes again elsewhere are stopped.
        ``force``: budgets do not matter, nor that a job counts it as failed.

        Raises:
            NotFound: there is no such node.
        """
        await self._nodes.cordon(name)
        moved: list[str] = []
        stopped: list[str] = []
        going: list[str] = []
        blocked: list[Blocked] = []
        for vm in await self._nodes.list_vms(name):
            if vm.deleting:
                going.append(vm.name)
            elif is_parked(vm):
                await self._remove_clone(vm)
                going.append(vm.name)
            elif _is_over(vm):
                continue  # a job's, kept for its log
            elif vm.meta.owner is not None:
                refusal = await self._eviction.evict(vm, force=force)
                if not refusal:
                    moved.append(vm.name)
                else:
                    blocked.append(Blocked(vm=vm.name, project=vm.meta.project, reason=refusal))
            elif vm.status.pid is None and vm.spec.power != "running":
                continue  # it does not run, and nobody wants it to
            elif vm.spec.power == "stopped":
                going.append(vm.name)
            elif stop:
                with contextlib.suppress(NotFound, WrongState):
                    await self._vms.stop(vm.name, project=vm.meta.project)
                stopped.append(vm.name)
            else:
                reason = "nobody makes it again elsewhere; --stop stops it"
                blocked.append(Blocked(vm=vm.name, project=vm.meta.project, reason=reason))
        return DrainStep(node=name, moved=tuple(moved), stopped=tuple(stopped), going=tuple(going), blocked=tuple(blocked))

    async def _remove_clone(self, vm: VM) -> None:
        meta = msgspec.structs.replace(vm.meta, deleting_at=format_time(self._clock.now()), generation=vm.meta.generation + 1)
        with contextlib.suppress(NotFound, StaleRevision):
            await self._store.transact([update_of(msgspec.structs.replace(vm, meta=meta))])


def _is_over(vm: VM) -> bool:
    return JOB_LABEL in vm.meta.labels and vm.status.pid is None and vm.status.phase in ("Stopped", "Failed")
