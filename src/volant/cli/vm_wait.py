"""Waiting for VMs, and telling how it went."""

from __future__ import annotations

import contextlib
from collections import deque

import click

from volant.cli.failure import FAILED, print_error, printable
from volant.cli.measure import format_size
from volant.cli.progress import Say
from volant.client.client import Client
from volant.core.condition import is_true
from volant.core.duration import parse_duration
from volant.core.errors import NotFound, TimedOut, Unavailable, VolantError
from volant.core.vm import BOOTED, VM
from volant.core.wait import Goal, describe_progress, goal_reached, is_withdrawn

LAST_LINES = 10
CONSOLE_TAIL_BYTES = 8192


class Duration(click.ParamType[float]):
    """``500ms``, ``60s``, ``5m``; the value is seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration(str(value))
        except VolantError as error:
            self.fail(f"{error.message}; {error.hint}", param, ctx)


def follow_vm(client: Client, vm: VM, goal: Goal, timeout_s: float, say: Say) -> VM | None:
    """``vm`` when ``goal`` is reached or out of reach; None when it is gone.

    Raises:
        TimedOut: not within ``timeout_s``; the message says where it stands.
    """
    last = vm
    say(f"{vm.name}: {describe_progress(vm)}")
    try:
        for current in client.vms.watch(vm.name, timeout_s=timeout_s):
            if current is None or current.uid != vm.uid:
                return None
            last = current
            if goal_reached(current, goal) or is_withdrawn(vm, current):
                return current
            say(f"{vm.name}: {describe_progress(current)}")
    except NotFound:
        return None
    except TimedOut as error:
        raise TimedOut(
            f"{vm.name} is not {goal} after {timeout_s:g} s: {describe_progress(last)}",
            hint=f"it goes on; look at it with: volar vms get {vm.name}",
        ) from error
    raise Unavailable(
        f"volantd stopped while {vm.name} was waited for", hint=f"it goes on when volantd is back: volar vms get {vm.name}"
    )


def describe_start(vm: VM) -> str:
    """``web is ready at 192.168.127.2 (cold start, 2.41 s)``."""
    place = f" at {vm.status.addresses[0].ip}" if vm.status.addresses else ""
    how = ""
    if vm.status.start is not None:
        took = "" if vm.status.start.duration_ms is None else f", {vm.status.start.duration_ms / 1000:.2f} s"
        kind = "resumed" if vm.status.start.kind == "resume" else f"{vm.status.start.kind} start"
        how = f" ({kind}{took})"
    return f"{vm.name} is ready{place}{how}"


def describe_suspended(vm: VM) -> str:
    """``web is suspended (2.9 MiB on disk, 31 ms)``; one that was woken meanwhile is told as it is."""
    if vm.status.phase != "Suspended":
        return f"{vm.name} was woken again and is {vm.status.phase.lower()}"
    record = vm.status.suspended
    how = "" if record is None else f" ({format_size(record.size_bytes)} on disk, {record.duration_ms} ms)"
    return f"{vm.name} is suspended{how}"


def tell_failure(client: Client, vm: VM, wanted: str = "ready") -> int:
    """Say on stderr why it is not ``wanted``, with the last that it wrote; returns the exit code."""
    status = vm.status
    why = ": ".join(part for part in (status.reason, status.message) if part) or describe_progress(vm)
    verb = "failed" if status.phase == "Failed" else f"is {status.phase.lower()}, not {wanted}"
    booted = is_true(status.conditions, BOOTED)
    print_error(f"{vm.name} {verb}: {why}")
    lines = _last_log_lines(client, vm.name) if booted else _last_console_lines(client, vm.name)
    if lines:
        click.echo(f"  the last lines of its {'log' if booted else 'console'}:", err=True)
        for line in lines:
            click.echo(f"    | {line}", err=True)
    command = f"volar vms {'logs' if booted else 'console'} {vm.name}"
    click.echo(f"  hint: {command}, and volar events --for {vm.name}", err=True)
    return FAILED


def _last_log_lines(client: Client, name: str) -> list[str]:
    with contextlib.suppress(VolantError):
        return [printable(str(line["text"])) for line in client.vms.logs(name, tail=LAST_LINES)]
    return []


def _last_console_lines(client: Client, name: str) -> list[str]:
    content = b""
    with contextlib.suppress(VolantError):
        content = b"".join(client.vms.console(name, tail_bytes=CONSOLE_TAIL_BYTES))
    lines = (printable(line) for line in content.decode("utf-8", "replace").splitlines())
    return list(deque((line for line in lines if line), LAST_LINES))
