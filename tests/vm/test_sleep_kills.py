"""SIGKILL of volantd at any moment of sleeping, waking, saving and cloning: what was asked comes about, and nothing is left."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from typing import Any

from tests.processes import is_gone

from .counter import ask_at_once
from .daemon import BIN, Daemon

ROUNDS = int(os.environ.get("VOLANT_TEST_ROUNDS", "1"))
PORT = 8080


def find_disorder(daemon: Daemon) -> str:
    """What is on the host that no VM answers for, or the other way round; empty for nothing."""
    vms = daemon.json("vms", "list")["items"]
    pools = daemon.json("pools", "list")["items"]
    unsettled = [vm["name"] for vm in vms if not is_as_asked(vm)]
    unsettled += [
        pool["plugin"] for pool in pools if (pool["parked"], pool["reserved_mb"]) != (pool["wanted"], 128 * pool["wanted"])
    ]
    if unsettled:
        return f"not as asked: {unsettled}"
    parked = sum(pool["parked"] for pool in pools)
    alive = parked + sum(vm["status"]["pid"] is not None for vm in vms)
    units = [path.name for path in (daemon.data / "vms").iterdir()]
    records = [json.loads(path.read_text()) for path in (daemon.data / "vms").glob("*/process.json")]
    processes = [record["pid"] for record in records if not is_gone(record["pid"])]
    shown = subprocess.run(["ip", "-n", daemon.namespace, "-br", "link"], capture_output=True, text=True, check=True).stdout
    taps = [line for line in shown.splitlines() if line.startswith("vt-")]
    if (len(units), len(processes), len(taps)) != (len(vms) + parked, alive, alive):
        return f"{len(vms)} VMs and {parked} parked, {alive} alive: {units}, {processes}, {taps}"
    half = [path for place in ("templates", "snapshots") for path in (daemon.data / place).glob(".*")]
    half += (daemon.data / "vms").glob("*/.*")
    known = {snapshot["uid"] for snapshot in daemon.json("snapshots", "list")["items"]}
    half += [path for path in (daemon.data / "snapshots").iterdir() if path.name not in known]
    return f"half made, or nobody's: {half}" if half else ""


def is_as_asked(vm: Any) -> bool:
    status = vm["status"]
    if vm.get("deleting_at") or status["observed_generation"] < vm["generation"]:
        return False
    return bool(status["phase"] == "Suspended" if vm["power"] == "suspended" else status["ready"])


def wait_order(daemon: Daemon, timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while disorder := find_disorder(daemon):
        assert time.monotonic() < deadline, f"{disorder}\n{daemon.json('vms', 'list')}\n{daemon.log()}"
        time.sleep(0.2)


def test_volantd_killed_at_any_moment_of_a_fast_start_converges(counting: Daemon) -> None:
    daemon = counting
    chance = random.Random(os.environ.get("VOLANT_TEST_SEED", "1"))
    daemon.volar("vms", "create", "web", "--plugin", "counter", "--publish", f"{PORT}:80")
    gateway = daemon.vm("web")["status"]["addresses"][0]["gateway"]
    run_id = daemon.vm("web")["status"]["run_id"]
    counted = 0

    def interrupt(within_s: float, *words: str) -> None:
        """Ask for something and kill volantd at some moment of it; the next one brings everything in order."""
        asked = subprocess.Popen(
            [BIN / "volar", *words],
            env={**os.environ, "VOLANT_API": daemon.api},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(0.08 + chance.uniform(0, within_s))
        daemon.kill()
        asked.kill()  # it would wait for volantd to come back
        asked.wait()
        daemon.start()
        wait_order(daemon)

    for round_ in range(ROUNDS):
        for within_s, *words in (
            (0.25, "vms", "suspend", "web"),
            (0.25, "vms", "resume", "web"),
            (0.25, "snapshots", "create", "web", "--name", f"snap-{round_}"),
            (0.25, "snapshots", "create", "web", "--name", f"disk-{round_}", "--disk-only"),
            (0.5, "vms", "fork", "web", "--as", f"fork-{round_}"),
            (3.0, "vms", "create", f"first-{round_}", "--plugin", "counter", "--memory", str(144 + 16 * round_)),
            (3.0, "templates", "build", "counter", "--cpu", "2", "--memory", str(144 + 16 * round_)),
            (1.5, "pools", "set", "counter", str(1 + (round_ + 1) % 2)),
            (0.3, "vms", "create", f"taken-{round_}", "--plugin", "counter"),
        ):
            if "resume" in words:
                daemon.volar("vms", "suspend", "web")
            interrupt(within_s, *words)
            # Whoever comes is let in, whether it sleeps or not, and nothing of what it acknowledged is forgotten.
            (number,) = ask_at_once(daemon, gateway, PORT, 1)
            assert number == counted + 1, words
            counted = number
        names = {vm["name"] for vm in daemon.json("vms", "list")["items"]}
        for snapshot in daemon.json("snapshots", "list")["items"]:
            name, phase = snapshot["name"], snapshot["status"]["phase"]
            assert phase in ("Ready", "Failed"), snapshot
            if phase == "Ready" and not snapshot["transient"]:
                daemon.volar("snapshots", "restore", name, "--as", f"from-{name}")
                assert 0 < int(daemon.fetch(daemon.vm(f"from-{name}"))) <= counted
                names.add(f"from-{name}")
            daemon.volar("snapshots", "delete", name)
        if names > {"web"}:
            daemon.volar("vms", "delete", *sorted(names - {"web"}))
        wait_order(daemon)
    assert daemon.vm("web")["status"]["run_id"] == run_id, "it is the same run that went on"
