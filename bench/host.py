"""A volantd of the benchmark's own, and the built nginx plugin."""

from __future__ import annotations

import json
import os
import secrets
import select
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
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(BIN / "volantd", "--data-dir", root / "data", "--runtime-dir", root / "run", "--stop-vms-on-exit"),
                    *("--network-namespace", f"volant-bench-{secrets.token_hex(4)}", "--log-level", "warning", *flags),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        try:
            readable, _, _ = select.select([process.stdout], [], [], 60)
            if not readable or not process.stdout.readline().startswith(b"volantd ready"):
                raise SystemExit(f"volantd did not start:\n{(root / 'log').read_text()}")
            yield Client(f"unix://{root}/run/volantd.sock"), process.pid, root
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=120)


def build_nginx() -> Path:
    """The directory of the built example, from the cache when it was built before."""
    out = REPOSITORY / "build" / "bench-nginx"
    cache = os.environ.get("FLEDGE_CACHE", str(REPOSITORY / "build" / "fledge-cache"))
    command = [BIN / "fledge", "build", "-q", "-c", REPOSITORY / "examples/nginx/fledge.toml", "-o", out, "--cache-dir", cache]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out


def read_manifest(directory: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((directory / "manifest.json").read_text())
    return manifest


def install(client: Client, directory: Path) -> None:
    """What ``volar plugins install`` does."""
    environment = {**os.environ, "VOLANT_API": f"unix://{client.connection.path}"}
    command = [BIN / "volar", "plugins", "install", directory / "manifest.json"]
    subprocess.run(command, check=True, env=environment, capture_output=True)
