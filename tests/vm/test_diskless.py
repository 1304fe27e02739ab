"""Guests that are one initramfs, memory being their disk: with kestrel as their first program, and with one of their own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import REPOSITORY
from .daemon import BIN, Daemon

Build = Callable[..., Path]


@pytest.fixture(scope="session")
def build_example(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """``fledge build`` of one of the examples; returns the directory with its manifest."""
    cache = os.environ.get("FLEDGE_CACHE", str(REPOSITORY / "build" / "fledge-cache"))
    built: dict[str, Path] = {}

    def build(example: str) -> Path:
        if example not in built:
            out = tmp_path_factory.mktemp(example)
            recipe = REPOSITORY / "examples" / example / "fledge.toml"
            done = subprocess.run(
                [BIN / "fledge", "build", "-c", recipe, "-o", out, "--cache-dir", cache], capture_output=True, timeout=600
            )
            assert done.returncode == 0, done.stderr.decode()
            built[example] = out
        return built[example]

    return build


@pytest.fixture
def host(make_daemon: Callable[..., Daemon]) -> Daemon:
    started = make_daemon()
    started.start()
    return started


def ready(host: Daemon, name: str) -> Any:
    vm = host.vm(name)
    assert (vm["status"]["phase"], vm["status"]["ready"]) == ("Running", True), vm["status"]
    return vm


def test_a_whole_guest_in_one_initramfs_answers_http(host: Daemon, build_example: Build) -> None:
    out = build_example("initramfs")
    assert sorted(path.name for path in out.iterdir() if "." in path.name and path.suffix == ".cpio") == ["initramfs.cpio"]
    host.volar("plugins", "install", str(out / "manifest.json"))
    host.volar("vms", "create", "web", "--plugin", "nimble")
    vm = ready(host, "web")
    assert vm["status"]["start"]["kind"] == "cold"
    assert b"Hello from a guest without a disk" in host.fetch(vm)
    look = "head -1 /proc/mounts; stat -c '%a %u' / /tmp /srv/www/index.html; cat /proc/1/comm; hostname; ls /sys/block"
    said = host.volar("vms", "exec", "web", "--", "sh", "-c", look).stdout.decode().splitlines()
    assert said[0].startswith("rootfs / rootfs rw,") and said[1:] == ["755 0", "1777 0", "644 0", "init", "web"], "and no disk"
    assert b"response:200" in host.volar("vms", "logs", "web").stderr + host.volar("vms", "logs", "web").stdout
    host.volar("vms", "exec", "web", "--", "sh", "-c", "echo written > /srv/www/mark")

    host.volar("vms", "create", "clone", "--plugin", "nimble")
    clone = ready(host, "clone")
    assert clone["status"]["start"]["kind"] == "template", clone["status"]["start"]
    assert host.curl(f"http://{clone['status']['addresses'][0]['ip']}/mark").returncode != 0, "it begins as the plugin says"
    host.volar("vms", "suspend", "web")
    host.volar("vms", "resume", "web")
    assert host.fetch(ready(host, "web"), "/mark") == b"written\n", "sleep keeps the memory, and so the files"
    host.volar("snapshots", "create", "web", "--name", "kept")
    host.volar("snapshots", "restore", "kept", "--as", "other")
    assert host.fetch(ready(host, "other"), "/mark") == b"written\n"
    done = host.volar("snapshots", "create", "web", "--disk-only", check=False)
    assert done.returncode == 1 and b"has no disk" in done.stderr

    host.volar("vms", "stop", "web")
    end = host.vm("web")["status"]["last_end"]
    assert (end["kind"], end["clean"]) == ("powered_off", True)
    host.volar("vms", "start", "web")
    assert host.curl(f"http://{ready(host, 'web')['status']['addresses'][0]['ip']}/mark").returncode != 0, "a stop forgets"


def test_a_workload_that_cannot_start_is_said_to_even_with_a_health_check(
    host: Daemon, build_example: Build, tmp_path: Path
) -> None:
    out = build_example("initramfs")
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["name"], manifest["workload"]["entrypoint"] = "typo", ["/usr/bin/no-such-thing"]
    for name in ("vmlinux", "initramfs.cpio"):
        (tmp_path / name).symlink_to(out / name)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    host.volar("plugins", "install", str(tmp_path))
    host.volar("vms", "create", "t", "--plugin", "typo", "--no-wait")
    vm = host.wait_vm("t", lambda vm: vm["status"]["reason"] == "CrashLoop")
    assert "no-such-thing" in vm["status"]["message"]


def test_a_guest_with_a_first_program_of_its_own(host: Daemon, build_example: Build) -> None:
    out = build_example("own-init")
    assert json.loads((out / "manifest.json").read_text())["agent"] == "none"
    host.volar("plugins", "install", str(out / "manifest.json"))
    host.volar("vms", "create", "own", "--plugin", "own-init")
    vm = ready(host, "own")
    said = {condition["type"]: (condition["status"], condition["reason"]) for condition in vm["status"]["conditions"]}
    assert said["Booted"] == ("Unknown", "NoAgent") and said["AgentConnected"] == ("False", "NoAgent")
    assert b"Hello from a guest without a disk" in host.fetch(vm), "it took the address that the kernel was told"
    assert b"own serves HTTP at " + vm["status"]["addresses"][0]["ip"].encode() in host.volar("vms", "console", "own").stdout
    for words in (("exec", "own", "--", "true"), ("logs", "own"), ("suspend", "own")):
        done = host.volar("vms", *words, check=False)
        assert done.returncode == 4 and b"has no agent" in done.stderr, words

    host.kill()
    host.start()
    assert ready(host, "own")["status"]["pid"] == vm["status"]["pid"], "a new volantd finds it as it was"
    host.volar("vms", "stop", "own")
    end = host.vm("own")["status"]["last_end"]
    assert (end["asked"], end["kind"]) == (True, "killed") and "no agent that could be asked" in end["message"]
