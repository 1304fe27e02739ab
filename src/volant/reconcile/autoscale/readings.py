"""What the replicas of a deployment do now, asked of their hosts, their guests and their workloads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

from volant.core.autoscale import Metric
from volant.core.clock import Clock
from volant.core.deployment import Deployment
from volant.core.errors import VolantError
from volant.core.ids import Uid
from volant.core.prometheus_text import read_total
from volant.core.vm import VM
from volant.node.door import NodeDoor
from volant.reconcile.autoscale.recommend import Measured
from volant.reconcile.autoscale.scrape import get_text

ASKED_AT_ONCE = 32
STATS_LIMIT_S = 5.0
SCRAPE_LIMIT_S = 5.0
LOOK_LIMIT_S = 60.0
MAX_MESSAGE = 200


class Traffic(Protocol):
    """balance.balancer.Traffic."""

    @property
    def connections(self) -> int: ...

    @property
    def held(self) -> int: ...

    @property
    def last_active(self) -> float: ...


_Answer = TypeVar("_Answer")

FindTraffic = Callable[[Uid], Traffic | None]


class Reading(msgspec.Struct, frozen=True):
    """``measured`` is what the decision is made of; ``message`` says why something could not be measured."""

    metric: Metric
    measured: Measured
    message: str = ""


class _Counted(msgspec.Struct, frozen=True):
    """A counter as it was seen last."""

    at_s: float
    value: float


_Counters = dict[tuple[Uid, str, int], _Counted]
"""By replica, run, and place of the metric; the place CPU is processor time."""

_Value = float | str
"""What a replica was measured at, or why it was not."""

CPU = -1
_LATE: _Value = "it was not asked in time, for so many did not answer"


class MetricReader:
    """Remembers counters from look to look, to tell how fast they rise."""

    def __init__(self, door: NodeDoor, clock: Clock, find_traffic: FindTraffic) -> None:
        self._door = door
        self._clock = clock
        self._find_traffic = find_traffic
        self._counters: dict[Uid, _Counters] = {}
        self._turns = asyncio.Semaphore(ASKED_AT_ONCE)

    def forget(self, deployment: Uid) -> None:
        self._counters.pop(deployment, None)

    async def read(self, deployment: Deployment, replicas: Sequence[VM]) -> list[Reading]:
        """One for each metric. ``replicas`` are those that are ready. Nothing is raised: what is not known says why."""
        assert deployment.spec.autoscale is not None
        metrics = deployment.spec.autoscale.metrics
        before, seen = self._counters.get(deployment.uid, {}), _Counters()
        uses: list[dict[str, _Value]] = []
        if any(metric.type in ("cpu", "memory") for metric in metrics):
            uses = await self._each(replicas, lambda vm: self._read_use(vm, before, seen), {"cpu": _LATE, "memory": _LATE})
        readings = []
        for place, metric in enumerate(metrics):
            if metric.type == "connections":
                readings.append(self._read_connections(deployment, metric))
                continue
            if metric.type != "workload":
                readings.append(_gather(metric, replicas, [use[metric.type] for use in uses]))
                continue
            if metric.port is None:
                readings.append(Reading(metric, Measured(target=metric.target), "it does not say at which port"))
                continue
            values = await self._each(replicas, _Scrape(self, metric, metric.port, place, before, seen), _LATE)
            readings.append(_gather(metric, replicas, values))
        self._counters[deployment.uid] = seen
        return readings

    def _read_connections(self, deployment: Deployment, metric: Metric) -> Reading:
        traffic = self._find_traffic(deployment.uid)
        if traffic is None:
            return Reading(metric, Measured(target=metric.target), "it has no ports whose connections could be counted")
        return Reading(metric, Measured(target=metric.target, total=float(traffic.connections)))

    async def _each(self, replicas: Sequence[VM], ask: Callable[[VM], Awaitable[_Answer]], late: _Answer) -> list[_Answer]:
        """What each answers; ``late`` for those whose turn did not come in time, as where hundreds do not answer."""

        async def ask_in_turn(vm: VM) -> _Answer:
            try:
                async with asyncio.timeout(LOOK_LIMIT_S), self._turns:
                    return await ask(vm)
            except TimeoutError:
                return late

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask_in_turn(vm)) for vm in replicas]
        return [task.result() for task in tasks]

    async def _read_use(self, vm: VM, before: _Counters, seen: _Counters) -> dict[str, _Value]:
        try:
            async with asyncio.timeout(STATS_LIMIT_S):
                stats = await self._door.read_stats(vm.uid)
        except (VolantError, TimeoutError) as error:
            reason = str(error) or f"its host did not tell within {STATS_LIMIT_S:g} s"
            return {"cpu": reason, "memory": reason}
        rate = self._rate(vm, CPU, stats.cpu_s, before, seen)
        total, available = stats.guest_memory_total_bytes, stats.guest_memory_available_bytes
        memory: _Value = "its guest does not tell"
        if total and available is not None:
            memory = min(100.0, max(0.0, 100.0 * (total - available) / total))
        return {"cpu": rate if isinstance(rate, str) else 100.0 * rate / (vm.spec.cpu_cores or 1), "memory": memory}

    async def scrape(self, vm: VM, metric: Metric, port: int, place: int, before: _Counters, seen: _Counters) -> _Value:
        """The workload's own metric."""
        try:
            async with asyncio.timeout(SCRAPE_LIMIT_S), self._door.open_port(vm.uid, port) as stream:
                text = await get_text(stream, metric.path, port, limit_s=SCRAPE_LIMIT_S)
            total = read_total(text, metric.name, metric.labels)
        except TimeoutError:
            return f"port {port} did not answer within {SCRAPE_LIMIT_S:g} s"
        except VolantError as error:
            return f"port {port}: {error}"
        if total is None:
            return f"{metric.path} of port {port} tells no {metric.name}"
        if not metric.per_second:
            return total
        return self._rate(vm, place, total, before, seen)

    def _rate(self, vm: VM, place: int, value: float, before: _Counters, seen: _Counters) -> _Value:
        """How fast a counter rises, a second. One that fell began anew at 0 meanwhile."""
        name = (vm.uid, vm.status.run_id, place)
        now_s = self._clock.monotonic()
        seen[name] = _Counted(now_s, value)
        last = before.get(name)
        if last is None or now_s <= last.at_s:
            return "it was seen for the first time, and a rate needs two looks"
        risen = value - last.value if value >= last.value else value
        return max(0.0, risen) / (now_s - last.at_s)


class _Scrape:
    """What is asked of each replica for one metric."""

    def __init__(self, reader: MetricReader, metric: Metric, port: int, place: int, before: _Counters, seen: _Counters) -> None:
        self._reader = reader
        self._asked = (metric, port, place, before, seen)

    async def __call__(self, vm: VM) -> _Value:
        return await self._reader.scrape(vm, *self._asked)


def _gather(metric: Metric, replicas: Sequence[VM], values: Sequence[_Value]) -> Reading:
    known = tuple(max(0.0, value) for value in values if not isinstance(value, str))
    message = next((f"{vm.name}: {value}" for vm, value in zip(replicas, values, strict=True) if isinstance(value, str)), "")
    if not replicas:
        message = "no replica is ready"
    missing = len(values) - len(known)
    if missing > 1:
        message += f"; and {missing - 1} more could not be measured"
    return Reading(metric, Measured(target=metric.target, values=known, missing=missing), message[:MAX_MESSAGE])
