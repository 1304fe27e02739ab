"""Addresses for guests that ask for them: one dnsmasq(8) for all networks of ours, which gives each card the address that was
chosen for it and answers nobody else.

It holds no state: who may have what is told by us, and a lease that it never gave is confirmed to whoever comes with the right
one (authoritative), so that it may be ended and begun anew at any time. Leases last a day: guests keep theirs while nobody is
here.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

import msgspec
import structlog

from volant.core.errors import HostError
from volant.net.namespace import NAMESPACES
from volant.net.plan import NetworkPlan
from volant.run import spawn

log = structlog.get_logger()

PROGRAM = "/usr/sbin/dnsmasq"
USER, GROUP = "nobody", "nogroup"
LEASE = "24h"
END_TIMEOUT_S = 5.0
AGAIN_S = 1.0
"""After it ended by itself."""


class Lease(msgspec.Struct, frozen=True, order=True):
    """The address that the card ``mac`` is to be given."""

    ip: str
    mac: str


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """A network, and whom its questions are answered."""

    plan: NetworkPlan
    leases: tuple[Lease, ...]


def build_dhcp_command(
    plans: Sequence[NetworkPlan], nameservers: Sequence[str], namespace: str | None, leases: Path
) -> list[str]:
    """The words to execute. ``leases`` is read while it is still root: its user may not walk to where that lies, so that it
    begins anew with every change."""
    enter = [] if namespace is None else ["nsenter", f"--net={NAMESPACES / namespace}"]
    words = [
        *enter, PROGRAM,
        "--keep-in-foreground", f"--conf-file={leases}", "--pid-file=", "--log-facility=-", "--quiet-dhcp",
        f"--user={USER}", f"--group={GROUP}",
        "--port=0", "--no-hosts", "--no-resolv", "--no-poll",
        "--bind-interfaces", "--except-interface=lo",
        "--leasefile-ro", "--dhcp-authoritative", "--no-ping",
        "--dhcp-ignore=tag:!known",
    ]  # fmt: skip
    for plan in plans:
        words += [
            f"--interface={plan.bridge}",
            f"--dhcp-range=set:{plan.bridge},{plan.subnet.network_address},static,{plan.subnet.netmask},{LEASE}",
            f"--dhcp-option=tag:{plan.bridge},option:router,{plan.gateway}",
            f"--dhcp-option=tag:{plan.bridge},option:mtu,{plan.mtu}",
        ]
    # Without a word it would name itself, and it knows no names. What cannot be an address of a server is left out.
    servers = [text for text in nameservers if _is_ipv4(text)]
    words.append(f"--dhcp-option=option:dns-server{''.join(',' + server for server in servers)}")
    return words


def write_leases(served: Sequence[Served]) -> str:
    """The lines of its configuration that say who is given what."""
    return "".join(f"dhcp-host={lease.mac},{lease.ip},{LEASE}\n" for each in served for lease in sorted(each.leases))


class DhcpServer:
    """Runs while somebody is to be served. ``directory`` is volantd's own; its files tell the next volantd what runs."""

    def __init__(self, directory: Path, namespace: str | None, nameservers: Sequence[str]) -> None:
        self._directory = directory
        self._namespace = namespace
        self._nameservers = tuple(nameservers)
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._served: tuple[Served, ...] = ()
        self._changing = asyncio.Lock()
        self._again: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def serve(self, served: Sequence[Served]) -> None:
        """Answer exactly these; none ends it. Repeatable. Raises HostError when it does not start."""
        async with self._changing:
            wanted = tuple(sorted((each for each in served if each.leases), key=lambda each: each.plan.bridge))
            if self._process is None:
                end_earlier(self._directory)
            await self._change(wanted)

    async def close(self) -> None:
        """End it. Those that it has served keep their addresses until their leases end."""
        async with self._changing:
            self._served = ()
            if self._again is not None:
                self._again.cancel()
                self._again = None
            await self._end()

    async def _change(self, wanted: tuple[Served, ...]) -> None:
        before, self._served = self._served, wanted
        if not wanted:
            await self._end()
            return
        if not os.access(PROGRAM, os.X_OK):
            raise HostError(f"there is no {PROGRAM} to give guests their addresses", hint="apt-get install dnsmasq-base")
        if self._process is not None and wanted == before:
            return
        await self._end()
        self._start(build_dhcp_command([each.plan for each in wanted], self._nameservers, self._namespace, self._leases), wanted)

    def _start(self, command: list[str], wanted: tuple[Served, ...]) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._leases.write_text(write_leases(wanted))
            with self._log.open("wb") as said:
                self._process = spawn(command, stderr=said.fileno())
        except OSError as error:
            raise HostError(f"dnsmasq cannot be started: {error.strerror}") from error
        self._record.write_text(f"{self._process.pid} {_read_start_time(self._process.pid)}\n")
        self._pidfd = os.pidfd_open(self._process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_end)
        log.info("dhcp_started", pid=self._process.pid, networks=len(wanted))

    def _on_end(self) -> None:
        """It ended, and nobody asked it to."""
        said = self._log.read_bytes()[-500:].decode(errors="replace").strip().rpartition("\n")[2] if self._log.exists() else ""
        log.warning("dhcp_ended", said=said)
        self._forget()
        self._again = asyncio.get_running_loop().create_task(self._start_again())

    async def _start_again(self) -> None:
        await asyncio.sleep(AGAIN_S)
        async with self._changing:
            try:
                if self._process is None:
                    await self._change(self._served)
            except HostError as error:
                log.warning("dhcp_not_started", error=str(error))

    def _forget(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._process is not None:
            self._process.poll()
            self._process = None
        self._record.unlink(missing_ok=True)

    async def _end(self) -> None:
        process = self._process
        if process is None:
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._pidfd, ended.set)
        process.terminate()
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                await ended.wait()
        except TimeoutError:
            process.kill()
            async with asyncio.timeout(END_TIMEOUT_S):
                await ended.wait()
        self._forget()

    @property
    def _leases(self) -> Path:
        return self._directory / "leases.conf"

    @property
    def _log(self) -> Path:
        return self._directory / "dnsmasq.log"

    @property
    def _record(self) -> Path:
        return self._directory / "dnsmasq.pid"


def end_earlier(directory: Path) -> None:
    """End the one that a killed volantd left running, if it is still that one."""
    record = directory / "dnsmasq.pid"
    try:
        pid, _, started = record.read_text().strip().partition(" ")
        descriptor = os.pidfd_open(int(pid))
    except (OSError, ValueError):
        record.unlink(missing_ok=True)
        return
    try:
        if _read_start_time(int(pid)) == started:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [], END_TIMEOUT_S)
            log.info("dhcp_replaced", pid=int(pid))
    finally:
        os.close(descriptor)
        record.unlink(missing_ok=True)


def _read_start_time(pid: int) -> str:
    """In ticks since the host's boot (proc(5), field 22); empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_ipv4(text: str) -> bool:
    try:
        return not IPv4Address(text).is_loopback
    except ValueError:
        return False
