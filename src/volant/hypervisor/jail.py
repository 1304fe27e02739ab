"""What a VM process sees and may have of its host, told to the holder, which makes it so before the hypervisor begins."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

LOADER = ("/usr/lib", "/usr/lib64", "/usr/lib32", "/lib", "/lib64", "/lib32", "/etc/ld.so.cache")
"""Libraries, and where the loader finds them; links such as merged /lib are seen as links."""

QEMU_DATA = ("share/qemu", "share/seabios", "share/qemu-efi-aarch64", "lib/ipxe/qemu")
"""Firmware, under the prefix that QEMU is installed in."""

OPEN_FILES = 4096
PROCESSES = 4096
"""Threads of one VM's user. Its control group may say less; this holds where there is none."""

WORK = Path("/work")
"""Where a VM process sees the one directory that it may write to."""


class Jail(msgspec.Struct, frozen=True, kw_only=True):
    """``binds`` are what of the host's files is seen, read-only and at the same places; the program itself always is.
    ``work`` is a directory of the host's that the VM process sees as ``WORK`` and may write to as its owner.
    ``groups`` are what may open ``devices``.
    """

    user: int
    binds: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    work: str = ""

    def build_words(self, cgroups: Sequence[int]) -> list[str]:
        """The holder's options. ``cgroups`` are what ``Group.opened`` gives, which the holder is to inherit."""
        words = ["--uid", str(self.user), "--gid", str(self.user)]
        words += ["--nofile", str(OPEN_FILES), "--processes", str(PROCESSES), "--memlock", "0"]
        for name, values in (
            ("--group", self.groups),
            ("--bind", self.binds),
            ("--device", self.devices),
            ("--work", (self.work,) if self.work else ()),
            ("--cgroup-fd", cgroups),
        ):
            for value in values:
                words += [name, str(value)]
        return words


def find_places(binary: str, data: Sequence[str] = (), *, extra: Sequence[str] = ()) -> tuple[str, ...]:
    """What a dynamically linked ``binary`` needs of the host's files: libraries, and ``data`` under the prefix that it is
    installed in. Of all this only what is there. A static program needs nothing of it."""
    program = Path(os.path.realpath(binary))
    prefix = program.parent.parent if program.parent.name in ("bin", "sbin", "libexec") else program.parent
    wanted = [*LOADER, *extra, *(str(prefix / place) for place in data)]
    if prefix not in (Path("/usr"), Path("/")):
        wanted += [str(prefix / name) for name in ("lib", "lib64")]
    return tuple(dict.fromkeys(place for place in wanted if os.path.lexists(place)))
