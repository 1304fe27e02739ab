"""Signals as OCI images and manifests name them."""

from __future__ import annotations

import re

from volant.core.errors import InvalidInput

_SIGNALS = {
    "SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGKILL": 9, "SIGUSR1": 10, "SIGUSR2": 12, "SIGTERM": 15, "SIGWINCH": 28,
    "SIGPWR": 30,
}  # fmt: skip
_RTMIN = 34


def signal_number(name: str) -> int:
    """The Linux number of ``SIGTERM``, ``15`` or ``SIGRTMIN+3``, as OCI images write their StopSignal. Raises InvalidInput."""
    text = name.upper()
    if text.isdecimal() and 1 <= int(text) <= 64:
        return int(text)
    if not text.startswith("SIG"):
        text = "SIG" + text
    if text in _SIGNALS:
        return _SIGNALS[text]
    realtime = re.fullmatch(r"SIGRTMIN(?:\+(\d{1,2}))?", text)
    if realtime and _RTMIN + int(realtime[1] or 0) <= 64:
        return _RTMIN + int(realtime[1] or 0)
    raise InvalidInput(f"{name[:40]!r} is not a signal", field="workload.stop_signal", hint="for example SIGTERM or SIGQUIT")
