"""Processes as a test sees them from outside."""

from __future__ import annotations

from pathlib import Path


def is_gone(pid: int) -> bool:
    """Gone, or dead and waiting for whoever adopted it, which some init processes look for only every few seconds."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True
