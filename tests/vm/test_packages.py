"""The second example: a plugin from a list of Debian packages."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from .conftest import REPOSITORY
from .daemon import BIN, Daemon


def test_a_list_of_packages_becomes_a_vm_that_answers(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    cache = os.environ.get("FLEDGE_CACHE", str(REPOSITORY / "build" / "fledge-cache"))
    out = tmp_path / "hello"
    recipe = REPOSITORY / "examples" / "busybox" / "fledge.toml"
    built = subprocess.run(
        [BIN / "fledge", "build", "-q", "-c", recipe, "-o", out, "--cache-dir", cache], capture_output=True, timeout=600
    )
    assert built.returncode == 0, built.stderr.decode()
    daemon = make_daemon()
    daemon.start()
    daemon.volar("plugins", "install", str(out))
    daemon.volar("vms", "create", "hi", "--plugin", "hello")
    assert b"Hello from a microVM" in daemon.fetch(daemon.vm("hi"))
    files = daemon.volar("vms", "exec", "hi", "--", "stat", "-c", "%u:%g %a", "/srv/www/index.html", "/etc/shadow").stdout
    assert files.decode().split("\n")[:2] == ["0:0 644", "0:42 640"]
