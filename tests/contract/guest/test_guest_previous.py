"""A kestrel of the version before this one under today's link: it does all that was asked of it then, the rest is refused."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from volant.core.errors import WrongState
from volant.guest.protocol import ExecRequest, Tty

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))
from guest_agents import KestrelTest

# What volantd relied on in an agent then is asked again here, of the agent that the fixture below brings.
from test_guest_agent import *  # noqa: F403
from test_guest_identity import *  # noqa: F403

from previous_agent import CAPABILITIES, MAX_STREAMS, build_previous

EXECS = 200


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_previous(tmp_path_factory.mktemp("previous")) / "kestrel-test"


@pytest.fixture
async def agent(previous: Path, tmp_path: Path) -> AsyncIterator[KestrelTest]:
    made = KestrelTest(tmp_path, program=previous)
    try:
        yield made
    finally:
        await made.close()


async def test_it_says_what_it_can(linked: KestrelTest) -> None:
    hello = (await linked.connected()).hello
    assert hello is not None
    assert (hello.agent, hello.capabilities, hello.max_streams) == ("kestrel/0.0.9", CAPABILITIES, MAX_STREAMS)


async def test_what_it_lacks_is_refused_at_once_and_by_name(linked: KestrelTest) -> None:
    await linked.configured()
    refused: list[Awaitable[object]] = [
        linked.link.open_exec(ExecRequest(argv=("sh",), tty=Tty(rows=24, cols=80))),
        linked.link.open_attach(),
        linked.link.open_port(80),
        linked.link.read_files("/etc"),
        linked.link.write_files("/tmp"),
    ]
    for step in refused:
        with pytest.raises(WrongState, match=r"its agent, kestrel/0\.0\.9, is too old to .*: build its plugin again"):
            await step


async def test_its_statistics_lack_what_it_does_not_count(linked: KestrelTest) -> None:
    await linked.configured()
    stats = await linked.link.stats()
    assert stats.memory_total_kb > 0
    assert (stats.processes, stats.disk_total_kb, stats.net_rx_bytes) == (None, None, None)


async def test_more_programs_than_it_takes_have_their_turns(linked: KestrelTest) -> None:
    await linked.configured()

    async def one(number: int) -> bytes:
        async with await linked.link.open_exec(ExecRequest(argv=("echo", str(number)))) as program:
            return b"".join([content async for _, content in program])

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(number)) for number in range(EXECS)]
    assert [task.result() for task in running] == [b"%d\n" % number for number in range(EXECS)]
