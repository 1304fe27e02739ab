"""Network namespaces with names, and threads inside."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable

import pytest

from volant.core.errors import HostError, InUse, InvalidInput
from volant.net.fabric import HostFabric
from volant.net.namespace import (
    NAMESPACES,
    NamespaceThread,
    ensure_namespace,
    list_pids,
    namespace_exists,
    remove_namespace,
)
from volant.net.plan import NetworkPlan
from volant.run import run, spawn

pytestmark = pytest.mark.vm

Enter = Callable[[str], Awaitable[NamespaceThread]]


async def test_a_namespace_is_made_once_known_to_ip_and_removed_once(new_namespace: Callable[[], str]) -> None:
    name = new_namespace()
    assert not namespace_exists(name)
    await ensure_namespace(name)
    inode = (NAMESPACES / name).stat().st_ino
    await ensure_namespace(name)
    assert (NAMESPACES / name).stat().st_ino == inode
    assert name in (await run(["ip", "netns", "list"], timeout_s=10)).text.split()
    await remove_namespace(name)
    assert not namespace_exists(name)
    await remove_namespace(name)


async def test_what_a_killed_making_left_is_replaced(new_namespace: Callable[[], str], namespace: str) -> None:
    name = new_namespace()
    (NAMESPACES / name).touch(mode=0)
    assert not namespace_exists(name)
    await ensure_namespace(name)
    assert namespace_exists(name)


async def test_what_a_killed_making_left_is_removed(new_namespace: Callable[[], str], namespace: str) -> None:
    name = new_namespace()
    (NAMESPACES / name).touch(mode=0)
    await remove_namespace(name)
    assert not (NAMESPACES / name).exists()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a b", "x" * 64, "a\n", "\0"])
async def test_names_that_cannot_be_are_refused(name: str) -> None:
    for function in (ensure_namespace, remove_namespace):
        with pytest.raises(InvalidInput):
            await function(name)


async def test_a_namespace_with_a_process_inside_is_removed_by_force_only(namespace: str) -> None:
    process = spawn(["ip", "netns", "exec", namespace, "sh", "-c", "echo inside; exec sleep 60"], stdout=(pipe := os.pipe())[1])
    os.close(pipe[1])
    try:
        assert os.read(pipe[0], 100) == b"inside\n"
        assert list_pids(namespace) == [process.pid]
        with pytest.raises(InUse, match=str(process.pid)):
            await remove_namespace(namespace)
        assert namespace_exists(namespace)
        await remove_namespace(namespace, force=True)
        assert not namespace_exists(namespace)
    finally:
        os.close(pipe[0])
        process.kill()
        process.wait()


async def test_a_namespace_with_a_tap_that_somebody_holds_stays(namespace: str, plan: NetworkPlan) -> None:
    fabric = HostFabric(namespace)
    await fabric.open()
    await fabric.ensure_network(plan)
    descriptor = await fabric.open_tap("vt-held", plan.bridge)
    await fabric.close()
    with pytest.raises(InUse, match="vt-held"):
        await remove_namespace(namespace)
    os.close(descriptor)
    await remove_namespace(namespace)
    assert not namespace_exists(namespace)


async def test_only_the_thread_is_inside(namespace: str, enter: Enter) -> None:
    inside = await enter(namespace)
    outside = socket.if_nameindex()
    assert [name for _, name in await inside.call(socket.if_nameindex)] == ["lo"]
    assert socket.if_nameindex() == outside
    assert await inside.call(os.readlink, "/proc/thread-self/ns/net") != os.readlink("/proc/self/ns/net")
    assert list_pids(namespace) == []


async def test_a_namespace_that_is_not_there_cannot_be_entered(new_namespace: Callable[[], str]) -> None:
    with pytest.raises(HostError, match="cannot be entered"):
        await NamespaceThread(new_namespace()).start()


async def test_a_thread_without_a_namespace_is_where_the_process_is() -> None:
    thread = NamespaceThread(None)
    await thread.start()
    assert await thread.call(os.readlink, "/proc/thread-self/ns/net") == os.readlink("/proc/self/ns/net")
    await thread.stop()
