"""What a caller may wait for after a write, and when waiting is over."""

from __future__ import annotations

from typing import Literal

from volant.core.condition import find_condition
from volant.core.vm import CONDITION_TYPES, VM

Goal = Literal["ready", "suspended", "stopped", "deleted"]

_AT_REST = frozenset({"Suspending", "Suspended", "Parked"})
"""Phases in which no condition is waited for."""


def goal_reached(vm: VM, goal: Goal) -> bool:
    """True when nothing more is to be waited for: the goal is there, or out of reach until somebody asks for something else.

    Only a status that has seen the current generation counts. A VM that restarts under its policy is not failed for good.
    """
    status = vm.status
    if status.observed_generation < vm.meta.generation:
        return False
    if goal == "ready":
        # One that is made to begin anew keeps the word of its former run for a moment; its phase does not.
        is_asleep = status.phase == "Suspended" and vm.spec.power == "suspended"
        return (status.ready and status.phase == "Running") or is_asleep or status.phase in ("Failed", "Stopped")
    if goal == "suspended":
        # It may have been woken again before anybody looked.
        return status.phase in ("Suspended", "Stopped", "Failed") or vm.spec.power != "suspended"
    if goal == "stopped":
        return status.phase in ("Stopped", "Failed")
    return False


def is_withdrawn(asked: VM, current: VM) -> bool:
    """True when a stop that was asked for with ``asked`` is not wanted any longer: somebody, a deployment perhaps, has asked for
    the VM to run."""
    return asked.spec.power == "stopped" and current.spec.power != "stopped" and not current.deleting


def describe_progress(vm: VM) -> str:
    """Where it stands, in words: its phase and why, or the first condition that is not true yet."""
    status = vm.status
    if 0 < status.observed_generation < vm.meta.generation:
        # A step that fails is told before any status is: else a wait would never say why it is one.
        return f"accepted, but not done yet: {status.message}" if status.reason == "StepFailed" else "accepted"
    if status.reason == "Parked" and vm.spec.power != "parked":
        return "taken from the pool"
    if status.message:
        return f"{status.phase}: {status.message}"
    if status.phase in _AT_REST:
        return status.phase
    for type_ in CONDITION_TYPES:
        condition = find_condition(status.conditions, type_)
        if condition is None or condition.status != "True":
            said = f" ({condition.message})" if condition is not None and condition.message else ""
            return f"{status.phase}, waiting for {type_}{said}"
    return status.phase
