"""A real guest with the agent of the version before this one: what it could it can, and what is new is refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import REPOSITORY
from .daemon import BIN, Daemon

sys.path.insert(0, str(Path(__file__).parents[1]))
from previous_agent import build_previous

TOO_OLD = b"its agent, kestrel/0.0.9, is too old"


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The nginx plugin as it was built then, as far as its agent goes."""
    kestrel = build_previous(tmp_path_factory.mktemp("previous")) / "kestrel"
    out = tmp_path_factory.mktemp("nginx-previous")
    cache = os.environ.get("FLEDGE_CACHE", str(REPOSITORY / "build" / "fledge-cache"))
    recipe = REPOSITORY / "examples" / "nginx" / "fledge.toml"
    done = subprocess.run(
        [BIN / "fledge", "build", "-c", recipe, "-o", out, "--cache-dir", cache],
        env={**os.environ, "VOLANT_KESTREL": str(kestrel)},
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr.decode()
    return out


def test_a_guest_that_was_built_before_runs_on_and_says_what_it_is_too_old_for(
    make_daemon: Callable[..., Daemon], plugin: Path, tmp_path: Path
) -> None:
    host = make_daemon()
    host.start()
    host.volar("plugins", "install", str(plugin / "manifest.json"))
    host.volar("vms", "create", "web", "--plugin", "nginx")
    vm = host.wait_vm("web", lambda vm: vm["status"]["ready"])
    assert b"It works" in host.fetch(vm)
    assert host.volar("vms", "exec", "web", "--", "cat", "/etc/hostname").stdout == b"web\n"
    assert host.volar("vms", "exec", "web", "--", "cat", stdin=b"x" * 300_000).stdout == b"x" * 300_000
    assert b"GET / HTTP/1.1" in host.volar("vms", "logs", "web").stdout
    host.volar("vms", "create", "clone", "--plugin", "nginx")
    clone = host.wait_vm("clone", lambda vm: vm["status"]["ready"])
    assert clone["status"]["start"]["kind"] == "template"
    host.volar("vms", "suspend", "web")
    host.volar("vms", "start", "web")
    host.wait_vm("web", lambda vm: vm["status"]["ready"])

    for words in (
        ("vms", "exec", "-t", "web", "--", "sh"),
        ("vms", "attach", "web"),
        ("vms", "cp", "web:/etc/hostname", str(tmp_path)),
        ("vms", "call", "web", "GET:/"),
    ):
        refused = host.volar(*words, check=False, timeout_s=30)
        assert refused.returncode != 0 and TOO_OLD in refused.stderr + refused.stdout, (words, refused)

    manifest = json.loads((plugin / "manifest.json").read_text())
    manifest["name"] = "limited"
    manifest["workload"]["ulimits"] = {"nofile": {"soft": 256, "hard": 256}}
    variant = plugin / "limited.json"
    variant.write_text(json.dumps(manifest))
    host.volar("plugins", "install", str(variant))
    failed = host.volar("vms", "create", "limited", "--plugin", "limited", check=False)
    assert failed.returncode != 0 and TOO_OLD + b" for ulimits: build its plugin again" in failed.stderr, failed
