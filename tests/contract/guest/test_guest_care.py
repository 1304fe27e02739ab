"""How an agent cares for its workload: probes, hooks, limits, restarts."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from volant.guest.document import (
    ExecHook,
    ExecProbe,
    Hooks,
    HttpHook,
    HttpProbe,
    Probes,
    Restart,
    TcpProbe,
    Ulimit,
    Ulimits,
    Workload,
)
from volant.guest.protocol import ExecRequest
from volant.guest.state import AgentState

if TYPE_CHECKING:
    from guest_agents import KestrelTest, Simulated

    Linked = Simulated | KestrelTest

NOT_KESTREL = "the simulated guest runs no programs of ours"


def quick(*argv: str, **more: Any) -> ExecProbe:
    return ExecProbe(argv=argv, **{"interval_ms": 50, "start_interval_ms": 50, "timeout_ms": 2000, **more})


async def begin(linked: Linked, script: str = "exec sleep 1000", *, policy: str = "never", **workload: Any) -> None:
    await linked.connected()
    restart = workload.pop("restart", None) or Restart(policy=policy)  # type: ignore[arg-type]  # one of three words
    told = Workload(argv=("/bin/sh", "-c", script), restart=restart, **workload)
    await linked.link.configure(linked.document_of(told))


async def until(linked: Linked, what: Any) -> AgentState:
    return await linked.link.wait_for(what, 15.0)


def is_in(state: str) -> Any:
    return lambda seen: seen.workload is not None and seen.workload.state == state


def is_healthy(seen: AgentState) -> bool:
    return seen.health is not None and seen.health.state == "healthy"


async def run(linked: Linked, *argv: str) -> bytes:
    out = b""
    async with await linked.link.open_exec(ExecRequest(argv=argv)) as program:
        async for _, content in program:
            out += content
    return out


async def ended(pid: int) -> None:
    """Return once the process is dead."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, over.set)
    try:
        await over.wait()
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


async def test_the_agent_says_what_it_can(linked: Linked) -> None:
    hello = (await linked.connected()).hello
    assert hello is not None
    assert {"probes", "hooks", "ulimits", "dhcp", "stats2"} <= set(hello.capabilities)


async def test_a_program_that_ends_well_makes_it_ready(linked: Linked) -> None:
    await begin(linked, probes=Probes(startup=quick("true"), readiness=quick("true"), liveness=quick("true")))
    state = await until(linked, is_healthy)
    assert state.health is not None
    assert (state.health.started, state.health.live) == (True, True)


async def test_a_program_that_fails_keeps_it_from_being_ready(linked: Linked) -> None:
    await begin(linked, probes=Probes(readiness=quick("false")))
    state = await until(linked, lambda seen: is_in("running")(seen) and seen.health is not None and seen.health.message != "")
    assert state.health is not None
    assert state.health.state == "unknown"


async def test_who_fails_liveness_is_ended_and_started_again(linked: Linked) -> None:
    restart = Restart(initial_backoff_ms=60_000, max_backoff_ms=60_000)
    await begin(linked, restart=restart, probes=Probes(liveness=quick("false", failure_threshold=2)))
    state = await until(linked, is_in("backoff"))
    assert state.workload is not None
    assert state.workload.message == "the liveness probe failed 2 times: exited with code 1"
    assert state.workload.last_end == state.workload.message


async def test_who_never_starts_is_ended(linked: Linked) -> None:
    await begin(linked, probes=Probes(startup=quick("false", failure_threshold=2), readiness=quick("true")))
    state = await until(linked, lambda seen: seen.stopping is not None)
    assert state.workload is not None
    assert "the startup probe failed" in state.workload.message


async def test_a_hook_that_fails_ends_it(linked: Linked) -> None:
    await begin(linked, hooks=Hooks(post_start=ExecHook(argv=("false",))))
    state = await until(linked, lambda seen: seen.stopping is not None)
    assert state.workload is not None
    assert "its post_start hook failed: exited with code 1" in state.workload.message
    await asyncio.wait_for(linked.off.wait(), 15)


