"""What a caller may wait for of a deployment, when waiting is over, and where it stands."""

from __future__ import annotations

from typing import Literal

from volant.core.condition import find_condition, is_true
from volant.core.deployment import AVAILABLE, REPLICA_FAILURE, Deployment

DeploymentGoal = Literal["available", "complete", "deleted"]

Outcome = Literal["done", "failed", "paused", "waiting", ""]
"""How a rollout ended. ``paused`` and ``waiting`` go on when somebody resumes; empty is one that goes on by itself."""


def is_seen(deployment: Deployment) -> bool:
    """Its controller has looked at what is asked for now."""
    return deployment.status.observed_generation >= deployment.meta.generation


def rollout_outcome(deployment: Deployment) -> Outcome:
    """How the rollout to the target ended. One that was rolled back has failed, though all replicas may be well by now."""
    if not is_seen(deployment) or deployment.deleting:
        return ""
    status, rollout = deployment.status, deployment.status.rollout
    if rollout.phase in ("Failed", "RolledBack"):
        return "failed" if rollout.phase == "Failed" or _is_whole(deployment) else ""
    if rollout.phase in ("Complete", "Switched") and rollout.revision == deployment.spec.target and _is_whole(deployment):
        return "done"
    if deployment.spec.paused and status.updated < status.replicas:
        return "paused"
    return "waiting" if waits_for_somebody(deployment) else ""


def waits_for_somebody(deployment: Deployment) -> bool:
    """It is at a step of a canary without a pause, or before a switch that somebody makes, and nobody has resumed it yet."""
    strategy, rollout = deployment.spec.strategy, deployment.status.rollout
    if rollout.phase != "Waiting" or deployment.spec.promoted != rollout.promoted:
        return False
    if strategy.type == "blue-green":
        return strategy.promote == "manual"
    return rollout.step < len(strategy.steps) and strategy.steps[rollout.step].pause_s is None


def _is_whole(deployment: Deployment) -> bool:
    """As many as are wanted are of the target and available; nothing else is left but what a switch keeps."""
    status = deployment.status
    if status.phase == "Asleep":
        return True
    is_alone = status.replicas == status.wanted or status.rollout.phase == "Switched"
    return status.available >= status.wanted and status.updated >= status.wanted and is_alone


def deployment_goal_reached(deployment: Deployment, goal: DeploymentGoal) -> bool:
    """True when nothing more is to be waited for: the goal is there, or out of reach until somebody asks for something else."""
    if goal == "complete":
        return rollout_outcome(deployment) != ""
    if goal == "available":
        if not is_seen(deployment):
            return False
        return is_true(deployment.status.conditions, AVAILABLE) or deployment.status.phase in ("Failed", "Asleep")
    return False


def describe_rollout(deployment: Deployment) -> str:
    """``2 of 3 updated, 3 available; waits for web-1``: where it stands, in one line."""
    if deployment.deleting:
        return f"being deleted, {_count(deployment.status.replicas)} left"
    if not is_seen(deployment):
        return "accepted"
    status, rollout = deployment.status, deployment.status.rollout
    if status.phase == "Asleep":
        return "asleep until somebody connects"
    said = [f"{min(status.updated, status.wanted)} of {status.wanted} updated, {status.available} available"]
    old = status.replicas - status.updated
    if old > 0:
        said.append(f"{old} old to go")
    line = ", ".join(said)
    why = rollout.message or status.message
    failure = find_condition(status.conditions, REPLICA_FAILURE)
    if failure is not None and failure.status == "True" and failure.message:
        why = failure.message
    if deployment.spec.paused:
        line += "; paused"
    return f"{line}; {why}" if why else line


def _count(replicas: int) -> str:
    return f"{replicas} replica" if replicas == 1 else f"{replicas} replicas"
