"""What a job promises: each completion once, never more at a time than it may, and an end that stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from volant.core.clock import Clock
from volant.core.indexes import read_indexes
from volant.core.job import Job, read_run_name
from volant.core.resource import from_stored
from volant.core.vm import VM
from volant.reconcile.job.run import read_run
from volant.store.contract import Key

from .invariants import MEMORY_S, Changed
from .registry import Broken, Registry
from .remembered import Remembered

Data = dict[str, Any]


class JobInvariants:
    """``ended_well`` says whether the workload of the VM with this uid ended by itself, with status 0: the host knows."""

    def __init__(self, registry: Registry, clock: Clock, ended_well: Callable[[str], bool]) -> None:
        self._registry = registry
        self._ended_well = ended_well
        self._runs: dict[str, dict[int, dict[str, None]]] = {}
        """By uid of a job and index: uids of the VMs that there were."""
        self._limits = Remembered[tuple[int, int, bool]](clock, MEMORY_S)
        """``(parallelism, retries, suspended)``"""

    def check(self, changed: Sequence[Changed], by: str | None) -> None:
        for key, old, new in changed:
            if key.kind == "Job":
                self._check_job(key, old, new)
        for key, old, new in changed:
            owner = self._registry.by_uid.get((new or {"meta": {}})["meta"].get("owner") or "")
            if key.kind == "VM" and old is None and new is not None and owner is not None and owner.kind == "Job":
                self._check_start(self._registry.records[owner], key, new)

    def _check_job(self, key: Key, old: Data | None, new: Data | None) -> None:
        if new is None:
            assert old is not None
            self._runs.pop(old["meta"]["uid"], None)
            return
        uid, spec, status = new["meta"]["uid"], new["spec"], new["status"]
        self._limits.note(uid, (spec["parallelism"], spec["retries"], spec["suspended"]))
        completed = read_indexes(status["completed_indexes"])
        before = read_indexes(old["status"]["completed_indexes"]) if old is not None and old["meta"]["uid"] == uid else set()
        if before - completed:
            raise Broken(f"{key} takes back that {sorted(before - completed)} were done")
        if status["succeeded"] != len(completed) or len(completed) > spec["completions"]:
            raise Broken(f"{key} counts {status['succeeded']} of {spec['completions']}, and {sorted(completed)} are done")
        for index in sorted(completed - before):
            if not any(self._ended_well(vm) for vm in self._runs.get(uid, {}).get(index, ())):
                raise Broken(f"{key} counts {index} as done, and no run of it ended well")
        if old is not None and old["meta"]["uid"] == uid and old["status"]["ended_at"]:
            if any(old["status"][field] != status[field] for field in ("ended_at", "phase", "succeeded", "failed")):
                raise Broken(f"{key} had ended, and went on")
        elif status["ended_at"]:
            self._check_end(key, new, completed)

    def _check_end(self, key: Key, job: Data, completed: set[int]) -> None:
        spec, status = job["spec"], job["status"]
        if status["phase"] == "Succeeded" and len(completed) != spec["completions"]:
            raise Broken(f"{key} has succeeded with {len(completed)} of {spec['completions']}")
        if status["phase"] == "Failed" and status["reason"] == "TooManyFailures":
            least = min(retries for _, retries, _ in self._limits.of(job["meta"]["uid"]))
            if status["failed"] <= least:
                raise Broken(f"{key} has failed after {status['failed']} failures, and {least} may")

    def _check_start(self, job: Data, key: Key, vm: Data) -> None:
        place = read_run_name(job["meta"]["name"], key.name)
        if place is None:
            raise Broken(f"{key} is a VM of job {job['meta']['name']} by another name than a run's")
        uid, status, name = job["meta"]["uid"], job["status"], job["meta"]["name"]
        index = place[0]
        self._runs.setdefault(uid, {}).setdefault(index, {})[vm["meta"]["uid"]] = None
        if status["ended_at"]:
            raise Broken(f"{key} is started for job {name}, which has ended")
        if index in read_indexes(status["completed_indexes"]) or index >= job["spec"]["completions"]:
            raise Broken(f"{key} is started for what job {name} has done, or need not do")
        limits = self._limits.of(uid)
        if all(suspended for _, _, suspended in limits):
            raise Broken(f"{key} is started for job {name}, which is suspended")
        active = [one for one in self._active(job) if one != key.name]
        if any(read_run_name(name, one) == (index, other) for one in active for other in range(place[1] + 1)):
            raise Broken(f"{key} is started while another run for the same is active: {', '.join(active)}")
        most = max(parallelism for parallelism, _, _ in limits)
        if len(active) + 1 > most:
            raise Broken(f"{key} is started beside {', '.join(active)}, and {most} may run at a time")

    def _active(self, job: Data) -> list[str]:
        """VMs that run for it, or will. What was counted and is started again by hand is stopped again, and is none."""
        found = from_stored(Job, job, 1)
        done, attempts = read_indexes(found.status.completed_indexes), found.status.attempts
        vms = [from_stored(VM, data, 1) for data in self._registry.owned(found.uid, "VM")]
        runs = [run for vm in vms if (run := read_run(found, vm)) is not None and run.state == "active"]
        return [run.vm for run in runs if run.index not in done and run.attempt >= attempts.get(str(run.index), 0)]
