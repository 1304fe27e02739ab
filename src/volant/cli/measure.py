"""Sizes, times, ages and keys as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

from volant.core.duration import format_age
from volant.core.moment import parse_time


def format_size(size_bytes: int) -> str:
    """``812 B``, ``3.4 KiB``, ``131 MiB``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def format_since(moment: str) -> str:
    """How long ago an RFC 3339 moment was: ``42s``, ``7m``; ``-`` for none."""
    try:
        return format_age((datetime.now(UTC) - parse_time(moment)).total_seconds())
    except ValueError:
        return "-"


def format_period(seconds: int) -> str:
    """The inverse of parse_duration for whole seconds: ``90s``, ``5m``, ``24h``."""
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def format_key(key: str) -> str:
    """As many digits of a template's key as tell it from the others; empty for none."""
    return key[:12]
