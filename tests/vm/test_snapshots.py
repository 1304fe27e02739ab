"""Snapshots and forks: what a VM was at one moment, to go back to or to begin from."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from .counter import Asking
from .daemon import Daemon


def run(daemon: Daemon, name: str, script: str) -> str:
    return daemon.volar("vms", "exec", name, "--", "sh", "-c", script).stdout.decode()


def read_identity(daemon: Daemon, name: str) -> dict[str, str]:
    script = "cat /etc/hostname /etc/machine-id /proc/sys/kernel/random/boot_id; head -c 16 /dev/urandom | od -An -tx8"
    hostname, *words = run(daemon, name, script).split()
    (address,) = daemon.vm(name)["status"]["addresses"]
    assert hostname == name
    return {"machine id": words[0], "boot id": words[1], "random": words[2], "ip": address["ip"], "mac": address["mac"]}


def list_differing(identities: list[dict[str, str]]) -> list[str]:
    """The parts that no two of them share."""
    return [part for part in identities[0] if len({identity[part] for identity in identities}) == len(identities)]


def find_taps(daemon: Daemon) -> list[str]:
    shown = subprocess.run(["ip", "-n", daemon.namespace, "-br", "link"], capture_output=True, text=True, check=True)
    return [line.split()[0] for line in shown.stdout.splitlines() if line.startswith("vt")]


def find_snapshot(daemon: Daemon, name: str) -> tuple[Any, Path]:
    snapshot = daemon.json("snapshots", "show", name)
    return snapshot, daemon.data / "snapshots" / snapshot["uid"]


def test_a_snapshot_is_begun_from_and_gone_back_to(counting: Daemon) -> None:
    counting.volar("vms", "create", "web", "--plugin", "counter")
    vm = counting.vm("web")
    run(counting, "web", "echo before >/srv/before; sync")
    with Asking(counting, vm) as asking:
        asking.wait_more()
        counting.volar("snapshots", "create", "web", "--name", "snap")
        asking.wait_more(3)
    last = asking.check()
    assert counting.vm("web")["status"]["run_id"] == vm["status"]["run_id"], "it goes on"
    run(counting, "web", "echo after >/srv/after; echo changed >/srv/before; sync")

    snapshot, _ = find_snapshot(counting, "snap")
    assert snapshot["status"]["paused_ms"] is not None and snapshot["status"]["size_bytes"] > 0
    assert snapshot["status"]["template"] == vm["status"]["template"] != ""

    counting.volar("snapshots", "restore", "snap", "--as", "new")
    new = counting.vm("new")
    assert new["status"]["start"]["kind"] == "snapshot"
    identities = [read_identity(counting, name) for name in ("web", "new")]
    assert list_differing(identities) == list(identities[0])
    look = "cat /srv/before; ls /srv"
    assert run(counting, "new", look).split() == ["before", "before", "count"]
    counted = int(counting.fetch(new))
    assert 0 < counted < last, "it goes on counting from the snapshot"
    assert int(run(counting, "new", "tail -n 1 /srv/count")) == counted

    counting.volar("snapshots", "restore", "snap")
    back = counting.vm("web")
    assert (back["uid"], back["status"]["addresses"]) == (vm["uid"], vm["status"]["addresses"])
    assert int(counting.fetch(back)) == counted
    assert run(counting, "web", look).split() == ["before", "before", "count"]
    assert run(counting, "web", "cat /etc/machine-id").strip() == identities[0]["machine id"]
    with Asking(counting, back) as asking:
        asking.wait_more(3)
    assert int(run(counting, "web", "sync; echo 3 >/proc/sys/vm/drop_caches; tail -n 1 /srv/count")) >= asking.check() > counted

    counting.volar("snapshots", "delete", "snap")
    assert counting.fetch(counting.vm("new")), "what began from it is on its own"
    counting.volar("vms", "delete", "new", "web")
    for place in ("snapshots", "vms"):
        assert list((counting.data / place).iterdir()) == []
    assert find_taps(counting) == []


def test_the_disk_alone_is_kept_clean_while_it_is_written_to(counting: Daemon, tmp_path: Path) -> None:
    counting.volar("vms", "create", "web", "--plugin", "counter")
    with Asking(counting, counting.vm("web")) as asking:
        asking.wait_more(10)
        least = asking.acknowledged[-1]
        counting.volar("snapshots", "create", "web", "--name", "disk", "--disk-only")
        asking.wait_more(3)
        most = asking.check()
    snapshot, path = find_snapshot(counting, "disk")
    assert {entry.name for entry in path.iterdir()} == {"disk.img", "sums.json"}
    assert not snapshot["memory"] and snapshot["status"]["template"] == ""
    copy = tmp_path / "disk.img"
    shutil.copyfile(path / "disk.img", copy)
    checked = subprocess.run(["e2fsck", "-fn", copy], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout

    counting.volar("snapshots", "restore", "disk", "--as", "new")
    new = counting.vm("new")
    assert new["status"]["start"]["kind"] == "template", "a disk has no memory to go on from"
    assert least <= int(counting.fetch(new)) <= most
    assert b"begins at " in counting.volar("vms", "logs", "new").stdout
    assert list_differing([read_identity(counting, name) for name in ("web", "new")])[:2] == ["machine id", "boot id"]


def test_forks_are_new_machines_that_go_on(counting: Daemon) -> None:
    counting.volar("vms", "create", "web", "--plugin", "counter")
    vm = counting.vm("web")
    with Asking(counting, vm) as asking:
        asking.wait_more(3)
        counting.volar("vms", "fork", "web", "--count", "3")
        asking.wait_more(3)
    last = asking.check()
    names = ["web", "web-1", "web-2", "web-3"]
    identities = [read_identity(counting, name) for name in names]
    assert list_differing(identities) == list(identities[0])
    counted = {int(counting.fetch(counting.vm(name))) for name in names[1:]}
    assert len(counted) == 1 and 0 < counted.pop() < last
    deadline = time.monotonic() + 30
    while counting.json("snapshots", "list")["items"]:
        assert time.monotonic() < deadline, "what was between them goes with its last user"
        time.sleep(0.1)
    assert list((counting.data / "snapshots").iterdir()) == []
    (template,) = [found for found in counting.json("templates", "list")["items"] if found["plugin"] == "counter"]
    assert template["users"] == len(names)
    counting.volar("vms", "delete", *names)
    assert list((counting.data / "vms").iterdir()) == [] and find_taps(counting) == []
    assert [found["key"] for found in counting.json("templates", "prune")["items"]] == [template["key"]]
    assert list((counting.data / "templates").iterdir()) == []
