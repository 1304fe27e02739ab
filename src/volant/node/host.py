"""Facts about this host."""

from __future__ import annotations

import os
import resource
from pathlib import Path

LOOPBACK_PREFIXES = ("127.", "::1")


def read_boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def count_memory_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1024 * 1024)


def count_cores() -> int:
    return len(os.sched_getaffinity(0))


def raise_file_limit() -> None:
    """Let this process have as many files open as it may: a carried connection takes two, a VM a few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def read_nameservers(path: Path = Path("/etc/resolv.conf")) -> tuple[str, ...]:
    """The host's resolvers that a guest could reach: IPv4 ones beyond loopback, at most three."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return ()
    found = [words[1] for words in map(str.split, lines) if len(words) >= 2 and words[0] == "nameserver"]
    return tuple(server for server in found if ":" not in server and not server.startswith(LOOPBACK_PREFIXES))[:3]
