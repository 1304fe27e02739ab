"""What is to be seen of a controller's queue: depths, waits, and why each key waits."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping
from typing import Protocol

from volant.core.queue import Queue, QueueDetail, QueuedKey, TenantDepth, Why
from volant.reconcile.metrics import PassMetrics
from volant.reconcile.queue import WorkQueue
from volant.store.contract import Key

HUNG_AFTER_S = 60.0
"""A pass that takes longer is likely to wait for something that does not come."""

TENANTS_TOLD = 100


class FailingLike(Protocol):
    @property
    def failures(self) -> int: ...

    @property
    def error(self) -> str: ...


class EngineLike(Protocol):
    """What is read of an engine."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def workers(self) -> int: ...

    @property
    def running(self) -> bool: ...

    @property
    def queue(self) -> WorkQueue: ...

    @property
    def metrics(self) -> PassMetrics: ...

    @property
    def failing(self) -> Mapping[Key, FailingLike]: ...


def describe_queue(engine: EngineLike, now: float) -> Queue:
    queue, metrics = engine.queue, engine.metrics
    tenants = [
        TenantDepth(project, depth, queue.is_limited(project))
        for project, depth in sorted(queue.depths().items(), key=lambda one: (-one[1], one[0]))
    ]
    limited = sum(_is_limited(queue, key) for key in queue.ready()) if any(one.limited for one in tenants) else 0
    planned = queue.planned()
    # The dictionary is in the order in which waiting began, but for those that were asked for again.
    oldest = min((wait.since for wait in queue.ready().values()), default=now)
    return Queue(
        name=engine.name,
        kind=engine.kind,
        running=engine.running,
        workers=engine.workers,
        waiting=len(queue.ready()),
        limited=limited,
        planned=len(planned),
        in_hand=len(queue.working()),
        hung=sum(now - wait.since > HUNG_AFTER_S for wait in queue.working().values()),
        oldest_wait_s=round(now - oldest, 3),
        next_planned_s=round(max(0.0, min(one.due for one in planned.values()) - now), 3) if planned else None,
        passes=metrics.passes,
        failures=metrics.failures,
        retries=metrics.retries,
        races=metrics.races,
        failing=len(engine.failing),
        seconds=round(metrics.seconds, 3),
        seconds_max=round(metrics.seconds_max, 3),
        waited_s=round(queue.waited_s, 3),
        waited_max_s=round(queue.waited_max_s, 3),
        histogram=metrics.histogram,
        tenants=tuple(tenants[:TENANTS_TOLD]),
    )


def describe_keys(engine: EngineLike, now: float, limit: int) -> QueueDetail:
    """With at most ``limit`` keys."""
    queue = engine.queue
    found: list[QueuedKey] = []
    for key, wait in itertools.islice(queue.working().items(), limit):
        hung = now - wait.since > HUNG_AFTER_S
        found.append(_describe(engine, key, "in_hand", wait.why, now - wait.since, hung=hung))
    for key in itertools.islice(queue.waiting(), limit - len(found)):
        wait = queue.ready()[key]
        state = "limited" if _is_limited(queue, key) else "ready"
        found.append(_describe(engine, key, state, wait.why, now - wait.since))
    planned = queue.planned()
    for key in heapq.nsmallest(limit - len(found), planned, key=lambda key: (planned[key].due, key)):
        one = planned[key]
        found.append(_describe(engine, key, "planned", one.why, now - one.since, due_in_s=max(0.0, one.due - now)))
    there = len(queue.working()) + len(queue.ready()) + len(planned)
    return QueueDetail(queue=describe_queue(engine, now), keys=tuple(found), left_out=there - len(found))


def _is_limited(queue: WorkQueue, key: Key) -> bool:
    place = queue.place_of(key)
    return not place.ending and queue.is_limited(place.project)


def _describe(
    engine: EngineLike, key: Key, state: str, why: Why, for_s: float, *, due_in_s: float | None = None, hung: bool = False
) -> QueuedKey:
    failing = engine.failing.get(key)
    return QueuedKey(
        kind=key.kind,
        project=key.project,
        name=key.name,
        state=state,
        why=why,
        owner=engine.queue.place_of(key).owner,
        for_s=round(for_s, 3),
        due_in_s=None if due_in_s is None else round(due_in_s, 3),
        failures=0 if failing is None else failing.failures,
        error="" if failing is None else failing.error,
        hung=hung,
    )
