"""``volar run -i`` and ``-t``: this end's terminal is the workload's, from its first byte to its end."""

from __future__ import annotations

import threading
import time

from volant.cli.conversation import converse
from volant.cli.failure import FAILED, print_error
from volant.cli.run_follow import OUT_OF_TIME, has_ended, read_exit_code
from volant.cli.terminal import is_terminal, read_size
from volant.cli.vm_attach import KEYS
from volant.cli.vm_wait import tell_failure
from volant.client.client import Client
from volant.client.exec import AttachConnection
from volant.core.errors import InvalidInput, VolantError
from volant.core.vm import VM

END_S = 60.0


def attach_until_ended(client: Client, vm: VM, *, stdin: bool, tty: bool, timeout_s: float | None) -> int | None:
    """The exit code of the workload; None when the user detached and the VM goes on.

    Raises:
        InvalidInput: a terminal was asked for, and there is none here to type at.
    """
    if tty and stdin and not is_terminal(0):
        raise InvalidInput("-t with -i needs a terminal, and stdin is none", hint="leave -t out")
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    running = _attach_when_it_runs(client, vm, stdin=stdin)
    if running is None:
        return _tell_end(client, vm)
    out_of_time = threading.Event()
    with running:
        timer = _stop_in_time(client, vm, deadline, out_of_time)
        try:
            if converse(
                running, stdin=stdin, raw=stdin and running.has_tty, keys=KEYS if is_terminal(0) else "", pass_signals=True
            ):
                return None
        finally:
            if timer is not None:
                timer.cancel()
    if out_of_time.is_set():
        print_error(f"{vm.name} was stopped: it ran for longer than it may (--timeout)")
        return OUT_OF_TIME
    if running.code is not None or running.signal is not None:
        return 128 + running.signal if running.signal is not None else running.code
    return _tell_end(client, vm)


def _attach_when_it_runs(client: Client, vm: VM, *, stdin: bool) -> AttachConnection | None:
    """None when it ended before it could be attached to."""
    size = read_size() if is_terminal(1) else None
    for current in client.vms.watch(vm.name):
        if current is None or has_ended(current):
            return None
        if current.status.workload.state == "running":
            try:
                return client.vms.attach(vm.name, stdin=stdin, tty=size, replay=True)
            except VolantError:
                if has_ended(client.vms.get(vm.name)):
                    return None
                raise
    return None


def _stop_in_time(client: Client, vm: VM, deadline: float | None, out_of_time: threading.Event) -> threading.Timer | None:
    if deadline is None:
        return None

    def stop() -> None:
        out_of_time.set()
        client.vms.stop(vm.name)

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), stop)
    timer.daemon = True
    timer.start()
    return timer


def _tell_end(client: Client, vm: VM) -> int:
    """What it printed, when nobody saw it, and its exit code."""
    from volant.cli.run_follow import print_logs

    for current in client.vms.watch(vm.name, timeout_s=END_S):
        if current is None:
            break
        if has_ended(current):
            print_logs(client, vm.name)
            code = read_exit_code(current)
            return tell_failure(client, current, "run to its end") if code is None else code
    print_error(f"{vm.name} was deleted by somebody else")
    return FAILED
