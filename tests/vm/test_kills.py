"""What survives what: SIGKILL of volantd, of QEMU, of the holder, at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.processes import is_gone

from .daemon import BIN, Daemon


def transitions(vm: Any) -> dict[str, str]:
    return {condition["type"]: condition["last_transition_at"] for condition in vm["status"]["conditions"]}


def test_guests_outlive_volantd_and_are_adopted(daemon: Daemon) -> None:
    daemon.volar("vms", "create", "web", "--plugin", "nginx")
    before = daemon.vm("web")
    daemon.kill()
    assert b"nginx" in daemon.fetch(before), "it serves while volantd is away"
    daemon.start()
    for _ in range(30):
        now = daemon.vm("web")
        assert (now["status"]["phase"], now["status"]["ready"]) == ("Running", True), "no flap"
        time.sleep(0.1)
    assert transitions(now) == transitions(before)
    for field in ("pid", "started_at", "addresses", "run_id", "restarts"):
        assert now["status"][field] == before["status"][field], field
    assert daemon.volar("vms", "exec", "web", "--", "nginx", "-v").returncode == 0
    assert b"nginx" in daemon.fetch(now)


def test_logs_have_no_hole_and_no_double_across_a_restart(daemon: Daemon) -> None:
    daemon.volar("vms", "create", "web", "--plugin", "nginx")
    vm = daemon.vm("web")
    daemon.curl(f"http://{vm['status']['addresses'][0]['ip']}/first")
    daemon.kill()
    daemon.curl(f"http://{vm['status']['addresses'][0]['ip']}/second")
    daemon.start()
    daemon.curl(f"http://{vm['status']['addresses'][0]['ip']}/third")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        text = daemon.volar("vms", "logs", "web").stdout.decode()
        if "/third" in text:
            break
        time.sleep(0.1)
    assert [text.count(f"GET /{word} ") for word in ("first", "second", "third")] == [1, 1, 1]


def test_a_killed_qemu_is_started_again_with_its_disk(daemon: Daemon) -> None:
    daemon.volar("vms", "create", "web", "--plugin", "nginx")
    daemon.volar("vms", "exec", "web", "--", "sh", "-c", "echo here > /srv/mark; sync")
    before = daemon.vm("web")
    os.kill(before["status"]["pid"], signal.SIGKILL)
    after = daemon.wait_vm("web", lambda vm: vm["status"]["ready"] and vm["status"]["pid"] != before["status"]["pid"])
    assert after["status"]["restarts"] == 1
    assert after["status"]["addresses"] == before["status"]["addresses"]
    assert daemon.volar("vms", "exec", "web", "--", "cat", "/srv/mark").stdout == b"here\n"
    ended = [event for event in daemon.events("web") if event["reason"] == "Ended"]
    assert ended and "SIGKILL" in ended[0]["message"]


def test_a_killed_qemu_stays_down_when_the_policy_says_never(daemon: Daemon) -> None:
    daemon.volar("vms", "create", "web", "--plugin", "nginx", "--restart-policy", "never")
    os.kill(daemon.vm("web")["status"]["pid"], signal.SIGKILL)
    vm = daemon.wait_vm("web", lambda vm: vm["status"]["phase"] == "Failed")
    assert vm["status"]["pid"] is None
    daemon.volar("vms", "start", "web")
    assert daemon.vm("web")["status"]["ready"]


def test_a_vm_that_ended_while_volantd_was_away_is_accounted_for(daemon: Daemon) -> None:
    daemon.volar("vms", "create", "crashed", "--plugin", "nginx")
    daemon.volar("vms", "create", "orphan", "--plugin", "nginx")
    crashed, orphan = daemon.vm("crashed")["status"]["pid"], daemon.vm("orphan")["status"]["pid"]
    daemon.kill()
    os.kill(crashed, signal.SIGKILL)
    os.kill(int(Path(f"/proc/{orphan}/stat").read_text().rsplit(")", 1)[1].split()[1]), signal.SIGKILL)
    daemon.start()
    for name in ("crashed", "orphan"):
        vm = daemon.wait_vm(name, lambda vm: vm["status"]["ready"] and vm["status"]["restarts"] == 1)
        assert not vm["status"]["last_end"]["clean"]
    assert is_gone(orphan), "a VM process dies with its holder"


def test_stopping_on_exit_and_starting_again(daemon: Daemon) -> None:
    daemon.stop()
    daemon.start("--stop-vms-on-exit")
    daemon.volar("vms", "create", "web", "--plugin", "nginx")
    pid = daemon.vm("web")["status"]["pid"]
    daemon.stop()
    assert is_gone(pid)
    daemon.start()
    vm = daemon.wait_vm("web", lambda vm: vm["status"]["ready"])
    assert vm["status"]["restarts"] == 0, "it ended because volantd did"


def test_sigterm_leaves_vms_running_and_their_namespace(daemon: Daemon) -> None:
    daemon.volar("vms", "create", "web", "--plugin", "nginx")
    vm = daemon.vm("web")
    assert daemon.stop() == 0
    assert b"nginx" in daemon.fetch(vm)
    daemon.start()
    assert daemon.vm("web")["status"]["pid"] == vm["status"]["pid"]


def test_volantd_killed_at_any_moment_of_create_stop_and_delete_converges(
    make_daemon: Callable[..., Daemon], nginx: Path
) -> None:
    daemon = make_daemon()
    daemon.start()
    daemon.volar("plugins", "install", str(nginx / "manifest.json"))
    chance = random.Random(os.environ.get("VOLANT_TEST_SEED", "1"))
    for round_ in range(4):
        for words in (("create", f"vm-{round_}", "--plugin", "nginx"), ("stop", f"vm-{round_}"), ("delete", f"vm-{round_}")):
            asked = subprocess.Popen(
                [BIN / "volar", "vms", *words],
                env={**os.environ, "VOLANT_API": daemon.api},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(chance.uniform(0.05, 2.5 if words[0] == "create" else 0.6))
            daemon.kill()
            asked.kill()  # it would wait for volantd to come back
            asked.wait()
            daemon.start()
            known = {vm["name"]: vm for vm in daemon.json("vms", "list")["items"]}
            name = words[1]
            if words[0] == "create" and name not in known:
                daemon.volar("vms", *words)  # it was never acknowledged
            if name in known and not known[name].get("deleting_at"):
                wanted = "Stopped" if known[name]["power"] == "stopped" else "Running"
                daemon.wait_vm(name, lambda vm, wanted=wanted: vm["status"]["phase"] == wanted)
        deadline = time.monotonic() + 60
        while [vm["name"] for vm in daemon.json("vms", "list")["items"] if vm.get("deleting_at")]:
            assert time.monotonic() < deadline, "deleting ends"
            time.sleep(0.1)
