from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import HostError
from volant.core.manifest import HealthCheck, Manifest, Media, Workload
from volant.core.probe import Probe
from volant.net.simulated import SimulatedFabric
from volant.node.run import HostHealth
from volant.reconcile.outside import AGAIN_WHILE_STARTING_S, TIMEOUT_MAX_S, ask_workload, describe_address, judge_answer

from .port_world import make_vm

PROBE = Probe(interval_ms=2000, timeout_ms=300, failure_threshold=3)
CHECK = HealthCheck(endpoint="/ready now", interval_ms=2000, timeout_ms=300, unhealthy_threshold=3)
NOW = 100.0


def make_manifest(port: int, check: HealthCheck | None = CHECK) -> Manifest:
    return Manifest(
        schema_version="v1",
        name="own",
        version="1",
        workload=Workload(entrypoint=("/init",), base_url=f"http://127.0.0.1:{port}"),
        health_check=check,
        initramfs=Media(url="initramfs.cpio"),
        agent="none",
    )


@asynccontextmanager
async def serve(answer: bytes, *, asked: list[bytes] | None = None, hang: bool = False) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if asked is not None:
                asked.append(head)
            for byte in answer:
                writer.write(bytes([byte]))
                await writer.drain()
            if hang:
                await reader.read()
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def ask(port: int, found: HostHealth | None = None, *, ready: bool = False, **check: Any) -> HostHealth | None:
    manifest = make_manifest(port, msgspec.structs.replace(CHECK, **check))
    return await ask_workload(SimulatedFabric(), make_vm(ready=ready), manifest, found, NOW)


async def test_a_workload_that_answers_is_healthy() -> None:
    asked: list[bytes] = []
    async with serve(b"HTTP/1.0 204 No Content\r\n\r\n", asked=asked) as port:
        assert await ask(port) == HostHealth("healthy", "", 0, NOW + 2)
    assert asked[0].startswith(b"GET /ready%20now HTTP/1.1\r\nHost: 127.0.0.1:"), asked


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"HTTP/1.1 503 Busy\r\n\r\n", "HTTP status 503"),
        (b"HTTP/1.1 404\r\n", "HTTP status 404"),
        (b"SSH-2.0-OpenSSH\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 2\r\n", "the answer is not HTTP"),
        (b"", "the answer is not HTTP"),
    ],
)
async def test_what_is_wrong_with_an_answer_is_said(answer: bytes, fault: str) -> None:
    async with serve(answer) as port:
        assert await ask(port) == HostHealth("unknown", fault, 1, NOW + AGAIN_WHILE_STARTING_S)


async def test_nobody_there_and_nobody_who_speaks() -> None:
    async with serve(b"HTTP/1.1 ", hang=True) as port:
        silent = await ask(port)
    assert silent is not None and silent.message == "no answer within 0.3 s"
    refused = await ask(port)
    assert refused is not None and refused.message == "Connection refused"


async def test_a_question_takes_no_longer_than_a_stop_may_wait() -> None:
    assert TIMEOUT_MAX_S <= 5


async def test_a_host_that_has_no_socket_to_ask_with_is_said_to() -> None:
    def refuse(step: str) -> None:
        raise HostError(f"no {step}")

    health = await ask_workload(SimulatedFabric(refuse), make_vm(ready=False), make_manifest(80), None, NOW)
    assert health is not None and health.message == "no open_connection_socket"


async def test_it_is_asked_when_it_is_due_and_only_then() -> None:
    found = HostHealth("healthy", due_at=NOW + 1)
    assert await ask(1, found) is found
    assert await ask(1, msgspec.structs.replace(found, due_at=NOW)) != found


async def test_without_a_check_or_an_address_there_is_nothing_to_ask() -> None:
    fabric = SimulatedFabric()
    assert await ask_workload(fabric, make_vm(), make_manifest(80, None), None, NOW) is None
    assert await ask_workload(fabric, make_vm(addresses=()), make_manifest(80), None, NOW) is None
    assert await ask_workload(fabric, make_vm(ip=""), make_manifest(80), None, NOW) is None


async def test_a_new_volantd_does_not_call_it_unready_for_one_failure() -> None:
    health = await ask(1, None, ready=True)
    assert health is not None and (health.state, health.failures) == ("healthy", 1)


def test_it_is_unhealthy_after_as_many_failures_as_its_check_allows() -> None:
    health = HostHealth("healthy")
    states = []
    for _ in range(4):
        health = judge_answer(health, "no answer", PROBE, NOW)
        states.append(health.state)
    assert states == ["healthy", "healthy", "unhealthy", "unhealthy"]
    assert judge_answer(health, "", PROBE, NOW) == HostHealth("healthy", "", 0, NOW + 2)


@given(st.lists(st.sampled_from(["", "fault"]), max_size=12))
def test_one_that_never_answered_well_is_never_called_unhealthy(faults: list[str]) -> None:
    health = HostHealth()
    for place, fault in enumerate(faults):
        health = judge_answer(health, fault, PROBE, NOW)
        assert (health.state == "unknown") == ("" not in faults[: place + 1])
        assert health.due_at > NOW


def test_the_address_is_said_as_the_kernel_reads_it() -> None:
    vm = make_vm(ip="10.9.0.5")
    assert describe_address(vm, ()) == ["ip=10.9.0.5::127.0.0.254:255.255.255.0:web:eth0:off"]
    assert describe_address(vm, ("10.9.0.1", "10.9.0.2", "10.9.0.3"))[0].endswith(":off:10.9.0.1:10.9.0.2")
    assert describe_address(make_vm(ip=""), ("10.9.0.1",)) == []
