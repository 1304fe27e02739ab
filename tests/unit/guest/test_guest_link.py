from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
import pytest

from volant.core.errors import GuestUnreachable, InvalidInput, NotFound, TimedOut, TooLarge, WrongState
from volant.guest.document import Restart, digest_document
from volant.guest.preamble import PREAMBLE_BYTES, ZERO_SECRET, encode_answer
from volant.guest.protocol import ExecRequest
from volant.guest.simulated import SimulatedGuest
from volant.guest.simulated_agent import SimulatedAgent

if TYPE_CHECKING:
    from guest_world import World

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


async def test_a_waiting_guest_is_greeted_with_zeros_and_then_with_its_secret(world: World) -> None:
    world.start()
    state = await world.connected()
    assert state.hello is not None
    assert state.hello.state == "waiting"
    await world.link.configure(world.document())
    assert world.guest.secret == world.secret
    await world.cut()
    began = world.clock.monotonic()
    await world.connected()
    # The secret was the first thing that was tried: no patience was lost on zeros.
    assert world.clock.monotonic() - began < 0.1 + 0.05


async def test_an_adopted_guest_answers_to_its_secret_after_zeros_failed(world: World) -> None:
    world.guest.configure(world.document())
    world.start()
    state = await world.connected()
    assert state.hello is not None
    assert state.hello.state == "configured"
    assert len(world.connections) == 2


async def test_a_preamble_waits_for_a_guest_that_has_not_opened_its_port(world: World) -> None:
    world.guest.ready_at_s = world.clock.monotonic() + 3.0
    world.start()
    await world.clock.advance(2.9)
    assert not world.link.state.connected
    await world.clock.advance(0.1)
    assert world.link.state.connected
    assert len(world.connections) == 1


async def test_configure_shows_in_the_state_and_holds_once(world: World) -> None:
    world.start()
    state = await world.configured()
    assert state.hello is not None
    assert (state.hello.state, state.hello.config_digest) == ("configured", digest_document(world.document()))
    await world.link.configure(world.document())
    with pytest.raises(WrongState):
        await world.link.configure(world.document(Restart(policy="never")))


async def test_the_guest_names_the_member_it_does_not_take(world: World) -> None:
    world.start()
    await world.connected()
    with pytest.raises(InvalidInput, match="workloads"):
        await world.link.configure(msgspec.json.encode({**msgspec.json.decode(world.document()), "workloads": []}))
    with pytest.raises(TooLarge):
        await world.link.configure(b" " * 70_000)


async def test_health_and_crashes_are_reported(world: World) -> None:
    world.guest.healthy_after_s = 2.0
    world.start()
    await world.configured()
    assert world.link.state.health is None
    await world.clock.advance(2.0)
    assert world.link.state.health is not None
    assert world.link.state.health.state == "healthy"
    world.guest.crash_workload({"signal": 11})
    state = await world.pass_until(lambda s: s.workload is not None and s.workload.state == "backoff", step_s=0.0)
    assert state.workload is not None
    assert state.workload.exit is not None
    assert state.workload.exit.signal == 11
    await world.clock.advance(0.5)
    assert world.link.state.workload is not None
    assert (world.link.state.workload.state, world.link.state.workload.restarts) == ("running", 1)


async def test_a_workload_that_ended_for_good_powers_the_guest_off(world: World) -> None:
    off: list[bool] = []
    world.guest.on_power_off = lambda: off.append(True)
    world.start()
    await world.configured(Restart(policy="never"))
    world.guest.stop_s = 1.0
    world.guest.crash_workload()
    state = await world.pass_until(lambda s: s.stopping is not None, step_s=0.0)
    assert state.stopping is not None
    assert state.stopping.reason == "workload_ended"
    assert not off
    await world.clock.advance(1.0)
    assert off == [True]


async def test_shutdown_is_carried_through_without_a_connection(world: World) -> None:
    off: list[bool] = []
    world.guest.on_power_off = lambda: off.append(True)
    world.guest.stop_s = 3.0
    world.start()
    await world.configured()
    await world.link.shutdown(10.0)
    await world.cut()
    await world.clock.advance(3.0)
    assert off == [True]


async def test_statistics_and_clock(world: World) -> None:
    world.start()
    await world.connected()
    stats = await world.link.stats()
    assert stats.memory_total_kb >= stats.memory_available_kb > 0
    await world.link.set_clock(1_790_000_000_000_000_000)
    world.guest.log("now")
    assert world.guest.logged.read(0, 1)[0].time_ns == pytest.approx(1_790_000_000_000_000_000, abs=10_000_000_000)


