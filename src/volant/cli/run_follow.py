"""A VM in the foreground: what its workload writes, Ctrl-C to it, and the exit code that it ends with."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

import click

from volant.cli.failure import FAILED, print_error, print_volant_error
from volant.cli.signals import handling_signals, list_heard
from volant.cli.vm_wait import tell_failure
from volant.client.client import Client
from volant.core.errors import NotFound, TimedOut, Unavailable, VolantError
from volant.core.vm import VM

OUT_OF_TIME = 124
"""As timeout(1) says it."""

STOP_MARGIN_S = 30.0


class Foreground:
    """Follows one VM to its end. Inside ``stoppable`` the first Ctrl-C (or SIGTERM) asks it to stop; a second one is an
    interrupt like any other.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._name = ""
        self._signal = 0

    @contextlib.contextmanager
    def stoppable(self) -> Iterator[None]:
        with handling_signals(self._on_signal):
            yield

    def follow(self, vm: VM, timeout_s: float | None) -> int:
        """Print what the workload of ``vm`` writes until it ends; return the exit code of it all.

        Raises:
            Unavailable: volantd went away.
        """
        self._name = vm.name
        if self._signal:
            self._ask_stop()  # it came while the VM was being made
        output = _Output(self._client, vm.name, on_deaf=self._ask_stop)
        threading.Thread(target=output.follow, name="output", daemon=True).start()
        out_of_time = False
        try:
            ended = self._wait_ended(vm, timeout_s)
        except TimedOut:
            out_of_time = True
            self._ask_stop()
            ended = self._wait_ended(vm, vm.spec.grace_s + STOP_MARGIN_S)
        if ended is None:
            print_error(f"{vm.name} was deleted by somebody else")
            return FAILED
        try:
            output.finish()
        except VolantError as error:
            print_volant_error(error)
        if out_of_time:
            print_error(f"{vm.name} was stopped: it ran for longer than it may (--timeout)")
            return OUT_OF_TIME
        if self._signal:
            return 128 + self._signal
        code = read_exit_code(ended)
        return tell_failure(self._client, ended, "run to its end") if code is None else code

    def _wait_ended(self, vm: VM, timeout_s: float | None) -> VM | None:
        """None when it is gone."""
        with contextlib.suppress(NotFound):
            for current in self._client.vms.watch(vm.name, timeout_s=timeout_s):
                if current is None or current.uid != vm.uid:
                    return None
                if has_ended(current):
                    return current
            raise Unavailable(
                f"volantd stopped, and {vm.name} goes on without it",
                hint=f"when volantd is back: volar vms logs -f {vm.name}, volar vms delete {vm.name}",
            )
        return None

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        for each in list_heard():
            signal.signal(each, signal.default_int_handler)
        self._signal = number
        if self._name:
            # Not here: the thread that was interrupted may be in the middle of anything.
            threading.Thread(target=self._ask_stop, name="stop", daemon=True).start()

    def _ask_stop(self) -> None:
        with contextlib.suppress(VolantError):  # it has ended, or the watch tells that volantd has
            self._client.vms.stop(self._name)


class _Output:
    """Each line of the log once, from whoever comes with it first: the follower, or ``finish`` at the end.

    ``on_deaf`` is called when nobody reads any more what is printed.
    """

    def __init__(self, client: Client, name: str, on_deaf: Callable[[], None]) -> None:
        self._client = client
        self._name = name
        self._on_deaf = on_deaf
        self._printing = threading.Lock()
        self._last_seq = 0

    def follow(self) -> None:
        try:
            self._print(self._client.vms.logs(self._name, follow=True))
        except VolantError:
            return  # ``finish`` prints the rest, or says what is wrong
        except BrokenPipeError:
            self._on_deaf()

    def finish(self) -> None:
        """Print what the follower has not come to yet."""
        self._print(self._client.vms.logs(self._name))

    def _print(self, lines: Iterable[dict[str, Any]]) -> None:
        for line in lines:
            with self._printing:
                if line["seq"] <= self._last_seq:
                    continue
                self._last_seq = line["seq"]
                if line.get("missed"):
                    print_error(f"{line['missed']} lines were lost here")
                if line["source"] != "kestrel":
                    click.echo(str(line["text"]), err=line["source"] != "stdout", nl=not line.get("partial"))


def print_logs(client: Client, name: str) -> None:
    """All that there is of what a workload wrote."""
    _Output(client, name, on_deaf=lambda: None).finish()


def has_ended(vm: VM) -> bool:
    """True when nothing runs of it and nothing will."""
    status = vm.status
    is_seen = status.observed_generation >= vm.meta.generation
    return is_seen and status.phase in ("Stopped", "Failed") and status.pid is None


def read_exit_code(vm: VM) -> int | None:
    """The workload's own, or 128 and the number of its signal; None when the VM did not end with its workload."""
    end = vm.status.last_end
    if end is None or end.run_id != vm.status.run_id:
        return None
    if end.exit_code is not None:
        return end.exit_code
    if end.exit_signal is not None:
        return 128 + end.exit_signal
    return 0 if end.clean else None
