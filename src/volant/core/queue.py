"""What a controller's queue says of itself: what waits, why, since when, and what its passes cost."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Why(StrEnum):
    """Why a key is to be looked at; the first ones are in more of a hurry than the last."""

    CHANGE = "change"
    """Its record changed."""
    ASKED = "asked"
    """A watcher of the outside world, or another controller, asked for a look."""
    AGAIN = "again"
    """The pass before made a step and has another one to make."""
    PLANNED = "planned"
    """The pass before asked for a look at this time."""
    RETRY = "retry"
    """The pass before failed."""
    RESYNC = "resync"
    """It is looked at now and then, in case a change was missed."""


HURRIED = frozenset({Why.CHANGE, Why.ASKED, Why.AGAIN})
"""The others give way: they could as well be looked at a moment later."""


class QueuedKey(msgspec.Struct, frozen=True, kw_only=True):
    """``state``: ``in_hand`` is being looked at, ``ready`` waits for a worker, ``limited`` for its tenant's or its controller's
    rate, ``planned`` for its time."""

    kind: str
    project: str
    name: str
    state: str
    why: Why
    owner: str = ""
    """The uid of what it goes with: turns are taken over projects, and within one over owners."""
    for_s: float = 0.0
    """Seconds in this state."""
    due_in_s: float | None = None
    """Of a planned one: seconds until it is looked at."""
    failures: int = 0
    error: str = ""
    """The last failure, until a pass succeeds."""
    hung: bool = False
    """In hand for longer than passes should take."""


class PassBucket(msgspec.Struct, frozen=True):
    """``count`` passes took at most ``le_s`` seconds, and longer than the bucket before; None has no bound."""

    le_s: float | None
    count: int


class TenantDepth(msgspec.Struct, frozen=True):
    project: str
    waiting: int
    limited: bool
    """Its passes are held back now."""


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """One controller's, since its volantd started. ``running`` is false for those of the leader on a node that does not lead."""

    name: str
    kind: str
    running: bool
    workers: int
    waiting: int
    limited: int
    planned: int
    in_hand: int
    hung: int
    oldest_wait_s: float
    next_planned_s: float | None
    passes: int
    failures: int
    retries: int
    races: int
    """Passes that were made anew since somebody else had written meanwhile."""
    failing: int
    """Keys whose last pass failed."""
    seconds: float
    """Spent in passes, in sum over workers; waiting for the outside world included."""
    seconds_max: float
    waited_s: float
    """That keys were ready and waited for a worker, in sum."""
    waited_max_s: float
    histogram: tuple[PassBucket, ...] = ()
    tenants: tuple[TenantDepth, ...] = ()


class QueueDetail(msgspec.Struct, frozen=True, kw_only=True):
    """``keys``: those in hand, then ready ones by turn, then planned ones by time, of which at most a number are told."""

    queue: Queue
    keys: tuple[QueuedKey, ...]
    left_out: int = 0
