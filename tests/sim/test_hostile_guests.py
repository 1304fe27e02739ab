"""A guest that means harm beside one that does not: volantd answers, holds little, and the other VM notices nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from volant.core.errors import VolantError
from volant.core.resource import Wanted
from volant.core.snapshot import SnapshotSpec
from volant.core.vm import VM
from volant.guest.frame import Flag, encode_data, encode_window_update
from volant.guest.simulated import SimulatedGuest
from volant.guest.simulated_agent import SimulatedAgent
from volant.hypervisor.simulated import SimulatedHost
from volant.node.door import AttachRequest, ExecRequest
from volant.plane import ControlPlane

from .host import World, check_nothing_left, reach, reach_gone, want
from .hostile import FastClock, Harmful, Impostor, encode, pour, record

ANSWERED_S = 20.0
"""For what volantd does for others meanwhile, on a machine that is busy."""

CALLER_S = 4.0

GROWTH_BYTES = 96 << 20
"""What one guest may cost at most while it floods: a session's windows, and what measuring is coarse by."""

FLOOD = b"flood " * 2_000


class Beside:
    """A volantd with the VM ``web``, which is harmless, and ``evil``."""

    def __init__(self, world: World, plane: ControlPlane, harmful: Harmful) -> None:
        self.world = world
        self.plane = plane
        self.harmful = harmful

    async def vm(self, name: str) -> VM:
        return await self.plane.intents.vms.get(name)

    async def check_others(self) -> None:
        """``web`` is as it was, and so is what volantd says of it."""
        async with asyncio.timeout(ANSWERED_S):
            web = await self.vm("web")
            async with self.plane.node.open_exec(web.uid, ExecRequest(argv=("echo", "unharmed"))) as session:
                assert b"".join([content async for _, content in session]) == b"unharmed\n"
            assert web.status.ready and web.status.restarts == 0

    async def check_end(self) -> None:
        """``evil`` goes when it is told to, and nothing of it stays."""
        await self.check_others()
        await self.plane.intents.vms.delete("evil")
        await reach_gone(self.plane, "evil")
        await self.check_others()
        await check_nothing_left(self.world, self.plane)


Open = Callable[[Callable[[Harmful], None]], contextlib.AbstractAsyncContextManager[Beside]]


@pytest.fixture
def open_beside(tmp_path: Path) -> Open:
    """Opens such a volantd; what it is given makes the guest of ``evil`` what it is."""

    @contextlib.asynccontextmanager
    async def opened(spoil: Callable[[Harmful], None]) -> AsyncIterator[Beside]:
        world = World(tmp_path)
        world.clock = FastClock()
        made: list[Harmful] = []

        def make_agent(machine: Any, saved: Mapping[str, Any] | None = None) -> Any:
            guest = SimulatedGuest(world.clock)
            if machine.name != "evil":
                return SimulatedAgent(guest)
            harmful = Harmful(guest)
            spoil(harmful)
            made.append(harmful)
            return harmful

        world.host = SimulatedHost(world.clock, agent_factory=make_agent)
        await world.prepare()
        try:
            async with world.plane() as (plane, _):
                await plane.intents.plugins.install(world.manifest())
                await plane.intents.vms.create(want("web", start="cold"))
                await reach(plane, "web", lambda vm: vm.status.ready)
                await plane.intents.vms.create(want("evil", start="cold", stop_grace_s=0))
                await reach(plane, "evil", lambda vm: bool(made))
                yield Beside(world, plane, made[0])
        finally:
            await world.host.close()

    return opened


# What it does with the streams that are opened in it

OK = encode({"ok": {"pid": 1, "tty": False, "oldest": 1, "next": 1}})
ESCAPES = "\x1b[2J\x1b]0;owned\x07\u202e" + "A" * 20_000


def once(*frames: Callable[[int], bytes]) -> Callable[[Impostor, int, str], Awaitable[None]]:
    """Answers every stream with ``frames`` and says no more."""

    async def answer(session: Impostor, stream: int, kind: str) -> None:
        for frame in frames:
            session.writer.write(frame(stream))

    return answer


def data(content: bytes, flags: int = 0) -> Callable[[int], bytes]:
    return lambda stream: encode_data(stream, content, flags)


async def flood(session: Impostor, stream: int, kind: str) -> None:
    """As fast as it goes, whatever the window is."""

    async def pieces() -> AsyncIterator[bytes]:
        yield OK
        while True:
            yield record(1, FLOOD)

    await pour(session, stream, pieces())


async def drip(session: Impostor, stream: int, kind: str) -> None:
    """A byte at a time, and never whole."""
    for byte in itertools.chain(OK, itertools.cycle(b"\x01\x00\x00\xff\xff" + b"x" * 60_000)):
        session.put(stream, bytes([byte]))
        await session.writer.drain()
        await session.guest.guest.clock.sleep(0.01)


