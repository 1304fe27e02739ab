"""The port keeper, with real connections on the loopback: who is let in, who is held, who is turned away, what is woken."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from volant.core.errors import Unavailable
from volant.core.vm import EndRecord
from volant.net.socket import set_reset_on_close
from volant.reconcile import door, listeners
from volant.reconcile.door import judge_door
from volant.reconcile.ports import PortKeeper

from .port_world import LIMIT_S, World, make_vm, open_world, until, until_read

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
HOST_PORT = 8080


class Kept:
    """A world with a port keeper, and a server that stands for the guest."""

    def __init__(self, world: World, guest_port: int, served: list[asyncio.StreamWriter]) -> None:
        self.world = world
        self.guest_port = guest_port
        self.served = served
        """One for each connection that reached the guest."""
        self.opened = 0
        self.keeper = PortKeeper(world.store, world.cache, world.clock, world.fabric, self._count)
        self.task = world.start(self.keeper.run())
        self._writers: list[asyncio.StreamWriter] = []

    def _count(self) -> None:
        self.opened += 1

    async def publish(self, name: str = "web", host_port: int = HOST_PORT, **changes: Any) -> None:
        """Add a VM, and wait until somebody listens on its port."""
        self.world.fabric.listening.pop(host_port, None)
        await self.world.add(make_vm(name, ports={host_port: self.guest_port}, **changes))
        await until(lambda: host_port in self.world.fabric.listening)

    async def connect(self, host_port: int = HOST_PORT) -> Streams:
        streams = await asyncio.open_connection("127.0.0.1", self.world.fabric.listening[host_port])
        self._writers.append(streams[1])
        return streams

    async def close(self) -> None:
        for writer in [*self._writers, *self.served]:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    served: list[asyncio.StreamWriter] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(writer)
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(b"echo " + data)
            writer.write_eof()

    async with open_world(tmp_path) as world:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=1024)
        kept = Kept(world, server.sockets[0].getsockname()[1], served)
        try:
            yield kept
        finally:
            await kept.close()
            server.close()


async def ask(streams: Streams, words: bytes = b"hello") -> None:
    reader, writer = streams
    writer.write(words)
    async with asyncio.timeout(LIMIT_S):
        assert await reader.readexactly(5 + len(words)) == b"echo " + words


async def assert_reset(streams: Streams) -> None:
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(LIMIT_S):
            while await streams[0].read(1):
                pass
        raise AssertionError("it ended in an orderly way")


async def assert_turned_away(kept: Kept) -> None:
    """Who connects is reset, which the client may see as soon as it is connected."""
    with pytest.raises(ConnectionResetError):
        streams = await kept.connect()
        await assert_reset(streams)
        raise ConnectionResetError


async def wait_power(kept: Kept, power: str) -> None:
    async def asked() -> bool:
        return (await kept.world.read("web")).spec.power == power

    await until_read(asked)


async def test_who_connects_to_a_vm_that_is_ready_is_let_in(kept: Kept) -> None:
    await kept.publish()
    streams = await kept.connect()
    await ask(streams)
    await ask(streams, b"again")
    streams[1].write_eof()
    assert await streams[0].read() == b"", "the guest's end comes through"
    assert kept.world.power_writes() == ["running"], "nothing but the VM itself was written"


async def test_two_hundred_that_come_together_wake_it_once_and_are_served(kept: Kept) -> None:
    await kept.publish(power="suspended", phase="Suspended", ready=False)
    clients = await asyncio.gather(*(kept.connect() for _ in range(200)))
    answers = asyncio.gather(*(ask(each, f"{number:04}".encode()) for number, each in enumerate(clients)))
    await wait_power(kept, "running")
    await kept.world.change("web", phase="Starting")
    assert kept.served == []
    await kept.world.change("web", phase="Running", ready=True)
    await answers
    assert len(kept.served) == 200
    assert kept.world.power_writes() == ["suspended", "running", "running", "running"], "one write woke it; two were the test's"
    assert [reason for reason, _ in await kept.world.events()] == ["Waking"]


async def test_who_comes_while_it_is_being_suspended_wakes_it_too(kept: Kept) -> None:
    await kept.publish(power="suspended", phase="Running", ready=True)
    answer = asyncio.ensure_future(ask(await kept.connect()))
    await wait_power(kept, "running")
    await answer


async def test_who_comes_while_it_starts_is_held(kept: Kept) -> None:
    await kept.publish(phase="Starting", ready=False)
    answer = asyncio.ensure_future(ask(await kept.connect()))
    await kept.world.change("web", message="still at it")
    assert not answer.done() and not kept.served
    await kept.world.change("web", phase="Running", ready=True)
    await answer
    assert await kept.world.events() == []


async def test_it_is_woken_again_when_it_is_sent_to_sleep_before_it_could_answer(kept: Kept) -> None:
    await kept.publish(power="suspended", phase="Suspended", ready=False)
    answer = asyncio.ensure_future(ask(await kept.connect()))
    for _ in range(3):
        await wait_power(kept, "running")
        await kept.world.change("web", power="suspended")
    await wait_power(kept, "running")
    await kept.world.change("web", phase="Running", ready=True)
    await answer


async def test_a_wake_that_cannot_be_written_is_written_later(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    await kept.publish(power="suspended", phase="Suspended", ready=False)
    real, failures = kept.world.store.transact, [0]

    async def fail(operations: Any) -> int:
        failures[0] += 1
        raise Unavailable("the disk is full")

    monkeypatch.setattr(kept.world.store, "transact", fail)
    answer = asyncio.ensure_future(ask(await kept.connect()))
    await until(lambda: failures[0] == 1)
    monkeypatch.setattr(kept.world.store, "transact", real)
    await kept.world.clock.advance(door.WAKE_AGAIN_S)
    await wait_power(kept, "running")
    await kept.world.change("web", phase="Running", ready=True)
    await answer


async def test_who_leaves_while_held_is_forgotten(kept: Kept) -> None:
    await kept.publish(phase="Starting", ready=False)
    _, writer = await kept.connect()
    streams = await kept.connect()
    held = _door(kept)
    await until(lambda: held._connections == 2)
    writer.close()
    await until(lambda: held._connections == 1)
    await kept.world.change("web", phase="Running", ready=True)
    await ask(streams)
    assert len(kept.served) == 1


def _door(kept: Kept) -> Any:
    [(found, _)] = kept.keeper._doors.values()
    return found


async def test_who_waits_too_long_is_turned_away(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "HOLD_LIMIT_S", 0.01)
    await kept.publish(phase="Starting", ready=False)
    await assert_turned_away(kept)


async def test_no_more_than_a_limit_come_in(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_CONNECTIONS", 2)
    await kept.publish()
    inside = [await kept.connect(), await kept.connect()]
    for each in inside:
        await ask(each)
    await assert_turned_away(kept)
    inside.pop()[1].close()
    await until(lambda: _door(kept)._connections == 1)
    await ask(await kept.connect())


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"power": "stopped", "phase": "Stopped"}, id="stopped"),
        pytest.param({"power": "stopped", "phase": "Stopping"}, id="stopping"),
        pytest.param({"phase": "Failed"}, id="failed"),
    ],
)
async def test_who_comes_to_a_vm_that_will_not_run_is_turned_away_at_once(kept: Kept, changes: dict[str, Any]) -> None:
    await kept.publish(ready=False, **changes)
    await assert_turned_away(kept)
    assert len(kept.world.power_writes()) == 1


async def test_who_is_held_is_turned_away_when_it_fails(kept: Kept) -> None:
    await kept.publish(phase="Starting", ready=False)
    streams = await kept.connect()
    await until(lambda: _door(kept)._connections == 1)
    await kept.world.change("web", phase="Failed")
    await assert_reset(streams)


async def test_what_a_client_says_on_an_open_connection_wakes_it_and_arrives(kept: Kept) -> None:
    await kept.publish()
    streams = await kept.connect()
    await ask(streams)
    await kept.world.change("web", power="suspended", ready=False, phase="Suspending")
    await kept.world.change("web", phase="Suspended")
    answer = asyncio.ensure_future(ask(streams, b"are you there?"))
    await wait_power(kept, "running")
    await kept.world.change("web", phase="Starting")
    await asyncio.sleep(0)
    assert not answer.done()
    await kept.world.change("web", phase="Running", ready=True)
    await answer
    assert len(kept.served) == 1, "by the connection that there was"


async def test_a_client_that_leaves_does_not_wake_it(kept: Kept) -> None:
    await kept.publish()
    streams = await kept.connect()
    await ask(streams)
    await kept.world.change("web", power="suspended", ready=False, phase="Suspended")
    streams[1].close()
    await until(lambda: bool(_door(kept)._stopped_pipes))
    await kept.world.change("web", message="still asleep")
    assert (await kept.world.read("web")).spec.power == "suspended"
    await kept.world.change("web", power="running")
    await kept.world.change("web", phase="Running", ready=True)
    await until(lambda: _door(kept)._connections == 0)


async def test_connections_to_a_run_that_ended_are_reset(kept: Kept) -> None:
    await kept.publish()
    streams = await kept.connect()
    await ask(streams)
    end = EndRecord(run_id="r", kind="crashed", message="gone", at="2026-01-01T00:00:00Z")
    await kept.world.change("web", last_end=end, ready=False, phase="Pending")
    await assert_reset(streams)


async def test_a_guest_that_refuses_refuses_its_client(kept: Kept) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        kept.guest_port = closed.getsockname()[1]
    await kept.publish()
    await assert_turned_away(kept)


async def test_a_guest_that_resets_one_connection_leaves_the_others_alone(kept: Kept) -> None:
    await kept.publish()
    first, second = await kept.connect(), await kept.connect()
    await ask(first)
    await ask(second)
    set_reset_on_close(kept.served[0].get_extra_info("socket"))
    kept.served[0].transport.abort()
    await assert_reset(first)
    await until(lambda: _door(kept)._connections == 1)
    await ask(second)


@pytest.mark.parametrize("failure", [OSError(errno.EHOSTUNREACH, "no route to host"), TimeoutError("no answer")])
async def test_a_guest_that_has_just_woken_is_asked_again(kept: Kept, monkeypatch: pytest.MonkeyPatch, failure: OSError) -> None:
    await kept.publish()
    failing(monkeypatch, 3, failure)
    answer = asyncio.ensure_future(ask(await kept.connect()))
    while not answer.done():
        await kept.world.clock.advance(door.ATTEMPT_AGAIN_S)
    await answer


async def test_a_guest_that_never_answers_is_given_up(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    await kept.publish()
    failing(monkeypatch, 1_000_000, OSError(errno.EHOSTUNREACH, "no route to host"))
    reset = asyncio.ensure_future(assert_reset(await kept.connect()))
    began = kept.world.clock.monotonic()
    while not reset.done():
        await kept.world.clock.advance(0.5)
    await reset
    assert kept.world.clock.monotonic() - began >= door.REACH_LIMIT_S


def failing(monkeypatch: pytest.MonkeyPatch, times: int, failure: OSError) -> None:
    """Have the first ``times`` connections to a guest fail."""
    loop: Any = asyncio.get_running_loop()
    real: Callable[..., Awaitable[None]] = loop.sock_connect
    left = [times]

    async def sock_connect(sock: Any, address: Any) -> None:
        if sock.getsockname()[1] and left[0] and sock.getsockname()[0] == "127.0.0.1":
            left[0] -= 1
            raise failure
        await real(sock, address)

    monkeypatch.setattr(loop, "sock_connect", sock_connect)


async def test_ports_come_and_go_with_their_vms(kept: Kept) -> None:
    await kept.publish("one", 8081)
    await kept.publish("two", 8082)
    await kept.world.delete("one")
    await until(lambda: len(kept.keeper._doors) == 1)
    with pytest.raises(ConnectionRefusedError):
        await kept.connect(8081)
    await kept.publish("three", 8081)
    for port in (8081, 8082):
        await ask(await kept.connect(port))


async def test_a_parked_clone_has_no_door_until_it_is_taken(kept: Kept) -> None:
    await kept.world.add(make_vm(ports={HOST_PORT: kept.guest_port}, power="parked"))
    await kept.world.add(make_vm("other", ports={8081: kept.guest_port}))
    await until(lambda: 8081 in kept.world.fabric.listening)
    assert HOST_PORT not in kept.world.fabric.listening
    await kept.world.change("web", power="running")
    await until(lambda: HOST_PORT in kept.world.fabric.listening)


async def test_a_port_that_somebody_else_has_is_told_once_and_tried_again(kept: Kept) -> None:
    kept.world.fabric.taken_ports.add(HOST_PORT)
    await kept.world.add(make_vm(ports={HOST_PORT: kept.guest_port, 8081: kept.guest_port}))
    await until(lambda: 8081 in kept.world.fabric.listening)

    async def told() -> bool:
        return bool(await kept.world.events())

    await until_read(told)
    for _ in range(3):
        await kept.world.clock.advance(listeners.LISTEN_AGAIN_S)
    [(reason, message)] = await kept.world.events()
    assert (reason, message.startswith("port 8080 of the host is used by another program")) == ("PortUnavailable", True)
    assert sum(len(each) for each in kept.world.store.writes) == 2, "the VM and the one event"
    uid = (await kept.world.read("web")).uid
    assert (kept.keeper.has_port(uid, HOST_PORT), kept.keeper.has_port(uid, 8081), kept.opened) == (False, True, 1)
    kept.world.fabric.taken_ports.clear()
    await kept.world.clock.advance(listeners.LISTEN_AGAIN_S)
    await until(lambda: kept.opened == 2)
    assert kept.keeper.has_port(uid, HOST_PORT)
    await ask(await kept.connect())
    await kept.world.delete("web")
    assert not kept.keeper.has_port(uid, HOST_PORT)


async def test_the_keeper_tells_when_something_moved(kept: Kept) -> None:
    await kept.publish()
    uid = (await kept.world.read("web")).uid
    await kept.world.clock.advance(100)
    streams = await kept.connect()
    await ask(streams)
    assert kept.keeper.last_active(uid) == 100
    await kept.world.clock.advance(50)
    assert kept.keeper.last_active(uid) == 100, "a connection on which nothing is said is no traffic"
    await ask(streams)
    assert kept.keeper.last_active(uid) == 150
    await kept.world.delete("web")
    assert kept.keeper.last_active(uid) is None


async def test_a_keeper_that_begins_late_finds_what_is_there(kept: Kept) -> None:
    await kept.publish(power="suspended", phase="Suspended", ready=False)
    kept.task.cancel()
    await asyncio.wait([kept.task])
    with pytest.raises(ConnectionRefusedError):
        await kept.connect()
    kept.world.fabric.listening.clear()
    kept.world.start(kept.keeper.run())
    await until(lambda: HOST_PORT in kept.world.fabric.listening)
    answer = asyncio.ensure_future(ask(await kept.connect()))
    await wait_power(kept, "running")
    await kept.world.change("web", phase="Running", ready=True)
    await answer


async def test_everything_is_closed_when_the_keeper_ends(kept: Kept) -> None:
    await kept.publish()
    await kept.publish("sleeper", 8081, power="running", phase="Starting", ready=False)
    carried, held = await kept.connect(), await kept.connect(8081)
    await ask(carried)
    await until(lambda: all(found._connections == 1 for found, _ in kept.keeper._doors.values()))
    kept.task.cancel()
    await asyncio.wait([kept.task])
    for streams in (carried, held):
        await assert_reset(streams)
    for port in (HOST_PORT, 8081):
        with pytest.raises(ConnectionRefusedError):
            await kept.connect(port)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "open"),
        ({"ready": False, "reason": "WaitingForHealth"}, "starting"),
        ({"ready": False, "reason": "Unhealthy"}, "open"),
        ({"ready": False, "reason": "AgentSilent"}, "open"),
        ({"ready": False, "phase": "Pending"}, "starting"),
        ({"ready": False, "phase": "Failed"}, "closed"),
        ({"ready": False, "phase": "Failed", "restart_token": 1}, "starting"),
        ({"ready": False, "phase": "Stopped"}, "closed"),
        ({"ready": False, "phase": "Suspended"}, "asleep"),
        ({"power": "suspended"}, "asleep"),
        ({"power": "stopped"}, "closed"),
        ({"power": "parked"}, "closed"),
    ],
)
def test_who_is_let_in_follows_from_what_is_asked_and_what_is(changes: dict[str, Any], state: str) -> None:
    assert judge_door(make_vm(**changes)) == state
