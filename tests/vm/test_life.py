"""One VM from create to delete, and everything that may be asked of it on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .daemon import Daemon


def conditions(vm: Any) -> dict[str, str]:
    return {condition["type"]: condition["status"] for condition in vm["status"]["conditions"]}


def test_a_real_nginx_answers_from_a_microvm(daemon: Daemon) -> None:
    vm = json.loads(daemon.volar("vms", "create", "web", "--plugin", "nginx", "--env", "COLOUR=blue", "--json").stdout)
    status = vm["status"]
    assert (status["phase"], status["ready"], status["start"]["kind"]) == ("Running", True, "cold")
    assert set(conditions(vm).values()) == {"True"}
    assert status["start"]["duration_ms"] > 0
    assert {"prepare", "launch", "boot"} <= set(status["start"]["steps_ms"])
    assert (vm["cpu_cores"], vm["memory_mb"]) == (1, 128), "the manifest's resources are honoured"
    assert b"nginx" in daemon.fetch(vm)
    assert daemon.fetch(vm, "/hostname").strip() == b"web"

    done = daemon.volar("vms", "exec", "web", "--", "nginx", "-v")
    assert b"nginx version" in done.stderr
    assert daemon.volar("vms", "exec", "web", "--", "sh", "-c", "exit 7", check=False).returncode == 7
    assert daemon.volar("vms", "exec", "web", "--", "sh", "-c", "echo $COLOUR").stdout == b"blue\n"
    assert daemon.volar("vms", "exec", "-i", "web", "--", "cat", stdin=bytes(range(256)) * 400).stdout == bytes(range(256)) * 400
    assert daemon.volar("vms", "exec", "web", "--", "no-such-program", check=False).returncode == 2
    assert daemon.volar("vms", "exec", "web", "--", "cat", "/proc/1/comm").stdout.strip() in (b"kestrel", b"init")

    assert b"GET /hostname" in daemon.volar("vms", "logs", "web").stdout
    assert daemon.volar("vms", "console", "web").stdout
    reasons = [event["reason"] for event in daemon.events("web")]
    assert reasons[:1] == ["Started"] and "Ready" in reasons

    daemon.volar("vms", "delete", "web")
    assert daemon.volar("vms", "get", "web", check=False).returncode == 3
    assert daemon.json("vms", "list")["items"] == []


def test_the_image_keeps_owners_and_gets_its_own_identity(daemon: Daemon) -> None:
    daemon.volar("vms", "create", "one", "--plugin", "nginx")
    daemon.volar("vms", "create", "two", "--plugin", "nginx")
    script = "cat /etc/hostname /etc/machine-id; grep -c . /etc/hosts; date +%s; stat -c %U /var/log/nginx"
    ids = [daemon.volar("vms", "exec", name, "--", "sh", "-c", script).stdout.decode().split() for name in ("one", "two")]
    assert [words[0] for words in ids] == ["one", "two"]
    assert ids[0][1] != ids[1][1] and len(ids[0][1]) == 32
    addresses = [daemon.vm(name)["status"]["addresses"][0] for name in ("one", "two")]
    assert len({address["ip"] for address in addresses}) == 2
    assert len({address["mac"] for address in addresses}) == 2
    ask = f"exec 3<>/dev/tcp/{addresses[1]['ip']}/80; printf 'GET /hostname HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    answer = daemon.volar("vms", "exec", "one", "--", "bash", "-c", ask).stdout
    assert answer.endswith(b"two\n"), "VMs of one network reach each other"


def test_the_writable_layer_survives_what_it_should(daemon: Daemon) -> None:
    daemon.volar("vms", "create", "kept", "--plugin", "nginx")
    daemon.volar("vms", "create", "fleeting", "--plugin", "nginx", "--root", "ephemeral")
    for name in ("kept", "fleeting"):
        daemon.volar("vms", "exec", name, "--", "sh", "-c", "echo here > /srv/mark; sync")
        daemon.volar("vms", "stop", name)
        assert daemon.vm(name)["status"]["phase"] == "Stopped"
        daemon.volar("vms", "start", name)
    read = ("sh", "-c", "cat /srv/mark 2>/dev/null || echo gone")
    assert daemon.volar("vms", "exec", "kept", "--", *read).stdout == b"here\n"
    assert daemon.volar("vms", "exec", "fleeting", "--", *read).stdout == b"gone\n"
    before = daemon.vm("kept")
    daemon.volar("vms", "restart", "kept")
    after = daemon.vm("kept")
    assert after["status"]["pid"] != before["status"]["pid"]
    assert after["status"]["addresses"] == before["status"]["addresses"]
    assert after["status"]["restarts"] == 0, "a restart that was asked for is no failure"


def test_bad_input_is_refused_and_changes_nothing(daemon: Daemon, nginx: Path, tmp_path: Path) -> None:
    daemon.volar("vms", "create", "web", "--plugin", "nginx", "--no-wait")
    for words, code in (
        (("vms", "create", "web", "--plugin", "nginx"), 4),
        (("vms", "create", "Bad_Name", "--plugin", "nginx"), 2),
        (("vms", "create", "x", "--plugin", "nothing"), 2),
        (("vms", "create", "x", "--plugin", "nginx", "--memory", "99999999"), 2),
        (("vms", "create", "x", "--plugin", "nginx", "--cpu", "0"), 2),
        (("vms", "get", "nothing"), 3),
        (("vms", "stop", "nothing"), 3),
        (("plugins", "remove", "nginx"), 4),
        (("plugins", "install", "/nonexistent"), 3),
    ):
        done = daemon.volar(*words, check=False)
        assert (done.returncode, done.stdout) == (code, b""), words
        assert done.stderr.startswith(b"volar: ") and b"Traceback" not in done.stderr
    broken = tmp_path / "broken"
    broken.mkdir()
    manifest = json.loads((nginx / "manifest.json").read_text())
    for part in ("vmlinux", "boot.cpio"):
        (broken / part).symlink_to(nginx / part)
    (broken / "rootfs.erofs").write_bytes(b"not what was promised")
    (broken / "manifest.json").write_text(json.dumps({**manifest, "name": "broken"}))
    done = daemon.volar("plugins", "install", str(broken), check=False)
    assert done.returncode in (1, 2) and b"checksum" in done.stderr
    assert [plugin["name"] for plugin in daemon.json("plugins", "list")["items"]] == ["nginx"]
    assert [vm["name"] for vm in daemon.json("vms", "list")["items"]] == ["web"]


def test_a_workload_that_exits_at_once_is_said_to(daemon: Daemon, install: Callable[..., None]) -> None:
    install("crash", ["/bin/sh", "-c", "echo oh no >&2; exit 3"])
    done = daemon.volar("vms", "create", "c", "--plugin", "crash", "--timeout", "60s", check=False)
    assert done.returncode == 1, done.stderr
    vm = daemon.wait_vm("c", lambda vm: vm["status"]["reason"] == "CrashLoop")
    assert vm["status"]["phase"] == "Failed" and not vm["status"]["ready"]
    assert vm["status"]["workload"]["restarts"] >= 3
    assert b"oh no" in daemon.volar("vms", "logs", "c").stderr


def test_a_finished_workload_ends_its_vm_when_the_policy_says_so(daemon: Daemon, install: Callable[..., None]) -> None:
    install("once", ["/bin/sh", "-c", "echo done; exit 0"])
    daemon.volar("vms", "create", "o", "--plugin", "once", "--restart-policy", "on-failure", check=False)
    vm = daemon.wait_vm("o", lambda vm: vm["status"]["phase"] == "Stopped")
    assert vm["status"]["last_end"]["clean"] and vm["status"]["restarts"] == 0
    assert b"done" in daemon.volar("vms", "logs", "o").stdout


def test_a_program_that_is_not_there_is_named(daemon: Daemon, install: Callable[..., None]) -> None:
    install("typo", ["/usr/bin/no-such-thing"])
    done = daemon.volar("vms", "create", "t", "--plugin", "typo", "--timeout", "60s", check=False)
    assert done.returncode == 1
    assert "no-such-thing" in daemon.vm("t")["status"]["message"]


def test_a_workload_that_never_answers_is_not_ready(daemon: Daemon, install: Callable[..., None]) -> None:
    install("mute", ["/bin/sleep", "1000"], health={"endpoint": "/"})
    daemon.volar("vms", "create", "m", "--plugin", "mute", "--no-wait")
    vm = daemon.wait_vm("m", lambda vm: vm["status"]["reason"] in ("WaitingForHealth", "Unhealthy"))
    assert vm["status"]["phase"] == "Running" and not vm["status"]["ready"]
    done = daemon.volar("vms", "start", "m", "--timeout", "1s", check=False)
    assert done.returncode == 1 and b"health" in done.stderr


@pytest.mark.parametrize("target", ["/dev/console", "/dev/stdout"])
def test_a_flood_is_bounded(daemon: Daemon, install: Callable[..., None], target: str) -> None:
    install("flood", ["/bin/sh", "-c", f"exec cat /dev/zero | tr '\\\\0' 'x' | fold > {target}"])
    daemon.volar("vms", "create", "f", "--plugin", "flood", "--no-wait")
    daemon.wait_vm("f", lambda vm: vm["status"]["phase"] == "Running")
    daemon.volar("vms", "create", "web", "--plugin", "nginx")
    assert b"nginx" in daemon.fetch(daemon.vm("web")), "the others do not notice"
    kept = sum(path.stat().st_size for path in (daemon.root / "data/vms").rglob("*") if "disk" not in path.name)
    assert kept < 40 * 1024 * 1024
    assert daemon.volar("vms", "exec", "f", "--", "true").returncode == 0, "its agent still answers"
