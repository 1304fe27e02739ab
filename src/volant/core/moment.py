"""Moments as the API writes them."""

from __future__ import annotations

from datetime import UTC, datetime


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds, as every timestamp of the API is written."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """The inverse of format_time. Raises ValueError."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
