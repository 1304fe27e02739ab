"""Docker's HEALTHCHECK as a manifest's readiness: the page that it asks for, when that is what it does, or the program it runs.

Its start period needs no word: before the first success no failure counts.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from volant.core.manifest import HealthCheck
from volant.core.probe import Probe
from volant.fledge.source.oci import Healthcheck

HEALTH_LABEL = "volant.image.healthcheck"
"""Holds the image's own words where nobody in the guest could act on them."""

_DEFAULT_NS = 30 * 10**9
_DEFAULT_RETRIES = 3
_MAX_MS = 3_600_000
_MAX_WORDS = 256
_LOCAL = ("localhost", "127.0.0.1", "0.0.0.0", "[::1]", "::1")  # what programs in the guest call themselves
_URL = re.compile(r"\bhttp://[^\s\"'|;&<>)]+|\b(?:localhost|127\.0\.0\.1)(?::\d+)?(?:/[^\s\"'|;&<>)]*)?")
_FETCHES = re.compile(r"\b(curl|wget)\b")


def is_disabled(check: Healthcheck | None) -> bool:
    """Whether there is none, or one that switches an inherited one off."""
    return check is None or not check.test or check.test[0] == "NONE"


def read_healthcheck(check: Healthcheck | None, port: int | None) -> HealthCheck | None:
    """The check as a GET of a page on ``port``, where the workload listens; None when it is something else or of another port."""
    if check is None or is_disabled(check) or port is None:
        return None
    words = " ".join((check.test or ())[1:])
    found = _URL.findall(words)
    if not _FETCHES.search(words) or len(set(found)) != 1:
        return None
    url = found[0] if found[0].startswith("http://") else f"http://{found[0]}"
    try:
        parts = urlsplit(url)
        asked = parts.port or 80
    except ValueError:
        return None
    if parts.hostname not in _LOCAL or asked != port:
        return None
    path = parts.path or "/"
    return HealthCheck(
        endpoint=f"{path}?{parts.query}" if parts.query else path,
        timeout_ms=max(1, (check.timeout or _DEFAULT_NS) // 10**6),
        interval_ms=max(50, (check.interval or _DEFAULT_NS) // 10**6),
        unhealthy_threshold=min(1000, max(1, check.retries or _DEFAULT_RETRIES)),
    )


def read_exec_probe(check: Healthcheck | None) -> Probe | None:
    """The check as a program that the agent runs; None when there is none, or it is in a form that Docker does not have."""
    if check is None or is_disabled(check):
        return None
    form, *words = check.test or ()
    if form == "CMD-SHELL" and len(words) == 1 and words[0].strip():
        command: tuple[str, ...] = ("/bin/sh", "-c", words[0])
    elif form == "CMD" and words and words[0] and len(words) <= _MAX_WORDS:
        command = tuple(words)
    else:
        return None
    return Probe(
        exec=command,
        interval_ms=min(_MAX_MS, max(50, (check.interval or _DEFAULT_NS) // 10**6)),
        timeout_ms=min(_MAX_MS, max(1, (check.timeout or _DEFAULT_NS) // 10**6)),
        failure_threshold=min(1000, max(1, check.retries or _DEFAULT_RETRIES)),
    )
