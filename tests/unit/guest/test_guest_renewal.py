"""A guest's second identity as the link sees it, and what snapshots of simulated guests are made of."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from volant.core.errors import GuestUnreachable, TimedOut
from volant.guest.document import Document, Interface, Network, Root, Workload, decode_document, encode_document
from volant.guest.link import AgentLink
from volant.guest.preamble import PREAMBLE_BYTES, ZERO_SECRET
from volant.guest.probe import await_echo
from volant.guest.secret import SecretGuess
from volant.guest.simulated import SimulatedGuest
from volant.guest.simulated_agent import SimulatedAgent, make_agent_factory
from volant.guest.simulated_types import Refusal

if TYPE_CHECKING:
    from guest_world import World

OTHER = b"\x0f" * 32


def describe(document: bytes, **changes: object) -> bytes:
    """``document`` with other members."""
    return encode_document(msgspec.structs.replace(decode_document(document), **changes))


def renamed(world: World) -> bytes:
    return describe(world.document(), hostname="other", channel_secret=OTHER.hex())


def copy(world: World, saved: dict[str, Any]) -> SimulatedGuest:
    """A guest restored from what was written of another."""
    guest = SimulatedGuest(world.clock)
    guest.load(msgspec.json.decode(msgspec.json.encode(saved)))
    return guest


async def test_a_renewed_guest_has_another_boot_id_and_is_still_the_one_that_is_known(world: World) -> None:
    world.start()
    before = await world.configured()
    await world.link.renew(renamed(world), secret=OTHER)
    assert world.guest.secret == OTHER
    world.states.clear()
    await world.cut()
    after = await world.connected()
    assert before.hello is not None
    assert after.hello is not None
    assert after.hello.boot_id != before.hello.boot_id
    assert all(state.workload == before.workload for state in world.states)


@pytest.mark.parametrize("has_arrived", [True, False])
async def test_a_renewal_of_which_nothing_is_known_leaves_both_secrets_to_be_tried(world: World, has_arrived: bool) -> None:
    world.start()
    await world.configured()
    renew = world.guest.renew

    def lose(content: bytes) -> None:
        if has_arrived:
            renew(content)
        world.connections[-1].transport.abort()

    world.guest.renew = lose  # type: ignore[method-assign]  # the connection breaks at the worst moment
    with pytest.raises(GuestUnreachable):
        await world.link.renew(renamed(world), secret=OTHER)
    assert world.guest.secret == (OTHER if has_arrived else world.secret)
    world.guest.renew = renew  # type: ignore[method-assign]
    await world.connected()
    await world.link.renew(renamed(world), secret=OTHER)
    await world.cut()
    count = len(world.connections)
    await world.connected()
    assert len(world.connections) == count + 1


async def test_a_copy_of_a_configured_guest_is_reached_by_its_former_secret_first(world: World) -> None:
    world.guest.configure(world.document())
    world.link = AgentLink(
        world.connect, OTHER, on_change=world.states.append, clock=world.clock, client="volantd/test", former=world.secret
    )
    world.start()
    await world.connected()
    assert len(world.connections) == 1
    await world.link.renew(renamed(world), secret=OTHER)
    await world.cut()
    await world.connected()
    assert len(world.connections) == 2


async def test_a_guest_configured_with_zeros_is_renewed(world: World) -> None:
    world.guest.configure(describe(world.document(), channel_secret=ZERO_SECRET.hex()))
    world.start()
    await world.connected()
    await world.cut()
    await world.connected()
    assert len(world.connections) == 2
    await world.link.renew(world.document(), secret=world.secret)
    assert world.guest.secret == world.secret


async def test_a_frozen_disk_thaws_in_time_and_when_it_is_told_to(world: World) -> None:
    world.start()
    await world.connected()
    document = describe(world.document(), root=Root(writable="disk", disk="data"))
    await world.link.configure(document)
    assert await world.link.freeze(5.0) is True
    assert world.guest.freezer.is_frozen
    await world.clock.advance(4.0)
    assert await world.link.freeze(5.0) is True
    await world.clock.advance(4.0)
    assert await world.link.thaw() is True
    assert await world.link.thaw() is False
    assert await world.link.freeze(5.0) is True
    await world.clock.advance(5.0)
    assert await world.link.thaw() is False
    assert await world.link.freeze(5.0) is True
    await world.link.renew(describe(document, hostname="other"), secret=world.secret)
    assert not world.guest.freezer.is_frozen


async def test_waiting_for_a_guest_reads_nothing_of_it(world: World) -> None:
    world.guest.ready_at_s = world.clock.monotonic() + 3.0
    waiting = asyncio.ensure_future(await_echo(world.connect, world.clock, timeout_s=10.0))
    await world.clock.advance(2.9)
    assert not waiting.done()
    await world.clock.advance(0.2)
    await waiting
    assert world.guest.boot_id == ""
    assert len(world.connections) == 1


async def test_a_guest_that_does_not_answer_is_waited_for_in_vain(world: World) -> None:
    tried: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tried.append((await reader.readexactly(PREAMBLE_BYTES))[8:40])
        while await reader.read(4096):
            pass

    world.serve = hear
    waiting = asyncio.ensure_future(await_echo(world.connect, world.clock, timeout_s=10.0))
    await world.clock.advance(10.0)
    with pytest.raises(TimedOut, match="does not answer"):
        await waiting
    assert set(tried) == {ZERO_SECRET}
    assert 5 <= len(tried) <= 12


async def test_clones_of_a_guest_that_said_nothing_have_boot_ids_of_their_own(world: World) -> None:
    saved = world.guest.save()
    clones = [copy(world, saved) for _ in range(2)]
    assert len({clone.hello()["boot_id"] for clone in clones} | {world.guest.hello()["boot_id"]}) == 3
    assert [clone.state for clone in clones] == ["waiting", "waiting"]
    for clone in clones:
        clone.configure(world.document())
        assert clone.secret == world.secret


async def test_a_restored_guest_goes_on_where_it_was(world: World) -> None:
    world.guest.healthy_after_s = 2.0
    world.guest.configure(world.document())
    first = world.guest.hello()
    await world.clock.advance(1.5)
    saved = world.guest.save()
    await world.clock.advance(100.0)
    clone = copy(world, saved)
    assert clone.uptime_ms == 1500
    second = {**clone.hello(), "uptime_ms": first["uptime_ms"]}
    assert second == first
    assert clone.logged.read(0, 100) == world.guest.logged.read(0, 100)
    assert [notice["type"] for notice in clone.notices()] == ["workload"]
    await world.clock.advance(0.5)
    clone.catch_up()
    assert [notice["type"] for notice in clone.notices()] == ["workload", "health"]
    clone.renew(renamed(world))
    assert clone.hello()["boot_id"] != first["boot_id"]
    assert (clone.secret, world.guest.secret) == (OTHER, world.secret)
    clone.crash_workload()
    assert clone.workload is not None


async def test_a_driver_makes_a_guest_of_a_saved_one(world: World) -> None:
    class Machine:
        uid = "u"

    make_agent = make_agent_factory(world.clock)
    world.guest.configure(world.document())
    agent = make_agent(Machine(), world.guest.save())
    assert agent.guest.secret == world.secret
    assert make_agent(Machine()).guest.state == "waiting"
    world.serve = SimulatedAgent(agent.guest)
    world.start()
    state = await world.connected()
    assert state.workload is not None
    assert state.workload.state == "running"


async def test_a_guest_that_stops_takes_no_other_identity(world: World) -> None:
    world.guest.configure(world.document())
    world.guest.stop_s = 1.0
    world.guest.shut_down()
    with pytest.raises(Refusal) as caught:
        world.guest.renew(renamed(world))
    assert caught.value.code == "failed"


def test_the_likeliest_secret_is_tried_first() -> None:
    guess = SecretGuess(ZERO_SECRET, OTHER)
    assert [guess.pick(attempt) for attempt in range(3)] == [ZERO_SECRET, OTHER, ZERO_SECRET]
    guess.prefer(OTHER)
    assert [guess.pick(attempt) for attempt in range(3)] == [OTHER, ZERO_SECRET, OTHER]
    third = b"\x03" * 32
    guess.expect(third)
    assert [guess.pick(attempt) for attempt in range(3)] == [OTHER, third, OTHER]
    assert SecretGuess(OTHER, OTHER).count == 1
    with pytest.raises(ValueError, match="32 bytes"):
        guess.expect(b"short")


def test_a_device_is_named_by_the_address_that_it_has() -> None:
    interface = Interface(mac="02:00:00:00:00:01", name="eth0")
    document = Document(
        channel_secret="0" * 64,
        entropy="0" * 128,
        unix_ns=0,
        hostname="web",
        machine_id="0" * 32,
        network=Network(interfaces=(interface,)),
        root=Root(writable="none"),
        workloads=(Workload(argv=("/bin/true",)),),
    )
    assert b"device_mac" not in encode_document(document)
    told = msgspec.structs.replace(interface, device_mac="02:00:00:00:00:fe")
    content = encode_document(msgspec.structs.replace(document, network=Network(interfaces=(told,))))
    assert b'"device_mac":"02:00:00:00:00:fe"' in content
    assert decode_document(content).network.interfaces[0].device_mac == "02:00:00:00:00:fe"
