"""Guests without a network card, guests that ask for their address, guests with two cards: real ones, several at a time."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .daemon import Daemon
from .test_network import ip

VSOCK = ("red", "green", "blue")
PORTS = {name: 8100 + number for number, name in enumerate(VSOCK)}


def create(daemon: Daemon, name: str, *flags: str) -> Any:
    daemon.volar("vms", "create", name, "--plugin", "nginx", *flags)
    return daemon.vm(name)


def condition(vm: Any, kind: str) -> Any:
    return next(each for each in vm["status"]["conditions"] if each["type"] == kind)


def is_connected(vm: Any) -> bool:
    return bool(condition(vm, "NetworkReady")["status"] == "True")


def published(daemon: Daemon, port: int, *, timeout_s: float = 30) -> bytes:
    done = daemon.curl(f"http://127.0.0.1:{port}/", timeout_s=timeout_s)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_guests_without_a_network_card(daemon: Daemon) -> None:
    for name in VSOCK:
        vm = create(daemon, name, "--network-mode", "vsock", "--publish", f"{PORTS[name]}:80")
        assert vm["status"]["addresses"] == []
        assert condition(vm, "NetworkReady")["reason"] == "NoCard"
    assert daemon.vm("blue")["status"]["start"]["kind"] == "template", "they are cloned as others are"
    taps = subprocess.run(["ip", "-n", daemon.namespace, "-br", "link"], capture_output=True, text=True, check=True).stdout
    assert "vt-" not in taps
    for name in VSOCK:
        cards = daemon.volar("vms", "exec", name, "--", "ls", "/sys/class/net").stdout.split()
        assert cards == [b"lo"]
        assert daemon.volar("vms", "exec", name, "--", "hostname").stdout.strip() == name.encode()
        assert b"It works" in published(daemon, PORTS[name])
    assert b"GET / " in daemon.volar("vms", "logs", "red").stdout

    daemon.volar("vms", "suspend", "red")
    assert daemon.vm("red")["status"]["phase"] == "Suspended"
    assert b"It works" in published(daemon, PORTS["red"]), "who connects wakes it, and is answered"
    assert daemon.vm("red")["status"]["start"]["kind"] == "resume"

    pid = daemon.vm("green")["status"]["pid"]
    daemon.kill()
    daemon.start()
    daemon.wait_vm("green", lambda vm: vm["status"]["ready"])
    assert daemon.vm("green")["status"]["pid"] == pid
    assert b"It works" in published(daemon, PORTS["green"])

    daemon.volar("vms", "fork", "blue", "--as", "sky")
    daemon.wait_vm("sky", lambda vm: vm["status"]["ready"])
    assert daemon.volar("vms", "exec", "sky", "--", "hostname").stdout.strip() == b"sky"
    assert daemon.vm("sky")["status"]["addresses"] == []


def test_a_large_answer_passes_through_the_channel_whole(daemon: Daemon) -> None:
    create(daemon, "red", "--network-mode", "vsock", "--publish", "8100:80")
    daemon.volar("vms", "exec", "red", "--", "sh", "-c", "head -c 8000000 /dev/urandom > /var/www/html/large")
    wanted = daemon.volar("vms", "exec", "red", "--", "sha256sum", "/var/www/html/large").stdout.split()[0]
    fetch = "curl -sS -m 60 http://127.0.0.1:8100/large | sha256sum"
    found = subprocess.run(["ip", "netns", "exec", daemon.namespace, "sh", "-c", fetch], capture_output=True, check=True)
    assert found.stdout.split()[0] == wanted


def test_guests_that_ask_for_their_address(daemon: Daemon) -> None:
    for name in ("one", "two", "three"):
        create(daemon, name, "--network-mode", "dhcp")
    vms = [daemon.wait_vm(name, is_connected) for name in ("one", "two", "three")]
    addresses = [vm["status"]["addresses"][0] for vm in vms]
    assert len({each["ip"] for each in addresses}) == 3
    assert {each["source"] for each in addresses} == {"dhcp"}
    for vm in vms:
        assert b"It works" in daemon.fetch(vm)
        shown = daemon.volar("vms", "exec", vm["name"], "--", "cat", "/proc/net/fib_trie").stdout.decode()
        assert vm["status"]["addresses"][0]["ip"] in shown, "it has what it was given"

    one = vms[0]["status"]["addresses"][0]["ip"]
    daemon.kill()
    daemon.start()
    daemon.wait_vm("one", lambda vm: vm["status"]["ready"] and is_connected(vm))
    assert b"It works" in daemon.fetch(vms[0])
    daemon.volar("vms", "suspend", "two")
    daemon.volar("vms", "resume", "two")
    assert b"It works" in daemon.fetch(daemon.wait_vm("two", is_connected))
    daemon.volar("vms", "restart", "one")
    again = daemon.wait_vm("one", is_connected)
    assert again["status"]["addresses"][0]["ip"] == one, "it stays the VM's over a restart"
    assert b"It works" in daemon.fetch(again)

    servers = list_dhcp_servers(daemon)
    assert len(servers) == 1
    daemon.volar("vms", "delete", "one", "two", "three")
    create(daemon, "plain")
    deadline = time.monotonic() + 30
    while list_dhcp_servers(daemon):  # what is left over of a network is taken away for several VMs together
        assert time.monotonic() < deadline, "nobody asks any more"
        time.sleep(0.2)


def list_dhcp_servers(daemon: Daemon) -> list[str]:
    pids = subprocess.run(["ip", "netns", "pids", daemon.namespace], capture_output=True, text=True, check=True).stdout.split()
    return [pid for pid in pids if "dnsmasq" in Path(f"/proc/{pid}/cmdline").read_text()]


@pytest.fixture
def lan(daemon: Daemon, tmp_path: Path) -> Iterator[str]:
    """A bridge of somebody else's in the daemon's namespace, with a DHCP server and the rest of the world behind a cable."""
    far = f"volant-test-{secrets.token_hex(4)}"
    ip("netns", "add", far)
    server: subprocess.Popen[bytes] | None = None
    try:
        here = daemon.namespace
        ip("-n", here, "link", "add", "br9", "type", "bridge")
        ip("-n", here, "link", "set", "br9", "up")
        ip("-n", here, "link", "add", "cable", "type", "veth", "peer", "name", "far", "netns", far)
        ip("-n", here, "link", "set", "cable", "master", "br9", "up")
        ip("-n", far, "address", "add", "10.77.0.1/24", "dev", "far")
        ip("-n", far, "link", "set", "far", "up")
        ip("-n", far, "link", "set", "lo", "up")
        server = subprocess.Popen(
            [
                *(
                    "ip",
                    "netns",
                    "exec",
                    far,
                    "dnsmasq",
                    "--keep-in-foreground",
                    "--conf-file=/dev/null",
                    "--pid-file=",
                    "--port=0",
                ),
                *("--no-hosts", "--no-resolv", "--bind-interfaces", "--interface=far", "--leasefile-ro", "--no-ping"),
                *("--user=nobody", "--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,10m"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        yield far
    finally:
        if server is not None:
            server.terminate()
            server.wait(timeout=10)
        ip("netns", "delete", far)
        subprocess.run(["ip", "-n", daemon.namespace, "link", "delete", "br9"], capture_output=True)


def test_guests_on_a_bridge_of_somebody_elses(daemon: Daemon, lan: str) -> None:
    daemon.volar("networks", "create", "lan", "--bridge", "br9", "--dhcp", "external", "--subnet", "10.77.0.0/24")
    refused = daemon.volar(
        "vms", "create", "no", "--plugin", "nginx", "--network", "lan", "--network-mode", "bridged", check=False
    )
    assert refused.returncode == 2 and b"somebody else's DHCP server" in refused.stderr
    for name in ("one", "two"):
        create(daemon, name, "--network", "lan", *(["--publish", "8200:80"] if name == "one" else []))
    vms = [daemon.wait_vm(name, is_connected) for name in ("one", "two")]
    addresses = [vm["status"]["addresses"][0] for vm in vms]
    assert all(each["ip"].startswith("10.77.0.5") or each["ip"] == "10.77.0.60" for each in addresses), addresses
    assert len({each["ip"] for each in addresses}) == 2
    for each in addresses:
        fetched = subprocess.run(
            ["ip", "netns", "exec", lan, "curl", "-sS", "-m", "10", f"http://{each['ip']}/"], capture_output=True, check=True
        )
        assert b"It works" in fetched.stdout
    assert b"It works" in published(daemon, 8200), "through the channel: this host has no address there"
    lie = "ip address add 10.77.0.99/24 dev eth0 2>/dev/null; exec 3<>/dev/tcp/10.77.0.1/9"
    assert daemon.volar("vms", "exec", "one", "--", "bash", "-c", lie, check=False).returncode != 0
    used = daemon.volar("networks", "delete", "lan", check=False)
    assert used.returncode == 4 and b"is used by the VM" in used.stderr
    daemon.volar("vms", "delete", "one", "two")
    daemon.volar("networks", "delete", "lan")
    assert [each["name"] for each in daemon.json("networks", "list")["items"]] == ["default"]


def test_two_cards(daemon: Daemon) -> None:
    daemon.volar("networks", "create", "back", "--subnet", "10.20.0.0/24")
    for name in ("one", "two"):
        create(daemon, name, "--extra-network", "back")
    one, two = daemon.vm("one"), daemon.vm("two")
    assert [each["network"] for each in one["status"]["addresses"]] == ["default", "back"]
    cards = daemon.volar("vms", "exec", "one", "--", "ls", "/sys/class/net").stdout.split()
    assert sorted(cards) == [b"eth0", b"eth1", b"lo"]
    behind = two["status"]["addresses"][1]["ip"]
    ask = f"exec 3<>/dev/tcp/{behind}/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    assert b"It works" in daemon.volar("vms", "exec", "one", "--", "bash", "-c", ask).stdout
    assert b"It works" in daemon.fetch(one), "its first card leads to the host as ever"
    assert json.loads(daemon.volar("networks", "show", "back", "--json").stdout)["status"]["phase"] == "Ready"
    daemon.volar("vms", "delete", "one", "two")
    daemon.volar("networks", "delete", "back")
