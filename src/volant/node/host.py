"""Facts about this host."""

from __future__ import annotations

import contextlib
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


OPEN_FILES = 524_288
"""What service managers give to whoever asks for more than usual."""


def raise_file_limit(wanted: int = OPEN_FILES) -> None:
    """Let this process have ``wanted`` files open, or as many as it may: a carried connection takes two, a VM a few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (max(hard, wanted), hard):
        # Only the superuser may have more than was allowed, and nobody more than the kernel counts (fs.nr_open).
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return


def read_nameservers(path: Path = Path("/etc/resolv.conf")) -> tuple[str, ...]:
    """The host's resolvers that a guest could reach: IPv4 ones beyond loopback, at most three."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return ()
    found = [words[1] for words in map(str.split, lines) if len(words) >= 2 and words[0] == "nameserver"]
    return tuple(server for server in found if ":" not in server and not server.startswith(LOOPBACK_PREFIXES))[:3]
