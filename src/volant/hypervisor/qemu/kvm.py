"""Who may open /dev/kvm. QEMU opens it by its path, as the VM's own user: by a group that the device has, or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

DEVICE = Path("/dev/kvm")


class KvmAccess(msgspec.Struct, frozen=True):
    """``reason`` says why there is none, and is empty otherwise; ``group`` is the one to run under, None where all may."""

    reason: str = ""
    group: int | None = None

    @property
    def is_absent(self) -> bool:
        return self.reason.startswith("there is no")


def find_kvm_access(device: Path = DEVICE) -> KvmAccess:
    try:
        found = device.stat()
    except FileNotFoundError:
        return KvmAccess(f"there is no {device}")
    needed = stat.S_IROTH | stat.S_IWOTH
    if found.st_mode & needed == needed:
        return KvmAccess()
    if not found.st_mode & stat.S_IRGRP or not found.st_mode & stat.S_IWGRP or found.st_gid == 0:
        # To run VM processes with root's own group would give away more than a device.
        return KvmAccess(f"{device} is open to root alone (mode {found.st_mode & 0o777:04o}), and VM processes are not root")
    if not os.access(device, os.R_OK | os.W_OK):
        return KvmAccess(f"{device} cannot be opened")
    return KvmAccess(group=found.st_gid)
