"""Saving a paused machine and putting one back: ``vm.snapshot`` and ``vm.restore``, by way of the work directory.

The process writes and reads there alone. What it wrote is taken from it, and what it is to read is given to it as descriptors of
files that it cannot write.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from volant.core.errors import DiskFull, HostError
from volant.hypervisor.cloud_hypervisor.api import Api
from volant.hypervisor.cloud_hypervisor.config import network_id, rewrite_config
from volant.hypervisor.cloud_hypervisor.work import clear_inside, fd_path, make_inside, open_inside
from volant.hypervisor.driver import SAVED, NotRestorable, Saved
from volant.hypervisor.machine import Machine
from volant.hypervisor.qemu.save import read_saved as read_any_saved
from volant.hypervisor.record import write_record

# The names that Cloud Hypervisor gives them (its docs/snapshot_restore.md).
CONFIG, STATE, MEMORY = "config.json", "state.json", "memory-ranges"

SAVE_TIMEOUT_S = 300.0
LOAD_TIMEOUT_S = 300.0
CONFIG_MAX_BYTES = 1 << 20

_SAVING, _LOADING = "saved", "restored"


async def save_machine(machine: Machine, api: Api, work: Path, held_work: int, directory: Path) -> Saved:
    """As Instance.save; ``held_work`` is the number under which the process holds its ``work`` directory."""
    with ExitStack() as opened:
        place = _open(opened, work)
        written = make_inside(place, _SAVING, machine)
        opened.callback(os.close, written)
        opened.callback(clear_inside, place, _SAVING)
        url = f"file://{fd_path(held_work)}/{_SAVING}"
        await api.put("vm.snapshot", {"destination_url": url}, timeout_s=SAVE_TIMEOUT_S)
        sizes = await asyncio.to_thread(_take_files, written, directory, machine)
    saved = Saved(machine=machine, is_whole=True, memory_bytes=sizes[MEMORY], state_bytes=sizes[CONFIG] + sizes[STATE])
    write_record(directory / SAVED, saved)
    return saved


def read_saved(directory: Path, machine: Machine) -> Saved:
    """What lies in ``directory``, provided that ``machine`` can go on from it. Raises NotRestorable."""
    if machine.base:
        raise NotRestorable("Cloud Hypervisor shares no memory between machines")
    saved = read_any_saved(directory, machine)
    missing = [name for name in (CONFIG, STATE, MEMORY) if not (directory / name).is_file()]
    if missing:
        raise NotRestorable(f"{', '.join(missing)} of what was saved is gone")
    return saved


def open_saved(directory: Path, opened: ExitStack) -> dict[str, int]:
    """The files that the process is to read, by name, as descriptors to inherit. Raises HostError."""
    found: dict[str, int] = {}
    try:
        for name in (STATE, MEMORY):
            found[name] = os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC)
            opened.callback(os.close, found[name])
            # It opens them again, by way of /proc/self/fd, and its user owns nothing; the directory stays closed to it.
            os.fchmod(found[name], 0o444)
    except OSError as error:
        raise HostError(f"what was saved in {directory} cannot be opened: {error.strerror}") from error
    return found


async def load_machine(
    machine: Machine,
    api: Api,
    saved: Path,
    *,
    work: Path,
    held_work: int,
    disks: Mapping[str, int],
    state: Mapping[str, int],
    taps: Mapping[str, int],
) -> None:
    """Have a process that has no machine yet go on from what lies in ``saved``, paused; ``disks`` and ``state`` are the numbers
    under which it holds those files.

    Raises:
        NotRestorable: it is not of a machine like this. Unavailable, HostError: it could not be; the process is of no use then.
    """
    try:
        config = rewrite_config(_read_config(saved), machine, disks=disks, work=held_work)
    except (ValueError, msgspec.DecodeError) as error:
        raise NotRestorable(f"the configuration that was saved cannot be used: {error}") from error
    with ExitStack() as opened:
        place = _open(opened, work)
        given = make_inside(place, _LOADING, machine)
        opened.callback(os.close, given)
        opened.callback(clear_inside, place, _LOADING)
        _write_config(given, config, machine)
        for name, number in state.items():
            os.symlink(fd_path(number), name, dir_fd=given)
        body: dict[str, Any] = {"source_url": f"file://{fd_path(held_work)}/{_LOADING}"}
        if machine.networks:
            # Not in the description, but in the code and its documentation: the cards' new taps, in this order.
            body["net_fds"] = [{"id": network_id(network.bus), "num_fds": 1} for network in machine.networks]
        descriptors = [taps[network.tap] for network in machine.networks]
        await api.put("vm.restore", body, descriptors=descriptors, timeout_s=LOAD_TIMEOUT_S)


def _open(opened: ExitStack, directory: Path) -> int:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"{directory} cannot be opened: {error.strerror}") from error
    opened.callback(os.close, descriptor)
    return descriptor


def _read_config(saved: Path) -> Any:
    with (saved / CONFIG).open("rb") as stream:
        content = stream.read(CONFIG_MAX_BYTES + 1)
    if len(content) > CONFIG_MAX_BYTES:
        raise ValueError("it is far too long")
    return msgspec.json.decode(content)


def _write_config(directory: int, config: dict[str, Any], machine: Machine) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(CONFIG, flags, 0o400, dir_fd=directory)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(msgspec.json.encode(config))
        os.fchown(stream.fileno(), machine.host_uid, machine.host_uid)


def _take_files(written: int, directory: Path, machine: Machine) -> dict[str, int]:
    """Move what the process wrote to ``directory``, where it cannot reach; return the bytes that each takes."""
    sizes: dict[str, int] = {}
    try:
        for name in (CONFIG, STATE, MEMORY):
            source = open_inside(written, name, machine)
            try:
                sizes[name] = _take_file(written, name, source, directory / name)
            finally:
                os.close(source)
    except OSError as error:
        kind = DiskFull if error.errno == errno.ENOSPC else HostError
        raise kind(f"what the VM process saved cannot be kept: {error.strerror}") from error
    return sizes


def _take_file(written: int, name: str, source: int, target: Path) -> int:
    os.fchown(source, 0, 0)
    os.fchmod(source, 0o600)
    try:
        os.rename(name, target, src_dir_fd=written)
        if not os.path.samestat(target.lstat(), os.fstat(source)):
            raise HostError(f"the VM process put something else in the place of {name}")
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with os.fdopen(os.dup(source), "rb") as stream, target.open("xb") as copy:
            shutil.copyfileobj(stream, copy, 1 << 20)
            os.fchmod(copy.fileno(), 0o600)
    found = target.lstat()
    return found.st_blocks * 512 if name == MEMORY else found.st_size
