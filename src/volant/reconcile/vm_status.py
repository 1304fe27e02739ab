"""The status that follows from what was asked and what is seen: a pure function, so that it cannot drift."""

from __future__ import annotations

from datetime import datetime

import msgspec

from volant.core.clock import format_time, parse_time
from volant.core.condition import Condition, Conditions, find_condition, is_true, set_condition
from volant.core.vm import (
    AGENT_CONNECTED,
    BOOTED,
    CONDITION_TYPES,
    READY,
    SCHEDULED,
    VM,
    Phase,
    StartRecord,
    VMStatus,
    WorkloadStatus,
)
from volant.reconcile.vm_decision import end_recorded, end_was_asked, ended_for_good, wants_run

AGENT_GRACE_S = 5.0
"""How long an agent may be silent before a status that was good stops being good: volantd's own restart is no news."""

CRASH_LOOP_RESTARTS = 3

SETTLED_AFTER_S = 1.0
"""Without a health check a workload must have run this long to count as ready: most that fail, fail at once."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is seen of a living run."""

    pid: int
    started_at: datetime
    hypervisor: str
    accelerator: str
    stop_asked: bool = False
    has_agent: bool = True
    agent_connected: bool = False
    agent_down_s: float = 0.0
    agent_reason: str = ""
    said_hello: bool = False
    configured: bool = False
    has_health_check: bool = False
    workload: WorkloadStatus | None = None
    """None until the agent has told."""
    running_s: float = 0.0
    """How long the workload has been seen running, without an end between."""
    health: str | None = None
    health_message: str = ""
    steps_ms: dict[str, int] = {}
    paused: bool = False
    resuming: bool = False
    """It goes on from where it stood still, and its agent has not shown itself since."""
    template: str = ""

    @property
    def settled(self) -> bool:
        """True when the agent has told all that the conditions depend on, or there is none."""
        if not self.has_agent:
            return True
        if not (self.agent_connected and self.said_hello):
            return False
        if not self.configured or self.workload is None:
            return not self.configured
        # Of a workload that does not run nobody says how it is.
        return self.health is not None or not self.has_health_check or self.workload.state != "running"


def project_status(vm: VM, facts: Facts | None, now: datetime, *, asleep: bool = False) -> VMStatus:
    """``vm.status`` as it should read. Without facts nothing runs; ``asleep``: it can go on from what was saved."""
    if facts is None:
        return _project_asleep(vm, now) if asleep else _project_idle(vm, now)
    return _project_running(vm, facts, now)


def _project_running(vm: VM, facts: Facts, now: datetime) -> VMStatus:
    status = vm.status
    at = format_time(now)
    trusted = not facts.settled and facts.agent_down_s < AGENT_GRACE_S and is_true(status.conditions, AGENT_CONNECTED)
    conditions = _set(in_order(status.conditions), at, SCHEDULED, True, "Scheduled", f"on node {status.node}, slot {status.slot}")
    booted = facts.said_hello or is_true(status.conditions, BOOTED)
    if facts.has_agent:
        conditions = _set(
            conditions, at, BOOTED, booted, "AgentAnswered" if booted else "Booting", "" if booted else "the guest is booting"
        )
    else:
        unknown = Condition(type=BOOTED, status="Unknown", reason="NoAgent", message="its guest has no agent that would say so")
        conditions = set_condition(conditions, unknown, at)
    workload = status.workload
    judgement: tuple[bool, str, str] | None = None
    if not trusted:
        workload = facts.workload or WorkloadStatus()
        conditions = _set(conditions, at, AGENT_CONNECTED, facts.agent_connected, *_agent_words(facts, booted))
        was_ready = status.ready and facts.workload is not None and facts.workload.pid == status.workload.pid
        judgement = _judge_ready(facts, was_ready=was_ready)
    going = facts.stop_asked or end_was_asked(vm)
    if going:
        judgement = (False, "Stopping", "it is being stopped")
    elif vm.spec.power == "suspended":
        judgement = (False, "Suspending", "it is being suspended")
    elif facts.paused:
        parked = vm.spec.power == "parked"
        judgement = (False, "Parked", "it waits to be taken") if parked else (False, "Paused", "it is paused")
    if judgement is not None:
        # Once, so that what it was on the way there is no transition.
        conditions = _set(conditions, at, READY, *judgement)
    judged = find_condition(conditions, READY)
    assert judged is not None
    ready = judged.status == "True"
    phase: Phase = "Starting"
    if vm.deleting:
        phase = "Deleting"
    elif going:
        phase = "Stopping"
    elif judged.reason == "Suspending":
        phase = "Suspending"
    elif judged.reason == "Parked":
        phase = "Parked"
    elif judged.reason in ("CrashLoop", "WorkloadFailed"):
        phase = "Failed"
    elif ready or not facts.has_agent or (trusted and status.phase == "Running") or workload.state not in ("unknown", "starting"):
        phase = "Running"
    return msgspec.structs.replace(
        status,
        phase=phase,
        ready=ready,
        reason=judged.reason,
        message=judged.message,
        hypervisor=facts.hypervisor,
        accelerator=facts.accelerator,
        isolation={"kvm": "hardware", "tcg": "emulated"}.get(facts.accelerator, "simulated"),
        pid=facts.pid,
        started_at=format_time(facts.started_at),
        retry_at=None,
        template=facts.template,
        suspended=None,
        start=_project_start(status.start, facts, ready, now),
        workload=workload,
        conditions=conditions,
        observed_generation=vm.meta.generation,
    )


