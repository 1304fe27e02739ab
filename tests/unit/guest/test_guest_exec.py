from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from volant.core.errors import GuestUnreachable, WrongState
from volant.guest.protocol import ExecRequest, Exit
from volant.guest.records import ExecType, encode_exec
from volant.guest.simulated_agent import SimulatedAgent

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from guest_world import World


async def test_output_comes_in_order_and_then_the_end(world: World) -> None:
    world.guest.programs["both"] = (b"out", b"err", 3)
    world.start()
    await world.configured()
    async with await world.link.open_exec(ExecRequest(argv=("both",))) as program:
        assert [piece async for piece in program] == [("stdout", b"out"), ("stderr", b"err")]
        assert await program.result() == Exit(code=3)
        assert [piece async for piece in program] == []


async def test_the_workload_and_its_environment_are_there(world: World) -> None:
    world.start()
    await world.configured()
    async with await world.link.open_exec(ExecRequest(argv=("env",), env={"A": "b"})) as program:
        assert [piece async for piece in program] == [("stdout", b"A=b\n")]
    async with await world.link.open_exec(ExecRequest(argv=("/usr/sbin/nginx", "-v"))) as program:
        assert [piece async for piece in program] == [("stdout", b"/usr/sbin/nginx -v\n")]


async def test_stdin_waits_for_a_program_that_does_not_read(world: World) -> None:
    world.start()
    await world.configured()
    async with await world.link.open_exec(ExecRequest(argv=("sleep", "60"), stdin=True)) as program:
        writing = asyncio.ensure_future(program.write_stdin(b"x" * 2_000_000))
        await world.clock.advance(1.0)
        assert not writing.done()
        await world.clock.advance(60.0)
        assert await program.result() == Exit(code=0)
        with pytest.raises(WrongState, match="has ended"):
            await writing
        await program.close_stdin()
        await program.send_signal(15)


async def test_stdin_that_was_closed_takes_nothing(world: World) -> None:
    world.start()
    await world.configured()
    async with await world.link.open_exec(ExecRequest(argv=("cat",), stdin=True)) as program:
        await program.close_stdin()
        with pytest.raises(WrongState, match="closed"):
            await program.write_stdin(b"late")
        assert await program.result() == Exit(code=0)


async def test_leaving_the_context_hangs_up(world: World) -> None:
    world.start()
    await world.configured()
    async with await world.link.open_exec(ExecRequest(argv=("yes",))) as program:
        async for kind, _ in program:
            assert kind == "stdout"
            break
    with pytest.raises(GuestUnreachable, match="was closed"):
        async for _ in program:
            pass
    for _ in range(100):
        async with await world.link.open_exec(ExecRequest(argv=("sleep", "9"))):
            pass


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (encode_exec(ExecType.STDIN, b"x"), "type 0"),
        (b"\x01\xff\xff\xff\xff", "announced"),
        (encode_exec(ExecType.END, b"{}"), "code and signal"),
        (encode_exec(ExecType.END, b"never"), "JSON"),
        (b"", "without saying how"),
    ],
)
async def test_a_lying_exec_fails_alone(world: World, monkeypatch: pytest.MonkeyPatch, record: bytes, reason: str) -> None:
    from volant.guest import simulated_agent

    async def lie(guest: object, stream: simulated_agent.Stream, opening: object, first: bytes) -> None:
        await stream.write(simulated_agent.encode_message({"ok": {"pid": 1}}) + record)
        stream.finish()

    monkeypatch.setattr(simulated_agent, "run_exec", lie)
    world.serve = SimulatedAgent(world.guest)
    world.start()
    await world.configured()
    async with await world.link.open_exec(ExecRequest(argv=("true",))) as program:
        with pytest.raises(GuestUnreachable, match=reason):
            await program.result()
    assert world.link.state.connected
    assert (await world.link.stats()).uptime_ms >= 0


async def test_an_exec_whose_answer_never_comes_times_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from volant.guest import simulated_agent

    async def ignore(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(simulated_agent, "run_exec", ignore)
    world.start()
    await world.configured()
    opening = asyncio.ensure_future(world.link.open_exec(ExecRequest(argv=("true",))))
    await world.clock.advance(10.0)
    with pytest.raises(GuestUnreachable, match="within 10 s"):
        await opening
