"""Moments as the API writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds, as every timestamp of the API is written."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """The inverse of format_time. Raises ValueError."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def seconds_left(since: datetime, seconds: float, now: datetime) -> float:
    """Until ``seconds`` after ``since``; 0 or less when that is over. A moment that is yet to come was written before the clock
    was put back: how long ago that is nobody knows, and nobody waits for it to come again."""
    if since > now:
        return 0.0
    return (since + timedelta(seconds=seconds) - now).total_seconds()
