"""What both agents leave on their console when they end, which is all that a host that was away has of it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from volant.guest.document import ExecProbe, Probes, Restart, Workload, digest_document
from volant.guest.farewell import Farewell, find_farewell
from volant.guest.protocol import Exit
from volant.guest.simulated import SimulatedGuest

sys.path.insert(0, str(Path(__file__).parent))
from guest_agents import KestrelTest, Simulated

Linked = Simulated | KestrelTest
OFF_S = 15.0
SHELL = ("/bin/sh", "-c")
NEVER = Restart(policy="never")


async def configure(linked: Linked, *argv: str, **workload: Any) -> list[str]:
    """Have it run a program; the digest of its document."""
    await linked.connected()
    content = linked.document_of(Workload(argv=argv, **workload))
    await linked.link.configure(content)
    return [digest_document(content)]


async def read_off(linked: Linked, digests: list[str]) -> Farewell | None:
    await asyncio.wait_for(linked.off.wait(), OFF_S)
    return find_farewell(linked.console, digests)


@pytest.mark.parametrize("code", [0, 7, 255])
async def test_a_workload_that_ended(linked: Linked, code: int) -> None:
    told = await configure(linked, *SHELL, f"exit {code}", restart=NEVER)
    assert await read_off(linked, told) == Farewell(reason="workload_ended", exit=Exit(code=code))
    assert find_farewell(linked.console, ["sha256:" + "0" * 64]) is None


async def test_one_that_was_restarted_as_often_as_it_may(linked: Linked) -> None:
    restart = Restart(policy="on-failure", initial_backoff_ms=1, max_backoff_ms=1, max_restarts=2)
    told = await configure(linked, *SHELL, "exit 3", restart=restart)
    assert await read_off(linked, told) == Farewell(reason="restart_limit", exit=Exit(code=3))


async def test_one_that_is_ended_for_its_probe(linked: Linked) -> None:
    probe = ExecProbe(argv=("false",), interval_ms=10, failure_threshold=2)
    told = await configure(linked, "/bin/sleep", "1000", restart=NEVER, probes=Probes(startup=probe))
    assert await read_off(linked, told) == Farewell(reason="workload_ended", exit=Exit(signal=15))


async def test_a_shutdown_that_was_asked_for(linked: Linked) -> None:
    told = await configure(linked, "/bin/sleep", "1000")
    await linked.link.wait_for(lambda state: state.workload is not None and state.workload.state == "running", OFF_S)
    await linked.link.shutdown(5.0)
    left = await read_off(linked, told)
    assert left is not None
    assert left.reason == "requested"


async def test_nobody_who_was_never_told_who_it_is(linked: Linked) -> None:
    await linked.connected()
    await linked.link.shutdown(5.0)
    await asyncio.wait_for(linked.off.wait(), OFF_S)
    assert b"kestrel: end" not in linked.console


async def test_a_host_that_is_not_there(agent: Linked) -> None:
    """The session ends after the configuration, and nobody hears the rest."""
    running = asyncio.ensure_future(agent.link.run())
    told = await configure(agent, "/bin/sleep", "0.3", restart=NEVER)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    if isinstance(agent, Simulated):
        await _live_on(agent.guest)
    assert await read_off(agent, told) == Farewell(reason="workload_ended", exit=Exit(code=0))
    assert agent.link.state.stopping is None


async def _live_on(guest: SimulatedGuest) -> None:
    """What is due by itself is done when somebody looks, and the host does not."""
    while not guest.powered_off:
        await guest.clock.sleep(guest.next_due_s or 0.0)
        guest.catch_up()