STREAMS: dict[str, Callable[[Impostor, int, str], Awaitable[None]]] = {
    "never_answers": once(),
    "hangs_up": once(data(b"", Flag.FIN)),
    "resets": once(lambda stream: encode_window_update(stream, 0, Flag.RST)),
    "lies_about_a_message": once(data(b"\xff\xff\xff\xff{")),
    "never_ends_a_message": once(data(b"\x00\x00\xff\xff{")),
    "says_no_json": once(data(b"\x00\x00\x00\x04ruin")),
    "answers_nothing_known": once(data(encode({}))),
    "answers_wrong_types": once(data(encode({"ok": {"pid": "x", "tty": 9, "oldest": -1, "next": []}}))),
    "answers_no_object": once(data(encode({"ok": 7}))),
    "refuses_with_escapes": once(data(encode({"error": {"code": ESCAPES, "message": ESCAPES}}))),
    "refuses_with_no_object": once(data(encode({"error": [[[]]]}))),
    "is_busy_for_ever": once(data(encode({"error": {"code": "busy", "message": "later"}}))),
    "answers_and_is_silent": once(data(OK)),
    "answers_and_hangs_up": once(data(OK, Flag.FIN)),
    "answers_and_resets": once(data(OK), lambda stream: encode_window_update(stream, 0, Flag.RST)),
    "answers_and_sends_noise": once(data(OK), data(b"\xff" * 5_000)),
    "lies_about_a_record": once(data(OK), data(record(1, b"short", 0xFFFFFFFF))),
    "never_ends_a_record": once(data(OK), data(record(1, b"short", 60_000))),
    "ends_wrongly": once(data(OK), data(record(3, b'{"code": 0, "signal": 9}'))),
    "ends_as_no_number": once(data(OK), data(record(3, b'{"code": 1e999}'))),
    "ends_twice": once(data(OK), data(record(3, b'{"code": 0}') * 2)),
    "sends_after_its_end": once(data(OK, Flag.FIN), data(b"more")),
    "enlarges_its_window": once(data(OK), lambda stream: encode_window_update(stream, 0xFFFFFFFF)),
    "sends_on_others": once(data(OK), lambda stream: encode_data(stream + 2, b"not yours")),
    "floods": flood,
    "drips": drip,
}


async def try_all(beside: Beside) -> list[BaseException | None]:
    """Everything that opens a stream in ``evil``, at once: how each ended, which it must."""
    node, uid = beside.plane.node, (await beside.vm("evil")).uid

    async def nothing() -> AsyncIterator[bytes]:
        yield b"\x00" * 1024

    async def run_program() -> None:
        async with node.open_exec(uid, ExecRequest(argv=("true",), stdin=True)) as session:
            await session.write_stdin(b"x" * 100_000)
            async for _ in session:
                pass

    async def attach() -> None:
        async with node.open_attach(uid, AttachRequest()) as session:
            async for _ in session:
                pass

    async def read() -> None:
        async with node.read_files(uid, "/etc") as files:
            async for _ in files:
                pass

    async def connect() -> None:
        async with node.open_port(uid, 80) as stream:
            while await stream.read():
                pass

    async def write() -> None:
        await node.write_files(uid, "/srv", nothing())

    async def leave(asking: Awaitable[object]) -> None:
        """A caller who has had enough after a while."""
        async with asyncio.timeout(CALLER_S):
            await asking

    asked = (run_program(), attach(), read(), connect(), write(), node.read_stats(uid))
    ended = await asyncio.gather(*(leave(one) for one in asked), return_exceptions=True)
    return [one if isinstance(one, BaseException) else None for one in ended]


@pytest.mark.parametrize("harm", STREAMS)
async def test_whatever_it_does_with_streams_ends_what_was_asked_and_nothing_else(open_beside: Open, harm: str) -> None:
    def spoil(harmful: Harmful) -> None:
        harmful.on_open = STREAMS[harm]

    async with open_beside(spoil) as beside:
        await reach(beside.plane, "evil", lambda vm: vm.status.ready)
        trying = asyncio.create_task(try_all(beside))
        await beside.check_others()
        async with asyncio.timeout(60):
            ended = await trying
        # A guest that goes on talking, or is silent, is left by its caller (TimeoutError); the rest is an error of ours.
        for error in ended:
            assert error is None or isinstance(error, VolantError | TimeoutError), repr(error)
            if isinstance(error, VolantError):
                assert "\x1b" not in error.message and "\u202e" not in error.message and len(error.message) < 4_000
        await beside.check_end()


