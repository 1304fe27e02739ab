"""How much guests say, by their taps. Runs in a NamespaceThread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from volant.core.address import TAP_PREFIX
from volant.core.errors import HostError

COUNTERS = Path("/proc/thread-self/net/dev")
"""The counters that rtnetlink tells too, at a hundredth of the price: a thousand taps are 3 ms, not 220."""

_RECEIVED_PACKETS = 1


def read_tap_traffic() -> dict[str, int]:
    """By tap of the calling thread's namespace, the packets that its guest has sent, which to the host were received.

    Raises HostError.
    """
    try:
        return dict(parse_counters(COUNTERS.read_text()))
    except (OSError, ValueError, IndexError) as error:
        raise HostError(f"{COUNTERS} cannot be read: {error}") from error


def parse_counters(text: str) -> Iterator[tuple[str, int]]:
    """``(tap, packets received)`` for each of our taps in what proc_net(5) calls ``dev``."""
    for line in text.splitlines():
        name, colon, counters = line.partition(":")
        if colon and name.strip().startswith(TAP_PREFIX):
            yield name.strip(), int(counters.split()[_RECEIVED_PACKETS])