async def test_what_is_in_flight_fails_with_the_reason_and_the_link_comes_back(world: World) -> None:
    world.start()
    await world.configured()
    async with await world.link.open_exec(ExecRequest(argv=("sleep", "1000"))) as sleeping:
        waiting = asyncio.ensure_future(sleeping.result())
        asking = asyncio.ensure_future(world.link.stats())
        await world.cut()
        for doomed in (waiting, asking):
            with pytest.raises(GuestUnreachable, match=r"closed|failed"):
                await doomed
    with pytest.raises(GuestUnreachable, match=r"closed|failed"):
        await world.link.stats()
    known = world.link.state
    assert known.workload is not None
    assert known.hello is not None
    state = await world.connected()
    assert state.workload == known.workload
    assert (await world.link.stats()).uptime_ms >= 0


async def test_a_silent_agent_is_given_up_by_ping_and_requests_time_out(world: World) -> None:
    world.start()
    await world.connected()

    async def hear(reader: Reader, writer: Writer) -> None:
        while await reader.read(4096):
            pass

    world.serve = hear
    world.guest.misbehaviour = "silent"
    with pytest.raises(GuestUnreachable, match="did not answer within 10 s"):
        await asyncio.gather(world.link.stats(), world.clock.advance(10.0))
    state = await world.pass_until(lambda s: not s.connected)
    assert "ping" in state.reason
    state = await world.pass_until(lambda s: s.reason == "the guest's agent does not answer")
    assert not state.connected


async def test_waiting_for_a_state_ends_in_time(world: World) -> None:
    waiting = asyncio.ensure_future(world.link.wait_for(lambda state: state.connected, 5.0))
    await world.clock.advance(5.0)
    with pytest.raises(TimedOut, match="no connection yet"):
        await waiting


async def test_a_connection_that_cannot_be_made_is_tried_again_with_growing_pauses(world: World) -> None:
    attempts: list[float] = []

    async def refuse() -> tuple[Reader, Writer]:
        attempts.append(world.clock.monotonic())
        raise GuestUnreachable("the VM's agent socket is not there")

    world.connect = refuse  # type: ignore[method-assign]  # the host has no VM here
    world.link = world.make_link()
    world.start()
    await world.clock.advance(60.0)
    assert "not there" in world.link.state.reason
    gaps = [round(later - earlier, 6) for earlier, later in itertools.pairwise(attempts)]
    assert gaps[0] < 0.1
    assert gaps == sorted(gaps)
    assert 1.9 < gaps[-1] < 2.1


async def test_another_boot_forgets_what_the_one_before_said(world: World) -> None:
    world.start()
    await world.configured()
    await world.cut()
    world.serve = SimulatedAgent(SimulatedGuest(world.clock))
    state = await world.connected()
    assert (state.workload, state.health) == (None, None)


async def answer_preamble(reader: Reader, writer: Writer) -> None:
    preamble = await reader.readexactly(PREAMBLE_BYTES)
    writer.write(encode_answer(preamble[-16:]))


def say(*parts: bytes) -> Callable[[Reader, Writer], Awaitable[None]]:
    """An impostor that begins a session, says ``parts``, and listens."""

    async def serve(reader: Reader, writer: Writer) -> None:
        await answer_preamble(reader, writer)
        for part in parts:
            writer.write(part)
        while await reader.read(65536):
            pass

    return serve


def frame(body: bytes, *, kind: int = 0, flags: int = 0, stream: int = 1) -> bytes:
    return bytes([0, kind]) + flags.to_bytes(2, "big") + stream.to_bytes(4, "big") + len(body).to_bytes(4, "big") + body


def message(text: bytes) -> bytes:
    return frame(len(text).to_bytes(4, "big") + text)