@pytest.mark.parametrize("harm", STREAMS)
async def test_whatever_it_makes_of_its_log_costs_its_log_only(open_beside: Open, harm: str) -> None:
    def spoil(harmful: Harmful) -> None:
        harmful.on_open, harmful.logs_honestly = STREAMS[harm], False

    async with open_beside(spoil) as beside:
        evil = await reach(beside.plane, "evil", lambda vm: vm.status.ready)
        await beside.check_others()
        async with asyncio.timeout(ANSWERED_S):
            async for line in beside.plane.node.read_logs(evil.uid):
                assert len(line.text) <= 16_384
        await beside.check_end()


# What it says on its control stream


def notices(*contents: object) -> Callable[[Impostor, int], Awaitable[None]]:
    async def say(session: Impostor, stream: int) -> None:
        for content in contents:
            session.put(stream, encode(content))

    return say


def bytes_on(*frames: bytes) -> Callable[[Impostor, int], Awaitable[None]]:
    async def say(session: Impostor, stream: int) -> None:
        for frame in frames:
            session.writer.write(frame)

    return say


def endlessly(make: Callable[[int, int], bytes]) -> Callable[[Impostor, int], Awaitable[None]]:
    """``make(stream, number)`` again and again, as fast as volantd reads."""

    async def say(session: Impostor, stream: int) -> None:
        for number in itertools.count():
            session.writer.write(make(stream, number))
            await session.writer.drain()
            await asyncio.sleep(0)

    return say


def flap(stream: int, number: int) -> bytes:
    state = ("healthy", "unhealthy")[number % 2]
    return encode_data(stream, encode({"type": "health", "workload": "main", "state": state, "message": f"{number}" + "x" * 200}))


def restart(stream: int, number: int) -> bytes:
    content = {"type": "workload", "workload": "main", "state": ("running", "backoff")[number % 2], "restarts": number % 2**31}
    return encode_data(stream, encode(content))


def renamed(session: Impostor) -> dict[str, Any]:
    return {**session.guest.hello(), "boot_id": "another"}


async def become_another(session: Impostor, stream: int) -> None:
    session.put(stream, encode(renamed(session)))


FAKE_CARD = {"name": "eth0", "mac": ESCAPES[:17], "address": "192.168.127.1/24", "source": "dhcp"}
CONTROL: dict[str, Callable[[Impostor, int], Awaitable[None]]] = {
    "flaps": endlessly(flap),
    "restarts": endlessly(restart),
    "pings": endlessly(lambda *_: b"\x00\x02\x00\x01" + bytes(7) + b"\x07"),
    "window_updates": endlessly(lambda stream, _: encode_window_update(stream, 0)),
    "empty_frames": endlessly(lambda stream, _: encode_data(stream, b"")),
    "unknown_notices": endlessly(
        lambda stream, number: encode_data(stream, encode({"type": f"new-{number}", "x": "y" * 60_000}))
    ),
    "answers_to_nothing": endlessly(lambda stream, number: encode_data(stream, encode({"re": number, "ok": {}}))),
    "noise": endlessly(lambda *_: os.urandom(4096)),
    "deep": bytes_on(encode_data(1, (66).to_bytes(4, "big") + b'{"a":' + b"[" * 61)),
    "opens_streams": bytes_on(encode_window_update(2, 0, Flag.SYN)),
    "resets_control": bytes_on(encode_window_update(1, 0, Flag.RST)),
    "ends_control": bytes_on(encode_data(1, b"", Flag.FIN)),
    "goes_away": bytes_on(b"\x00\x03" + bytes(10)),
    "half_a_frame": bytes_on(b"\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\xff\xff" + b"x" * 100),
    "becomes_another": become_another,
    "fake_cards": notices({"type": "network", "interfaces": [FAKE_CARD] * 8}),
    "many_cards": notices({"type": "network", "interfaces": [{}] * 5_000}),
    "wrong_numbers": notices({"type": "workload", "workload": "main", "state": "running", "pid": 2**70, "restarts": -1}),
    "escapes": notices({"type": "workload", "workload": "main", "state": "backoff", "message": ESCAPES, "last_end": ESCAPES}),
    "other_workloads": notices(*({"type": "health", "workload": f"w{n}", "state": "unhealthy"} for n in range(200))),
    "says_it_stops": notices({"type": "stopping", "reason": "requested"}),
    "ended_and_stays": notices({"type": "workload", "workload": "main", "state": "exited", "exit": {"code": 0}}),
}


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("harm", CONTROL)
async def test_whatever_it_says_of_itself_harms_itself_only(open_beside: Open, harm: str) -> None:
    def spoil(harmful: Harmful) -> None:
        harmful.on_ready = CONTROL[harm]

    async with open_beside(spoil) as beside:
        before = resident_bytes()
        for _ in range(30):
            await beside.check_others()
            evil = await beside.vm("evil")
        assert resident_bytes() - before < GROWTH_BYTES
        said = str(evil.status)
        assert "\\x1b" not in said and "\\u202e" not in said and len(said) < 20_000
        assert {address.ip for address in evil.status.addresses}.isdisjoint({"192.168.127.1"})
        await beside.check_end()


