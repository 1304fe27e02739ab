"""What passed through the taps that a VM process holds, by the kernel's account.

The process sits in an empty network namespace, and its taps in another that only the fabric knows by name; but each open tap
knows the namespace that it was made in (TUNGETDEVNETNS, linux/if_tun.h).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import threading
from collections.abc import Collection
from pathlib import Path

from volant.hypervisor.driver import NetworkCounters

_TUNGETDEVNETNS = 0x54E3
_CLONE_NEWNET = 0x40000000
_PIDFD_GETFD = 438  # the same on every architecture, as all system calls of that age

_JOIN_S = 5.0


def read_tap_counters(pid: int, names: Collection[str]) -> dict[str, NetworkCounters]:
    """By tap name; a tap that cannot be looked at is left out. Blocks for a moment."""
    wanted = set(names)
    for tap in _find_taps(pid, wanted) if wanted else ():
        counters = _read_namespace(pid, tap, wanted)
        if counters:
            # All of a VM's taps hang in one fabric.
            return counters
    return {}


def _find_taps(pid: int, wanted: Collection[str]) -> list[int]:
    """The numbers of the descriptors under which process ``pid`` holds one of these taps."""
    try:
        entries = list(Path(f"/proc/{pid}/fdinfo").iterdir())
    except OSError:
        return []
    found: list[int] = []
    for entry in entries:
        try:
            lines = entry.read_text().splitlines()
        except OSError:
            continue
        if any(line.startswith("iff:") and line.partition(":")[2].strip() in wanted for line in lines):
            found.append(int(entry.name))
    return found


def _read_namespace(pid: int, number: int, wanted: Collection[str]) -> dict[str, NetworkCounters]:
    opened: list[int] = []
    try:
        opened.append(os.pidfd_open(pid))
        opened.append(_get_descriptor(opened[0], number))
        opened.append(fcntl.ioctl(opened[1], _TUNGETDEVNETNS))
        text = _read_inside(opened[2])
    except OSError:
        return {}
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return parse_devices(text, wanted)


def _get_descriptor(pidfd: int, number: int) -> int:
    if platform.system() != "Linux":
        raise OSError("no pidfd_getfd here")
    libc = ctypes.CDLL(None, use_errno=True)
    got = int(libc.syscall(_PIDFD_GETFD, pidfd, number, 0))
    if got < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return got


def _read_inside(namespace: int) -> str:
    """/proc/net/dev of a network namespace, by a thread that enters it and ends there."""
    found: list[str] = []

    def read() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace, _CLONE_NEWNET) == 0:
            found.append(Path("/proc/thread-self/net/dev").read_text())

    thread = threading.Thread(target=read, name="tap-counters", daemon=True)
    thread.start()
    thread.join(_JOIN_S)
    return found[0] if found else ""


def parse_devices(text: str, wanted: Collection[str]) -> dict[str, NetworkCounters]:
    """Of proc(5)'s /proc/net/dev. What a tap has received is what its guest has sent."""
    found: dict[str, NetworkCounters] = {}
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        fields = rest.split()
        if colon and name.strip() in wanted and len(fields) >= 10:
            found[name.strip()] = NetworkCounters(
                sent_bytes=int(fields[0]),
                sent_packets=int(fields[1]),
                received_bytes=int(fields[8]),
                received_packets=int(fields[9]),
            )
    return found
