"""What ``volar vms wait --for`` may wait for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

from volant.core.condition import find_condition
from volant.core.errors import InvalidInput
from volant.core.resource import to_wire
from volant.core.vm import VM, Phase
from volant.core.wait import describe_progress

HINT = "condition=Ready, condition=Ready=False, phase=Stopped, delete, or jsonpath='{.status.restarts}'=2"
_JSONPATH = re.compile(r"\{(?P<path>[^{}]+)\}'?(?:=(?P<value>.*))?", re.DOTALL)


class VMGoal(NamedTuple):
    """``reached`` is asked of a VM as it is, or of None once it is gone. ``stand`` says where a VM stands that is not there."""

    text: str
    reached: Callable[[VM | None], bool]
    stand: Callable[[VM], str]

    @property
    def is_delete(self) -> bool:
        return self.text == "delete"


def read_goal(text: str) -> VMGoal:
    """Raises InvalidInput."""
    kind, equals, rest = text.partition("=")
    if kind == "delete" and not equals:
        return VMGoal(text, lambda vm: vm is None, describe_progress)
    if kind == "condition" and rest:
        return _condition(text, *rest.partition("=")[::2])
    if kind == "phase" and rest:
        return _phase(text, rest)
    if kind == "jsonpath" and rest:
        return _jsonpath(text, rest)
    raise InvalidInput(f"{text[:80]!r} is nothing to wait for", field="--for", hint=HINT)


def _condition(text: str, type_: str, status: str) -> VMGoal:
    wanted = (status or "True").casefold()
    if wanted not in ("true", "false", "unknown"):
        raise InvalidInput(f"a condition is True, False or Unknown, not {status[:40]!r}", field="--for")

    def status_of(vm: VM) -> str:
        found = next((one for one in vm.status.conditions if one.type.casefold() == type_.casefold()), None)
        # What was seen of an older generation says nothing about what was asked for since.
        return "Unknown" if found is None or vm.status.observed_generation < vm.meta.generation else found.status

    def stand(vm: VM) -> str:
        found = find_condition(vm.status.conditions, type_)
        why = f" ({found.message})" if found is not None and found.message else ""
        return f"{type_} is {status_of(vm)}{why}; {describe_progress(vm)}"

    return VMGoal(text, lambda vm: vm is not None and status_of(vm).casefold() == wanted, stand)


def _phase(text: str, wanted: str) -> VMGoal:
    known = {phase.casefold(): phase for phase in get_args(Phase)}
    if wanted.casefold() not in known:
        raise InvalidInput(f"{wanted[:40]!r} is no phase", field="--for", hint=f"one of {', '.join(known.values())}")
    phase = known[wanted.casefold()]
    return VMGoal(
        text,
        lambda vm: vm is not None and vm.status.phase == phase and vm.status.observed_generation >= vm.meta.generation,
        describe_progress,
    )


def _jsonpath(text: str, rest: str) -> VMGoal:
    from volant.cli.jsonpath import format_value, read_path

    match = _JSONPATH.fullmatch(rest.strip("'\""))
    if match is None:
        raise InvalidInput(f"{rest[:80]!r} is no path", field="--for", hint=HINT)
    path = read_path(match["path"])
    wanted = match["value"]

    def values_of(vm: VM) -> list[Any]:
        return [format_value(value) for value in path.find(to_wire(vm))]

    def reached(vm: VM | None) -> bool:
        if vm is None:
            return False
        found = values_of(vm)
        return bool(found) if wanted is None else wanted.strip("'\"") in found

    return VMGoal(text, reached, lambda vm: f"{match['path']} is {', '.join(values_of(vm)) or 'not there'}")
