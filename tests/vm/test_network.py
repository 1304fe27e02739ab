"""Networks in the host's own namespace, with an uplink; all of it inside namespaces of the test's own."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .daemon import Daemon

UPLINK = "10.201.7.1"
FAR = "10.201.7.2"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def host_with_uplink() -> Iterator[tuple[str, str]]:
    """Two namespaces joined by a cable: one that plays the host, one that plays the world behind it."""
    here, there = (f"volant-test-{secrets.token_hex(4)}" for _ in range(2))
    for name in (here, there):
        ip("netns", "add", name)
    try:
        ip("-n", here, "link", "add", "uplink", "type", "veth", "peer", "name", "far", "netns", there)
        for name, device, address in ((here, "uplink", UPLINK), (there, "far", FAR)):
            ip("-n", name, "address", "add", f"{address}/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", here, "route", "add", "default", "via", FAR)
        yield here, there
    finally:
        for name in (here, there):
            ip("netns", "delete", name)


@pytest.fixture
def far_server(host_with_uplink: tuple[str, str], tmp_path: Path) -> Iterator[int]:
    """A web server in the world, which knows no way back to guests."""
    (tmp_path / "word").write_text("from the far side\n")
    server = subprocess.Popen(
        [
            *("ip", "netns", "exec", host_with_uplink[1], sys.executable, "-u", "-m", "http.server"),
            *("--bind", FAR, "--directory", str(tmp_path), "8000"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert server.stdout is not None and server.stdout.readline()
    yield 8000
    server.terminate()
    server.wait(timeout=10)
    server.stdout.close()


def test_guests_reach_the_world_through_the_host_and_the_world_not_them(
    host_with_uplink: tuple[str, str], far_server: int, make_daemon: Callable[..., Daemon], nginx: Path
) -> None:
    here, there = host_with_uplink
    daemon = make_daemon(inside=here)
    daemon.start()
    daemon.volar("plugins", "install", str(nginx))
    daemon.volar("vms", "create", "web", "--plugin", "nginx")
    vm = daemon.vm("web")
    assert b"It works" in daemon.fetch(vm), "the host reaches its guest"

    ask = f"exec 3<>/dev/tcp/{FAR}/{far_server}; printf 'GET /word HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    answer = daemon.volar("vms", "exec", "web", "--", "bash", "-c", ask).stdout
    assert answer.endswith(b"from the far side\n"), "translated on the way out"

    address = vm["status"]["addresses"][0]["ip"]
    ip("-n", there, "route", "add", f"{address}/32", "via", UPLINK)
    knock = ["ip", "netns", "exec", there, "curl", "-s", "-m", "2", f"http://{address}/"]
    assert subprocess.run(knock, capture_output=True).returncode == 28, "unasked, nothing comes in"

    knock_host = f"exec 3<>/dev/tcp/{vm['status']['addresses'][0]['gateway']}/22"
    refused = daemon.volar("vms", "exec", "web", "--", "timeout", "2", "bash", "-c", knock_host, check=False)
    assert refused.returncode == 124, "the host's own ports are not for guests"


def test_a_namespace_that_stayed_is_made_anew(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    daemon.start()
    daemon.kill()
    ip("-n", daemon.namespace, "address", "add", "10.201.8.1/32", "dev", "lo")
    daemon.start()
    shown = subprocess.run(["ip", "-n", daemon.namespace, "-br", "address"], capture_output=True, text=True, check=True)
    assert "lo" in shown.stdout and "10.201.8.1" not in shown.stdout
    assert daemon.stop() == 0
    assert not (Path("/run/netns") / daemon.namespace).exists()
    daemon.start()


def test_a_namespace_that_somebody_wired_is_used_and_left(
    host_with_uplink: tuple[str, str], make_daemon: Callable[..., Daemon]
) -> None:
    here, _ = host_with_uplink
    daemon = make_daemon(wired=here)
    daemon.start()
    assert daemon.stop() == 0
    shown = subprocess.run(["ip", "-n", here, "-br", "address"], capture_output=True, text=True, check=True)
    assert UPLINK in shown.stdout, "the cable is as it was"
    daemon.start()


def test_a_second_volantd_on_the_same_data_says_so(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    daemon.start()
    done = subprocess.run(
        [*daemon.command(), "--listen", f"unix:{daemon.root}/run/other.sock"], capture_output=True, timeout=60, env=os.environ
    )
    assert done.returncode == 1
    assert b"another volantd uses" in done.stderr and b"Traceback" not in done.stderr
