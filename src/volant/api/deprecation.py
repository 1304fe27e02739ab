"""Routes on their way out: what their answers say about it (RFC 9745, RFC 8594)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from email.utils import format_datetime


@dataclass(frozen=True)
class Deprecated:
    """``instead`` is the route to use; ``sunset`` None: there is no plan to take it away."""

    since: date
    instead: str
    sunset: date | None = None

    def headers(self) -> list[tuple[bytes, bytes]]:
        told = [
            (b"deprecation", f"@{int(_midnight(self.since).timestamp())}".encode()),
            (b"link", f'<{self.instead}>; rel="successor-version"'.encode()),
        ]
        if self.sunset is not None:
            told.append((b"sunset", format_datetime(_midnight(self.sunset), usegmt=True).encode()))
        return told


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
