"""The one directory that a VM process may write to, its own user's, and the descriptors by which it knows it.

It lies in the unit's state directory, which is closed to that user: the process was given it open. What lies in it is the
process's, and what we take from there is looked at first.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from volant.core.errors import HostError
from volant.hypervisor.machine import BlockDevice, Machine
from volant.hypervisor.socket import CONSOLE

API = "api.sock"
"""In the unit's sockets directory, and ours."""

WORK = "work"
AGENT = "agent.sock"
"""In the work directory: the process makes it."""

HELD = "held.json"


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """``held.json``: the numbers under which the VM process holds its work directory and the two ends of its events."""

    work: int
    events: int
    events_in: int


def clear_sockets(sockets: Path) -> None:
    for name in (API, CONSOLE):
        (sockets / name).unlink(missing_ok=True)


def fd_path(number: int) -> str:
    """What the process opens to open what it holds as ``number``."""
    return f"/proc/self/fd/{number}"


def make_work(state: Path, machine: Machine) -> Path:
    """An empty one. Raises HostError."""
    place = state / WORK
    try:
        remove_work(state)
        place.mkdir(mode=0o700)
        os.chown(place, machine.host_uid, machine.host_uid, follow_symlinks=False)
    except OSError as error:
        raise HostError(f"{place} cannot be made: {error.strerror}") from error
    return place


def remove_work(state: Path) -> None:
    shutil.rmtree(state / WORK, ignore_errors=True)


def make_inside(work: int, name: str, machine: Machine) -> int:
    """An empty directory ``name`` in the work directory, open; what was there under that name is gone. Raises OSError."""
    clear_inside(work, name)
    os.mkdir(name, mode=0o700, dir_fd=work)
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=work)
    os.fchown(descriptor, machine.host_uid, machine.host_uid)
    return descriptor


def clear_inside(work: int, name: str) -> None:
    """Remove a directory or a file in the work directory. Raises OSError."""
    try:
        found = os.stat(name, dir_fd=work, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        shutil.rmtree(name, dir_fd=work)
    else:
        os.unlink(name, dir_fd=work)


def check_readable(descriptor: int, what: str, machine: Machine) -> None:
    """The process opens it again, by way of /proc/self/fd, and its user owns nothing. Raises HostError."""
    if not os.fstat(descriptor).st_mode & stat.S_IROTH:
        raise HostError(
            f"the {what} of {machine.name} cannot be read by the VM's user",
            hint="its file needs mode 0444; its directory may be closed",
        )


def grant_disk(descriptor: int, disk: BlockDevice, machine: Machine) -> None:
    """Let the machine's user open again what it will hold. Its directories stay closed to it.

    Raises:
        HostError: it cannot be.
    """
    if disk.readonly:
        check_readable(descriptor, f"disk {disk.serial!r}", machine)
        return
    try:
        os.fchown(descriptor, machine.host_uid, machine.host_uid)
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise HostError(f"the disk {disk.serial!r} of {machine.name} cannot be given to it: {error.strerror}") from error


@contextmanager
def lend_disk(work: Path, held_work: int, descriptor: int, disk: BlockDevice) -> Iterator[str]:
    """A path by which the process can open a file that it was not started with, for as long as the context lasts.

    Raises:
        HostError: the file and the work directory lie on two file systems.
    """
    name = f"disk-{disk.serial}"
    directory = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        clear_inside(directory, name)
        os.link(fd_path(descriptor), name, dst_dir_fd=directory)
        try:
            yield f"{fd_path(held_work)}/{name}"
        finally:
            clear_inside(directory, name)
    except OSError as error:
        hint = "keep artifacts and VMs on one file system" if error.errno == errno.EXDEV else None
        raise HostError(f"the disk {disk.serial!r} cannot be shown to the VM process: {error.strerror}", hint=hint) from error
    finally:
        os.close(directory)


def open_inside(directory: int, name: str, machine: Machine) -> int:
    """A file that the process wrote, for reading: nothing but a file of its own that has no other name. Raises HostError."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        raise HostError(f"the VM process did not write {name}: {error.strerror}") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != machine.host_uid or found.st_nlink != 1:
        os.close(descriptor)
        raise HostError(f"what the VM process left as {name} is no file of its own")
    return descriptor
