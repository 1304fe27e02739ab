"""What tests of deployments share: one is written down, and followed to where it should get."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from volant.core.deployment import Deployment, DeploymentSpec, Strategy
from volant.core.resource import Wanted
from volant.core.vm import VM, VMSpec
from volant.guest.simulated import SimulatedGuest
from volant.plane import ControlPlane
from volant.reconcile.owner import list_owned
from volant.store.contract import Key
from volant.store.records import read_resource

from .host import LIMIT_S, World


@contextlib.asynccontextmanager
async def deploying(world: World, **changes: Any) -> AsyncIterator[ControlPlane]:
    """A control plane with the plugin ``nginx``, whose manifest has ``changes``."""
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install({**world.manifest(), **changes})
        yield plane


async def deploy(plane: ControlPlane, name: str = "web", replicas: int = 3, **spec: Any) -> Deployment:
    env = spec.pop("env", {})
    settled = {"replace_after_s": 0, "vm": VMSpec(plugin="nginx", start="cold", env=env), **spec}
    return await plane.intents.deployments.create(Wanted(name=name, labels={}, spec=DeploymentSpec(replicas=replicas, **settled)))


async def change(plane: ControlPlane, name: str = "web", *, env: dict[str, str] | None = None, **fields: Any) -> Deployment:
    """Edit a deployment; ``env`` makes another revision."""

    def edit(document: dict[str, Any]) -> dict[str, Any]:
        changed = {**document, **msgspec.to_builtins(fields)}
        if env is not None:
            changed["vm"] = {**document["vm"], "env": env}
        return changed

    return await plane.intents.deployments.edit(name, edit)


async def arrive(plane: ControlPlane, satisfied: Callable[[Deployment], bool], name: str = "web") -> Deployment:
    """The deployment once ``satisfied`` holds; fails with where it stood."""
    last: Deployment | None = None
    try:
        async with asyncio.timeout(LIMIT_S):
            async for last in plane.intents.deployments.watch(name):
                if last is not None and satisfied(last):
                    return last
    except TimeoutError:
        where = [(vm.name, vm.status.phase, vm.status.reason) for vm in list_owned(plane.cache, last.uid)] if last else []
        raise AssertionError(f"{name} did not get there: {last and last.status}\n{where}") from None
    raise AssertionError(f"{name} was deleted")


async def until(plane: ControlPlane, satisfied: Callable[[], bool]) -> None:
    """Return once ``satisfied``, which is asked again after every change that the cache takes in."""
    changed = asyncio.Event()
    end = plane.cache.subscribe(lambda change, old: changed.set())
    try:
        async with asyncio.timeout(LIMIT_S):
            while not satisfied():
                changed.clear()
                await changed.wait()
    finally:
        end()


async def come_back(plane: ControlPlane, name: str, satisfied: Callable[[VM], bool]) -> VM:
    """The VM of that name once there is one that ``satisfied`` holds of, whatever had the name before."""

    def find() -> VM | None:
        stored = plane.cache.get(Key(VM.kind, "default", name))
        vm = None if stored is None else read_resource(VM, stored)
        return vm if vm is not None and satisfied(vm) else None

    await until(plane, lambda: find() is not None)
    found = find()
    assert found is not None
    return found


async def vanish(plane: ControlPlane, name: str = "web") -> None:
    deployment = await plane.intents.deployments.delete(name)
    assert await plane.intents.deployments.wait(deployment, "deleted", timeout_s=LIMIT_S) is None


def is_complete(number: int, replicas: int = 3) -> Callable[[Deployment], bool]:
    """Whether all are of revision ``number``, and as many as wanted."""

    def judge(deployment: Deployment) -> bool:
        status = deployment.status
        counts = (status.replicas, status.updated, status.available)
        return status.rollout.phase == "Complete" and status.rollout.revision == number and counts == (replicas,) * 3

    return judge


def is_whole(replicas: int = 3) -> Callable[[Deployment], bool]:
    return lambda deployment: deployment.status.phase == "Available" and deployment.status.available == replicas


def replicas_of(plane: ControlPlane, deployment: Deployment) -> dict[str, VM]:
    return {vm.name: vm for vm in list_owned(plane.cache, deployment.uid)}


def guest_of(world: World, vm: VM) -> SimulatedGuest:
    return world.host.running[vm.uid].serve_agent.guest  # type: ignore[union-attr,no-any-return]  # the simulated agent's


async def reasons_of(plane: ControlPlane, name: str = "web") -> set[str]:
    events, _ = await plane.intents.events.list(about_name=name)
    return {event.spec.reason for event in events}


class Witness:
    """Sees every state of the replicas, as the cache takes them in, and what was worst of them."""

    def __init__(self, plane: ControlPlane, deployment: Deployment) -> None:
        self._plane = plane
        self._uid = deployment.uid
        self.most = 0
        self.fewest: int | None = None
        self._end = plane.cache.subscribe(lambda change, old: self._look())

    def _look(self) -> None:
        vms = list_owned(self._plane.cache, self._uid)
        self.most = max(self.most, len(vms))
        ready = sum(vm.status.ready and not vm.deleting for vm in vms)
        self.fewest = ready if self.fewest is None else min(self.fewest, ready)

    def stop(self) -> None:
        self._end()


ROLLING = Strategy(max_surge=1, max_unavailable=0)