async def test_what_flaps_for_long_fills_no_store(open_beside: Open) -> None:
    def spoil(harmful: Harmful) -> None:
        harmful.on_ready = endlessly(flap)

    async with open_beside(spoil) as beside:
        await reach(beside.plane, "evil", lambda vm: vm.status.phase == "Running")
        async with asyncio.timeout(60):
            while (
                beside.harmful.guest.clock.monotonic() - beside.plane.node._runs[(await beside.vm("evil")).uid].tended_since < 40
            ):
                await beside.check_others()
        events = (await beside.plane.intents.events.list(about_name="evil"))[0]
        assert len(events) < 100, [event.spec.reason for event in events]
        await beside.check_end()


# When it goes


@pytest.mark.parametrize(
    "stage",
    ["connected", "preamble", "answered", "control", "hello", "configure", "reported", "logs", "exec", "stats", "shutdown"],
)
@pytest.mark.parametrize("times", [3, 1 << 30], ids=["a_few_times", "always"])
async def test_a_session_may_end_at_any_moment(open_beside: Open, stage: str, times: int) -> None:
    def spoil(harmful: Harmful) -> None:
        harmful.leaves_at, harmful.leaves, harmful.logs_honestly = stage, times, True
        harmful.on_open = once(data(OK), data(record(1, b"once\n")), data(record(3, b'{"code": 0}'), Flag.FIN))

    async with open_beside(spoil) as beside:
        for _ in range(5):
            await beside.check_others()
        if times < 10:
            evil = await reach(beside.plane, "evil", lambda vm: vm.status.ready)
            said = b""
            async with asyncio.timeout(ANSWERED_S):
                while said != b"once\n":
                    await asyncio.sleep(0)  # what is refused at once must not keep the link from coming back
                    with contextlib.suppress(VolantError):
                        async with beside.plane.node.open_exec(evil.uid, ExecRequest(argv=("x",))) as session:
                            said = b"".join([content async for _, content in session])
        await beside.check_end()


# What it claims


@pytest.mark.parametrize(
    "claim",
    [
        {"capabilities": ["renew", "clone", "files"] + [f"{n}" + "x" * 1_000 for n in range(61)]},
        {"capabilities": ["x"] * 65},
        {"capabilities": []},
        {"max_streams": 1},
        {"max_streams": 0},
        {"max_streams": 2**40},
        {"agent": ESCAPES},
        {"state": "stopping"},
        {"uptime_ms": 2**80},
        {"timeline": {"init_ms": -1}},
        {"config_digest": "sha256:" + "f" * 64},
    ],
    ids=str,
)
async def test_what_it_claims_of_itself_is_bounded_and_believed_of_itself_only(open_beside: Open, claim: dict[str, Any]) -> None:
    def spoil(harmful: Harmful) -> None:
        harmful.hello_with = claim

    async with open_beside(spoil) as beside:
        for _ in range(5):
            await beside.check_others()
        async with asyncio.timeout(60):
            await try_all(beside)
        said = str((await beside.vm("evil")).status)
        assert "\\x1b" not in said and len(said) < 20_000
        await beside.check_end()


@pytest.mark.parametrize("answer", [None, 7, [], {"frozen": "yes"}, {"memory_total_kb": -1}, {"x": "y" * 60_000}], ids=str)
async def test_answers_that_are_none_end_a_request(open_beside: Open, answer: object) -> None:
    def spoil(harmful: Harmful) -> None:
        harmful.answers = dict.fromkeys(("stats", "freeze", "thaw", "sync", "clock", "renew", "shutdown"), answer)

    async with open_beside(spoil) as beside:
        evil = await reach(beside.plane, "evil", lambda vm: vm.status.ready)
        async with asyncio.timeout(ANSWERED_S):
            assert (await beside.plane.node.read_stats(evil.uid)).guest_memory_total_bytes is None
            wanted = Wanted(name="s", labels={}, spec=SnapshotSpec(vm="evil", memory=False))
            taken = await beside.plane.intents.snapshots.wait(
                await beside.plane.intents.snapshots.create(wanted), timeout_s=ANSWERED_S
            )
        assert taken is not None and taken.status.phase == "Failed", taken
        await beside.plane.intents.snapshots.delete("s")
        await beside.check_end()
