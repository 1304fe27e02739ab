"""What the API may ask of the host that a VM runs on. It knows no guest and no driver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Literal, Protocol

import msgspec

from volant.core.ids import Digest, Uid
from volant.core.template import Template

LogSource = Literal["stdout", "stderr", "kestrel"]


class Terminal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The size of a terminal, and its kind as ``TERM`` says it."""

    rows: Annotated[int, msgspec.Meta(ge=1, le=9999)] = 24
    cols: Annotated[int, msgspec.Meta(ge=1, le=9999)] = 80
    term: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._+-]{0,64}$")] = ""


class ExecRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``user`` and ``workdir`` default to the workload's, ``env`` adds to its environment. With ``tty`` it runs on a terminal of
    its own, and all its output is stdout."""

    argv: tuple[str, ...]
    env: dict[str, str] = {}
    user: str = ""
    workdir: str = ""
    stdin: bool = False
    tty: Terminal | None = None


class ExecResult(msgspec.Struct, frozen=True, kw_only=True):
    """Exactly one of both is set."""

    code: int | None = None
    signal: int | None = None


class ExecSession(Protocol):
    """A program running in a guest. Iterate for its output; the iteration ends when the program has ended."""

    def __aiter__(self) -> AsyncIterator[tuple[Literal["stdout", "stderr"], bytes]]: ...

    async def write_stdin(self, content: bytes) -> None: ...

    async def close_stdin(self) -> None: ...

    async def send_signal(self, number: int) -> None: ...

    async def result(self) -> ExecResult: ...


class PortStream(Protocol):
    """A TCP connection to a port inside a guest."""

    async def read(self, limit: int = 65536) -> bytes:
        """What has come, at least a byte; empty at the guest's end of it. Raises GuestUnreachable."""
        ...

    async def write(self, content: bytes) -> None:
        """Waits while the guest does not read. Raises GuestUnreachable."""
        ...

    async def write_eof(self) -> None: ...

    def close(self) -> None:
        """Let go of both directions at once."""
        ...


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a workload. ``partial`` lines go on in the next; ``missed`` counts lines lost before this one."""

    seq: int
    at: str
    source: LogSource
    text: str
    partial: bool = False
    missed: int = 0


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One finding about the host. ``fix`` is what to do about it."""

    name: str
    state: Literal["ok", "warning", "failed"]
    message: str
    fix: str = ""


class VMStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a running VM uses. Bytes by the host kernel's own account: ``memory_private_bytes`` of the guest's memory are its own,
    ``memory_shared_bytes`` it shares with its template's other clones; ``process_*`` is all of the VM process, that included.

    ``guest_*`` is what the guest says of itself: None when it does not answer. ``cpu_s``: processor seconds since it began.
    """

    memory_private_bytes: int
    memory_shared_bytes: int
    process_private_bytes: int
    process_shared_bytes: int
    cpu_s: float
    guest_memory_total_bytes: int | None = None
    guest_memory_available_bytes: int | None = None
    guest_load1: float | None = None
    guest_cpu_ms: int | None = None
    guest_uptime_ms: int | None = None


class TemplateDoor(Protocol):
    """The templates of a node."""

    async def list_templates(self) -> list[Template]:
        """All of them, those used last first."""
        ...

    async def build_template(
        self, plugin: str, *, project: str = "default", cpu_cores: int | None, memory_mb: int | None
    ) -> Template:
        """The template that VMs of ``plugin`` of that size start from, made when it is not there.

        Raises:
            NotFound: there is no such plugin. Unavailable: this host's hypervisor cannot start clones. HostError: it could not
            be made, and the message says why.
        """
        ...

    async def prune_templates(self) -> list[Template]:
        """Remove all that nothing stands on; return what went."""
        ...


class NodeDoor(Protocol):
    """Every method may raise GuestUnreachable or Unavailable."""

    def open_exec(self, uid: Uid, request: ExecRequest) -> AbstractAsyncContextManager[ExecSession]:
        """Run a program beside the workload; leaving the context hangs up on it.

        Raises:
            WrongState: the VM does not run. InvalidInput: no such program, user or directory in the guest.
        """
        ...

    def read_logs(
        self, uid: Uid, *, tail: int | None = None, since: str | None = None, previous: bool = False, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """Stored lines of the current run, oldest first: the last ``tail``, or those after the RFC 3339 time ``since``.

        ``previous`` reads the run before. ``follow`` goes on with new lines, over restarts, until the VM is deleted.
        """
        ...

    def read_console(self, uid: Uid, *, tail_bytes: int | None = None, follow: bool = False) -> AsyncIterator[bytes]:
        """What the serial console printed, from the bounded log; ``follow`` goes on with what comes."""
        ...

    async def put_artifact(self, digest: Digest, content: AsyncIterator[bytes]) -> int:
        """Store a file under its digest; return its size in bytes.

        Raises:
            ChecksumMismatch, DiskFull, TooLarge: nothing was kept.
        """
        ...

    async def artifact_size(self, digest: Digest) -> int | None: ...

    async def check_host(self) -> list[Check]: ...

    async def read_stats(self, uid: Uid) -> VMStats:
        """Raises WrongState when the VM does not run."""
        ...

    @property
    def templates(self) -> TemplateDoor: ...
