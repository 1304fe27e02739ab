"""Configuration of real guests: what they see of a change while they run, and what a restart brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .daemon import Daemon

GUEST_SLACK_MB = 48
"""What a kernel keeps of its memory for itself, and how closely a balloon hits."""


def condition(vm: Any, type_: str) -> Any:
    return next((one for one in vm["status"]["conditions"] if one["type"] == type_), None)


def waiting(vm: Any) -> str:
    found = condition(vm, "RestartRequired")
    return found["message"] if found is not None and found["status"] == "True" else ""


def free_mb(daemon: Daemon, name: str) -> int:
    """What the guest itself says that it has left."""
    text = daemon.volar("vms", "exec", name, "--", "cat", "/proc/meminfo").stdout.decode()
    return int(next(line for line in text.splitlines() if line.startswith("MemAvailable")).split()[1]) // 1024


def await_free(daemon: Daemon, name: str, low: int, high: int) -> int:
    last = 0

    def between(_: Any) -> bool:
        nonlocal last
        last = free_mb(daemon, name)
        return low <= last <= high

    daemon.wait_vm(name, between, timeout_s=60)
    return last


def test_memory_is_taken_and_given_back_while_the_guest_runs(daemon: Daemon) -> None:
    daemon.volar("vms", "create", "web", "--plugin", "nginx", "--memory", "256")
    before = daemon.vm("web")
    had = free_mb(daemon, "web")
    said = daemon.volar("vms", "scale", "web", "--memory", "160").stdout.decode()
    assert "memory_mb: 256 -> 160" in said
    assert waiting(daemon.vm("web")) == ""
    less = await_free(daemon, "web", 0, had - 96 + GUEST_SLACK_MB)
    assert less < had - 48, f"{had} MiB free before, {less} after"
    daemon.fetch(daemon.vm("web"))
    # The next volantd knows what the run has, and gives it back.
    daemon.kill()
    daemon.start()
    assert waiting(daemon.vm("web")) == ""
    daemon.volar("vms", "scale", "web", "--memory", "256")
    await_free(daemon, "web", had - GUEST_SLACK_MB, had + GUEST_SLACK_MB)
    after = daemon.vm("web")
    assert (after["status"]["pid"], after["status"]["restarts"]) == (before["status"]["pid"], 0)


def test_what_waits_for_a_restart_comes_with_it_and_is_rolled_back(daemon: Daemon) -> None:
    daemon.volar("vms", "create", "web", "--plugin", "nginx", "--memory", "192")
    run = daemon.vm("web")["status"]["run_id"]
    told = daemon.volar("vms", "set", "web", "--memory", "224", "--env", "COLOUR=blue", "--kernel-cmdline", "loglevel=6")
    assert b"waits for a restart" in told.stderr
    vm = daemon.vm("web")
    assert all(field in waiting(vm) for field in ("memory_mb", "env", "kernel_cmdline")), waiting(vm)
    assert vm["status"]["ready"] and vm["status"]["run_id"] == run
    assert b"COLOUR" not in daemon.volar("vms", "exec", "web", "--", "env").stdout
    daemon.volar("vms", "restart", "web")
    vm = daemon.wait_vm("web", lambda now: now["status"]["ready"] and not waiting(now))
    assert vm["status"]["run_id"] != run
    assert b"loglevel=6" in daemon.volar("vms", "exec", "web", "--", "cat", "/proc/cmdline").stdout
    assert b"COLOUR=blue" in daemon.volar("vms", "exec", "web", "--", "env").stdout
    daemon.volar("vms", "config", "rollback", "web", "1", "--restart", "--reason", "it was better before")
    vm = daemon.wait_vm("web", lambda now: now["status"]["ready"] and not waiting(now))
    assert (vm["memory_mb"], vm["env"], vm["kernel_cmdline"]) == (192, {}, "")
    assert b"loglevel=6" not in daemon.volar("vms", "exec", "web", "--", "cat", "/proc/cmdline").stdout
    versions = daemon.json("vms", "config", "history", "web")["items"]
    assert versions[0]["reason"] == "it was better before" and versions[0]["by"].startswith("root")


def test_a_guest_that_slept_through_a_change_wakes_as_it_was(daemon: Daemon) -> None:
    daemon.volar("vms", "create", "web", "--plugin", "nginx", "--memory", "192")
    daemon.volar("vms", "suspend", "web")
    daemon.volar("vms", "set", "web", "--memory", "256", "--cpus", "2")
    assert "cpu_cores" in waiting(daemon.vm("web"))
    daemon.volar("vms", "resume", "web")
    vm = daemon.vm("web")
    assert vm["status"]["ready"] and vm["status"]["start"]["kind"] == "resume"
    assert "cpu_cores" in waiting(vm) and "memory_mb" in waiting(vm)
    assert daemon.volar("vms", "exec", "web", "--", "nproc").stdout.strip() == b"1"
    daemon.volar("vms", "restart", "web")
    assert daemon.volar("vms", "exec", "web", "--", "nproc").stdout.strip() == b"2"
    assert waiting(daemon.vm("web")) == ""


def test_a_kernel_of_its_own_is_uploaded_and_booted(daemon: Daemon, nginx: Path, tmp_path: Path) -> None:
    kernel = next(
        path
        for path in sorted(nginx.iterdir())
        if path.read_bytes()[0x202:0x206] == b"HdrS" or path.read_bytes()[:4] == b"\x7fELF"
    )
    other = tmp_path / "kernel"
    # The same kernel, and yet another file: what follows its end is nobody's.
    other.write_bytes(kernel.read_bytes() + b"\0" * 16)
    daemon.volar("vms", "create", "web", "--plugin", "nginx", "--kernel", str(other), "--kernel-cmdline", "nokaslr")
    vm = daemon.vm("web")
    assert vm["status"]["ready"] and vm["kernel"].startswith("sha256:") and vm["status"]["start"]["kind"] == "cold"
    refused = daemon.volar("vms", "create", "bad", "--plugin", "nginx", "--kernel-cmdline", "init=/bin/sh", check=False)
    assert refused.returncode == 2 and b"init=" in refused.stderr


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_by_force_nobody_is_asked(daemon: Daemon, install: Any, verb: str) -> None:
    install("stubborn", ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
    daemon.volar("vms", "create", "web", "--plugin", "stubborn", "--grace", "600")
    daemon.volar("vms", verb, "web", "--force", "--timeout", "20s")
    if verb == "stop":
        assert daemon.vm("web")["status"]["last_end"]["kind"] == "killed"
