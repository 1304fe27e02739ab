"""Sleep: nothing that was acknowledged is lost, whoever knocks wakes it once, and it stays who it is."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.processes import is_gone

from volant.client.client import Client

from .counter import Asking, ask_at_once
from .daemon import Daemon

CYCLES = 100
TOGETHER = 16
KNOCKS = 1000
PORT = 8080


def is_asleep(vm: Any) -> bool:
    return vm["status"]["phase"] == "Suspended"


def count_events(daemon: Daemon, name: str, reason: str) -> int:
    return sum(event["count"] for event in daemon.events(name) if event["reason"] == reason)


def read_identity(daemon: Daemon, name: str) -> list[bytes]:
    told = daemon.volar("vms", "exec", name, "--", "cat", "/etc/machine-id", "/etc/hostname", "/proc/sys/kernel/random/boot_id")
    return told.stdout.split()


def read_kept(daemon: Daemon, name: str) -> int:
    """The last number on its disk itself."""
    script = "sync; echo 3 >/proc/sys/vm/drop_caches; tail -n 1 /srv/count"
    return int(daemon.volar("vms", "exec", name, "--", "sh", "-c", script).stdout)


def test_no_acknowledged_write_is_lost_by_a_hundred_suspends(counting: Daemon) -> None:
    counting.volar("vms", "create", "web", "--plugin", "counter")
    vm = counting.vm("web")
    vms = Client(counting.api).vms
    with Asking(counting, vm, wait_s=0.5) as asking:
        for _ in range(CYCLES):
            asking.wait_more()
            assert vms.suspend("web", wait="suspended").status.phase == "Suspended"
            assert vms.resume("web", wait="ready").status.ready
        asking.wait_more(3)
    last = asking.check()
    assert last >= CYCLES
    assert read_kept(counting, "web") >= last
    after = counting.vm("web")["status"]
    for field in ("run_id", "addresses", "restarts", "template"):
        assert after[field] == vm["status"][field], field
    assert count_events(counting, "web", "Suspended") == CYCLES

    # It was kept on the disk, not only in the memory that slept.
    os.kill(after["pid"], signal.SIGKILL)
    counting.wait_vm("web", lambda vm: vm["status"]["ready"] and vm["status"]["restarts"] == 1)
    assert read_kept(counting, "web") >= last


def test_a_snapshot_and_a_suspend_at_once_lose_nothing_either(counting: Daemon) -> None:
    counting.volar("vms", "create", "web", "--plugin", "counter")
    vms, snapshots = Client(counting.api).vms, Client(counting.api).snapshots
    with Asking(counting, counting.vm("web"), wait_s=0.5) as asking, ThreadPoolExecutor(1) as pool:
        for round_ in range(TOGETHER):
            asking.wait_more()
            vms.suspend("web")
            time.sleep(round_ * 0.06 / TOGETHER)  # falls into every part of a suspend as the rounds go on
            taken = pool.submit(snapshots.create, f"snap-{round_}", "web", wait=True, timeout_s=60)
            assert vms.suspend("web", wait="suspended").status.phase == "Suspended"
            status = taken.result().status
            assert status.phase == "Ready", status.message
            assert vms.resume("web", wait="ready").status.ready
        asking.wait_more(3)
    last = asking.check()
    assert read_kept(counting, "web") >= last
    assert counting.vm("web")["status"]["restarts"] == 0


def test_all_who_knock_are_answered_and_wake_it_once(counting: Daemon) -> None:
    counting.volar("vms", "create", "web", "--plugin", "counter", "--publish", f"{PORT}:80")
    vm = counting.vm("web")
    gateway = vm["status"]["addresses"][0]["gateway"]
    assert ask_at_once(counting, gateway, PORT, 1, path="/next-told") == [1]
    identity = read_identity(counting, "web")
    counting.volar("vms", "suspend", "web")
    asleep = counting.vm("web")["status"]
    assert asleep["pid"] is None and is_gone(vm["status"]["pid"])
    assert 0 < asleep["suspended"]["size_bytes"] < 128 << 20
    assert " on disk, saved in " in counting.volar("vms", "get", "web").stdout.decode()
    started = count_events(counting, "web", "Started")

    answered = ask_at_once(counting, gateway, PORT, KNOCKS)
    assert sorted(answered) == list(range(2, KNOCKS + 2)), "each was answered once"
    awake = counting.wait_vm("web", lambda vm: vm["status"]["ready"])
    assert awake["status"]["start"]["kind"] == "resume"
    assert count_events(counting, "web", "Waking") == 1
    assert count_events(counting, "web", "Started") == started + 1
    assert count_events(counting, "web", "Suspended") == 1

    # The same again, with a volantd that has never seen it awake.
    counting.volar("vms", "suspend", "web")
    counting.kill()
    counting.start()
    assert is_asleep(counting.vm("web"))
    assert ask_at_once(counting, "127.0.0.1", PORT, 1, path="/next-told") == [KNOCKS + 2]
    after = counting.wait_vm("web", lambda vm: vm["status"]["ready"])
    assert after["status"]["addresses"] == vm["status"]["addresses"]
    assert read_identity(counting, "web") == identity
    lines = [json.loads(line) for line in counting.volar("vms", "logs", "web", "--json").stdout.splitlines()]
    assert [(line["seq"], line["text"]) for line in lines] == [(1, "begins at 0"), (2, "1"), (3, f"{KNOCKS + 2}")]


def test_who_is_not_talked_to_falls_asleep(counting: Daemon) -> None:
    counting.volar("vms", "create", "web", "--plugin", "counter", "--publish", f"{PORT}:80", "--auto-suspend", "1s")
    for expected in (1, 2):
        vm = counting.wait_vm("web", is_asleep)
        assert vm["power"] == "suspended" and vm["status"]["pid"] is None
        assert ask_at_once(counting, vm["status"]["addresses"][0]["gateway"], PORT, 1) == [expected]
    counting.wait_vm("web", is_asleep)
    assert (count_events(counting, "web", "Idle"), count_events(counting, "web", "Waking")) == (3, 2)


def test_what_may_be_asked_of_one_that_sleeps(counting: Daemon) -> None:
    for name in ("stopped", "deleted"):
        counting.volar("vms", "create", name, "--plugin", "counter")
        counting.volar("vms", "suspend", name)
    done = counting.volar("vms", "exec", "stopped", "--", "true", check=False)
    assert done.returncode == 4 and b"suspended" in done.stderr and b"volar vms resume" in done.stderr
    done = counting.volar("vms", "stats", "stopped", check=False)
    assert done.returncode == 4 and b"suspended" in done.stderr
    assert b"begins at 0" in counting.volar("vms", "logs", "stopped").stdout
    assert counting.volar("vms", "suspend", "stopped").returncode == 0, "asking twice changes nothing"

    counting.volar("vms", "stop", "stopped")
    status = counting.vm("stopped")["status"]
    assert (status["phase"], status["suspended"], status["template"]) == ("Stopped", None, "")
    assert status["last_end"]["asked"] and status["last_end"]["clean"], "it was woken to end in an orderly way"
    counting.volar("vms", "start", "stopped")
    assert counting.vm("stopped")["status"]["ready"]

    unit = counting.data / "vms" / counting.vm("deleted")["uid"]
    assert (unit / "saved").is_dir()
    counting.volar("vms", "delete", "deleted")
    assert not unit.exists()
