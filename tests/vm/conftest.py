"""Real guests under emulation. Skipped with a reason where they cannot run."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .counter import ENTRYPOINT, HEALTH
from .daemon import BIN, Daemon

REPOSITORY = Path(__file__).parents[2]


CLOUD_HYPERVISOR = os.environ.get("VOLANT_TEST_CLOUD_HYPERVISOR", "")
"""A real Cloud Hypervisor, where there is one and KVM works: ``ON_EVERY_HYPERVISOR`` runs under it, too."""

ON_EVERY_HYPERVISOR = frozenset({"test_life", "test_network", "test_kills", "test_diskless", "test_limits"})
"""Modules of tests that need nothing of QEMU's own. Clones need its shared memory."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if CLOUD_HYPERVISOR and "daemon" in metafunc.fixturenames and Path(metafunc.module.__file__).stem in ON_EVERY_HYPERVISOR:
        metafunc.parametrize("daemon", ["qemu", "cloud-hypervisor"], indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [program for program in ("qemu-system-x86_64", "ip", "nft", "curl") if shutil.which(program) is None]
    reason = "needs root" if os.geteuid() != 0 else f"not installed: {', '.join(missing)}" if missing else ""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.vm)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the built example plugin."""
    cache = os.environ.get("FLEDGE_CACHE", str(REPOSITORY / "build" / "fledge-cache"))
    out = tmp_path_factory.mktemp("nginx")
    built = subprocess.run(
        [BIN / "fledge", "build", "-c", REPOSITORY / "examples/nginx/fledge.toml", "-o", out, "--cache-dir", cache],
        capture_output=True,
        timeout=600,
    )
    assert built.returncode == 0, built.stderr.decode()
    assert built.stdout.decode().splitlines()[-1] == str(out / "manifest.json")
    return out


@pytest.fixture(scope="session")
def manifest(nginx: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((nginx / "manifest.json").read_text())
    return content


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Makes daemons and sees to it that each leaves nothing."""
    made: list[Daemon] = []

    def make(**options: Any) -> Daemon:
        daemon = Daemon(tmp_path / f"host-{len(made)}", f"volant-test-{secrets.token_hex(4)}", **options)
        made.append(daemon)
        return daemon

    yield make
    left: list[str] = []
    for daemon in made:
        daemon.clean_up()
        left += daemon.leftovers()
    assert not left


@pytest.fixture
def daemon(request: pytest.FixtureRequest, make_daemon: Callable[..., Daemon], nginx: Path) -> Daemon:
    """A running volantd with the nginx plugin installed."""
    started = make_daemon()
    wanted = getattr(request, "param", "qemu")
    started.start("--hypervisor", wanted, *(["--cloud-hypervisor-binary", CLOUD_HYPERVISOR] if CLOUD_HYPERVISOR else []))
    started.volar("plugins", "install", str(nginx / "manifest.json"))
    return started


@pytest.fixture
def install(daemon: Daemon, nginx: Path, manifest: dict[str, Any], tmp_path: Path) -> Callable[..., None]:
    """Installs a plugin of the same files with another workload: ``install("crash", ["/bin/false"])``."""

    def install_variant(name: str, entrypoint: list[str], *, health: dict[str, Any] | None = None, **changes: Any) -> None:
        workload = {**manifest["workload"], "entrypoint": entrypoint, **({} if health else {"type": "exec"})}
        variant = {**manifest, "name": name, "workload": workload, **changes}
        variant.pop("health_check", None)
        if health:
            variant["health_check"] = health
        directory = tmp_path / f"plugin-{name}"
        shutil.copytree(nginx, directory, copy_function=os.link)
        (directory / "manifest.json").unlink()
        (directory / "manifest.json").write_text(json.dumps(variant))
        daemon.volar("plugins", "install", str(directory / "manifest.json"))

    return install_variant


@pytest.fixture
def counting(daemon: Daemon, install: Callable[..., None]) -> Daemon:
    """A volantd that has the plugin ``counter`` and its template."""
    install("counter", ENTRYPOINT, health=HEALTH)
    daemon.volar("templates", "build", "counter")
    return daemon
