"""The trust policy before real guests: nothing is installed or booted that no trusted publisher signed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from .daemon import BIN, Daemon


def run_fledge(*words: str | Path) -> str:
    done = subprocess.run([BIN / "fledge", *words], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_only_what_a_trusted_publisher_signed_is_installed_and_boots(
    make_daemon: Callable[..., Daemon], nginx: Path, tmp_path: Path
) -> None:
    plugin, trusted = tmp_path / "nginx", tmp_path / "trust"
    shutil.copytree(nginx, plugin, copy_function=os.link)
    trusted.mkdir()
    run_fledge("keygen", "--no-password", "-s", tmp_path / "acme.key", "-p", tmp_path / "acme.pub")
    shutil.copy(tmp_path / "acme.pub", trusted)
    daemon = make_daemon()
    daemon.start("--trust-policy", "enforce", "--trust-keys", str(trusted))

    refused = daemon.volar("plugins", "install", str(plugin), check=False)
    assert refused.returncode == 1
    assert refused.stderr.decode().splitlines()[-2:] == [
        "volar: the plugin 'nginx' is not trusted here: it is not signed",
        f"  hint: sign it with a key that {trusted} holds: fledge sign",
    ]
    assert daemon.json("plugins", "list")["items"] == []

    run_fledge("sign", plugin, "-s", tmp_path / "acme.key")
    daemon.volar("plugins", "install", str(plugin))
    assert b"Signed:      by acme (key " in daemon.volar("plugins", "show", "nginx").stdout
    daemon.volar("vms", "create", "web", "--plugin", "nginx")
    assert b"nginx" in daemon.fetch(daemon.vm("web"))

    (trusted / "acme.pub").unlink()
    assert b"nginx" in daemon.fetch(daemon.vm("web")), "what runs goes on"
    restarted = daemon.volar("vms", "restart", "web", check=False)
    assert restarted.returncode == 1 and b"its plugin 'nginx' is not trusted: key " in restarted.stderr
    assert daemon.vm("web")["status"]["pid"] is None
    assert [event["count"] for event in daemon.events("web") if event["reason"] == "Untrusted"] == [1]

    shutil.copy(tmp_path / "acme.pub", trusted)
    again = daemon.wait_vm("web", lambda vm: vm["status"]["ready"])
    assert b"nginx" in daemon.fetch(again)