def _project_start(start: StartRecord | None, facts: Facts, ready: bool, now: datetime) -> StartRecord | None:
    if start is None or start.duration_ms is not None:
        return start
    steps = {**start.steps_ms, **facts.steps_ms}
    if not ready:
        return msgspec.structs.replace(start, steps_ms=steps)
    asked = parse_time(start.asked_at)
    return msgspec.structs.replace(start, steps_ms=steps, duration_ms=max(0, round((now - asked).total_seconds() * 1000)))


def _project_asleep(vm: VM, now: datetime) -> VMStatus:
    at = format_time(now)
    phase: Phase = "Suspended"
    reason, message = "Suspended", "it goes on when it is resumed"
    if vm.spec.ports:
        message = "it goes on when it is resumed, or when somebody connects to one of its ports"
    if vm.deleting:
        phase, reason, message = "Deleting", "Deleting", "its host is giving back what it held"
    elif vm.spec.power != "suspended" or vm.status.started_token != vm.spec.restart_token:
        phase, reason, message = "Starting", "Waking", "it is being resumed"
    conditions = _project_place(vm, vm.status.conditions, at)
    for type_ in (BOOTED, AGENT_CONNECTED, READY):
        conditions = _set(conditions, at, type_, type_ == BOOTED, reason, message if type_ == READY else "")
    return msgspec.structs.replace(
        vm.status,
        phase=phase,
        ready=False,
        reason=reason,
        message=message,
        pid=None,
        started_at=None,
        conditions=conditions,
        observed_generation=vm.meta.generation,
    )


def _project_idle(vm: VM, now: datetime) -> VMStatus:
    status = vm.status
    at = format_time(now)
    end = status.last_end
    phase: Phase
    reason, message = "", ""
    if vm.deleting:
        phase, reason, message = "Deleting", "Deleting", "its host is giving back what it held"
    elif vm.spec.power == "suspended":
        phase, reason, message = "Stopped", "NotSaved", "it ended before it could be suspended"
    elif not wants_run(vm):
        phase, reason, message = "Stopped", "Stopped", "it was asked to stop" if end is not None else "it was created stopped"
    elif end is not None and ended_for_good(vm):
        phase = "Stopped" if end.clean else "Failed"
        why = "that is as often as it may be" if end.gave_up else f"its restart policy is {vm.spec.policy}"
        reason, message = "RestartLimit" if end.gave_up else "Ended", f"{end.message}; {why}"
    elif status.reason == "StartFailed":
        phase, reason, message = "Failed", status.reason, status.message
    elif end is not None and not end.asked and end_recorded(vm):
        phase = "Failed" if status.failures >= CRASH_LOOP_RESTARTS else "Pending"
        reason, message = "Restarting", f"{end.message}; it is being started again"
    else:
        phase = "Preparing" if status.slot is not None else "Pending"
    conditions = status.conditions
    for type_ in CONDITION_TYPES:
        if type_ == SCHEDULED:
            conditions = _project_place(vm, conditions, at)
        elif type_ in (BOOTED, AGENT_CONNECTED, READY):
            conditions = _set(conditions, at, type_, False, reason or "NotYet", message)
    return msgspec.structs.replace(
        status,
        phase=phase,
        ready=False,
        reason=reason,
        message=message,
        pid=None,
        started_at=None,
        template="",
        suspended=None,
        workload=WorkloadStatus(),
        conditions=conditions,
        observed_generation=vm.meta.generation,
    )


