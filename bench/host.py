"""A volantd of the benchmark's own, and the built nginx plugin."""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from volant.client.client import Client

BIN = Path(sys.executable).parent
REPOSITORY = Path(__file__).parents[1]


@contextmanager
def daemon(*flags: str) -> Iterator[tuple[Client, int, Path]]:
    """``(client, pid of volantd, its directory)``; everything is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="volant-bench.") as directory:
        root = Path(directory)
        (root / "namespace").write_text(f"volant-bench-{secrets.token_hex(4)}")
        process = launch(root, *flags)
        try:
            yield Client(f"unix://{root}/run/volantd.sock"), process.pid, root
        finally:
            process.send_signal(signal.SIGTERM)
            if process.wait(timeout=120) == -signal.SIGKILL:
                # A benchmark killed it to talk to its guests: another one ends those.
                process = launch(root, *flags)
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=120)


def launch(root: Path, *flags: str) -> subprocess.Popen[bytes]:
    """A volantd in ``root`` that is ready."""
    with (root / "log").open("ab") as log:
        process = subprocess.Popen(
            [
                *(BIN / "volantd", "--data-dir", root / "data", "--runtime-dir", root / "run", "--stop-vms-on-exit"),
                *("--network-namespace", find_namespace(root), "--log-level", "warning", *flags),
            ],
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], 60)
    if not readable or not process.stdout.readline().startswith(b"volantd ready"):
        process.kill()
        process.wait()
        raise SystemExit(f"volantd did not start:\n{(root / 'log').read_text()}")
    return process


def build_nginx() -> Path:
    """The directory of the built example, from the cache when it was built before; BENCH_KERNEL=minimal changes its kernel."""
    kernel = os.environ.get("BENCH_KERNEL", "debian")
    out = REPOSITORY / "build" / ("bench-nginx" if kernel == "debian" else f"bench-nginx-{kernel}")
    cache = os.environ.get("FLEDGE_CACHE", str(REPOSITORY / "build" / "fledge-cache"))
    with tempfile.TemporaryDirectory(prefix="volant-bench.") as directory:
        recipe = Path(directory) / "nginx"
        shutil.copytree(REPOSITORY / "examples/nginx", recipe)
        with (recipe / "fledge.toml").open("a") as stream:
            stream.write(f'\n[kernel]\nsource = "{kernel}"\n')
        command = [BIN / "fledge", "build", "-q", "-c", recipe / "fledge.toml", "-o", out, "--cache-dir", cache]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out


def read_manifest(directory: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((directory / "manifest.json").read_text())
    return manifest


def describe_kernel(manifest: dict[str, Any]) -> str:
    return f"kernel {manifest['labels']['volant.kernel']}"


def install(client: Client, directory: Path) -> None:
    """What ``volar plugins install`` does."""
    _install(client, directory / "manifest.json")


def install_variant(client: Client, directory: Path, name: str, **changes: Any) -> None:
    """The built plugin once more, under another name and with other members in its manifest."""
    manifest = directory / f"{name}.json"
    manifest.write_text(json.dumps({**read_manifest(directory), "name": name, **changes}))
    try:
        _install(client, manifest)
    finally:
        manifest.unlink()


def _install(client: Client, manifest: Path) -> None:
    environment = {**os.environ, "VOLANT_API": str(client.connection.address)}
    subprocess.run([BIN / "volar", "plugins", "install", manifest], check=True, env=environment, capture_output=True)


def find_namespace(root: Path) -> str:
    """The network namespace of the volantd in ``root``."""
    return (root / "namespace").read_text()


def read_available_mib() -> float:
    """What programs of this host could still have."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) / 1024
