"""What a caller may wait for after a write, and when waiting is over."""

from __future__ import annotations

from typing import Literal

from volant.core.condition import find_condition
from volant.core.vm import CONDITION_TYPES, VM

Goal = Literal["ready", "stopped", "deleted"]


def goal_reached(vm: VM, goal: Goal) -> bool:
    """True when nothing more is to be waited for: the goal is there, or the VM failed for good.

    Only a status that has seen the current generation counts. A VM that restarts under its policy is not failed for good.
    """
    if vm.status.observed_generation < vm.meta.generation:
        return False
    if goal == "ready":
        return vm.status.ready or vm.status.phase in ("Failed", "Stopped")
    if goal == "stopped":
        return vm.status.phase in ("Stopped", "Failed")
    return False


def describe_progress(vm: VM) -> str:
    """Where it stands, in words: its phase and why, or the first condition that is not true yet."""
    if 0 < vm.status.observed_generation < vm.meta.generation:
        return "accepted"
    if vm.status.message:
        return f"{vm.status.phase}: {vm.status.message}"
    for type_ in CONDITION_TYPES:
        condition = find_condition(vm.status.conditions, type_)
        if condition is None or condition.status != "True":
            said = f" ({condition.message})" if condition is not None and condition.message else ""
            return f"{vm.status.phase}, waiting for {type_}{said}"
    return vm.status.phase
