"""kestrel's DHCP client on a real interface: dnsmasq, and a server of the test's own that keeps to nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

LEASE_TEST = Path(__file__).parents[3] / "build" / "native" / "x86_64" / "lease-test"
MAC = "02:00:00:00:00:07"
_MISSING = [program for program in ("ip", "dnsmasq") if shutil.which(program) is None]

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes a network namespace"),
    pytest.mark.skipif(not LEASE_TEST.exists(), reason="lease-test is not built: make -C native test-agent"),
    pytest.mark.skipif(bool(_MISSING), reason=f"not installed: {', '.join(_MISSING)}"),
]


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=10).stdout


class Wire:
    """Two namespaces and the cable between them: ``gw0`` in one for a server, ``eth0`` in the other for the client."""

    def __init__(self) -> None:
        tag = secrets.token_hex(3)
        self.server, self.client = f"volant-dhcps-{tag}", f"volant-dhcpc-{tag}"
        ip("netns", "add", self.server)
        ip("netns", "add", self.client)
        ip("-n", self.server, "link", "add", "gw0", "type", "veth", "peer", "name", "eth0", "netns", self.client)
        ip("-n", self.client, "link", "set", "eth0", "address", MAC)
        ip("-n", self.server, "addr", "add", "10.77.0.1/24", "dev", "gw0")
        ip("-n", self.client, "link", "set", "eth0", "up")
        ip("-n", self.server, "link", "set", "gw0", "up")

    def close(self) -> None:
        ip("netns", "del", self.server)
        ip("netns", "del", self.client)

    def addresses(self) -> list[str]:
        links = json.loads(ip("-j", "-n", self.client, "-4", "addr", "show", "dev", "eth0"))
        return [f"{info['local']}/{info['prefixlen']}" for link in links for info in link.get("addr_info", [])]

    def routes(self) -> dict[str, str]:
        found = json.loads(ip("-j", "-n", self.client, "-4", "route", "show"))
        return {route["dst"]: route["gateway"] for route in found if "gateway" in route}


class Client:
    """lease-test, whose every line is what its network notice would say of eth0."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            while line := await self._process.stdout.readline():
                (found,) = json.loads(line)["interfaces"]
                if holds(found):
                    return dict(found)
        raise AssertionError("the client ended")

    async def hurry(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        await self._process.stdin.drain()


@pytest.fixture
def wire() -> Any:
    made = Wire()
    yield made
    made.close()


@contextlib.asynccontextmanager
async def running(*argv: str | Path, **how: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*argv, **how)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 10)