HELLO = message(b'{"type": "hello", "version": 1, "agent": "x", "boot_id": "b", "state": "waiting"}')


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "version"),
        (b"\x00\x09" + bytes(10), "unknown type"),
        (frame(b"", flags=16), "unknown flags"),
        (b"\x00\x00\x00\x00\x00\x00\x00\x01\x7f\xff\xff\xff", "more than 65536"),
        (frame(b"", flags=1, stream=2), "opened a stream"),
        (frame(b"x" * 65536, stream=99) * 5, "not open"),
        (b"\x00\x01\x00\x00\x00\x00\x00\x01\x00\x04\x00\x00", "enlarged"),
        (b"\x00\x03" + bytes(10), "ended the session"),
        (frame(b"", flags=4), "closed the control stream"),
        (frame(b"", flags=8), "reset the stream"),
        (frame(b"\xff\xff\xff\xff"), "announced a message"),
        (message(b"[1]"), "no JSON object"),
        (message(b'{"type": "hello", "type": "hello"}'), "twice"),
        (message(b'{"a":' + b"[" * 40 + b"]" * 40 + b"}"), "deeper"),
        (message(b'{"type": "workload", "workload": "main", "state": "running"}'), "begin with hello"),
        (message(b'{"type": "hello", "version": 9, "agent": "x", "boot_id": "b", "state": "waiting"}'), "as specified"),
        (message(b'{"type": "hello", "version": 1, "agent": "x", "boot_id": "\\u001b[2J", "state": "waiting"}'), "as specified"),
        (HELLO + message(b'{"type": "health", "workload": "main", "state": "great"}'), "as specified"),
        (HELLO + message(b'{"type": "workload", "workload": "main", "state": "running", "pid": -1}'), "as specified"),
        (HELLO + message(b'{"re": "1"}'), "no number"),
        (message(b'{"error": {"code": "busy", "message": "not now"}}'), "not now"),
    ],
)
async def test_a_guest_that_breaks_the_protocol_loses_its_session_only(world: World, said: bytes, reason: str) -> None:
    world.serve = say(said)
    running = world.start()
    await world.pass_until(lambda state: reason in state.reason)
    assert not world.link.state.connected
    assert not running.done()
    before = len(world.connections)
    await world.clock.advance(5.0)
    assert len(world.connections) > before


async def test_a_guest_that_never_says_hello_is_given_up(world: World) -> None:
    world.serve = say()
    world.start()
    await world.pass_until(lambda state: "did not say hello" in state.reason)
    assert not world.link.state.connected


async def test_texts_of_the_guest_lose_their_control_characters_and_length(world: World) -> None:
    notice = b'{"type": "workload", "workload": "main", "state": "failed", "message": "\\u001b[31m' + b"x" * 2000 + b'"}'
    world.serve = say(HELLO, message(notice))
    world.start()
    state = await world.pass_until(lambda s: s.workload is not None)
    assert state.workload is not None
    assert state.workload.message.startswith(" [31mx")
    assert len(state.workload.message) == 512


async def test_notices_of_other_workloads_and_unknown_kinds_are_passed_over(world: World) -> None:
    other = message(b'{"type": "workload", "workload": "sidecar", "state": "failed"}') + message(b'{"type": "weather"}')
    main = message(b'{"type": "workload", "workload": "main", "state": "running", "mood": "good"}')
    world.serve = say(HELLO, other + main)
    world.start()
    state = await world.pass_until(lambda s: s.workload is not None)
    assert state.workload is not None
    assert state.workload.workload == "main"


async def test_a_flood_of_notices_is_taken_at_its_rate_only(world: World) -> None:
    world.start()
    await world.configured()
    world.guest.misbehaviour = "flood_notices"
    before = len(world.states)
    await world.clock.advance(1.0)
    flooded = len(world.states) - before
    assert 0 < flooded <= 100 + 60
    assert world.link.state.connected


async def test_bytes_of_an_earlier_session_are_passed_over(world: World) -> None:
    async def serve(reader: Reader, writer: Writer) -> None:
        writer.write(encode_answer(b"n" * 16) + HELLO * 100)
        await say(HELLO)(reader, writer)

    world.serve = serve
    world.start()
    assert (await world.connected()).hello is not None


async def test_a_guest_without_an_answer_is_tried_with_both_secrets_in_turn(world: World) -> None:
    tried: list[bytes] = []

    async def serve(reader: Reader, writer: Writer) -> None:
        tried.append((await reader.readexactly(PREAMBLE_BYTES))[8:40])
        while await reader.read(4096):
            pass

    world.serve = serve
    world.start()
    await world.clock.advance(30.0)
    assert tried[:4] == [ZERO_SECRET, world.secret, ZERO_SECRET, world.secret]
    assert 15 <= len(tried) <= 40


async def test_errors_of_exec_are_ours(world: World) -> None:
    world.start()
    await world.connected()
    with pytest.raises(WrongState):
        await world.link.open_exec(ExecRequest(argv=("true",)))
    await world.configured()
    with pytest.raises(InvalidInput, match="no-such"):
        await world.link.open_exec(ExecRequest(argv=("no-such",)))
    with pytest.raises(NotFound):
        await world.link.open_exec(ExecRequest(argv=("true",), workload="sidecar"))
    with pytest.raises(InvalidInput, match="UTF-8"):
        await world.link.open_exec(ExecRequest(argv=("echo", "\udcff")))
