"""``volar vms exec``."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING

import click

from volant.cli.session import Ended, Session, complete_vms, pass_session
from volant.core.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from volant.client.exec import ExecConnection

READ_BYTES = 32 * 1024
QUEUED_CHUNKS = 16
"""How much of stdin is read ahead of what the program takes."""


@click.command(
    name="exec",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="""
    \b
    Examples:
      volar vms exec web -- nginx -v
      volar vms exec web -- sh -c 'ls -l /etc | wc -l'
      tar c site | volar vms exec web -- tar x -C /srv
      volar vms exec -u www-data -e TERM=dumb web -- id

    The exit code is the program's, or 128 and the number of the signal that ended it. Ctrl-C sends it SIGINT; a
    second one hangs up on it.
    """,
)
@click.argument("name", shell_complete=complete_vms)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-i", "--interactive", is_flag=True, help="Pass stdin on even when it is a terminal.")
@click.option("-u", "--user", default="", help="Instead of the workload's: name, uid or uid:gid.")
@click.option("-w", "--workdir", default="", help="Instead of the workload's.")
@click.option("-e", "--env", multiple=True, metavar="KEY=VALUE", help="Added to the workload's environment; may be repeated.")
@pass_session
def exec_(
    session: Session, name: str, command: tuple[str, ...], interactive: bool, user: str, workdir: str, env: tuple[str, ...]
) -> None:
    """Run COMMAND in the VM NAME, beside its workload."""
    environment: dict[str, str] = {}
    if env:
        from volant.cli.vm_create import read_pairs

        environment = read_pairs(env, "--env")
    if command[0] == "--":
        command = command[1:]
    if not command:
        raise InvalidInput("there is no program to run", hint=f"volar vms exec {name} -- COMMAND")
    stdin = interactive or not _is_terminal_or_closed(0)
    running = session.client.vms.exec(name, command, env=environment, user=user, workdir=workdir, stdin=stdin)
    with running:
        _converse(running, stdin)
    if running.signal is not None:
        raise Ended(128 + running.signal)
    raise Ended(running.code or 0)


def _converse(running: ExecConnection, stdin: bool) -> None:
    """Pass bytes and Ctrl-C on until the program ends."""
    sender = _Sender(running)
    sender.start()
    if stdin:
        threading.Thread(target=sender.read_stdin, name="stdin", daemon=True).start()
    with _interrupts_to(sender):
        for source, content in running:
            stream = sys.stdout.buffer if source == "stdout" else sys.stderr.buffer
            stream.write(content)
            stream.flush()


class _Sender(threading.Thread):
    """The one thread that writes to the connection, so that nobody waits for anybody else's write.

    Ctrl-C is told through a SimpleQueue, whose put may interrupt itself.
    """

    def __init__(self, running: ExecConnection) -> None:
        super().__init__(name="exec-sender", daemon=True)
        self._running = running
        self._queue: SimpleQueue[bytes | int | None] = SimpleQueue()
        self._room = threading.Semaphore(QUEUED_CHUNKS)

    def send_signal(self, number: int) -> None:
        self._queue.put(number)

    def read_stdin(self) -> None:
        while True:
            self._room.acquire()
            try:
                chunk = os.read(0, READ_BYTES)
            except OSError:
                chunk = b""
            self._queue.put(chunk or None)
            if not chunk:
                return

    def run(self) -> None:
        with contextlib.suppress(Unavailable):  # the program ended; the reader tells how
            while True:
                item = self._queue.get()
                if isinstance(item, int):
                    self._running.send_signal(item)
                elif item is None:
                    self._running.close_stdin()
                else:
                    self._running.write_stdin(item)
                    self._room.release()


@contextlib.contextmanager
def _interrupts_to(sender: _Sender) -> Iterator[None]:
    """The first Ctrl-C goes to the program, the second raises KeyboardInterrupt here."""

    def pass_on(number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sender.send_signal(number)

    before = signal.signal(signal.SIGINT, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _is_terminal_or_closed(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return True
    return os.isatty(descriptor)
