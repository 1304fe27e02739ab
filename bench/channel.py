"""What the channel to a guest carries: an exec's round trip beside its own ping, a log and a forwarded port beside its raw rate.

The limits are measured in the same run: the ping by talking to the same guest without volantd, the raw rate by a guest whose
first program does nothing but write to the port (flood.c), TCP by connecting to the same guest over its bridge.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from pyroute2 import netns

from bench.host import BIN, REPOSITORY, build_nginx, daemon, find_namespace, install
from bench.report import describe_machine, describe_times, judge
from volant.client.client import Client
from volant.core.clock import HostClock
from volant.core.ids import Uid
from volant.guest.collector import BURST_BYTES, BYTES_PER_S
from volant.guest.frame import Flag, encode_ping
from volant.guest.link import AgentLink
from volant.guest.protocol import ExecRequest
from volant.hypervisor.qemu.tsc import measure_tsc
from volant.node.unit import Places, read_secret

ROUNDS = 100
EXEC_BUDGET = 3.0
LOG_BUDGET = 0.5
RAW_S = 4.0
LOG_S = 6.0
PORT_BYTES = 32 << 20
FRAMES_BYTES = 64 << 20
LINE = "x" * 1023
SERVE = f"""
use IO::Socket; $| = 1;
my $s = IO::Socket::INET->new(LocalPort => 9000, Listen => 4, ReuseAddr => 1) or die;
print "up\\n";
my $block = "x" x 65536;
while (my $c = $s->accept) {{ for (1 .. {PORT_BYTES} / 65536) {{ syswrite($c, $block) == 65536 or last }} close $c }}
"""


def time_execs(client: Client, name: str) -> list[float]:
    """Seconds of each ``true`` by the API, from asking to knowing its end, each on a connection of its own."""
    taken = []
    for _ in range(ROUNDS):
        began = time.monotonic()
        with client.vms.exec(name, ("true",)) as running:
            for _ in running:
                pass
        assert running.code == 0
        taken.append(time.monotonic() - began)
    return taken


class Direct(msgspec.Struct):
    """Of a guest that no volantd talks to: seconds of pings, execs, and a program's start inside it, and its log's rate."""

    pings: list[float]
    execs: list[float]
    start_s: float
    frames_bytes_per_s: float
    """Of what a program prints: kestrel's frames without a log."""

    log_bytes_per_s: float


async def talk_directly(root: Path, uid: Uid, stdout: str) -> Direct:
    secret = read_secret(Places(data=root / "data", runtime=root / "run").unit(uid))
    path = root / "run" / "vms" / uid / "agent.sock"

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(path)

    link = AgentLink(connect, secret, on_change=lambda _: None, clock=HostClock(), client="bench", former=secret)

    async def ping() -> None:
        session = link._session
        assert session is not None
        session._pong.clear()
        session._ping_value += 1
        session.send_now(encode_ping(session._ping_value, Flag.SYN))
        await session._pong.wait()

    async def exec_true() -> None:
        async with await link.open_exec(ExecRequest(argv=("true",))) as program:
            await program.result()

    running = asyncio.create_task(link.run())
    try:
        await link.wait_for(lambda state: state.connected, 30)
        pings, execs = await time_rounds(ping), await time_rounds(exec_true)
        return Direct(pings, execs, await time_start(link), await read_frames(link), await follow_log(link, stdout))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def time_start(link: AgentLink) -> float:
    """Seconds that the guest itself needs for one ``true``: fork, exec, end."""
    script = f"i=0; while [ $i -lt {ROUNDS} ]; do /bin/true; i=$((i+1)); done"
    began = time.monotonic()
    async with await link.open_exec(ExecRequest(argv=("sh", "-c", script))) as program:
        await program.result()
    return (time.monotonic() - began) / ROUNDS


async def read_frames(link: AgentLink) -> float:
    count, began = 0, time.monotonic()
    async with await link.open_exec(ExecRequest(argv=("head", "-c", str(FRAMES_BYTES), "/dev/zero"))) as program:
        async for _, content in program:
            count += len(content)
    assert count == FRAMES_BYTES, count
    return count / (time.monotonic() - began)


async def follow_log(link: AgentLink, stdout: str) -> float:
    """Bytes a second of a log that is written without end, as the agent sends it and nobody stores it."""
    count = 0
    writing = ExecRequest(argv=("sh", "-c", f"exec yes {LINE} > {stdout}"))
    async with await link.open_exec(writing), await link.open_logs(after=0, follow=True) as log:
        began = time.monotonic()
        async for records in log:
            count += sum(len(record.data) + 1 for record in records)
            if (taken := time.monotonic() - began) >= RAW_S:
                return count / taken
    raise SystemExit("the log ended")


async def time_rounds(work: Callable[[], Awaitable[None]]) -> list[float]:
    taken = []
    async with asyncio.timeout(120):
        for _ in range(ROUNDS):
            began = time.monotonic()
            await work()
            taken.append(time.monotonic() - began)
    return taken


def measure_log(client: Client, name: str) -> float:
    """Bytes a second that a follower gets of a workload that writes lines of 1 KiB without end."""
    count, began, until = 0, 0.0, float("inf")
    for line in client.vms.logs(name, follow=True):
        now = time.monotonic()
        began, until = began or now, min(until, now + LOG_S)
        count += len(line["text"]) + 1
        if now >= until:
            return count / (now - began)
    raise SystemExit("the log ended")


def measure_port(client: Client, name: str) -> float:
    """Bytes a second through a port of the guest, by the API."""
    began = time.monotonic()
    count = 0
    with client.vms.open_port(name, 9000) as port:
        while content := port.receive():
            count += len(content)
    assert count == PORT_BYTES, count
    return count / (time.monotonic() - began)


