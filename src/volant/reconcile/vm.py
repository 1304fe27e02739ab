"""The VM controller: looks, decides, makes one step, writes down what is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import msgspec
import structlog

from volant.core.clock import Clock, format_time, parse_time
from volant.core.errors import GuestUnreachable, HostError, VolantError
from volant.core.vm import VM, EndRecord
from volant.hypervisor.driver import Ending
from volant.node.local import Asleep, LocalNode
from volant.node.run import Run
from volant.reconcile.guest_demands import AgentTooOld
from volant.reconcile.lease import LeaseKeeper
from volant.reconcile.outcome import After, Again, Done, Outcome
from volant.reconcile.outside import ask_workload
from volant.reconcile.placement.release import release_claims
from volant.reconcile.recorder import Note, event_operation
from volant.reconcile.start_gate import StartGate
from volant.reconcile.versions import forget_versions
from volant.reconcile.vm_begin import RESTART_BACKOFF, VMBeginner
from volant.reconcile.vm_decision import (
    Action,
    AskStop,
    Configure,
    Destroy,
    Discard,
    Install,
    Launch,
    Park,
    RecordEnd,
    Release,
    Renew,
    Rest,
    Resume,
    Schedule,
    Suspend,
    Wake,
    decide,
    end_was_asked,
    is_starting,
    restarts_after,
    wants_run,
)
from volant.reconcile.vm_end import Account, account_from, account_of, describe_end, find_exit
from volant.reconcile.vm_facts import gather_facts
from volant.reconcile.vm_live import LiveChanges
from volant.reconcile.vm_look import look_at
from volant.reconcile.vm_sleep import Sleeper
from volant.reconcile.vm_start import VMStarter
from volant.reconcile.vm_status import AGENT_GRACE_S, SETTLED_AFTER_S, Facts, project_status
from volant.reconcile.vm_writer import VMWriter
from volant.store.cache import Cache
from volant.store.contract import Delete, Key, Operation, Store
from volant.store.plugins import find_plugin_of
from volant.store.quotas import QuotaLedger
from volant.store.records import find_resource, key_of

log = structlog.get_logger()

STABLE_AFTER_S = 60.0
"""A run that lasted this long ends the row of failures before it."""

ASK_TIMEOUT_S = 3.0
ASK_AGAIN_S = 0.2


class VMController:
    """Implements engine.Controller for the VMs of one node."""

    kind = VM.kind

    def __init__(
        self,
        store: Store,
        cache: Cache,
        clock: Clock,
        node: LocalNode,
        starter: VMStarter,
        sleeper: Sleeper,
        gate: StartGate,
        live: LiveChanges,
        *,
        node_name: str,
        hold_end: Callable[[VM], float] = lambda vm: 0.0,
    ) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._node = node
        self._starter = starter
        self._sleeper = sleeper
        self._writer = VMWriter(store, cache, clock)
        self._beginner = VMBeginner(store, clock, starter, sleeper, self._writer, gate, live)
        self._gate = gate
        self._live = live
        self._leases = LeaseKeeper(store, clock, starter.connect)
        self._node_name = node_name
        self._ledger = QuotaLedger(store)
        self._hold_end = hold_end

    async def reconcile(self, key: Key) -> Outcome:
        vm = await find_resource(self._store, VM, key.project, key.name)
        if vm is None or vm.status.node not in ("", self._node_name):
            return Done()
        found = await self._node.find(vm.uid)
        run = found if isinstance(found, Run) else None
        seen = look_at(vm, found, 0.0 if run is None else self._hold_end(vm))
        is_asleep = isinstance(found, Asleep)
        # From here to the step there is no await: what is decided here is what is there.
        action = Rest() if self._node.is_in_hand(vm.uid) else decide(vm, seen, self._clock.now())
        if not isinstance(action, Launch) and not is_starting(vm, seen):
            self._gate.leave(vm.uid)
        if isinstance(action, Rest):
            if run is not None and self._live.is_due(vm, run) and not self._node.is_in_hand(vm.uid):
                vm = await self._apply_changes(vm, run)
            return await self._act(vm, run, action, asleep=is_asleep)
        log.debug("vm_step", name=vm.name, step=type(action).__name__)
        with self._node.in_hand(vm.uid):
            return await self._act(vm, run, action, asleep=is_asleep)

    async def report_failure(self, key: Key, error: VolantError, failures: int) -> None:
        vm = await find_resource(self._store, VM, key.project, key.name)
        if vm is None:
            return
        message = str(error) + (f" ({error.hint})" if error.hint else "")
        status = msgspec.structs.replace(vm.status, reason="StepFailed", message=message)
        notes = [Note("Warning", "StepFailed", message)] if status != vm.status else []
        await self._writer.save(vm, status, *notes)

    async def _act(self, vm: VM, run: Run | None, action: Action, *, asleep: bool) -> Outcome:
        match action:
            case Schedule():
                # The scheduler, on the leader, gives it one.
                return Done()
            case Launch():
                return await self._beginner.launch(vm)
            case Configure():
                assert run is not None
                unfit = self._starter.find_unfit(run)
                if unfit:
                    return await self._destroy(vm, run, unfit)
                try:
                    await self._starter.configure(vm, run)
                except AgentTooOld as error:
                    return await self._destroy(vm, run, str(error))
                return await self._rest(vm, run, None)
            case Renew():
                assert run is not None
                await self._starter.renew(vm, run)
                return await self._rest(vm, run, None)
            case Install():
                return Done() if vm.status.slot is None else await self._beginner.install(vm)
            case Wake():
                return await self._beginner.wake(vm)
            case Suspend():
                assert run is not None
                return await self._beginner.suspend(vm, run)
            case Park():
                assert run is not None
                await self._sleeper.park(run)
                return await self._rest(vm, run, None)
            case Resume():
                assert run is not None
                return await self._resume(vm, run)
            case AskStop():
                assert run is not None
                return await self._ask_stop(vm, run)
            case Destroy(reason):
                return await self._destroy(vm, run, reason)
            case Discard():
                await self._sleeper.give_up(vm)
                return await self._record_end(vm, None, Ending(kind="killed", message="what was saved of it was given up"))
            case RecordEnd(ending):
                return await self._record_end(vm, run, ending)
            case Release():
                return await self._release(vm)
            case Rest(seconds):
                return await self._rest(vm, run, seconds, asleep=asleep)

    # The steps

    async def _resume(self, vm: VM, run: Run) -> Outcome:
        refusal = await self._starter.admission.find_refusal(vm) if _is_taken(vm) else None
        if refusal is not None:
            # To stop in an orderly way it would have to run.
            return await (self._destroy(vm, run, str(refusal)) if end_was_asked(vm) else self._beginner.refuse(vm, refusal))
        await self._sleeper.resume(vm, run)
        return await self._rest(vm, run, None)

    async def _ask_stop(self, vm: VM, run: Run) -> Outcome:
        if run.stop_asked_at is None:
            run.stop_asked_at = self._clock.now()
        if not run.agent.connected:
            down_s = run.agent_down_s or 0.0
            if down_s >= AGENT_GRACE_S:
                return await self._destroy(vm, run, "its agent does not answer, so it cannot be asked")
            # A short silence is likely a reconnect: ask when the agent is back, or give up at the end of the grace.
            await self._rest(vm, run, None)
            return After(AGENT_GRACE_S - down_s + 0.05)
        try:
            await run.link.shutdown(vm.spec.grace_s, timeout_s=ASK_TIMEOUT_S)
        except GuestUnreachable:
            await self._rest(vm, run, None)
            return After(ASK_AGAIN_S)
        run.stop_delivered = True
        await self._writer.save(
            vm,
            project_status(vm, await self._facts(vm, run), self._clock.now()),
            Note("Normal", "Stopping", f"asked to stop, with {vm.spec.grace_s} s of grace"),
        )
        return Again()

    async def _destroy(self, vm: VM, run: Run | None, reason: str) -> Outcome:
        log.warning("vm_killed", name=vm.name, reason=reason)
        if run is not None and run.ending is None and run.instance.machine.run_id == vm.status.run_id:
            ended = Ending(kind="killed", message=f"ended by force: {reason}")
            return await self._record_end(vm, run, ended)
        await self._node.destroy(vm.uid)
        return Again()

    async def _apply_changes(self, vm: VM, run: Run) -> VM:
        with self._node.in_hand(vm.uid):
            taken = await self._live.apply(vm, run)
        if not taken:
            return vm
        note = Note("Normal", "Configured", "the run has now: " + ", ".join(taken))
        return await self._writer.save(vm, vm.status, note, force=True)

    async def _record_end(self, vm: VM, run: Run | None, ending: Ending) -> Outcome:
        asked = end_was_asked(vm)
        account = self._find_account(vm, run) if ending.kind == "powered_off" else None
        clean, words = describe_end(ending, account)
        exit_, gave_up = find_exit(ending, account)
        await self._node.destroy(vm.uid)
        now = self._clock.now()
        at = format_time(now)
        end = EndRecord(
            run_id=vm.status.run_id,
            kind=ending.kind,
            message=words,
            at=at,
            asked=asked,
            clean=clean,
            exit_code=exit_.code,
            exit_signal=exit_.signal,
            gave_up=gave_up,
        )
        changes: dict[str, object] = {"last_end": end, "pid": None, "started_at": None, "retry_at": None}
        notes: list[Note] = []
        if asked:
            changes["failures"] = 0
            notes.append(Note("Normal", "Stopped", words))
        else:
            again = wants_run(vm) and restarts_after(vm.spec.policy, end)
            lasted = (now - parse_time(vm.status.started_at)).total_seconds() if vm.status.started_at else 0.0
            failures = 1 if lasted >= STABLE_AFTER_S else vm.status.failures + 1
            changes["failures"] = failures
            if again:
                # The first restart of a row is at once: most ends are accidents, not loops.
                delay = 0.0 if failures == 1 else RESTART_BACKOFF.delay(failures - 1, self._starter.random_source)
                changes["restarts"] = vm.status.restarts + 1
                changes["retry_at"] = format_time(now + timedelta(seconds=delay)) if delay else None
            why_not = "that is as often as it may be" if end.gave_up else f"its restart policy is {vm.spec.policy}"
            what = "it is started again" if again else why_not
            notes.append(Note("Normal" if clean else "Warning", "Ended", f"{words}; {what}"))
        status = msgspec.structs.replace(vm.status, **changes)
        ended = msgspec.structs.replace(vm, status=status)
        log.info("vm_ended", name=vm.name, kind=ending.kind, message=words, asked=asked)
        await self._writer.save(vm, project_status(ended, None, now), *notes)
        return Again()

    async def _release(self, vm: VM) -> Outcome:
        await self._node.release(vm.uid)
        await self._starter.release_network(vm)
        self._live.forget(vm.uid)
        await forget_versions(self._store, vm)
        operations: list[Operation] = [Delete(key_of(vm), vm.revision)]
        operations += await release_claims(self._store, self._cache, vm)
        operations += await self._ledger.credit(vm)
        operations.append(event_operation(self._cache, vm, Note("Normal", "Deleted", "it is gone"), self._writer.now))
        await self._store.transact(operations)
        log.info("vm_deleted", name=vm.name)
        return Done()

    async def _rest(self, vm: VM, run: Run | None, seconds: float | None, *, asleep: bool = False) -> Outcome:
        if run is not None and not run.instance.machine.has_agent and run.ending is None and not run.paused:
            seconds = await self._ask_workload(vm, run)
        if run is not None and run.agent.network is not None and run.ending is None:
            vm = await self._leases.take_in(vm, run.agent.network)
        facts = None if run is None else await self._facts(vm, run)
        status = project_status(vm, facts, self._clock.now(), asleep=asleep)
        status = self._live.judge(vm, status, run, self._writer.now, asleep=asleep)
        notes: list[Note] = []
        if status.ready and not vm.status.ready:
            start = status.start
            took = f" {start.duration_ms / 1000:.2f} s after it was asked for" if start and start.duration_ms is not None else ""
            notes.append(Note("Normal", "Ready", f"answers{_describe_place(vm)}{took}"))
        elif vm.status.ready and not status.ready and status.phase in ("Running", "Failed"):
            notes.append(Note("Warning", status.reason or "NotReady", status.message or "no longer ready"))
        elif status.reason != vm.status.reason and status.reason in _TOLD_REASONS:
            notes.append(Note("Warning", status.reason, status.message))
        await self._writer.save(vm, status, *notes)
        if facts is not None and not facts.settled and facts.agent_down_s < AGENT_GRACE_S:
            grace_left = AGENT_GRACE_S - facts.agent_down_s + 0.05
            seconds = grace_left if seconds is None else min(seconds, grace_left)
        if facts is not None and status.reason == "Settling":
            settled_in = max(0.0, SETTLED_AFTER_S - facts.running_s) + 0.01
            seconds = settled_in if seconds is None else min(seconds, settled_in)
        return Done() if seconds is None else After(seconds)

    # Parts of steps

    def _find_account(self, vm: VM, run: Run | None) -> Account | None:
        account = None if run is None else account_of(run.agent)
        if account is not None:
            return account
        try:
            farewell = self._node.read_farewell(vm.uid)
        except HostError as error:
            log.warning("farewell_not_read", name=vm.name, error=str(error))
            return None
        return None if farewell is None else account_from(farewell)

    async def _ask_workload(self, vm: VM, run: Run) -> float | None:
        """See whether a workload that no agent looks after is well. Returns the seconds until it is to be asked again."""
        plugin = await find_plugin_of(self._store, vm)
        if plugin is None:
            return None
        now = self._clock.monotonic()
        run.host_health = await ask_workload(self._starter.fabric, vm, plugin.manifest, run.host_health, now)
        return None if run.host_health is None else max(0.0, run.host_health.due_at - self._clock.monotonic())

    async def _facts(self, vm: VM, run: Run) -> Facts:
        # A command that waits for a restart does not run yet, and the plugin's workload is still asked how it is.
        return gather_facts(vm, run, has_health_check=await self._starter.has_health_check(self._live.as_it_ran(vm)))


def _describe_place(vm: VM) -> str:
    return f" at {vm.status.addresses[0].ip}" if vm.status.addresses and vm.status.addresses[0].ip else ""


def _is_taken(vm: VM) -> bool:
    """True for a clone that somebody took from a pool and that never ran for them yet."""
    start = vm.status.start
    return start is not None and start.kind == "pool" and start.duration_ms is None


_TOLD_REASONS = frozenset(
    {"CrashLoop", "WorkloadFailed", "WorkloadEnded", "Unhealthy", "LivenessFailed", "StartupFailed", "AgentSilent"}
)
