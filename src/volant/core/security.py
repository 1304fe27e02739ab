"""What the kernel says about how a VM process is kept in."""

from __future__ import annotations

from typing import Literal

import msgspec

Verdict = Literal["ok", "weak"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at. ``why`` says what a weak one means, and may explain a good one."""

    name: str
    value: str
    verdict: Verdict = "ok"
    why: str = ""


class ProcessSecurity(msgspec.Struct, frozen=True, kw_only=True):
    """``process`` is the VM process, ``holder`` its parent, ``limits`` what its control groups hold it to. ``usage`` is what it
    has used since it began, by the kernel's account: bytes, seconds and counts, those that the host's controllers count."""

    pid: int
    holder_pid: int
    process: tuple[Finding, ...]
    holder: tuple[Finding, ...] = ()
    limits: tuple[Finding, ...] = ()
    usage: dict[str, int | float] = {}

    @property
    def weaknesses(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in (*self.process, *self.holder, *self.limits) if finding.verdict == "weak")