def measure_tcp(namespace: str, address: str) -> float:
    """The same by TCP over the bridge, from inside the namespace."""
    netns.pushns(namespace)
    try:
        began = time.monotonic()
        count = 0
        with socket.create_connection((address, 9000), timeout=60) as connection:
            while content := connection.recv(65536):
                count += len(content)
    finally:
        netns.popns()
    assert count == PORT_BYTES, count
    return count / (time.monotonic() - began)


def measure_raw(tsc_khz: int | None) -> float:
    """Bytes a second of virtio-serial alone."""
    native = REPOSITORY / "native" / "kestrel"
    with tempfile.TemporaryDirectory(prefix="volant-bench.") as made:
        directory = Path(made)
        program, port = directory / "flood", directory / "agent"
        sources: list[Path] = [
            Path(__file__).parent / "flood.c",
            *(native / f"{name}.c" for name in ("console", "modules", "port")),
        ]
        flags = ["-std=c11", "-D_GNU_SOURCE", "-Os", "-static", "-s", f"-I{native}"]
        subprocess.run(["musl-gcc", *flags, "-o", str(program), *map(str, sources)], check=True)
        cache = os.environ.get("FLEDGE_CACHE", str(REPOSITORY / "build" / "fledge-cache"))
        recipe = REPOSITORY / "examples" / "initramfs" / "fledge.toml"
        build: list[str | Path] = [BIN / "fledge", "build", "-q", "-c", recipe, "-o", directory, "--cache-dir", cache]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "VOLANT_KESTREL": str(program)})
        process = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-serial", "null"),
                *(
                    "-machine",
                    "microvm,acpi=on,isa-serial=on,auto-kernel-cmdline=off",
                    "-accel",
                    "tcg,thread=multi",
                    "-cpu",
                    "max",
                ),
                *("-m", "128M", "-global", "virtio-mmio.force-legacy=false", "-kernel", str(directory / "vmlinux")),
                *("-initrd", str(directory / "initramfs.cpio"), "-append"),
                f"console=ttyS0 quiet reboot=t panic=-1 no_timer_check tsc_early_khz={tsc_khz}",
                *("-chardev", f"socket,id=c,path={port},server=on,wait=off", "-device", "virtio-serial-device"),
                *("-device", "virtserialport,chardev=c,name=volant.agent"),
            ],
            stdin=subprocess.DEVNULL,
        )
        try:
            return asyncio.run(_read_raw(port))
        finally:
            process.kill()
            process.wait()


async def _read_raw(port: Path) -> float:
    async with asyncio.timeout(60):
        while not port.exists():
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_unix_connection(port)
        await reader.read(65536)
        began, count = time.monotonic(), 0
        while (taken := time.monotonic() - began) < RAW_S:
            count += len(await reader.read(65536))
        writer.close()
    return count / taken


def describe_rate(name: str, bytes_per_s: float) -> str:
    return f"  {name:<38} {bytes_per_s / 1e6:8.2f} MB/s"


def main() -> None:
    print(f"the channel, on {describe_machine()} (emulation)")
    plugin = build_nginx()
    with tempfile.TemporaryDirectory() as cache:
        tsc_khz = asyncio.run(measure_tsc(Path(cache)))
    raw = measure_raw(tsc_khz)
    with daemon("--accelerator", "tcg") as (client, pid, root):
        install(client, plugin)
        vm: Any = client.vms.create({"name": "web", "plugin": "nginx", "start": "cold"}, wait="ready", timeout_s=60)
        with client.vms.exec("web", ("perl", "-e", SERVE)) as serving:
            next(iter(serving))
            port = measure_port(client, "web")
            tcp = measure_tcp(find_namespace(root), vm.status.addresses[0].ip)
        stdout = f"/proc/{vm.status.workload.pid}/fd/1"
        with client.vms.exec("web", ("sh", "-c", f"yes {LINE} > {stdout}")):
            log = measure_log(client, "web")
        execs = time_execs(client, "web")
        os.kill(pid, signal.SIGKILL)
        direct = asyncio.run(talk_directly(root, vm.uid, stdout))
    ping, program = statistics.median(direct.pings), statistics.median(execs)
    print(describe_times("the channel's ping", direct.pings))
    print(describe_times("exec of true, without volantd", direct.execs))
    print(describe_times("exec of true, by the API", execs))
    print(f"  {'true inside the guest, each':<38} {direct.start_s * 1000:8.2f} ms")
    print(judge("exec by the API to ping, p50", program / ping, EXEC_BUDGET, "x"))
    print(judge("exec by the API to ping and true inside", program / (ping + direct.start_s), EXEC_BUDGET, "x"))
    print(describe_rate("virtio-serial, raw", raw))
    print(describe_rate("a program's output, by kestrel's frames", direct.frames_bytes_per_s))
    print(describe_rate("a log of lines of 1 KiB, unstored", direct.log_bytes_per_s))
    by_frames = direct.log_bytes_per_s / direct.frames_bytes_per_s
    print(judge("unstored log to kestrel's frames", by_frames, LOG_BUDGET, "x", at_least=True))
    print(f"  {'unstored log to virtio-serial, raw':<38} {direct.log_bytes_per_s / raw:8.2f}x")
    # volantd takes 1 MiB a second of a guest's log, and 4 MiB at once (docs/decisions/0004-guest-channel.md).
    print(describe_rate("the same, stored and followed", log))
    print(f"  {'stored and followed to what is taken':<38} {log / (BYTES_PER_S + BURST_BYTES / LOG_S):8.2f}x")
    print(describe_rate("TCP to the guest over its bridge", tcp))
    print(describe_rate("a forwarded port, by the API", port))
    print(f"  {'forwarded to TCP':<38} {port / tcp:8.2f}x")


if __name__ == "__main__":
    main()
