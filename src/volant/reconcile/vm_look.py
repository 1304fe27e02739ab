"""What the host shows of a VM, as the decision about it needs it."""

from __future__ import annotations

from volant.core.vm import VM
from volant.node.local import Asleep, Ended
from volant.node.run import Run
from volant.reconcile.identity import differs, is_settled
from volant.reconcile.vm_decision import Seen, end_was_asked


def look_at(vm: VM, found: Run | Ended | Asleep | None, hold_s: float = 0.0) -> Seen:
    """``hold_s`` is how long those who are connected to it may still take (balance.BalanceKeeper.hold_end)."""
    if found is None:
        return Seen()
    if isinstance(found, Asleep):
        return Seen(asleep=True)
    if isinstance(found, Ended):
        return Seen(run_id=found.run_id, ending=found.ending)
    hello = found.agent.hello
    settled = is_settled(vm, found)
    workload, health = found.agent.workload, found.agent.health
    return Seen(
        run_id=found.instance.machine.run_id,
        alive=True,
        ending=found.ending,
        stop_asked_at=found.stop_asked_at,
        stop_delivered=found.stop_delivered,
        has_agent=found.instance.machine.has_agent,
        silent_s=found.agent_down_s or 0.0 if hello is None and not found.paused else 0.0,
        agent_waits=found.agent.connected and hello is not None and hello.state == "waiting",
        agent_differs=differs(vm, found),
        settled=settled,
        healthy=settled
        and found.agent.connected
        and workload is not None
        and workload.state == "running"
        and health is not None
        and health.state == "healthy",
        paused=found.paused,
        # A guest that is being made a template of may hang, and is stopped as any other.
        hold_s=hold_s,
        busy=bool(found.busy) and not (found.busy == "template" and end_was_asked(vm)),
    )
