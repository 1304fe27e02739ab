"""The ports of one deployment: who comes in is led to a replica, or held for one, or turned away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack

import msgspec
import structlog

from volant.core.clock import Clock
from volant.core.deployment import Deployment
from volant.core.errors import VolantError
from volant.core.ids import Uid
from volant.core.vm import VM
from volant.net.fabric import Fabric
from volant.net.pipe import Pipe
from volant.net.socket import reset_connection
from volant.node.door import PortStream
from volant.reconcile.balance.members import Link, Member, Members, is_ending
from volant.reconcile.guest_way import GuestWay
from volant.reconcile.listeners import Listeners, tell_unavailable
from volant.store.cache import Cache
from volant.store.contract import Store

log = structlog.get_logger()

MAX_CONNECTIONS = 4096
HOLD_LIMIT_S = 10.0
"""How long who comes while no replica is ready is held."""

WAKE_LIMIT_S = 60.0
"""As HOLD_LIMIT_S, of a deployment that sleeps."""

FIRST_ATTEMPT_S = 0.25
LONGEST_ATTEMPT_S = 2.0
ATTEMPT_AGAIN_S = 0.05
CONNECTS_AT_ONCE = 64
IDLE_LIMIT_S = 3600.0
"""A connection in which nothing moves for so long is ended."""


class Traffic(msgspec.Struct, frozen=True):
    """What goes through a deployment's ports. ``held``: of ``connections``, those that no replica has yet. ``last_active``: when
    somebody last came, or bytes moved, on the monotonic clock."""

    connections: int
    held: int
    last_active: float


def is_asleep(deployment: Deployment) -> bool:
    """True when it was sent to sleep by the autoscaler."""
    return deployment.spec.autoscale is not None and deployment.status.autoscale.replicas == 0


class Balancer:
    """Every connection is a task of its own, and what goes wrong with one ends that one."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        clock: Clock,
        fabric: Fabric,
        way: GuestWay,
        deployment: Deployment,
        *,
        on_wanted: Callable[[Deployment], None],
        on_drained: Callable[[Uid], None],
    ) -> None:
        """``on_wanted`` is called when somebody comes and the deployment sleeps; ``on_drained`` when the last connection of a
        replica that is about to end has ended."""
        self._store = store
        self._cache = cache
        self._clock = clock
        self._way = way
        self._on_wanted = on_wanted
        self._on_drained = on_drained
        self.deployment = deployment
        self.members = Members(clock, deployment)
        self._last_active = clock.monotonic()
        self._links: dict[Link, None] = {}
        self._connections = 0
        self._turns = asyncio.Semaphore(CONNECTS_AT_ONCE)
        self._has_some = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._listeners = Listeners(
            fabric,
            clock,
            deployment.name,
            wanted=lambda: self._wanted_ports().keys(),
            admit=self._admit,
            tell=self._tell_unavailable,
        )

    # What the keeper calls

    async def run(self) -> None:
        """Listen, and let in, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._listeners.run()
        finally:
            self.leave()

    def leave(self) -> None:
        """Close the ports at once, so that another may have them. The connections go with the task of ``run``."""
        self._group = None
        self._listeners.leave()

    def update(self, deployment: Deployment) -> None:
        """Take in what became of the deployment."""
        before, self.deployment = self.deployment, deployment
        if (before.status.serving, before.status.disrupted) != (deployment.status.serving, deployment.status.disrupted):
            self.members.judge_all(deployment)
        self._note_members()
        self._listeners.refresh()
        if is_asleep(deployment) and self._held():
            self._on_wanted(deployment)

    def update_replica(self, vm: VM) -> None:
        """Take in what became of a replica."""
        known = self.members.find(vm.uid)
        before = None if known is None else known.vm
        self.members.update(vm)
        if before is not None and (vm.status.phase == "Stopped" or before.status.last_end != vm.status.last_end):
            self._reset_links(vm.uid)  # their other end is gone, and nobody is left to say so
        self._note_members()

    def remove_replica(self, uid: Uid) -> None:
        if self.members.remove(uid) is not None:
            self._reset_links(uid)
            self._note_members()

    def hold_end(self, vm: VM) -> float:
        """Seconds for which the end of this replica's run has to wait: for the connections that it has, half its grace at most.

        ``vm`` is as the registry has it now. From this call on it is given no more connections, whoever knows of it already.
        """
        member = self.members.update(vm)
        self._note_members()
        if not is_ending(member.vm):
            return 0.0
        now = self._clock.monotonic()
        if member.drain_since is None:
            member.drain_since = now
        return max(0.0, member.drain_since + vm.spec.grace_s / 2 - now) if member.connections else 0.0

    @property
    def traffic(self) -> Traffic:
        return Traffic(self._connections, self._held(), self._last_active)

    def has_port(self, host_port: int) -> bool:
        return self._listeners.has_port(host_port)

    def end_idle(self) -> None:
        """End the connections in which nothing moved for too long."""
        oldest = self._clock.monotonic() - IDLE_LIMIT_S
        for link in [link for link in self._links if link.moved_at < oldest]:
            link.pipe.reset()

    # Connections

    def _wanted_ports(self) -> dict[int, int]:
        """The guests' port by the host's."""
        if self.deployment.deleting:
            return {}
        return {port.host_port: port.port for port in self.deployment.spec.ports}

    async def _tell_unavailable(self, host_port: int, error: VolantError) -> None:
        await tell_unavailable(self._store, self._cache, self._clock, self.deployment, host_port, error)

    def _held(self) -> int:
        return sum(link.member is None for link in self._links) if self._links else 0

    def _note_members(self) -> None:
        if self.members.has_some:
            self._has_some.set()
        else:
            self._has_some.clear()

    def _admit(self, client: socket.socket, host_port: int) -> None:
        port = self._wanted_ports().get(host_port)
        if self._group is None or port is None or self._connections >= MAX_CONNECTIONS:
            reset_connection(client)
            return
        client.setblocking(False)
        self._last_active = self._clock.monotonic()
        self._connections += 1
        task = self._group.create_task(self._serve(client, port))
        task.add_done_callback(lambda _: self._dismiss(client))

    def _dismiss(self, client: socket.socket) -> None:
        self._connections -= 1
        client.close()

    async def _serve(self, client: socket.socket, port: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        pipe = Pipe(may_pass=lambda pipe, has_bytes: True, on_move=lambda: self._note_move(link), on_leave=task.cancel)
        link = Link(pipe, self._clock.monotonic())
        self._links[link] = None
        if is_asleep(self.deployment):
            self._on_wanted(self.deployment)
        # Left after the pipe was closed, which may still have something to say to the guest.
        way = AsyncExitStack()
        try:
            await pipe.attach_client(client)
            async with asyncio.timeout(WAKE_LIMIT_S if is_asleep(self.deployment) else HOLD_LIMIT_S):
                guest = await self._reach(link, port, way)
            if isinstance(guest, socket.socket):
                await pipe.attach_guest(guest)
            else:
                pipe.attach_stream(guest)
            await pipe.ended.wait()
        except (OSError, VolantError) as error:
            log.info(
                "connection_failed", name=self.deployment.name, port=port, error=str(error) or "no replica could take it in time"
            )
        except Exception:  # the edge: a bug in one connection must not end the others
            log.exception("connection_bug", name=self.deployment.name, port=port)
        finally:
            self._links.pop(link, None)
            await pipe.close()
            await way.aclose()
            self._release(link)

    def _note_move(self, link: Link) -> None:
        self._last_active = link.moved_at = self._clock.monotonic()

    def _release(self, link: Link) -> None:
        member, link.member = link.member, None
        if member is None:
            return
        self.members.give_back(member)
        if member.connections == 0 and member.drain_since is not None:
            self._on_drained(member.vm.uid)

    def _reset_links(self, uid: Uid) -> None:
        for link in list(self._links):
            if link.member is not None and link.member.vm.uid == uid and link.pipe.has_guest:
                link.pipe.reset()

    async def _reach(self, link: Link, port: int, way: AsyncExitStack) -> socket.socket | PortStream:
        """What leads to ``port`` of a replica, which is then ``link.member``. It has no time limit of its own."""
        tried: set[Uid] = set()
        attempt_s = FIRST_ATTEMPT_S
        while True:
            await self._has_some.wait()
            async with self._turns:
                # Chosen in its own turn: who was ready before that may be no longer.
                member = self.members.choose(tried)
                if member is not None:
                    link.member = member
                    self.members.take(member)
                    try:
                        return await self._way.open(member.vm, port, attempt_s, way)
                    except (OSError, VolantError) as error:
                        log.debug("replica_unreachable", name=member.vm.name, port=port, error=str(error))
                        self._fail(link, member, tried)
            if member is None:
                # Nobody of them could be reached: all over again, with more patience.
                tried.clear()
                attempt_s = min(2 * attempt_s, LONGEST_ATTEMPT_S)
                await self._clock.sleep(ATTEMPT_AGAIN_S)

    def _fail(self, link: Link, member: Member, tried: set[Uid]) -> None:
        tried.add(member.vm.uid)
        self.members.note_unreachable(member)
        self._release(link)
