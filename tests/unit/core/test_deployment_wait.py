"""When waiting for a deployment is over, and where it stands."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from volant.core.condition import Condition
from volant.core.deployment import CanaryStep, Deployment, DeploymentSpec, DeploymentStatus, Rollout, Strategy
from volant.core.deployment_wait import deployment_goal_reached, describe_rollout, rollout_outcome
from volant.core.ids import Uid
from volant.core.resource import Meta
from volant.core.vm import VMSpec


def deployment(at: Any, /, *, paused: bool = False, generation: int = 1, deleting: bool = False, **status: Any) -> Deployment:
    counts = {"wanted": 3, "replicas": 3, "updated": 3, "ready": 3, "available": 3, "observed_generation": 1, **status}
    rollout = counts.pop("rollout", Rollout(phase=at, revision=2))
    meta = Meta(name="web", uid=Uid("0" * 32), generation=generation, deleting_at="now" if deleting else None)
    spec = DeploymentSpec(vm=VMSpec(plugin="nginx"), replicas=3, target=2, paused=paused)
    return Deployment(meta=meta, spec=spec, status=DeploymentStatus(rollout=rollout, **counts))


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (deployment("Complete"), "done"),
        (deployment("Complete", generation=2), ""),
        (deployment("Complete", deleting=True), ""),
        (deployment("Complete", rollout=Rollout(phase="Complete", revision=1)), ""),
        (deployment("Complete", available=2), ""),
        (deployment("Complete", replicas=4), ""),
        (deployment("Complete", wanted=4), ""),
        (deployment("Switched", replicas=6, available=6), "done"),
        (deployment("Switched", replicas=6, available=2), ""),
        (deployment("Progressing", updated=1), ""),
        (deployment("Waiting", updated=1), ""),
        (deployment("RollingBack", updated=1), ""),
        (deployment("RolledBack", updated=2), ""),
        (deployment("RolledBack"), "failed"),
        (deployment("Failed", updated=1), "failed"),
        (deployment("Complete", paused=True), "done"),
        (deployment("Progressing", updated=1, paused=True), "paused"),
        (deployment("Complete", phase="Asleep", wanted=0, replicas=1, available=0), "done"),
    ],
)
def test_a_rollout_ends_as_it_is_said(found: Deployment, outcome: str) -> None:
    assert rollout_outcome(found) == outcome
    assert deployment_goal_reached(found, "complete") == (outcome != "")
    assert not deployment_goal_reached(found, "deleted")


def test_who_waits_for_somebody_is_waited_for_no_longer() -> None:
    waiting = deployment("Waiting", updated=1)
    steps = (CanaryStep(replicas=1), CanaryStep(replicas=2, pause_s=5))
    canary = msgspec.structs.replace(waiting.spec, strategy=Strategy(type="canary", steps=steps))
    assert rollout_outcome(msgspec.structs.replace(waiting, spec=canary)) == "waiting"
    resumed = msgspec.structs.replace(canary, promoted=1)
    assert rollout_outcome(msgspec.structs.replace(waiting, spec=resumed)) == ""
    second = deployment("", updated=1, rollout=Rollout(phase="Waiting", revision=2, step=1))
    assert rollout_outcome(msgspec.structs.replace(second, spec=canary)) == "", "its pause ends by itself"
    switch = msgspec.structs.replace(waiting.spec, strategy=Strategy(type="blue-green", promote="manual"))
    assert rollout_outcome(msgspec.structs.replace(waiting, spec=switch)) == "waiting"


def test_available_is_what_its_condition_says() -> None:
    enough = (Condition(type="Available", status="True"),)
    assert deployment_goal_reached(deployment("Progressing", conditions=enough), "available")
    assert not deployment_goal_reached(deployment("Progressing", conditions=enough, generation=2), "available")
    assert not deployment_goal_reached(deployment("Progressing"), "available")
    assert deployment_goal_reached(deployment("Failed", phase="Failed"), "available")


def test_where_it_stands_is_one_line() -> None:
    assert describe_rollout(deployment("Complete", generation=2)) == "accepted"
    assert describe_rollout(deployment("Progressing", updated=1, replicas=4)) == "1 of 3 updated, 3 available, 3 old to go"
    waiting = Rollout(phase="Waiting", revision=2, message="step 1 of 2")
    assert describe_rollout(deployment("", rollout=waiting)) == "3 of 3 updated, 3 available; step 1 of 2"
    failing = (Condition(type="ReplicaFailure", status="True", message="web-1: no memory"),)
    assert describe_rollout(deployment("Progressing", conditions=failing)).endswith("; web-1: no memory")
    assert describe_rollout(deployment("Complete", deleting=True)) == "being deleted, 3 replicas left"
    assert "paused" in describe_rollout(deployment("Complete", paused=True))
