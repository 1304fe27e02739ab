"""How far a resource of any kind is from what was asked of it."""

from __future__ import annotations

from typing import Any

import msgspec

from volant.core.deployment import Deployment
from volant.core.deployment_wait import describe_rollout, rollout_outcome
from volant.core.job import Job, has_finished
from volant.core.network import Network
from volant.core.plugin import Plugin
from volant.core.resource import Resource
from volant.core.vm import VM
from volant.core.wait import Goal, describe_progress, goal_reached

_GOALS: dict[str, Goal] = {"running": "ready", "suspended": "suspended", "stopped": "stopped"}


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """``settled``: nothing more is to be waited for; ``failed``: what was asked for is out of reach. ``message`` is one line."""

    settled: bool
    failed: bool = False
    message: str = ""


def tell_standing(resource: Resource[Any, Any]) -> Standing:
    """Where it is. What is kept as it is written stands at once."""
    if isinstance(resource, VM):
        goal = _GOALS.get(resource.spec.power, "ready")
        settled = goal_reached(resource, goal)
        well = resource.status.ready or (resource.status.phase in ("Suspended", "Stopped") and goal != "ready")
        return Standing(settled=settled, failed=settled and not well, message=describe_progress(resource))
    if isinstance(resource, Deployment):
        outcome = rollout_outcome(resource)
        return Standing(settled=outcome != "", failed=outcome == "failed", message=describe_rollout(resource))
    if isinstance(resource, Network | Plugin):
        status = resource.status
        settled = status.phase in ("Ready", "Failed")
        return Standing(settled=settled, failed=status.phase == "Failed", message=status.message or status.phase)
    if isinstance(resource, Job):
        job = resource.status
        said = (
            f"{job.phase}: {job.message}" if job.message else f"{job.phase}, {job.succeeded} of {resource.spec.completions} done"
        )
        return Standing(settled=has_finished(resource) or resource.spec.suspended, failed=job.phase == "Failed", message=said)
    return Standing(settled=True, message="written down")
