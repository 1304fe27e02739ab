"""``volar vms inspect --security`` on VMs that run: what it says is what the kernel says, cold, cloned, and after a restart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .daemon import Daemon


def read_security(daemon: Daemon, name: str) -> dict[str, Any]:
    found: dict[str, Any] = daemon.json("vms", "inspect", name, "--security")
    return found


def groups_of(daemon: Daemon, name: str) -> list[Path]:
    values = [finding["value"] for finding in read_security(daemon, name)["limits"] if finding["name"].startswith("group of ")]
    return [Path(value.split(" (")[0]) for value in values]


def weak_in(found: dict[str, Any]) -> list[str]:
    return [
        finding["name"] for part in ("process", "holder", "limits") for finding in found[part] if finding["verdict"] == "weak"
    ]


def test_a_vm_is_kept_in_from_its_start_to_its_end(daemon: Daemon) -> None:
    daemon.volar("vms", "create", "web", "--plugin", "nginx")
    daemon.volar("vms", "create", "clone", "--plugin", "nginx")
    has_groups = bool(groups_of(daemon, "web"))
    expected = ["virtual machine"] if daemon.vm("web")["status"]["isolation"] == "emulated" else []
    expected += [] if has_groups else ["control groups"]
    pids = {}
    for name in ("web", "clone"):
        found = read_security(daemon, name)
        assert weak_in(found) == expected, found
        pid = pids[name] = found["pid"]
        assert daemon.vm(name)["status"]["pid"] == pid
        root = Path(f"/proc/{pid}/root")
        assert {entry.name for entry in root.iterdir()} <= {"dev", "etc", "lib", "lib32", "lib64", "proc", "usr"}
        assert not (root / "etc" / "passwd").exists()
        for directory in groups_of(daemon, name):
            assert (directory / "cgroup.procs").read_text() == f"{pid}\n"
    before = {name: groups_of(daemon, name) for name in pids}
    # Another volantd finds them where they are.
    assert daemon.stop() == 0
    daemon.start()
    assert {name: groups_of(daemon, name) for name in pids} == before
    assert weak_in(read_security(daemon, "clone")) == expected
    daemon.volar("vms", "suspend", "web")
    daemon.volar("vms", "resume", "web")
    assert weak_in(read_security(daemon, "web")) == expected
    document = daemon.json("vms", "inspect", "web")
    assert (document["vm"]["name"], document["run_state"]) == ("web", "running")
    assert document["security"]["pid"] == daemon.vm("web")["status"]["pid"]
    assert any(file["path"].endswith("/disk.img") for file in document["files"])
    json.dumps(document)
    for name in pids:
        daemon.volar("vms", "delete", name)
    assert not [directory for directories in before.values() for directory in directories if directory.exists()]
    assert daemon.stop() == 0
    assert not [directory.parent for directories in before.values() for directory in directories if directory.parent.exists()]
