"""Which words somebody may add to a guest's kernel command line: those on a list, and never Volant's own."""

from __future__ import annotations

import re

from volant.core.errors import InvalidInput

MAX_CHARS = 512
"""Of what a VM adds; the kernel takes 2,047 in all, and the drivers' own words come to some hundreds."""

DEFAULT_ALLOW = (
    "quiet",
    "debug",
    "ignore_loglevel",
    "loglevel=",
    "nokaslr",
    "mitigations=",
    "audit=",
    "apparmor=",
    "selinux=",
    "security=",
    "panic=",
    "oops=",
    "hugepages=",
    "default_hugepagesz=",
    "hugepagesz=",
    "transparent_hugepage=",
    "cgroup_no_v1=",
    "systemd.",
    "net.ifnames=",
    "random.trust_cpu=",
    "printk.time=",
)
"""What callers may set unless the host is configured otherwise: a word itself, one that begins as an entry that ends in ``=``
or ``.``."""

FORBIDDEN = ("init=", "rdinit=", "root=", "rootfstype=", "rootflags=", "initrd=", "volant.", "console=", "tsc_early_khz=", "ip=")
"""What decides who PID 1 is, what it mounts and how the host hears of it: no setting gives that away."""

_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:/@%+=~-]*")


def check_words(cmdline: str, allow: tuple[str, ...] = DEFAULT_ALLOW, field: str = "kernel_cmdline") -> str:
    """``cmdline`` with one space between words. Raises InvalidInput, naming the word."""
    if len(cmdline) > MAX_CHARS:
        raise InvalidInput(f"it is longer than {MAX_CHARS} characters", field=field)
    words = cmdline.split()
    for word in words:
        if not _WORD.fullmatch(word):
            raise InvalidInput(f"{word[:40]!r} is no plain word of a command line", field=field)
        # The kernel takes - and _ in a parameter's name for one another.
        name = word.partition("=")[0].replace("-", "_") + word[len(word.partition("=")[0]) :]
        if any(_begins(name, entry) for entry in FORBIDDEN):
            raise InvalidInput(f"{word[:40]!r} is Volant's to set", field=field)
        if not any(_begins(name, entry.replace("-", "_")) for entry in allow):
            raise InvalidInput(
                f"{word[:40]!r} is not among the words that this host allows",
                field=field,
                hint="kernel_cmdline_allow in volantd's configuration; allowed now: " + " ".join(allow),
            )
    return " ".join(words)


def _begins(word: str, entry: str) -> bool:
    return word.startswith(entry) if entry.endswith(("=", ".")) else word == entry
