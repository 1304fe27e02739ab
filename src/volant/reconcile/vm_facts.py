"""What a living run shows, as plain facts."""

from __future__ import annotations

from datetime import UTC, datetime

from volant.core.vm import VM, WorkloadStatus
from volant.node.run import Run
from volant.reconcile.identity import is_settled
from volant.reconcile.vm_status import Facts

_STEPS = (
    ("prepare", "asked", "prepared"),
    ("launch", "prepared", "launched"),
    ("resume", "launched", "resumed"),
    ("boot", "launched", "hello"),
    ("connect", "resumed", "hello"),
    ("identity", "hello", "configured"),
)


def gather_facts(vm: VM, run: Run, *, has_health_check: bool) -> Facts:
    agent = run.agent
    machine = run.instance.machine
    if not machine.has_agent:
        return _gather_outside(run, has_health_check=has_health_check)
    hello = agent.hello
    workload = agent.workload
    health = agent.health
    return Facts(
        pid=run.instance.pid,
        started_at=datetime.fromtimestamp(run.instance.started_at, UTC),
        hypervisor=machine.hypervisor,
        accelerator=machine.accelerator,
        stop_asked=run.stop_asked_at is not None,
        agent_connected=agent.connected and not run.clock_due,
        agent_down_s=run.agent_down_s or 0.0,
        said_hello=hello is not None,
        configured=is_settled(vm, run),
        paused=run.paused,
        resuming=run.clock_due,
        template=machine.base,
        has_health_check=has_health_check,
        workload=None
        if workload is None
        else WorkloadStatus(
            state=workload.state,
            health=health.state if health is not None else "unknown",
            started=None if health is None else health.started,
            live=None if health is None else health.live,
            restarts=workload.restarts,
            pid=workload.pid,
            message=workload.message,
            exit_code=None if workload.exit is None else workload.exit.code,
            exit_signal=None if workload.exit is None else workload.exit.signal,
            last_end=workload.last_end,
        ),
        running_s=run.workload_running_s,
        health=None if health is None else health.state,
        health_message="" if health is None else health.message,
        steps_ms=_measure_steps(run),
    )


def _gather_outside(run: Run, *, has_health_check: bool) -> Facts:
    """What the host sees of a guest without an agent: its process, and what its workload answers."""
    machine = run.instance.machine
    health = run.host_health
    return Facts(
        pid=run.instance.pid,
        started_at=datetime.fromtimestamp(run.instance.started_at, UTC),
        hypervisor=machine.hypervisor,
        accelerator=machine.accelerator,
        has_agent=False,
        paused=run.paused,
        has_health_check=has_health_check and health is not None,
        workload=WorkloadStatus(health="unknown" if health is None else health.state),
        running_s=run.tended_s,
        health=None if health is None else health.state,
        health_message="" if health is None else health.message,
        steps_ms=_measure_steps(run),
    )


def _measure_steps(run: Run) -> dict[str, int]:
    """Milliseconds of each part of the start that is over; what an earlier volantd saw of it is in the status already.

    ``kernel`` and ``agent`` are the guest's own account of ``boot``: until PID 1 ran, and from then until it listened.
    """
    marks = run.marks
    steps = {name: round((marks[end] - marks[begin]) * 1000) for name, begin, end in _STEPS if begin in marks and end in marks}
    if "resumed" in marks:
        steps.pop("boot", None)
        return steps
    timeline = run.agent.hello.timeline if run.agent.hello is not None else None
    if timeline is not None and timeline.init_ms is not None and timeline.channel_ms is not None:
        steps["kernel"] = timeline.init_ms
        steps["agent"] = timeline.channel_ms - timeline.init_ms
    return steps