@contextlib.asynccontextmanager
async def client_on(wire: Wire) -> AsyncIterator[Client]:
    argv = ("ip", "netns", "exec", wire.client, LEASE_TEST, "eth0", MAC, "web")
    async with running(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        yield Client(process)


@contextlib.asynccontextmanager
async def dnsmasq_on(wire: Wire, directory: Path, *options: str) -> AsyncIterator[Path]:
    leases = directory / "leases"
    argv = ("ip", "netns", "exec", wire.server, "dnsmasq", "-k", "--conf-file=/dev/null", "--port=0", "--interface=gw0",
            "--bind-interfaces", "--user=root", f"--dhcp-leasefile={leases}", "--pid-file=", *options)  # fmt: skip
    async with running(*argv, stderr=subprocess.DEVNULL):
        yield leases


async def test_an_address_is_had_from_dnsmasq_and_kept(wire: Wire, tmp_path: Path) -> None:
    options = ("--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2m", "--dhcp-option=option:dns-server,10.77.0.53",
               "--dhcp-option=option:classless-static-route,0.0.0.0/0,10.77.0.1,192.168.9.0/24,10.77.0.2")  # fmt: skip
    async with client_on(wire) as client:
        nothing = await client.until(lambda found: True)
        assert (nothing["address"], nothing["source"], nothing["mac"]) == ("", "dhcp", MAC)
        async with dnsmasq_on(wire, tmp_path, *options) as leases:
            found = await client.until(lambda found: found["address"] != "")
            assert found["address"].startswith("10.77.0.") and found["address"].endswith("/24")
            assert (found["gateway"], found["nameservers"], found["lease_s"]) == ("10.77.0.1", ["10.77.0.53"], 120)
            assert wire.addresses() == [found["address"]]
            assert wire.routes() == {"default": "10.77.0.1", "192.168.9.0/24": "10.77.0.2"}
            assert " web " in leases.read_text(), "it says its name"


class Server:
    """Answers as it is told to."""

    def __init__(self, wire: Wire) -> None:
        self.asked: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self.answers = True
        self.lease_s = 2
        self.nak = False
        self.address = "10.77.0.99"
        self._wire = wire

    def listen(self) -> None:
        here = os.open("/proc/self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self._wire.server}", os.O_RDONLY)
        try:
            _setns(there)
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        finally:
            _setns(here)
            os.close(here)
            os.close(there)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"gw0")
        self._socket.bind(("0.0.0.0", 67))
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._on_packet)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _on_packet(self) -> None:
        packet = self._socket.recv(2048)
        kind = packet[242]
        self.asked.put_nowait((kind, packet))
        if self.answers:
            self._socket.sendto(self.answer(packet, 6 if self.nak and kind == 3 else {1: 2, 3: 5}[kind]), ("255.255.255.255", 68))

    def answer(self, packet: bytes, kind: int) -> bytes:
        head = bytearray(240)
        head[0:3] = b"\x02\x01\x06"
        head[4:8] = packet[4:8]
        head[28:34] = packet[28:34]
        head[236:240] = b"\x63\x82\x53\x63"
        options = bytes([53, 1, kind, 54, 4, 10, 77, 0, 1])
        if kind != 6:
            head[16:20] = socket.inet_aton(self.address)
            options += bytes([1, 4, 255, 255, 255, 0, 3, 4, 10, 77, 0, 1, 51, 4]) + struct.pack("!I", self.lease_s)
        return bytes(head) + options + b"\xff"


def _setns(descriptor: int) -> None:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@pytest.fixture
async def server(wire: Wire) -> AsyncIterator[Server]:
    made = Server(wire)
    made.listen()
    yield made
    made.close()


async def next_of(server: Server, kind: int) -> bytes:
    async with asyncio.timeout(30):
        while True:
            found, packet = await server.asked.get()
            if found == kind:
                return packet


async def test_a_lease_is_renewed_and_lost_when_nobody_answers(wire: Wire, server: Server) -> None:
    server.lease_s = 4
    async with client_on(wire) as client:
        await client.until(lambda found: found["address"] == "10.77.0.99/24")
        await next_of(server, 3)
        renewing = await next_of(server, 3)
        assert renewing[12:16] == socket.inet_aton("10.77.0.99"), "it says what it has"
        server.answers = False
        await client.until(lambda found: found["address"] == "")
        assert wire.addresses() == [] and wire.routes() == {}
        server.answers = True
        server.address = "10.77.0.98"
        await client.until(lambda found: found["address"] == "10.77.0.98/24")
        assert wire.addresses() == ["10.77.0.98/24"]


async def test_another_address_at_renewal_takes_the_place_of_the_first(wire: Wire, server: Server) -> None:
    server.lease_s = 3600
    async with client_on(wire) as client:
        await client.until(lambda found: found["address"] == "10.77.0.99/24")
        server.address = "10.77.0.97"
        await client.hurry()
        await client.until(lambda found: found["address"] == "10.77.0.97/24")
        assert wire.addresses() == ["10.77.0.97/24"]
        assert wire.routes() == {"default": "10.77.0.1"}


async def test_a_refusal_takes_the_address_and_it_asks_anew(wire: Wire, server: Server) -> None:
    server.lease_s = 3600
    async with client_on(wire) as client:
        await client.until(lambda found: found["address"] != "")
        server.nak = True
        await client.hurry()
        await client.until(lambda found: found["address"] == "")
        assert wire.addresses() == []
        server.nak = False
        await client.until(lambda found: found["address"] != "")


async def test_an_address_that_no_interface_can_have_is_not_taken(wire: Wire, server: Server) -> None:
    server.address = "127.0.0.1"
    async with client_on(wire) as client:
        await next_of(server, 1)
        await next_of(server, 1)
        assert wire.addresses() == []
        server.address = "10.77.0.99"
        await client.until(lambda found: found["address"] == "10.77.0.99/24")
