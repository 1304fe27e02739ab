"""A job in the foreground: what its runs write, and the exit code that it comes to."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import click

from volant.cli.failure import DONE, FAILED, print_error
from volant.cli.prefix import Prefixed
from volant.client.client import Client
from volant.core.errors import NotFound, TimedOut, VolantError
from volant.core.job import JOB_LABEL, Job
from volant.core.vm import VM

OUT_OF_TIME = 124
"""As timeout(1) says it."""

ASK_S = 300.0
"""How long one question to volantd waits; a job may take days."""


class JobOutput:
    """Prints what the runs of one job write, each line once, with the name of its VM before it unless there is one at a time."""

    def __init__(self, client: Client, job: Job) -> None:
        self._client = client
        self._job = job
        self._prefixed = Prefixed(alone=job.spec.completions == 1)
        self._lock = threading.Lock()
        self._last_seq: dict[str, int] = {}

    def follow(self) -> None:
        """In the background, from now on: runs that are there, and those that come."""
        threading.Thread(target=self._watch, name="runs", daemon=True).start()

    def finish(self) -> None:
        """Print what the followers have not come to yet."""
        for vm in list_runs(self._client, self._job.name):
            with contextlib.suppress(NotFound):
                self._print(vm.name, follow=False)

    def _watch(self) -> None:
        with contextlib.suppress(VolantError):  # ``finish`` prints the rest, or says what is wrong
            for change in self._client.vms.watch_all(f"{JOB_LABEL}={self._job.name}"):
                if change.vm is not None and change.type == "put":
                    self._begin(change.vm.name)

    def _begin(self, name: str) -> None:
        with self._lock:
            if name in self._last_seq:
                return
            self._last_seq[name] = 0
        threading.Thread(target=self._follow, args=(name,), name=f"logs-{name}", daemon=True).start()

    def _follow(self, name: str) -> None:
        with contextlib.suppress(VolantError, BrokenPipeError):
            self._print(name, follow=True)

    def _print(self, name: str, *, follow: bool) -> None:
        self._prefixed.add(name)
        for line in self._client.vms.logs(name, follow=follow):
            with self._lock:
                if line["seq"] <= self._last_seq.get(name, 0):
                    continue
                self._last_seq[name] = line["seq"]
                self._print_line(name, line)
        self._prefixed.finish(name)

    def _print_line(self, name: str, line: dict[str, Any]) -> None:
        if line.get("missed"):
            print_error(f"{line['missed']} lines of {name} were lost here")
        if line["source"] != "kestrel":
            self._prefixed.print(name, str(line["text"]), err=line["source"] != "stdout", nl=not line.get("partial"))


def list_runs(client: Client, job: str) -> list[VM]:
    """The VMs of a job, in the order in which they were made."""
    return sorted(client.vms.list({JOB_LABEL: job}), key=lambda vm: (vm.meta.created_at, vm.name))


def await_job(client: Client, name: str, timeout_s: float | None) -> Job:
    """The job when it has ended. Raises TimedOut, NotFound."""
    until = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left_s = ASK_S if until is None else min(ASK_S, until - time.monotonic())
        try:
            return client.jobs.wait(name, timeout_s=max(0.001, left_s))
        except TimedOut:
            if until is not None and time.monotonic() >= until:
                raise


def tell_end(job: Job, *, quiet: bool = False) -> int:
    """Say on stderr how ``job`` ended; returns the exit code: of one with a single completion its last run's own."""
    status = job.status
    if status.phase == "Succeeded":
        if not quiet:
            click.echo(describe_end(job), err=True)
        return DONE
    print_error(describe_end(job), f"volar jobs get {job.name}, and volar events --for {job.name}")
    if status.reason == "DeadlineExceeded":
        return OUT_OF_TIME
    last = next((record for record in reversed(status.runs) if not record.succeeded), None)
    return (last.exit_code if last is not None and job.spec.completions == 1 else None) or FAILED


def describe_end(job: Job) -> str:
    """``sum is done: 5 runs, 1 failed before``."""
    status = job.status
    if status.phase == "Succeeded":
        failed = f", after {status.failed} that failed" if status.failed else ""
        runs = "1 run" if status.succeeded == 1 else f"{status.succeeded} runs"
        return f"{job.name} is done: {runs} ended well{failed}"
    return f"{job.name} failed: {status.message}"
