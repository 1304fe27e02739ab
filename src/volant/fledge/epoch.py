"""The time of what a build makes itself (reproducible-builds.org/specs/source-date-epoch)."""

from __future__ import annotations

import datetime
import os

from volant.core.errors import InvalidInput

DEFAULT_EPOCH_S = 1704067200
"""2024-01-01, unless SOURCE_DATE_EPOCH says another."""


def read_epoch() -> int | None:
    """``SOURCE_DATE_EPOCH`` in seconds since 1970, or None. Raises InvalidInput."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not text.isdecimal() or len(text) > 12:
        raise InvalidInput(f"SOURCE_DATE_EPOCH is {text!r}", hint="it counts seconds since 1970")
    return int(text)


def fixed_epoch() -> int:
    """The time that what a build makes gets. Raises InvalidInput."""
    epoch_s = read_epoch()
    return DEFAULT_EPOCH_S if epoch_s is None else epoch_s


def read_created(created: str | None) -> int | None:
    """Seconds since 1970 of an image configuration's ``created`` (RFC 3339), rounded up; None when it says nothing usable."""
    if not created:
        return None
    try:
        moment = datetime.datetime.fromisoformat(created)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    seconds = -(-moment.timestamp() // 1)
    return int(seconds) if 0 <= seconds < 1 << 34 else None