def _project_place(vm: VM, conditions: Conditions, at: str) -> Conditions:
    """What does not run and is not to run holds no room on its node. Else it is as the scheduler said."""
    at_rest = not vm.deleting and (not wants_run(vm) or ended_for_good(vm))
    if vm.status.slot is not None and at_rest:
        message = f"on node {vm.status.node}, where it holds no memory and no cores"
        return _set(conditions, at, SCHEDULED, False, "AtRest", message)
    if find_condition(conditions, SCHEDULED) is not None:
        return conditions
    is_placed = vm.status.slot is not None
    return _set(conditions, at, SCHEDULED, is_placed, "Scheduled" if is_placed else "NotYet", "")


def _agent_words(facts: Facts, booted: bool) -> tuple[str, str]:
    if not facts.has_agent:
        return "NoAgent", "its guest has no agent"
    if facts.agent_connected:
        return "Connected", ""
    if not booted:
        return "Booting", "the guest is booting"
    if facts.resuming:
        return "Resuming", "the guest goes on"
    return "AgentSilent", facts.agent_reason or "the agent has stopped answering"


def _judge_ready(facts: Facts, *, was_ready: bool) -> tuple[bool, str, str]:
    if not facts.has_agent:
        return _judge_outside(facts, was_ready=was_ready)
    if not facts.agent_connected:
        return False, *_agent_words(facts, facts.said_hello)
    if not facts.configured or facts.workload is None:
        return False, "Configuring", "the guest is being set up"
    workload = facts.workload
    match workload.state:
        case "running" if not facts.has_health_check:
            if was_ready or facts.running_s >= SETTLED_AFTER_S:
                return True, "Ready", ""
            return False, "Settling", "the workload has just been started"
        case "running":
            return _judge_health(facts)
        case "failed":
            return False, "WorkloadFailed", workload.message or "the workload cannot be started"
        case "backoff":
            reason = "CrashLoop" if workload.restarts >= CRASH_LOOP_RESTARTS else "WorkloadEnded"
            return False, reason, f"{workload.message or 'the workload ended'}; it is started again"
        case "exited":
            return False, "WorkloadEnded", workload.message or "the workload ended"
        case "stopping":
            return False, "Stopping", "the guest is shutting down"
        case _:
            return False, "WorkloadStarting", "the workload is being started"


def _judge_health(facts: Facts) -> tuple[bool, str, str]:
    said = f": {facts.health_message}" if facts.health_message else ""
    workload = facts.workload
    if facts.health == "healthy":
        return True, "Ready", ""
    if facts.health == "unhealthy":
        if workload is not None and workload.live is False:
            return False, "LivenessFailed", f"{facts.health_message}; it is ended, to be started again"
        if workload is not None and workload.started is False:
            return False, "StartupFailed", f"{facts.health_message}; it is ended"
        return False, "Unhealthy", f"the workload fails its health check{said}"
    before = f"; before that {workload.last_end}" if workload is not None and workload.last_end else ""
    if workload is not None and workload.started is False:
        return False, "WaitingForStartup", f"the workload has not started up yet{said}{before}"
    return False, "WaitingForHealth", f"the workload has not passed its health check yet{said}{before}"


def _judge_outside(facts: Facts, *, was_ready: bool) -> tuple[bool, str, str]:
    """Of a guest without an agent nothing is known but that its process runs, and what its workload answers to the host."""
    if facts.has_health_check:
        return _judge_health(facts)
    if was_ready or facts.running_s >= SETTLED_AFTER_S:
        return True, "Ready", ""
    return False, "Settling", "it has just been started"


def begin_anew(status: VMStatus, now: str) -> VMStatus:
    """``status`` without what was known of the run before."""
    conditions = status.conditions
    for type_ in (BOOTED, AGENT_CONNECTED, READY):
        conditions = _set(conditions, now, type_, False, "NotYet", "")
    return msgspec.structs.replace(
        status, phase="Preparing", ready=False, reason="Preparing", message="", workload=WorkloadStatus(), conditions=conditions
    )


def in_order(conditions: Conditions) -> Conditions:
    """``conditions`` in the order in which a start goes through them."""
    return tuple(sorted(conditions, key=lambda condition: _PLACES.get(condition.type, len(_PLACES))))


_PLACES = {type_: place for place, type_ in enumerate(CONDITION_TYPES)}


def _set(conditions: Conditions, at: str, type_: str, truth: bool, reason: str, message: str) -> Conditions:
    new = Condition(type=type_, status="True" if truth else "False", reason=reason, message=message)
    return set_condition(conditions, new, at)
