"""Where volantd leaves its process: the same calls as ever, with faults before and after each.

Only failures that a contract promises are injected: what raised from a store kept nothing, so a store never fails after the
effect; it may be slow to say so, and volantd may die meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from volant.core.errors import GuestUnreachable, Unavailable
from volant.hypervisor.driver import Ending, Instance
from volant.hypervisor.simulated import SimulatedDriver, SimulatedInstance
from volant.net.simulated import SimulatedFabric
from volant.store.contract import Batch, Create, Delete, Key, Lease, Listing, Operation, Stored, Update
from volant.store.sqlite import SqliteStore

from .faults import Faults, fail_disk, fail_host, fail_store
from .incarnation import Incarnation

T = TypeVar("T")

Written = dict[Key, dict[str, Any] | None]
"""What a transaction writes; None for what it deletes."""

NoteWriting = Callable[[Written], contextlib.AbstractContextManager[None]]
"""Told of a transaction while it lasts."""


def fail_reach(point: str) -> Exception:
    return GuestUnreachable(f"injected: nobody accepts at {point}")


def fail_answer(point: str) -> Exception:
    return Unavailable(f"injected: the VM process does not answer at {point}")


class FaultyStore:
    """Implements store.contract.Store."""

    def __init__(self, store: SqliteStore, faults: Faults, writing: NoteWriting) -> None:
        self._store = store
        self._faults = faults
        self._writing = writing

    @property
    def incarnation(self) -> str:
        return self._store.incarnation

    async def get(self, key: Key) -> Stored | None:
        await self._read(f"store get {key.kind}")
        return await self._store.get(key)

    async def list(self, kind: str, project: str | None = None, labels: dict[str, str] | None = None) -> Listing:
        await self._read(f"store list {kind}")
        return await self._store.list(kind, project, labels)

    async def transact(self, operations: Sequence[Operation]) -> int:
        written = {each.key: _as_kept(each) for each in operations if isinstance(each, Create | Update | Delete)}
        point = "store transact " + ",".join(sorted({key.kind for key in written}))
        await self._write(point)
        with self._writing(written):
            revision = await self._store.transact(operations)
        await self._faults.after(point, slow="store_slow")
        return revision

    @contextlib.asynccontextmanager
    async def watch(
        self, since: int, kinds: Sequence[str] | None = None, *, progress: bool = False
    ) -> AsyncIterator[AsyncIterator[Batch]]:
        await self._read("store watch")
        async with self._store.watch(since, kinds, progress=progress) as batches:
            following = self._follow(batches)
            try:
                yield following
            finally:
                await following.aclose()  # type: ignore[attr-defined]  # it is a generator

    async def _follow(self, batches: AsyncIterator[Batch]) -> AsyncIterator[Batch]:
        faults = self._faults
        async for batch in batches:
            if faults.strike("watch_drops", f"revision {batch.revision}"):
                raise Unavailable("injected: the watch was cut off")
            lag_s = faults.delay_s("watch_lags", f"revision {batch.revision}")
            if lag_s:
                await asyncio.sleep(lag_s)
            yield batch
            if faults.strike("watch_repeats", f"revision {batch.revision}"):
                yield batch

    async def grant_lease(self, name: str, holder: str, ttl_s: float) -> Lease:
        await self._write("store lease")
        return await self._store.grant_lease(name, holder, ttl_s)

    async def release_lease(self, name: str, holder: str) -> None:
        await self._write("store lease")
        await self._store.release_lease(name, holder)

    async def compact(self) -> int:
        await self._write("store compact")
        return await self._store.compact()

    async def close(self) -> None:
        await self._store.close()

    async def _read(self, point: str) -> None:
        await self._faults.before(point, slow="store_slow", fails="store_fails", failures=(fail_store,))

    async def _write(self, point: str) -> None:
        await self._faults.before(point, slow="store_slow", fails="store_fails", failures=(fail_store, fail_disk))


def _as_kept(operation: Create | Update | Delete) -> dict[str, Any] | None:
    if isinstance(operation, Delete):
        return None
    kept: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(operation.data))
    return kept


class HostSide:
    """Runs what happens on the host outside of volantd: it goes on when volantd dies, and ends when volantd gives it up."""

    def __init__(self, faults: Faults, incarnation: Incarnation, outside: contextvars.Context) -> None:
        self.faults = faults
        self.incarnation = incarnation
        self._outside = outside

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.get_running_loop().create_task(work, context=self._outside.copy())

    async def call(self, point: str, work: Callable[[], Coroutine[Any, Any, T]], *failures: Callable[[str], Exception]) -> T:
        await self.faults.before(point, slow="host_slow", fails="host_fails", failures=failures)
        result = await self.run(work())
        await self.faults.after(point, slow="host_slow")
        return result


class FaultyInstance:
    """Implements hypervisor.driver.Instance."""

    def __init__(self, instance: SimulatedInstance, side: HostSide) -> None:
        self._instance = instance
        self._side = side

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instance, name)

    async def wait_ended(self) -> Ending:
        return await self._instance.wait_ended()

    async def connect_agent(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self._side.call("connect agent", self._instance.connect_agent, fail_reach)
        self._side.incarnation.lose_at_death(writer.transport.abort)
        return reader, writer

    async def query_state(self) -> Any:
        return await self._side.call("query state", self._instance.query_state, fail_answer)

    async def pause(self) -> None:
        await self._side.call("pause", self._instance.pause, fail_answer)

    async def resume(self) -> None:
        await self._side.call("resume", self._instance.resume, fail_answer)

    async def save(self, directory: Path) -> Any:
        return await self._side.call("save", lambda: self._instance.save(directory), fail_answer, fail_disk, fail_host)

    async def apply_limits(self, limits: Any) -> Any:
        return await self._side.call("apply limits", lambda: self._instance.apply_limits(limits), fail_answer)

    async def read_counters(self) -> Any:
        return await self._side.call("read counters", self._instance.read_counters, fail_answer)

    async def destroy(self) -> None:
        await self._side.call("destroy", self._instance.destroy)

    async def close(self) -> None:
        await self._instance.close()


class FaultyDriver:
    """Implements hypervisor.driver.Driver."""

    def __init__(self, driver: SimulatedDriver, side: HostSide) -> None:
        self._driver = driver
        self._side = side

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    async def launch(self, *args: Any) -> Instance:
        found = await self._side.call("launch", lambda: self._driver.launch(*args), fail_host)
        return self._wrap(found)

    async def restore(self, *args: Any) -> Instance:
        found = await self._side.call("restore", lambda: self._driver.restore(*args), fail_host)
        return self._wrap(found)

    async def adopt(self, *args: Any) -> Instance | Ending | None:
        found = await self._side.call("adopt", lambda: self._driver.adopt(*args))
        return self._wrap(found) if isinstance(found, SimulatedInstance) else found

    def _wrap(self, instance: Any) -> Any:
        return FaultyInstance(instance, self._side)


class FaultyFabric:
    """Implements net.fabric.Fabric."""

    def __init__(self, fabric: SimulatedFabric, side: HostSide) -> None:
        self._fabric = fabric
        self._side = side

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._fabric, name)
        if not asyncio.iscoroutinefunction(found):
            return found
        failures = () if name in ("open", "close") else (fail_host,)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._side.call(f"network {name}", lambda: work(*args, **kwargs), *failures)

        work = self._open_tap if name == "open_tap" else found
        return call

    async def _open_tap(self, name: str, bridge: str) -> int:
        descriptor = await self._fabric.open_tap(name, bridge)
        self._side.incarnation.lose_at_death(close_later(descriptor))
        return descriptor


def close_later(descriptor: int) -> Callable[[], None]:
    """What closes ``descriptor`` if it is still the file that it is now: a killed program lets go of everything."""
    is_now = os.fstat(descriptor)

    def close() -> None:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), is_now):
                os.close(descriptor)

    return close
