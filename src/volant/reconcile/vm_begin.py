"""The steps by which a run of a VM begins, sleeps and goes on, and what is written down of each."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import structlog

from volant.core.clock import Clock, format_time
from volant.core.condition import Condition, set_condition
from volant.core.errors import StaleRevision, Unavailable, Untrusted, VolantError
from volant.core.ids import new_run_id
from volant.core.snapshot import Snapshot
from volant.core.vm import READY, VM, EndRecord, StartKind, StartRecord
from volant.hypervisor.driver import NotRestorable
from volant.node.run import Run
from volant.reconcile.backoff import Backoff
from volant.reconcile.outcome import After, Again, Done, Outcome
from volant.reconcile.recorder import Note
from volant.reconcile.start_gate import StartGate
from volant.reconcile.vm_decision import LONGEST_RETRY_S, end_recorded
from volant.reconcile.vm_facts import gather_facts
from volant.reconcile.vm_live import LiveChanges
from volant.reconcile.vm_sleep import Sleeper, with_suspended
from volant.reconcile.vm_start import VMStarter
from volant.reconcile.vm_status import begin_anew, project_status
from volant.reconcile.vm_writer import VMWriter
from volant.store.contract import Store
from volant.store.records import find_resource

log = structlog.get_logger()

WAIT_S = 30.0
"""Whoever makes a template, or leaves the gate, has the others look again; this is for the case that nobody does."""

TRUST_POLL_S = 5.0
"""A VM whose plugin is not trusted is looked at again: nobody tells when a key comes."""

WAKE_ATTEMPTS = 5
"""After so many failures in a row a VM that sleeps is booted instead."""

RESTART_BACKOFF = Backoff(first_s=1.0, factor=2.0, cap_s=LONGEST_RETRY_S, jitter=0.0)


class VMBeginner:
    """Every step writes its intent before what it does, and may be repeated."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        starter: VMStarter,
        sleeper: Sleeper,
        writer: VMWriter,
        gate: StartGate,
        live: LiveChanges,
    ) -> None:
        self._store = store
        self._clock = clock
        self._starter = starter
        self._sleeper = sleeper
        self._writer = writer
        self._gate = gate
        self._live = live

    async def launch(self, vm: VM) -> Outcome:
        refusal = await self._starter.admission.find_refusal(vm)
        if refusal is not None:
            return await self.refuse(vm, refusal)
        vm = await self._begin_run(vm)
        if not self._gate.enter(vm.uid):
            return await self._wait(vm, "WaitingForTurn", "others are starting", self._gate.retry_s)
        try:
            await self._live.begin(vm)
            started = await self._starter.start(vm)
        except StaleRevision:
            raise
        except Untrusted as error:
            return await self.refuse(vm, error)
        except VolantError as error:
            return await self._start_failed(vm, error)
        choice, run = started.choice, started.run
        if run is None:
            self._gate.leave(vm.uid)
            return await self._wait(vm, "WaitingForTemplate", "its template is being made")
        assert vm.status.start is not None
        start = msgspec.structs.replace(
            vm.status.start,
            kind="cold" if choice.how == "cold" else "template",
            template=choice.key if choice.how == "template" else "",
            reason=choice.reason,
        )
        status = msgspec.structs.replace(vm.status, start=start, template=start.template)
        words = "booted" if choice.how == "cold" else f"started from template {choice.key[:12]}"
        why = f" ({choice.reason})" if choice.reason else ""
        return await self._begun(msgspec.structs.replace(vm, status=status), run, f"{words}{why}")

    async def _wait(self, vm: VM, reason: str, message: str, retry_s: float = WAIT_S) -> Outcome:
        await self._writer.save(vm, msgspec.structs.replace(vm.status, reason=reason, message=message))
        return After(retry_s)

    async def _begin_run(self, vm: VM, *, anew: bool = False) -> VM:
        """Write down that a run begins, before anything of it does. One that was written down and never began is that run."""
        status = vm.status
        is_due = bool(status.run_id) and status.started_at is None and not end_recorded(vm)
        if is_due and not anew and status.started_token == vm.spec.restart_token:
            return vm
        first = status.run_id == ""
        asked_at = vm.meta.created_at if first and vm.meta.generation == 1 else self._writer.now
        changed = msgspec.structs.replace(
            begin_anew(status, self._writer.now),
            run_id=new_run_id(),
            started_token=vm.spec.restart_token,
            start=StartRecord(kind="cold", asked_at=asked_at),
            observed_generation=vm.meta.generation,
        )
        return await self._writer.save(vm, changed)

    async def _begun(self, vm: VM, run: Run, words: str) -> Outcome:
        """Write down what runs now."""
        log.info("vm_started", name=vm.name, pid=run.instance.pid, accelerator=run.instance.machine.accelerator)
        vm = msgspec.structs.replace(vm, status=self._starter.network_condition(vm, self._clock.now()))
        facts = gather_facts(vm, run, has_health_check=await self._starter.has_health_check(vm))
        under = facts.hypervisor + (f" ({facts.accelerator})" if facts.accelerator != "none" else "")
        note = Note("Normal", "Started", f"{words}, under {under}")
        await self._writer.save(vm, project_status(vm, facts, self._clock.now()), note, force=True)
        return Done()

    async def refuse(self, vm: VM, error: Untrusted) -> Outcome:
        """Leave ``vm`` as it is until its plugin is trusted: nothing runs, and what was saved of it stays."""
        self._gate.leave(vm.uid)
        message = str(error) + (f" ({error.hint})" if error.hint else "")
        condition = Condition(type=READY, status="False", reason="Untrusted", message=message)
        status = msgspec.structs.replace(
            vm.status,
            phase="Failed",
            ready=False,
            reason="Untrusted",
            message=message,
            conditions=set_condition(vm.status.conditions, condition, self._writer.now),
            observed_generation=vm.meta.generation,
        )
        if status != vm.status:
            log.warning("vm_refused", name=vm.name, error=message)
            await self._writer.save(vm, status, Note("Warning", "Untrusted", message))
        return After(TRUST_POLL_S)

    async def wake(self, vm: VM) -> Outcome:
        refusal = await self._starter.admission.find_refusal(vm)
        if refusal is not None:
            return await self.refuse(vm, refusal)
        kind: StartKind = "resume" if vm.status.suspended is not None else "snapshot"
        start = StartRecord(kind=kind, asked_at=self._writer.now, template=vm.status.template)
        vm = await self._writer.save(vm, msgspec.structs.replace(vm.status, start=start))
        try:
            run = await self._sleeper.wake(self._live.as_it_ran(vm))
        except StaleRevision:
            raise
        except Untrusted as error:
            return await self.refuse(vm, error)
        except NotRestorable as error:
            return await self._boot_instead(vm, error)
        except VolantError as error:
            if vm.status.failures + 1 >= WAKE_ATTEMPTS:
                return await self._boot_instead(vm, error)
            return await self._start_failed(vm, error)
        return await self._begun(vm, run, "goes on from where it was")

    async def _boot_instead(self, vm: VM, error: VolantError) -> Outcome:
        await self._sleeper.give_up(vm)
        words = f"what was saved of it cannot be restored, so it is booted: {error}"
        ended = EndRecord(run_id=vm.status.run_id, kind="lost", message=words, at=self._writer.now, asked=False)
        status = msgspec.structs.replace(vm.status, suspended=None, template="", last_end=ended, retry_at=None)
        await self._writer.save(vm, status, Note("Warning", "NotRestored", words))
        return Again()

    async def suspend(self, vm: VM, run: Run) -> Outcome:
        template = run.instance.machine.base
        await self._live.outlive(vm, run)
        record = await self._sleeper.suspend(vm, run)
        asleep = with_suspended(vm, record, template)
        words = f"suspended in {record.duration_ms} ms, {record.size_bytes / 1e6:.1f} MB on disk"
        status = project_status(asleep, None, self._clock.now(), asleep=True)
        await self._writer.save(asleep, status, Note("Normal", "Suspended", words), force=True)
        return Again()

    async def install(self, vm: VM) -> Outcome:
        snapshot = await find_resource(self._store, Snapshot, vm.meta.project, vm.spec.snapshot)
        if snapshot is None or snapshot.status.phase != "Ready":
            raise Unavailable(f"its snapshot {vm.spec.snapshot!r} is not there", hint="volar snapshots list")
        vm = await self._begin_run(vm, anew=True)
        template = await self._sleeper.install(vm, snapshot.uid)
        self._live.install(vm, self._sleeper.path_of(vm))
        assert vm.status.start is not None
        status = msgspec.structs.replace(
            vm.status, snapshot_token=vm.spec.snapshot_token, template=template, suspended=None, started_at=None, pid=None
        )
        note = Note("Normal", "Installed", f"begins from snapshot {snapshot.name}")
        await self._writer.save(vm, status, note, force=True)
        return Again()

    async def _start_failed(self, vm: VM, error: VolantError) -> Outcome:
        self._gate.leave(vm.uid)
        failures = vm.status.failures + 1
        delay = RESTART_BACKOFF.delay(failures, self._starter.random_source)
        message = str(error) + (f" ({error.hint})" if error.hint else "")
        status = msgspec.structs.replace(
            vm.status,
            phase="Failed",
            ready=False,
            reason="StartFailed",
            message=message,
            failures=failures,
            retry_at=format_time(self._clock.now() + timedelta(seconds=delay)),
        )
        log.warning("vm_start_failed", name=vm.name, error=message, failures=failures)
        await self._writer.save(vm, status, Note("Warning", "StartFailed", message))
        return After(delay)
