"""What is said on the control stream, and how the other streams are opened (docs/guest-protocol.md, sections 4 and 5)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from volant.core.errors import Forbidden, InvalidInput, NotFound, Unavailable, VolantError, WrongState

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
    next_start_ms: Count | None = None


class HealthNotice(msgspec.Struct, frozen=True, kw_only=True):
    workload: Word
    state: Literal["unknown", "healthy", "unhealthy"]
    message: str = ""
    since_ms: Count = 0


class StoppingNotice(msgspec.Struct, frozen=True, kw_only=True):
    reason: Literal["requested", "workload_ended", "failed"]


class GuestStats(msgspec.Struct, frozen=True, kw_only=True):
    """Memory in KiB, ``cpu_ms`` busy milliseconds over all processors since boot."""

    memory_total_kb: Count
    memory_available_kb: Count
    load1: float
    cpu_ms: Count
    uptime_ms: Count


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


class ExecRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``user`` and ``workdir`` are the workload's where they are empty; ``env`` adds to its environment."""

    workload: str = "main"
    argv: tuple[str, ...]
    env: dict[str, str] = {}
    user: str = ""
    workdir: str = ""
    stdin: bool = False

    def opening(self) -> dict[str, object]:
        """The message that opens the stream."""
        members = {name: value for name, value in (("user", self.user), ("workdir", self.workdir)) if value}
        return {
            "open": "exec", "workload": self.workload, "argv": self.argv, "env": self.env, "stdin": self.stdin, **members,
        }  # fmt: skip


class OpenLogs(msgspec.Struct, frozen=True, kw_only=True, tag_field="open", tag="logs"):
    workload: str
    after: int
    follow: bool


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
        case _:
            # busy, failed, unknown_stream, and what a newer agent may say
            return Unavailable(message)
