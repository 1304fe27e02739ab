"""Clones of a template: quick, different in everything that tells machines apart, on one memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from volant.client.client import Client
from volant.core.resource import to_wire

from .daemon import Daemon

CLONES = 20
CLOCK_MARGIN_S = 2.0

WHO = r"""
random() { head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n'; echo; }
random
cat /srv/first /etc/machine-id /proc/sys/kernel/random/boot_id /proc/sys/kernel/hostname /etc/hostname
cat /sys/class/net/e*/address
date +%s.%N
"""
WORKLOAD = "head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n' >/srv/first; echo >>/srv/first; exec nginx -g 'daemon off;'"
"""Keeps the first random bytes that a workload is given."""


def create_at_once(daemon: Daemon, names: list[str], plugin: str) -> list[Any]:
    """The VMs as they were when each was ready."""

    def create(name: str) -> Any:
        return to_wire(Client(daemon.api).vms.create({"name": name, "plugin": plugin}, wait="ready", timeout_s=180))

    with ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(create, names))


def test_twenty_clones_at_once_are_twenty_machines(daemon: Daemon, install: Callable[..., None]) -> None:
    install("web", ["/bin/sh", "-c", WORKLOAD], health={"endpoint": "/"})
    daemon.volar("templates", "build", "web")
    names = [f"web-{number}" for number in range(CLONES)]
    vms = create_at_once(daemon, names, "web")
    (template,) = daemon.json("templates", "list")["items"]
    seen: dict[str, set[str]] = {}
    for vm in vms:
        assert vm["status"]["ready"], vm["status"]
        assert (vm["status"]["start"]["kind"], vm["status"]["template"]) == ("template", template["key"])
        before = time.time()
        told = daemon.volar("vms", "exec", vm["name"], "--", "sh", "-c", WHO).stdout.decode().split()
        after = time.time()
        random, first, machine_id, boot_id, hostname, kept_hostname, mac, clock = told
        assert before - CLOCK_MARGIN_S <= float(clock) <= after + CLOCK_MARGIN_S, "its clock is the host's"
        assert (hostname, kept_hostname) == (vm["name"], vm["name"])
        assert (len(random), len(first), len(machine_id)) == (64, 64, 32)
        (address,) = vm["status"]["addresses"]
        assert mac == address["mac"]
        own = {"random": random, "first": first, "machine id": machine_id, "boot id": boot_id, "mac": mac, "ip": address["ip"]}
        for what, value in own.items():
            seen.setdefault(what, set()).add(value)
        assert daemon.fetch(vm, "/hostname").decode().strip() == vm["name"]
    assert {what: len(values) for what, values in seen.items()} == dict.fromkeys(seen, CLONES)
    assert not seen["random"] & seen["first"]

    (template,) = daemon.json("templates", "list")["items"]
    assert (template["users"], template["loaded"]) == (CLONES, True)
    told = daemon.volar("vms", "get", "web-0").stdout.decode()
    assert f"Template:    {template['key'][:12]}\n" in told and "Steps:       prepare " in told
    # The kernel's own account: what a clone has not written to is the template's.
    stats = daemon.json("vms", "stats", "web-0")
    assert stats["memory_shared_bytes"] > stats["memory_private_bytes"] > 0
    whole = Path(f"/proc/{daemon.vm('web-0')['status']['pid']}/maps").read_text()
    assert f"volant-base-{template['key']}" in whole


def test_a_damaged_template_is_a_cold_start_that_says_why(daemon: Daemon) -> None:
    daemon.volar("templates", "build", "nginx")
    (template,) = daemon.json("templates", "list")["items"]
    daemon.kill()
    memory = daemon.data / "templates" / template["key"] / "memory"
    with memory.open("r+b") as stream:
        stream.seek(template["size_bytes"] // 2)
        (byte,) = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte ^ 0x10]))
    daemon.start()
    daemon.volar("vms", "create", "web", "--plugin", "nginx")
    start = daemon.vm("web")["status"]["start"]
    assert start["kind"] == "cold" and "damaged" in start["reason"]
    (started,) = [event for event in daemon.events("web") if event["reason"] == "Started"]
    assert "damaged" in started["message"]
    assert "Why cold:" in daemon.volar("vms", "get", "web").stdout.decode()
    assert b"nginx" in daemon.fetch(daemon.vm("web"))

    daemon.volar("vms", "create", "next", "--plugin", "nginx", "--start", "template")
    after = daemon.vm("next")["status"]
    assert (after["start"]["kind"], after["template"]) == ("template", template["key"]), "the cold start left a whole one"


def test_each_shape_has_its_template_which_stays_while_it_is_used(daemon: Daemon) -> None:
    daemon.volar("vms", "create", "small", "--plugin", "nginx", "--start", "template")
    daemon.volar("vms", "create", "large", "--plugin", "nginx", "--start", "template", "--memory", "192")
    daemon.volar("vms", "create", "fresh", "--plugin", "nginx", "--start", "cold")
    kinds = {name: daemon.vm(name)["status"]["start"]["kind"] for name in ("small", "large", "fresh")}
    assert kinds == {"small": "template", "large": "template", "fresh": "cold"}
    keys = {name: daemon.vm(name)["status"]["template"] for name in kinds}
    assert keys["fresh"] == "" and keys["small"] != keys["large"]
    found = {template["key"]: template for template in daemon.json("templates", "list")["items"]}
    assert found.keys() == {keys["small"], keys["large"]}
    assert [found[keys[name]]["memory_mb"] for name in ("small", "large")] == [128, 192]
    assert [template["users"] for template in found.values()] == [1, 1], "whoever built them is gone"

    assert daemon.json("templates", "prune")["items"] == []
    daemon.volar("vms", "delete", "large")
    assert [template["key"] for template in daemon.json("templates", "prune")["items"]] == [keys["large"]]
    assert {path.name for path in (daemon.data / "templates").iterdir()} == {keys["small"]}
    assert b"nginx" in daemon.fetch(daemon.vm("small")), "one that runs is not touched"
    done = daemon.volar("vms", "suspend", "small")
    assert b"small is suspended" in done.stdout
    assert daemon.json("templates", "prune")["items"] == [], "one that sleeps stands on it"
    daemon.volar("vms", "resume", "small")
    assert b"nginx" in daemon.fetch(daemon.vm("small"))