async def test_restarts_are_limited(linked: Linked) -> None:
    restart = Restart(initial_backoff_ms=1, max_backoff_ms=1, max_restarts=2)
    await begin(linked, "exit 3", restart=restart)
    if hasattr(linked, "guest"):
        for restarts in range(3):
            await until(linked, lambda seen, n=restarts: is_in("running")(seen) and seen.workload.restarts == n)
            linked.guest.crash_workload({"code": 3})
    state = await until(linked, lambda seen: seen.stopping is not None and is_in("failed")(seen))
    assert state.stopping is not None
    assert state.workload is not None
    assert state.stopping.reason == "restart_limit"
    assert state.workload.restarts == 2
    assert state.workload.exit is not None
    assert state.workload.exit.code == 3
    assert "it was restarted 2 times already" in state.workload.message


async def test_stats_tell_of_disks_and_cards(linked: Linked) -> None:
    await linked.configured()
    stats = await linked.link.stats()
    assert stats.processes
    assert stats.disk_total_kb
    assert stats.disk_available_kb is not None
    assert stats.disk_read_bytes is not None
    assert stats.net_rx_bytes is not None


class TestKestrel:
    """What only real programs show."""

    @pytest.fixture(autouse=True)
    def _only_kestrel(self, agent: Linked) -> None:
        if hasattr(agent, "guest"):
            pytest.skip(NOT_KESTREL)

    async def test_the_order_of_a_life(self, linked: Linked, tmp_path: Path) -> None:
        story = tmp_path / "story"

        def tell(word: str) -> tuple[str, ...]:
            return ("sh", "-c", f"echo {word} >> {story}")

        await begin(
            linked,
            f"trap 'echo signal >> {story}; exit 0' TERM; echo start >> {story}; while :; do sleep 0.05; done",
            hooks=Hooks(post_start=ExecHook(argv=tell("post_start")), pre_stop=ExecHook(argv=tell("pre_stop"))),
            probes=Probes(
                startup=quick(*tell("startup"), interval_ms=3_600_000),
                readiness=quick(*tell("readiness"), interval_ms=3_600_000),
            ),
        )
        await until(linked, is_healthy)
        await linked.link.shutdown(10)
        await asyncio.wait_for(linked.off.wait(), 20)
        words = story.read_text().split()
        assert sorted(words[:2]) == ["post_start", "start"]
        assert words[2:] == ["startup", "readiness", "pre_stop", "signal"]

    async def test_a_hook_does_not_eat_the_grace(self, linked: Linked, tmp_path: Path) -> None:
        story = tmp_path / "story"
        await begin(
            linked,
            f"trap 'echo signal >> {story}; exit 0' TERM; while :; do sleep 0.05; done",
            hooks=Hooks(pre_stop=ExecHook(argv=("sleep", "1000"), timeout_ms=3_600_000)),
        )
        await until(linked, is_in("running"))
        await linked.link.shutdown(5)
        await asyncio.wait_for(linked.off.wait(), 20)
        assert story.read_text() == "signal\n"

    async def test_a_request_hook_waits_for_who_listens(self, linked: Linked) -> None:
        asked: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        await begin(linked, hooks=Hooks(post_start=HttpHook(port=port, path="/warm?a=b", method="POST")))
        await until(linked, lambda seen: seen.health is not None and "post_start" in seen.health.message)
        server = await asyncio.start_server(serve, "127.0.0.1", port)
        state = await until(linked, is_healthy)
        server.close()
        assert state.health is not None
        assert state.health.started
        assert asked[0].startswith(b"POST /warm?a=b HTTP/1.1\r\n")
        assert b"Content-Length: 0\r\n" in asked[0]

    async def test_tcp_and_http_are_told_apart_from_silence(self, linked: Linked) -> None:
        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(mute, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        probes = Probes(
            startup=TcpProbe(port=port, interval_ms=50),
            readiness=HttpProbe(port=port, interval_ms=50, timeout_ms=100, method="HEAD"),
        )
        await begin(linked, probes=probes)
        state = await until(linked, lambda seen: seen.health is not None and "no answer" in seen.health.message)
        server.close()
        assert state.health is not None
        assert (state.health.started, state.health.state) == (True, "unknown")
        assert state.health.message == "no answer within 100 ms"

    async def test_a_probe_that_hangs_is_killed_with_all_it_began(self, linked: Linked, tmp_path: Path) -> None:
        pids = tmp_path / "pids"
        script = f"sleep 1000 & echo $! >> {pids}; echo oh no; sleep 1000"
        await begin(linked, probes=Probes(readiness=quick("sh", "-c", script, timeout_ms=300)))
        await until(linked, lambda seen: seen.health is not None and "no end within 300 ms" in seen.health.message)
        first = int(pids.read_text().split()[0])
        await asyncio.wait_for(ended(first), 10)

    async def test_a_probe_that_prints_without_end_is_bounded(self, linked: Linked) -> None:
        await begin(linked, probes=Probes(readiness=quick("sh", "-c", "yes oh no; exit 1", timeout_ms=5000)))
        state = await until(linked, lambda seen: seen.health is not None and "oh no" in seen.health.message)
        assert state.health is not None
        assert len(state.health.message) < 256

    async def test_what_a_probe_says_is_told(self, linked: Linked) -> None:
        await begin(linked, probes=Probes(readiness=quick("sh", "-c", "echo no database; echo more; exit 7")))
        state = await until(linked, lambda seen: seen.health is not None and "exited" in seen.health.message)
        assert state.health is not None
        assert state.health.message == "exited with code 7: no database"

    async def test_readiness_comes_and_goes_by_its_thresholds(self, linked: Linked, tmp_path: Path) -> None:
        mark = tmp_path / "up"
        mark.touch()
        await begin(linked, probes=Probes(readiness=quick("test", "-e", str(mark), success_threshold=2, failure_threshold=2)))
        await until(linked, is_healthy)
        mark.unlink()
        await until(linked, lambda seen: seen.health is not None and seen.health.state == "unhealthy")
        mark.touch()
        await until(linked, is_healthy)

    async def test_limits_hold_for_the_workload_and_what_runs_beside_it(self, linked: Linked) -> None:
        await begin(
            linked,
            "ulimit -Sn; ulimit -Hn; exec sleep 1000",
            ulimits=Ulimits(nofile=Ulimit(soft=321, hard=654), core=Ulimit(soft=0, hard=-1)),
            user="65534:65534",
        )
        await until(linked, is_in("running"))
        assert await run(linked, "sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c") == b"321\n654\n0\n"

    async def test_limits_that_the_kernel_refuses_are_named(self, linked: Linked) -> None:
        await begin(linked, ulimits=Ulimits(nofile=Ulimit(soft=-1, hard=-1)))
        state = await until(linked, is_in("failed"))
        assert state.workload is not None
        assert "ulimits" in state.workload.message

    async def test_who_ignores_the_signal_is_killed_after_its_grace(self, linked: Linked, tmp_path: Path) -> None:
        # Live until the shell ignores the signal: before that it would end by it.
        ignoring = tmp_path / "ignoring"
        await begin(
            linked,
            f"trap '' TERM; touch {ignoring}; while :; do sleep 0.05; done",
            stop_grace_ms=200,
            probes=Probes(liveness=quick("sh", "-c", f"! test -e {ignoring}", failure_threshold=1)),
        )
        state = await until(linked, lambda seen: seen.stopping is not None)
        assert state.workload is not None
        assert state.workload.exit is not None
        assert state.workload.exit.signal == 9
        assert state.workload.message == "the liveness probe failed: exited with code 1"


def test_documents_without_any_of_it_are_as_they_were() -> None:
    from guest_agents import Simulated

    content = Simulated().document()
    for member in (b"probes", b"hooks", b"ulimits", b"tty", b"stdin", b"dhcp", b"max_restarts", b"stop_grace_ms"):
        assert member not in content
