"""Disks beside the root, inside real guests: what a plugin brings, what each VM writes, and what becomes of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .daemon import Daemon

READ = "cat /srv/shared/word /srv/own/word /srv/thin/word"


@pytest.fixture
def disky(daemon: Daemon, nginx: Path, manifest: dict[str, Any], tmp_path: Path) -> Daemon:
    """A volantd with a plugin that brings three disks: one to read (erofs), and a raw and a qcow2 one to write (ext4)."""
    directory, content = tmp_path / "disky", tmp_path / "content"
    shutil.copytree(nginx, directory, copy_function=os.link)
    content.mkdir()
    (content / "word").write_text("as it came\n")

    def run(*words: str | Path) -> None:
        subprocess.run([str(word) for word in words], check=True, capture_output=True)

    for name in ("own.img", "thin.raw"):
        with (directory / name).open("wb") as file:
            file.truncate(16 << 20)
        run("mkfs.ext4", "-q", "-d", content, directory / name)
    run("qemu-img", "convert", "-O", "qcow2", directory / "thin.raw", directory / "thin.qcow2")
    run("mkfs.erofs", directory / "shared.img", content)
    disks = [
        {"name": "shared", "source": "shared.img", "readonly": True, "target": "/srv/shared"},
        {"name": "own", "source": "own.img", "target": "/srv/own"},
        {"name": "thin", "source": "thin.qcow2", "format": "qcow2", "target": "/srv/thin"},
    ]
    (directory / "manifest.json").unlink()
    (directory / "manifest.json").write_text(json.dumps({**manifest, "name": "disky", "disks": disks}))
    daemon.volar("plugins", "install", str(directory / "manifest.json"))
    return daemon


def sh(daemon: Daemon, name: str, script: str, *, check: bool = True) -> str:
    return daemon.volar("vms", "exec", name, "--", "sh", "-c", script, check=check).stdout.decode()


def test_each_vm_writes_to_disks_of_its_own_that_stay(disky: Daemon) -> None:
    for name in ("one", "two"):
        disky.volar("vms", "create", name, "--plugin", "disky")
        assert sh(disky, name, READ) == "as it came\n" * 3
    assert disky.vm("two")["status"]["start"]["kind"] == "template"
    sh(disky, "one", "echo mine > /srv/own/word; echo thin > /srv/thin/word; sync")
    refused = disky.volar("vms", "exec", "one", "--", "sh", "-c", "echo no > /srv/shared/word", check=False)
    assert refused.returncode != 0
    assert sh(disky, "two", READ) == "as it came\n" * 3, "no other VM sees it"

    disky.volar("vms", "stop", "one")
    assert b"cannot be left read-only" not in disky.volar("vms", "console", "one").stdout
    disky.volar("vms", "start", "one")
    assert sh(disky, "one", READ) == "as it came\nmine\nthin\n", "over a stop"
    disky.volar("vms", "suspend", "one")
    disky.volar("vms", "resume", "one")
    assert sh(disky, "one", READ) == "as it came\nmine\nthin\n", "over a sleep"
    vm = disky.vm("one")
    os.kill(vm["status"]["pid"], 9)
    disky.wait_vm("one", lambda now: now["status"]["ready"] and now["status"]["run_id"] != vm["status"]["run_id"])
    assert sh(disky, "one", READ) == "as it came\nmine\nthin\n", "over a crash"

    unit = disky.data / "vms" / vm["uid"]
    assert {path.name for path in unit.glob("disk*")} == {"disk.img", "disk-own.img", "disk-thin.img"}
    disky.volar("vms", "delete", "one")
    assert not unit.exists()
    assert sh(disky, "two", READ) == "as it came\n" * 3


def test_snapshots_and_forks_hold_every_disk(disky: Daemon) -> None:
    disky.volar("vms", "create", "one", "--plugin", "disky", "--add-disk", "scratch=8", "--network-mode", "vsock")
    sh(disky, "one", "echo first > /srv/own/word; sync")
    disk = "$(grep -l '^scratch$' /sys/block/*/serial | cut -d/ -f4)"
    assert sh(disky, "one", f"cat /sys/block/{disk}/size").strip() == str(8 * 2048)
    sh(disky, "one", f"printf first | dd of=/dev/{disk} conv=fsync 2>/dev/null")
    refused = disky.volar("snapshots", "create", "one", "--name", "torn", "--disk-only", check=False)
    assert refused.returncode == 1 and b"only the root's can be made to stand still" in refused.stderr
    disky.volar("snapshots", "delete", "torn")
    disky.volar("snapshots", "create", "one", "--name", "whole")
    disky.volar("vms", "fork", "one", "--as", "fork")
    disky.wait_vm("fork", lambda vm: vm["status"]["ready"])
    for name in ("one", "fork"):
        sh(disky, name, f"echo {name} > /srv/own/word; printf {name} | dd of=/dev/{disk} conv=fsync 2>/dev/null; sync")
    disky.volar("snapshots", "restore", "whole")
    look = f"cat /srv/own/word; head -c 5 /dev/{disk}"
    assert sh(disky, "one", look) == "first\nfirst"
    assert sh(disky, "fork", look).startswith("fork\nfork")
    disky.volar("vms", "stop", "one")
    disky.volar("snapshots", "create", "one", "--name", "still", "--disk-only")
    disky.volar("snapshots", "restore", "still", "--as", "again")
    assert sh(disky, "again", look) == "first\nfirst"


def test_what_cannot_be_is_refused_at_once(disky: Daemon, nginx: Path) -> None:
    words = ("vms", "create", "big", "--plugin", "disky", "--add-disk", "a=1", "--extra-network", "default")
    refused = disky.volar(*words, check=False)
    assert refused.returncode == 2
    assert b"8 disks and network cards, and a machine of qemu has places for 6" in refused.stderr
    twice = disky.volar("vms", "create", "big", "--plugin", "disky", "--add-disk", "own=1", check=False)
    assert twice.returncode == 2 and b"'own' is there already" in twice.stderr
    assert disky.json("vms", "list")["items"] == []


def test_a_qcow2_that_names_a_file_of_the_host_is_not_opened(
    daemon: Daemon, nginx: Path, manifest: dict[str, Any], tmp_path: Path
) -> None:
    directory = tmp_path / "sly"
    shutil.copytree(nginx, directory, copy_function=os.link)
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", "/etc/shadow", str(directory / "sly.qcow2"), "1M"],
        check=True,
    )
    digest = hashlib.sha256((directory / "sly.qcow2").read_bytes()).hexdigest()
    disks = [{"name": "sly", "source": "sly.qcow2", "checksum": f"sha256:{digest}", "format": "qcow2", "readonly": True}]
    (directory / "manifest.json").unlink()
    (directory / "manifest.json").write_text(json.dumps({**manifest, "name": "sly", "disks": disks}))
    daemon.volar("plugins", "install", str(directory / "manifest.json"))
    daemon.volar("vms", "create", "one", "--plugin", "sly", "--no-wait")
    vm = daemon.wait_vm("one", lambda vm: vm["status"]["phase"] == "Failed")
    assert "stands on another file" in vm["status"]["message"]


def test_a_disk_that_cannot_be_mounted_says_why(daemon: Daemon, nginx: Path, manifest: dict[str, Any], tmp_path: Path) -> None:
    directory = tmp_path / "blank"
    shutil.copytree(nginx, directory, copy_function=os.link)
    (directory / "blank.img").write_bytes(bytes(1 << 20))
    (directory / "manifest.json").unlink()
    disks = [{"name": "blank", "source": "blank.img", "target": "/srv/blank"}]
    (directory / "manifest.json").write_text(json.dumps({**manifest, "name": "blank", "disks": disks}))
    daemon.volar("plugins", "install", str(directory / "manifest.json"))
    daemon.volar("vms", "create", "one", "--plugin", "blank", "--no-wait")
    daemon.wait_vm("one", lambda vm: "nothing on it is known as a file system" in vm["status"]["message"])
