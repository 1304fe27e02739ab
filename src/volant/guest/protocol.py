"""What is said on the control stream, and how the other streams are opened (docs/guest-protocol.md, sections 4 and 5)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from volant.core.errors import DiskFull, Forbidden, InvalidInput, NotFound, Unavailable, VolantError, WrongState

PROTOCOL_VERSION = 1
MAX_TEXT = 512
"""Characters that are kept of a text the guest says."""

Word = Annotated[str, msgspec.Meta(max_length=128)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


def clean_text(text: str) -> str:
    """``text`` on one line, without control characters (a terminal would obey them), at most 512 characters."""
    return "".join(c if c.isprintable() else " " for c in text[:MAX_TEXT])


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of the guest's uptime when each point was reached; None while it was not."""

    init_ms: Count | None = None
    modules_ms: Count | None = None
    rootfs_ms: Count | None = None
    channel_ms: Count | None = None
    configured_ms: Count | None = None
    started_ms: Count | None = None


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    version: Literal[1]
    agent: Word
    boot_id: Annotated[str, msgspec.Meta(pattern="^[0-9A-Za-z-]{1,64}$")]
    uptime_ms: Count = 0
    state: Literal["waiting", "configured", "stopping"]
    config_digest: Word = ""
    timeline: Timeline = Timeline()
    capabilities: Annotated[tuple[Word, ...], msgspec.Meta(max_length=64)] = ()
    max_streams: Annotated[int, msgspec.Meta(ge=1, le=2**31)] = 64
    """How many streams it takes at once."""


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How a program ended: one of both is set."""

    code: int | None = None
    signal: int | None = None


class WorkloadNotice(msgspec.Struct, frozen=True, kw_only=True):
    workload: Word
    state: Literal["starting", "running", "backoff", "exited", "failed", "stopping"]
    pid: Count | None = None
    restarts: Count = 0
    exit: Exit | None = None
    message: str = ""
    last_end: str = ""
    """What was said of the last end, while it runs again."""
    next_start_ms: Count | None = None


class HealthNotice(msgspec.Struct, frozen=True, kw_only=True):
    """``state`` is readiness. ``started`` and ``live`` are None from an agent that knows no other probes."""

    workload: Word
    state: Literal["unknown", "healthy", "unhealthy"]
    message: str = ""
    since_ms: Count = 0
    started: bool | None = None
    live: bool | None = None


class GuestInterface(msgspec.Struct, frozen=True, kw_only=True):
    """One card of the guest as the guest tells it. ``address`` has its prefix length, and is empty while there is none.

    The texts are the guest's own words: whoever uses one as an address has to see that it is one.
    """

    name: Annotated[str, msgspec.Meta(max_length=15)] = ""
    mac: Annotated[str, msgspec.Meta(max_length=17)] = ""
    address: Annotated[str, msgspec.Meta(max_length=18)] = ""
    gateway: Annotated[str, msgspec.Meta(max_length=15)] = ""
    nameservers: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=45)], ...], msgspec.Meta(max_length=8)] = ()
    source: Literal["static", "dhcp"] = "static"
    lease_s: Count | None = None


class NetworkNotice(msgspec.Struct, frozen=True, kw_only=True):
    interfaces: Annotated[tuple[GuestInterface, ...], msgspec.Meta(max_length=8)] = ()


class StoppingNotice(msgspec.Struct, frozen=True, kw_only=True):
    """``restart_limit``: the workload was restarted as often as its configuration allows."""

    reason: Literal["requested", "workload_ended", "failed", "restart_limit"]


class GuestStats(msgspec.Struct, frozen=True, kw_only=True):
    """Memory in KiB, ``cpu_ms`` busy milliseconds over all processors since boot. From ``processes`` on: with ``stats2``."""

    memory_total_kb: Count
    memory_available_kb: Count
    load1: float
    cpu_ms: Count
    uptime_ms: Count
    processes: Count | None = None
    disk_total_kb: Count | None = None
    disk_available_kb: Count | None = None
    disk_read_bytes: Count | None = None
    disk_write_bytes: Count | None = None
    net_rx_bytes: Count | None = None
    net_tx_bytes: Count | None = None


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    frozen: bool


class Thawed(msgspec.Struct, frozen=True, kw_only=True):
    thawed: bool


class GuestError(msgspec.Struct, frozen=True, kw_only=True):
    code: Word
    message: str = ""


class OpenControl(msgspec.Struct, frozen=True, kw_only=True, tag_field="open", tag="control"):
    versions: tuple[int, ...] = (PROTOCOL_VERSION,)
    client: str


class GuestBusy(Unavailable):
    """The guest has no room for it just now."""


class Tty(msgspec.Struct, frozen=True, kw_only=True):
    """A terminal's size, 1 to 9,999 each, and its kind for ``TERM``."""

    rows: int = 24
    cols: int = 80
    term: str | msgspec.UnsetType = msgspec.UNSET


class ExecRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``user`` and ``workdir`` are the workload's where they are empty; ``env`` adds to its environment."""

    workload: str = "main"
    argv: tuple[str, ...]
    env: dict[str, str] = {}
    user: str = ""
    workdir: str = ""
    stdin: bool = False
    tty: Tty | None = None

    def opening(self) -> dict[str, object]:
        """The message that opens the stream."""
        given = (("user", self.user), ("workdir", self.workdir), ("tty", self.tty))
        members = {name: value for name, value in given if value}
        return {
            "open": "exec", "workload": self.workload, "argv": self.argv, "env": self.env, "stdin": self.stdin, **members,
        }  # fmt: skip


class OpenLogs(msgspec.Struct, frozen=True, kw_only=True, tag_field="open", tag="logs"):
    workload: str
    after: int
    follow: bool


class OpenConnect(msgspec.Struct, frozen=True, kw_only=True, tag_field="open", tag="connect"):
    """``host`` is an IPv4 or IPv6 literal as the guest sees it."""

    host: str
    port: int


class OpenAttach(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="open", tag="attach"):
    """``tty`` is the size that a workload's terminal gets; ``replay`` begins with what the guest still has of its output."""

    workload: str
    stdin: bool = False
    tty: Tty | None = None
    replay: bool = False


class AttachStarted(msgspec.Struct, frozen=True, kw_only=True):
    """``tty``: the workload runs on a terminal. ``pid`` is None while it does not run."""

    tty: bool = False
    pid: Count | None = None


class OpenFiles(msgspec.Struct, frozen=True, kw_only=True):
    open: Literal["read_files", "write_files"]
    path: str


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a stream that has nothing more to say."""


class ExecStarted(msgspec.Struct, frozen=True, kw_only=True):
    pid: Count


class LogRange(msgspec.Struct, frozen=True, kw_only=True):
    """The oldest sequence number that the ring holds, and the one that the next line will get."""

    oldest: Count
    next: Count


def build_error(error: object, doing: str) -> VolantError:
    """The error of our tree for what the guest answered while ``doing``, such as "the guest did not run nginx"."""
    code, said = "failed", ""
    if isinstance(error, dict):
        code = clean_text(str(error.get("code", code)))
        said = clean_text(str(error.get("message", "")))
    message = f"{doing}: {said or code}"
    match code:
        case "no_such_program":
            return InvalidInput(
                message, field="argv", hint="give the program's full path, or a name that is in the workload's PATH"
            )
        case "no_such_user":
            return InvalidInput(message, field="user", hint="name a user of the guest's /etc/passwd, or a numeric uid")
        case "malformed":
            return InvalidInput(message)
        case "no_such_workload":
            return NotFound(message)
        case "not_permitted":
            return Forbidden(message)
        case "not_configured" | "already_configured":
            return WrongState(message)
        case "busy":
            return GuestBusy(message, hint="try again in a moment")
        case "refused":
            return Unavailable(message, hint="does its workload listen there? volar vms logs NAME shows what it says")
        case "not_found":
            return NotFound(message)
        case "not_a_directory":
            return InvalidInput(message, field="path")
        case "no_space":
            return DiskFull(message, hint="free some of the guest's disk, or give it a larger one")
        case _:
            # failed, unreachable, unknown_stream, and what a newer agent may say
            return Unavailable(message)
