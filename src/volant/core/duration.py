"""Durations as people write them: ``500ms``, ``60s``, ``5m``, ``1h``, ``7d``."""

from __future__ import annotations

import re

from volant.core.errors import InvalidInput

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str, field: str | None = None) -> float:
    """Seconds. Raises InvalidInput when it has no unit or is no number."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise InvalidInput(
            f"{text[:40]!r} is not a duration", field=field, hint="write a number and its unit, as in 500ms, 60s or 5m"
        )
    return float(found[1]) * _SECONDS[found[2]]


def format_age(seconds: float) -> str:
    """The largest unit that fits: ``42s``, ``7m``, ``3h``, ``12d``."""
    whole = max(0, int(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= 2 * size or (unit == "d" and whole >= size):
            return f"{whole // size}{unit}"
    return f"{whole}s"
