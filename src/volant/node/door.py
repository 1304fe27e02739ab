"""What the API may ask of the host that a VM runs on. It knows no guest and no driver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, Literal, Protocol

import msgspec

from volant.core.ids import Digest, Uid
from volant.core.security import ProcessSecurity
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

    async def resize(self, rows: int, cols: int) -> None:
        """Its terminal has another size now, 1 to 9,999 each."""
        ...

    async def result(self) -> ExecResult: ...


class AttachRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``stdin``: be the one who writes to the workload. ``tty`` is the size that its terminal gets, if it has one. ``replay``:
    begin with what the guest still has of the output of a workload that can be talked with (256 KiB)."""

    stdin: bool = False
    tty: Terminal | None = None
    replay: bool = False


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """What was attached to: whether it runs on a terminal, and its pid in the guest, 0 while it does not run."""

    tty: bool
    pid: int


class AttachSession(ExecSession, Protocol):
    """A workload that is looked at. Its end is its end for good; leaving ends nothing."""

    @property
    def attached(self) -> Attached: ...


class ConsoleSession(Protocol):
    """A serial console. Iterate for what it printed and prints, until the VM is deleted."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises WrongState once another took over from who types."""
        ...

    async def write(self, content: bytes) -> None:
        """Type. Raises WrongState for who only reads, GuestUnreachable when the guest does not take it."""
        ...


class FileStat(msgspec.Struct, frozen=True, kw_only=True):
    """What is at a path in a guest. ``mode``: permission bits; ``target``: a link's."""

    name: str
    type: Literal["file", "directory", "symlink", "fifo"]
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    target: str = ""


class FilesWritten(msgspec.Struct, frozen=True, kw_only=True):
    entries: int
    bytes: int


class FilesReader(Protocol):
    """Files of a guest. Iterate once for them as a tar archive (pax), in pieces; after that ``skipped`` counts the sockets and
    devices that were passed over, and ``torn`` the files that shrank while they were read."""

    @property
    def stat(self) -> FileStat:
        """Of the path itself; what the names in the archive begin with is its ``name``."""
        ...

    @property
    def skipped(self) -> int: ...

    @property
    def torn(self) -> int: ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...


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

    ``guest_*`` is what the guest says of itself: None when it does not answer, or cannot tell. ``cpu_s``: processor seconds since
    it began; ``cpu_percent``: of late, 100 is one core. ``memory_bytes``: what the guest may use now. Disks and networks since it
    began, as the host counts; None when it cannot.
    """

    memory_private_bytes: int
    memory_shared_bytes: int
    process_private_bytes: int
    process_shared_bytes: int
    cpu_s: float
    cpu_percent: float = 0.0
    memory_bytes: int = 0
    disk_read_bytes: int | None = None
    disk_written_bytes: int | None = None
    network_received_bytes: int | None = None
    network_sent_bytes: int | None = None
    guest_memory_total_bytes: int | None = None
    guest_memory_available_bytes: int | None = None
    guest_load1: float | None = None
    guest_cpu_ms: int | None = None
    guest_uptime_ms: int | None = None
    guest_processes: int | None = None
    guest_disk_total_bytes: int | None = None
    guest_disk_available_bytes: int | None = None
    guest_disk_read_bytes: int | None = None
    guest_disk_written_bytes: int | None = None
    guest_network_received_bytes: int | None = None
    guest_network_sent_bytes: int | None = None


class UnitFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a VM on its host. ``allocated_bytes`` is what it takes there: less than its size where it is sparse."""

    path: str
    size_bytes: int
    allocated_bytes: int


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """All that a host has of a VM: its directories and files there, the ``machine`` as it was resolved for its last start, and
    while it runs the VM process. Paths are the host's."""

    state_directory: str
    socket_directory: str
    files: tuple[UnitFile, ...] = ()
    machine: dict[str, Any] | None = None
    run_state: str = "absent"
    started_at: str = ""
    command: tuple[str, ...] = ()
    security: ProcessSecurity | None = None


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

    def open_attach(self, uid: Uid, request: AttachRequest) -> AbstractAsyncContextManager[AttachSession]:
        """The workload's own output from now on, and its input; leaving the context detaches and ends nothing.

        Raises:
            WrongState: the VM does not run, or its agent is too old. Forbidden: the workload has no stdin. Unavailable: somebody
            else writes to it.
        """
        ...

    def open_console(
        self, uid: Uid, *, write: bool = False, force: bool = False, tail_bytes: int | None = None
    ) -> AbstractAsyncContextManager[ConsoleSession]:
        """The serial console, beginning with the last ``tail_bytes`` of what it printed. One at a time may ``write``.

        Raises:
            WrongState: another writes and ``force`` is not given; or ``write`` is, and the VM does not run.
        """
        ...

    def read_files(self, uid: Uid, path: str) -> AbstractAsyncContextManager[FilesReader]:
        """What is at the absolute ``path`` of the guest's root, and all below it.

        Raises:
            NotFound: nothing is there. InvalidInput: no such path can be. WrongState: the VM does not run, or its agent is too
            old.
        """
        ...

    async def write_files(
        self, uid: Uid, path: str, content: AsyncIterator[bytes], *, owner: tuple[int, int] | None = None
    ) -> FilesWritten:
        """Make what the tar archive ``content`` holds below the directory ``path``; all of it is ``owner``'s (uid and gid), or
        whose the archive says. Files that were whole before an error stay.

        Raises:
            NotFound, InvalidInput: ``path`` is no directory, or the archive is none, or leads out. DiskFull: of the guest.
        """
        ...

    def open_port(self, uid: Uid, port: int, *, host: str = "127.0.0.1") -> AbstractAsyncContextManager[PortStream]:
        """A TCP connection made inside the guest, to ``host`` (a literal address) and ``port``; leaving the context ends it.

        Raises:
            WrongState: the VM does not run, or its agent is too old. Unavailable: nobody listens there.
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

    async def list_artifacts(self, *, older_than_s: float = 0.0) -> dict[Digest, int]:
        """What is stored, with its size in bytes; only what came longer ago than that."""
        ...

    async def remove_artifacts(self, digests: Iterable[Digest]) -> set[Digest]:
        """Remove files that no plugin and no VM needs, as the caller knows; what a builder on this host holds stays.

        Returns those that are gone.
        """
        ...

    async def check_host(self) -> list[Check]: ...

    async def read_stats(self, uid: Uid) -> VMStats:
        """Raises WrongState when the VM does not run."""
        ...

    async def read_security(self, uid: Uid) -> ProcessSecurity:
        """How its VM process is kept in, as the kernel says. Raises WrongState when the VM does not run."""
        ...

    async def inspect(self, uid: Uid) -> Inspection:
        """All that this host has of a VM, whether it runs or not."""
        ...

    @property
    def templates(self) -> TemplateDoor: ...
