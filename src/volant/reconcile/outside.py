"""What the host does itself for a guest without an agent: gives it its address, and asks whether its workload answers."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
from urllib.parse import quote

from volant.core.errors import HostError
from volant.core.manifest import Manifest, split_base_url
from volant.core.probe import HttpRequest, Probe
from volant.core.readiness import readiness_probe
from volant.core.vm import VM
from volant.net.fabric import Fabric
from volant.node.run import HostHealth

AGAIN_WHILE_STARTING_S = 0.25
TIMEOUT_MAX_S = 5.0
"""A stop or a delete waits for a question that is under way."""

STATUS_LINE_MAX_BYTES = 4096
_IN_PATHS = "/?&=%:@+$,;~!*'()"
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")


async def ask_workload(fabric: Fabric, vm: VM, manifest: Manifest, found: HostHealth | None, now: float) -> HostHealth | None:
    """What is known of the health of ``vm``: ``found``, or what it says when it is due to be asked again. ``now`` is monotonic.

    None when there is nothing to ask: no health check, or no address to ask at.
    """
    check = readiness_probe(manifest)
    address = next((address.ip for address in vm.status.addresses if address.ip), "")
    if check is None or not address:
        return None
    if found is not None and now < found.due_at:
        return found
    timeout_s = min(check.timeout_ms / 1000, TIMEOUT_MAX_S)
    if found is None:
        # A volantd that begins anew trusts the word of the one before, as far as a single failure goes.
        found = HostHealth("healthy" if vm.status.ready else "unknown")
    return judge_answer(found, await _ask(fabric, address, _port_of(manifest, check), check.http, timeout_s), check, now)


def _port_of(manifest: Manifest, check: Probe) -> int:
    asked = check.tcp or check.http
    assert asked is not None  # check_manifest: nobody in such a guest could run a program
    return split_base_url(manifest.workload.base_url)[1] if asked.port is None else asked.port


def judge_answer(before: HostHealth, fault: str, check: Probe, now: float) -> HostHealth:
    """``fault`` says what is wrong with the answer, and is empty for a good one. One that was healthy may fail to answer as often
    as its check allows; one that never was is asked more often, and is not called unhealthy yet."""
    if not fault:
        return HostHealth("healthy", "", 0, now + check.interval_ms / 1000)
    failures = before.failures + 1
    if before.state == "unknown":
        return HostHealth("unknown", fault, failures, now + AGAIN_WHILE_STARTING_S)
    is_unwell = before.state == "unhealthy" or failures >= check.failure_threshold
    return HostHealth("unhealthy" if is_unwell else "healthy", fault, failures, now + check.interval_ms / 1000)


async def _ask(fabric: Fabric, address: str, port: int, http: HttpRequest | None, timeout_s: float) -> str:
    """What is wrong, or nothing. Without ``http`` a connection is enough."""
    loop = asyncio.get_running_loop()
    headers = f"Host: {address}:{port}\r\nUser-Agent: volant\r\nConnection: close\r\n"
    request = "" if http is None else f"{http.method} {quote(http.path, _IN_PATHS)} HTTP/1.1\r\n{headers}\r\n"
    try:
        async with asyncio.timeout(timeout_s):
            connection = await fabric.open_connection_socket()
            try:
                await loop.sock_connect(connection, (address, port))
                if http is None:
                    return ""
                await loop.sock_sendall(connection, request.encode())
                answer = b""
                while b"\n" not in answer and len(answer) < STATUS_LINE_MAX_BYTES:
                    chunk = await loop.sock_recv(connection, STATUS_LINE_MAX_BYTES)
                    if not chunk:
                        break
                    answer += chunk
            finally:
                connection.close()
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
    except HostError as error:
        return str(error)
    return _judge_status(answer)


def _judge_status(answer: bytes) -> str:
    found = _STATUS_LINE.match(answer)
    if found is None:
        return "the answer is not HTTP"
    return "" if 200 <= int(found[1]) < 400 else f"HTTP status {int(found[1])}"


def describe_address(vm: VM, nameservers: tuple[str, ...]) -> list[str]:
    """The kernel's ``ip=`` word (Documentation/admin-guide/nfs/nfsroot.rst) for a guest that nobody else can tell its address.

    A kernel without IP_PNP passes it on to the first program, in its environment.
    """
    words = []
    for address in vm.status.addresses[:1]:
        if address.ip and address.source == "static":
            mask = ipaddress.ip_network(f"0.0.0.0/{address.prefix_length}").netmask
            words.append(f"ip={address.ip}::{address.gateway}:{mask}:{vm.name}:eth0:off:{':'.join(nameservers[:2])}".rstrip(":"))
    return words
