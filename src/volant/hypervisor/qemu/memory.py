"""Guests' memory on the host: files without a name (memfd_create(2)).

A guest that was booted has one of its own. Clones map the sealed one of their base copy-on-write: nobody can change it any
more, so an unprivileged process may be given it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Set as AbstractSet
from pathlib import Path
from weakref import WeakValueDictionary

from volant.core.errors import HostError, Unavailable
from volant.hypervisor.driver import NotRestorable
from volant.hypervisor.qemu.pages import read_into_memory

MIB = 1 << 20
OWN = "volant-guest"
_BASE_PREFIX = "volant-base-"

# linux/fcntl.h
_F_ADD_SEALS = 1033
_F_GET_SEALS = 1034
_F_SEAL_SHRINK, _F_SEAL_GROW, _F_SEAL_WRITE = 0x2, 0x4, 0x8
_SEALED = _F_SEAL_SHRINK | _F_SEAL_GROW | _F_SEAL_WRITE


def create_memory(name: str, size_mib: int) -> int:
    """An empty memory of the caller's, not inherited by programs that are started. Raises HostError."""
    try:
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise HostError(f"no memory for a guest can be had: {error.strerror}") from error
    try:
        os.ftruncate(descriptor, size_mib * MIB)
    except OSError as error:
        os.close(descriptor)
        raise HostError(f"{size_mib} MiB of memory for a guest cannot be had: {error.strerror}") from error
    return descriptor


def find_memory(pid: int, name: str) -> int | None:
    """A descriptor of the caller's for the memory of that name which process ``pid`` holds; None when it holds none."""
    directory = Path(f"/proc/{pid}/fd")
    try:
        entries = list(directory.iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return None
    for entry in entries:
        try:
            if entry.readlink().name == f"memfd:{name} (deleted)":
                return os.open(entry, os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return None


def find_mapping(pid: int, name: str) -> int:
    """The address at which process ``pid`` maps all of the memory of that name. Raises Unavailable."""
    wanted = f"/memfd:{name} (deleted)"
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Unavailable(f"process {pid} is gone") from error
    for line in lines:
        if line.endswith(wanted):
            return int(line.partition("-")[0], 16)
    raise Unavailable(f"process {pid} has not mapped its memory")


def base_name(key: str) -> str:
    return _BASE_PREFIX + key


class Bases:
    """The sealed memories that clones stand on, by the base's key. Each is read from disk once, however many ask."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}
        self._loading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def open(self, key: str, directory: Path, size_mib: int) -> int:
        """A descriptor of the caller's for the sealed memory that lies in ``directory``.

        Raises:
            NotRestorable: it is not there, or not whole. HostError: there is no memory for it.
        """
        lock = self._loading.setdefault(key, asyncio.Lock())
        async with lock:
            held = self._held.get(key)
            if held is None:
                held = self._held[key] = await asyncio.to_thread(_load, key, directory, size_mib)
            return _copy(held)

    def adopt(self, key: str, pid: int) -> None:
        """Take again what process ``pid``, left by an earlier volantd, stands on, so that later clones share it, too."""
        if key in self._held:
            return
        found = find_memory(pid, base_name(key))
        if found is None:
            return
        if fcntl.fcntl(found, _F_GET_SEALS) & _SEALED == _SEALED:
            self._held[key] = found
        else:
            os.close(found)

    def is_held(self, key: str) -> bool:
        return key in self._held

    def release(self, keep: AbstractSet[str]) -> None:
        """Let go of all but ``keep``. What processes map stays for as long as they do."""
        for key in set(self._held) - keep:
            os.close(self._held.pop(key))


def _copy(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)


def _load(key: str, directory: Path, size_mib: int) -> int:
    descriptor = create_memory(base_name(key), size_mib)
    try:
        read_into_memory(directory, descriptor)
        fcntl.fcntl(descriptor, _F_ADD_SEALS, _SEALED)
    except FileNotFoundError as error:
        os.close(descriptor)
        raise NotRestorable(f"{error.filename} is gone") from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
