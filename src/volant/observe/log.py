"""How volantd logs: structlog, one event a line, to stderr."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog


def configure_log(level: str, format_: Literal["auto", "console", "json"]) -> None:
    """Set the log of this process up. ``auto`` writes for people on a terminal and JSON elsewhere."""
    for_people = format_ == "console" or (format_ == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer() if for_people else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if not for_people else _pass_on,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _pass_on(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return event
