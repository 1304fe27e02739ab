"""Named network namespaces, as ``ip netns`` keeps them in /run/netns, and a thread that lives in one."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import re
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from volant.core.address import TAP_PREFIX
from volant.core.errors import CommandFailed, HostError, InUse, InvalidInput
from volant.run import run

NAMESPACES = Path("/run/netns")
COMMAND_TIMEOUT_S = 10.0
CLONE_NEWNET = 0x40000000  # sched.h

_UPLINK_KINDS = frozenset({"veth", "macvlan", "macvtap", "ipvlan", "vlan", "vxlan", "wireguard", "bridge", "tun"})

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

P = ParamSpec("P")
T = TypeVar("T")


def check_namespace_name(name: str) -> str:
    """Return ``name`` when a namespace may have it, else raise InvalidInput."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name[:80]!r} cannot be the name of a network namespace",
            field="network_namespace",
            hint="use 1 to 63 letters, digits, dots, hyphens and underscores, beginning with a letter or digit",
        )
    return name


def namespace_exists(name: str) -> bool:
    """Whether a namespace, and not only a file that a killed ``ip netns add`` left, has this name."""
    try:
        # Every namespace is a file of one and the same file system, nsfs.
        return (NAMESPACES / check_namespace_name(name)).stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    except FileNotFoundError:
        return False


async def ensure_namespace(name: str) -> None:
    """Make the namespace unless it is there.

    Raises:
        InvalidInput: it cannot have that name. HostError: the host refuses.
    """
    if namespace_exists(name):
        return
    (NAMESPACES / name).unlink(missing_ok=True)
    try:
        await run(["ip", "netns", "add", name], timeout_s=COMMAND_TIMEOUT_S)
    except CommandFailed as error:
        if not namespace_exists(name):  # else somebody made it in between
            raise HostError(f"network namespace {name} cannot be made: {error}", hint="volantd needs to be root") from error


async def remove_namespace(name: str, *, force: bool = False) -> None:
    """Remove the namespace and all that is in it; do nothing when there is none.

    The kernel would let the name go and keep the namespace for whoever is inside. So that nothing goes on where nobody
    finds it, one that is in use is refused, unless ``force`` is set. A tap is in use by whoever holds it, wherever that runs.

    Raises:
        InUse: processes or taps are in it. HostError: the host refuses.
    """
    if namespace_exists(name) and not force:
        pids = list_pids(name)
        if pids:
            raise InUse(
                f"network namespace {name} is in use by process {_show(pids)}",
                hint="end them, or leave the namespace in place",
            )
        taps = await _list_taps(name)
        if taps:
            raise InUse(f"network namespace {name} holds tap {_show(taps)}", hint="stop the VMs they belong to")
    if not (NAMESPACES / check_namespace_name(name)).exists():
        return
    try:
        await run(["ip", "netns", "delete", name], timeout_s=COMMAND_TIMEOUT_S)
    except CommandFailed as error:
        if (NAMESPACES / name).exists():
            raise HostError(f"network namespace {name} cannot be removed: {error}") from error


async def list_uplinks(name: str, bridge: str) -> list[str]:
    """Interfaces in the namespace that somebody else put there: cables to elsewhere, devices, bridges that are not ``bridge``.

    What the kernel itself puts into every new namespace (loopback, fallback tunnels) does not count, nor do taps of ours.
    """
    answer = await run(["ip", "-n", check_namespace_name(name), "-j", "-details", "link"], timeout_s=COMMAND_TIMEOUT_S)
    found = []
    for link in json.loads(answer.stdout or b"[]"):
        kind = link.get("linkinfo", {}).get("info_kind", "")
        is_ours = link["ifname"] == bridge or link["ifname"].startswith(TAP_PREFIX)
        if not is_ours and (kind in _UPLINK_KINDS or (not kind and link.get("link_type") == "ether")):
            found.append(str(link["ifname"]))
    return sorted(found)


def list_pids(name: str) -> list[int]:
    """The processes whose main thread is in the namespace, by rising pid. Those that end meanwhile are left out."""
    wanted = (NAMESPACES / check_namespace_name(name)).stat()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            have = (entry / "ns/net").stat()
        except OSError:
            continue
        if (have.st_dev, have.st_ino) == (wanted.st_dev, wanted.st_ino):
            found.append(int(entry.name))
    return sorted(found)


class NamespaceThread:
    """One thread inside ``namespace`` (``None``: where the process is), for what the kernel ties to the caller's.

    The rest of the process stays where it is.
    """

    def __init__(self, namespace: str | None) -> None:
        self.namespace = namespace
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="netns")

    async def start(self) -> None:
        """Enter the namespace. Raises HostError when that cannot be done."""
        if self.namespace is None:
            return
        path = NAMESPACES / check_namespace_name(self.namespace)
        try:
            await self.call(_enter, path)
        except OSError as error:
            await self.stop()
            raise HostError(f"network namespace {self.namespace} cannot be entered: {error.strerror}") from error

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``function`` inside; calls take turns. A cancelled caller does not stop a call that has begun."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **kwargs))

    async def make_descriptor(self, function: Callable[P, int], *args: P.args, **kwargs: P.kwargs) -> int:
        """Like ``call``; when the caller is cancelled meanwhile, the descriptor that nobody waits for is closed."""
        future = self._executor.submit(lambda: function(*args, **kwargs))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.cancel():
                future.add_done_callback(lambda done: None if done.exception() else os.close(done.result()))
            raise

    async def stop(self) -> None:
        """Wait for what has begun and end the thread."""
        await asyncio.to_thread(self._executor.shutdown)


def _enter(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


async def _list_taps(name: str) -> list[str]:
    thread = NamespaceThread(name)
    await thread.start()
    try:
        return sorted(interface for _, interface in await thread.call(socket.if_nameindex) if interface.startswith(TAP_PREFIX))
    finally:
        await thread.stop()


def _show(names: Sequence[object]) -> str:
    return ", ".join(str(name) for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
