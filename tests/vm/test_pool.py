"""Clones that wait to be taken, and templates of a workload that runs already."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.processes import is_gone

from .daemon import Daemon


def wait_pool(daemon: Daemon, parked: int, timeout_s: float = 120) -> Any:
    """The pool of nginx once so many are parked."""
    deadline = time.monotonic() + timeout_s
    while True:
        pools = [pool for pool in daemon.json("pools", "list")["items"] if pool["plugin"] == "nginx"]
        if sum(pool["parked"] for pool in pools) == parked and len(read_pids(daemon)) >= parked:
            return pools[0] if pools else None
        assert time.monotonic() < deadline, f"{pools}\n{daemon.log()}"
        time.sleep(0.1)


def read_pids(daemon: Daemon) -> dict[str, int]:
    """The VM process of each unit, by uid."""
    records = {path.parent.name: json.loads(path.read_text()) for path in (daemon.data / "vms").glob("*/process.json")}
    return {uid: record["pid"] for uid, record in records.items() if not is_gone(record["pid"])}


def list_names(daemon: Daemon) -> list[str]:
    return [vm["name"] for vm in daemon.json("vms", "list")["items"]]


def read_cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_pool_is_taken_from_filled_and_outlives_volantd(daemon: Daemon) -> None:
    daemon.volar("pools", "set", "nginx", "2")
    pool = wait_pool(daemon, 2)
    assert (pool["wanted"], pool["reserved_mb"], pool["message"]) == (2, 256, "")
    assert list_names(daemon) == []
    assert b"no VM runs" in daemon.volar("vms", "stats").stderr
    parked = read_pids(daemon)
    assert len(parked) == 2

    daemon.kill()
    ticks = {pid: read_cpu_ticks(pid) for pid in parked.values()}
    daemon.start()
    assert read_pids(daemon) == parked
    wait_pool(daemon, 2)
    assert read_pids(daemon) == parked, "they were adopted, not made anew"
    assert {pid: read_cpu_ticks(pid) - before <= 2 for pid, before in ticks.items()} == dict.fromkeys(parked.values(), True)

    daemon.volar("vms", "create", "web", "--plugin", "nginx")
    vm = daemon.vm("web")
    assert vm["status"]["start"]["kind"] == "pool"
    assert parked[vm["uid"]] == vm["status"]["pid"]
    assert b"nginx" in daemon.fetch(vm)
    told = daemon.volar("vms", "exec", "web", "--", "sh", "-c", "cat /etc/hostname /etc/machine-id; date +%s").stdout.split()
    assert told[0] == b"web" and abs(int(told[2]) - time.time()) < 5, "its clock was set when it was taken"
    daemon.volar("vms", "create", "odd", "--plugin", "nginx", "--env", "COLOUR=blue")
    odd = daemon.vm("odd")
    assert odd["status"]["start"]["kind"] == "template", "none of the pool has its environment"
    wait_pool(daemon, 2)
    now = read_pids(daemon)
    assert len(now) == 4 and sorted(list_names(daemon)) == ["odd", "web"]
    other = daemon.volar("vms", "exec", "odd", "--", "cat", "/etc/machine-id").stdout.strip()
    assert other != told[1]

    refused = daemon.volar("plugins", "remove", "nginx", check=False)
    assert refused.returncode == 4 and b"odd, web" in refused.stderr, "those that are parked are nobody's concern"
    daemon.volar("vms", "delete", "web", "odd")
    assert len(read_pids(daemon)) == 2
    daemon.volar("plugins", "remove", "nginx")
    assert read_pids(daemon) == {} and list((daemon.data / "vms").iterdir()) == []
    assert daemon.json("pools", "list")["items"] == []


def test_a_ready_template_holds_a_workload_that_ran(daemon: Daemon, install: Callable[..., None]) -> None:
    script = "date +%s.%N >/srv/started; echo started; exec nginx -g 'daemon off;'"
    install("warm", ["/bin/sh", "-c", script], health={"endpoint": "/"}, start={"template": "ready", "pool": 0})
    daemon.volar("templates", "build", "warm")
    (template,) = daemon.json("templates", "list")["items"]
    assert template["kind"] == "ready"
    for name in ("one", "two"):
        daemon.volar("vms", "create", name, "--plugin", "warm")
    vms = [daemon.vm(name) for name in ("one", "two")]
    for vm in vms:
        assert (vm["status"]["start"]["kind"], vm["status"]["template"]) == ("template", template["key"])
        assert daemon.fetch(vm).startswith(b"<!") or b"nginx" in daemon.fetch(vm)
        assert vm["status"]["workload"]["restarts"] == 0
    script = "cat /srv/started; cat /etc/machine-id /etc/hostname; cat /proc/sys/kernel/random/boot_id"
    told = [daemon.volar("vms", "exec", name, "--", "sh", "-c", script).stdout.decode().split() for name in ("one", "two")]
    assert told[0][0] == told[1][0], "it was started once, for both"
    assert [words[2] for words in told] == ["one", "two"]
    assert told[0][1] != told[1][1] and told[0][3] != told[1][3]
    # What each writes is its own, on a disk that began as the template's.
    daemon.volar("vms", "exec", "one", "--", "sh", "-c", "echo one >/srv/mark; sync")
    daemon.volar("vms", "restart", "one")
    assert daemon.volar("vms", "exec", "one", "--", "cat", "/srv/mark").stdout == b"one\n"
    assert daemon.vm("one")["status"]["start"]["kind"] in ("cold", "template")
    assert daemon.vm("one")["status"]["template"] != template["key"], "its disk holds what no ready workload knows"
    assert daemon.volar("vms", "exec", "two", "--", "sh", "-c", "cat /srv/mark || echo none").stdout == b"none\n"
    daemon.volar("vms", "create", "odd", "--plugin", "warm", "--env", "COLOUR=blue")
    assert daemon.vm("odd")["status"]["template"] != template["key"], "another environment was not in the template"
