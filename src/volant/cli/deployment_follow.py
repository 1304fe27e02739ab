"""Following a rollout to its end, and telling how it went."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import click

from volant.cli.failure import FAILED, print_error, printable
from volant.cli.progress import Say
from volant.client.client import Client
from volant.core.condition import is_true
from volant.core.deployment import DEPLOYMENT_LABEL, REPLICA_FAILURE, REVISION_LABEL, Deployment, replica_index
from volant.core.deployment_wait import Outcome, describe_rollout, rollout_outcome
from volant.core.errors import NotFound, TimedOut, Unavailable, VolantError
from volant.core.vm import BOOTED, VM

LAST_LINES = 10


class Evidence(NamedTuple):
    """What a replica said that does not come up, taken while it is still there."""

    vm: str
    why: str
    lines: tuple[str, ...]


class Followed(NamedTuple):
    """``deployment`` is None once it is gone."""

    deployment: Deployment | None
    outcome: Outcome
    evidence: Evidence | None = None


def follow_rollout(client: Client, deployment: Deployment, timeout_s: float, say: Say, *, past_waiting: bool = False) -> Followed:
    """``deployment`` when its rollout is done, failed, or is not gone on with. ``past_waiting``: not when it waits for somebody.

    Raises:
        TimedOut: not within ``timeout_s``; the message says where it stands.
    """
    last, evidence = deployment, None
    say(f"{deployment.name}: {describe_rollout(deployment)}")
    try:
        for current in client.deployments.watch(deployment.name, timeout_s=timeout_s):
            if current is None or current.uid != deployment.uid:
                return Followed(None, "", evidence)
            last = current
            if evidence is None and _shows_failure(current):
                evidence = find_evidence(client, current)
            outcome = _outcome_since(deployment, current)
            if outcome and not (past_waiting and outcome == "waiting"):
                return Followed(current, outcome, evidence)
            say(f"{deployment.name}: {describe_rollout(current)}")
    except NotFound:
        return Followed(None, "", evidence)
    except TimedOut as error:
        raise TimedOut(
            f"{deployment.name} is not complete after {timeout_s:g} s: {describe_rollout(last)}",
            hint=f"it goes on; follow it with: volar deployments rollout status {deployment.name}",
        ) from error
    raise Unavailable(
        f"volantd stopped while {deployment.name} was waited for",
        hint=f"it goes on when volantd is back: volar deployments rollout status {deployment.name}",
    )


def tell_rollout(client: Client, followed: Followed) -> int:
    """Say how it ended; returns the exit code: 1 when it failed, was rolled back, or is not gone on with."""
    deployment, outcome, evidence = followed
    if deployment is None:
        raise NotFound("it was deleted in the meantime")
    name, status = deployment.name, deployment.status
    match outcome:
        case "done":
            click.echo(describe_done(deployment))
            return 0
        case "paused":
            print_error(f"{name} is paused: {describe_rollout(deployment)}", f"volar deployments rollout resume {name}")
            return FAILED
        case "waiting":
            click.echo(f"{name} waits for you: {describe_rollout(deployment)}")
            click.echo(f"  hint: volar deployments rollout resume {name}, or undo", err=True)
            return 0
        case "failed":
            verb = "was rolled back" if status.rollout.phase == "RolledBack" else "failed"
            why = status.rollout.message or status.message or describe_rollout(deployment)
            print_error(f"the rollout of {name} {verb}: {why}")
        case _:
            print_error(f"{name} is not there yet: {describe_rollout(deployment)}")
    shown = evidence or find_evidence(client, deployment)
    if shown is not None:
        click.echo(f"  {printable(shown.vm)}: {printable(shown.why)}", err=True)
        if shown.lines:
            click.echo("  the last lines of its log:", err=True)
        for line in shown.lines:
            click.echo(f"    | {line}", err=True)
    click.echo(f"  hint: volar events --for {name}, and volar deployments rollout history {name}", err=True)
    return FAILED


def describe_done(deployment: Deployment) -> str:
    """``web is complete: 3 of 3 available, revision 2``."""
    status = deployment.status
    if status.phase == "Asleep":
        return f"{deployment.name} is asleep until somebody connects"
    kept = ", the old VMs are kept for a while" if status.rollout.phase == "Switched" else ""
    available = min(status.available, status.wanted)
    return f"{deployment.name} is complete: {available} of {status.wanted} available, revision {deployment.spec.target}{kept}"


def list_replicas(client: Client, deployment: Deployment) -> list[VM]:
    """Its VMs by their numbers."""
    found = client.vms.list({DEPLOYMENT_LABEL: deployment.name})
    own = [vm for vm in found if vm.meta.owner == deployment.uid]
    return sorted(own, key=lambda vm: (replica_index(deployment.name, vm.name) or 0, vm.name))


def find_evidence(client: Client, deployment: Deployment) -> Evidence | None:
    """Of the newest revision's replicas the one that is worst, with the last that it wrote; None when all are well."""
    with contextlib.suppress(VolantError):
        bad = [vm for vm in list_replicas(client, deployment) if not vm.status.ready and not vm.deleting]
        if not bad:
            return None
        worst = max(bad, key=lambda vm: (_revision_of(vm), vm.status.restarts, vm.status.phase == "Failed"))
        status = worst.status
        why = ": ".join(part for part in (status.reason, status.message) if part)
        ended = "" if status.last_end is None else status.last_end.message
        lines: tuple[str, ...] = ()
        if is_true(status.conditions, BOOTED) or status.restarts:
            lines = _read_lines(client, worst.name)
        return Evidence(worst.name, why or ended or status.workload.message or f"it is {status.phase.lower()}, not ready", lines)
    return None


def _read_lines(client: Client, name: str) -> tuple[str, ...]:
    for previous in (False, True):
        with contextlib.suppress(VolantError):
            lines = tuple(printable(str(line["text"])) for line in client.vms.logs(name, tail=LAST_LINES, previous=previous))
            if lines:
                return lines
    return ()


def _outcome_since(began: Deployment, current: Deployment) -> Outcome:
    """How it ended that ``began`` was asked for. A rollback before that is nobody's failure now."""
    outcome = rollout_outcome(current)
    was = began.status.rollout
    if outcome == "failed" and was.phase == current.status.rollout.phase == "RolledBack" and began.spec.target == was.revision:
        return "done"
    return outcome


def _shows_failure(deployment: Deployment) -> bool:
    return deployment.status.rollout.phase in ("RollingBack", "Failed") or is_true(deployment.status.conditions, REPLICA_FAILURE)


def _revision_of(vm: VM) -> int:
    text = vm.meta.labels.get(REVISION_LABEL, "")
    return int(text) if text.isdecimal() else 0
