"""Debian's docker-registry on loopback, for as long as a test needs it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT_S = 20.0
HAS_REGISTRY = shutil.which("docker-registry") is not None


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RegistryServer:
    """``host`` is ``127.0.0.1:PORT``."""

    def __init__(self, host: str, storage: Path) -> None:
        self.host = host
        self._storage = storage

    def blob(self, digest: str) -> Path:
        """The file in which it keeps a blob."""
        name = digest.removeprefix("sha256:")
        return self._storage / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data"


@contextmanager
def serve_registry(directory: Path, port: int | None = None) -> Iterator[RegistryServer]:
    """A registry that keeps what it has in ``directory``, and blobs can be deleted from."""
    port = port or find_port()
    directory.mkdir(exist_ok=True)
    config = directory / "config.json"  # JSON is YAML
    config.write_text(
        json.dumps(
            {
                "version": "0.1", "log": {"level": "error"}, "http": {"addr": f"127.0.0.1:{port}"},
                "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}, "delete": {"enabled": True}},
            }
        )
    )  # fmt: skip
    process = subprocess.Popen(
        ["docker-registry", "serve", config], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(port):
            assert process.poll() is None, "docker-registry ended"
            assert time.monotonic() < deadline, "docker-registry does not answer"
            time.sleep(0.05)
        yield RegistryServer(f"127.0.0.1:{port}", directory / "storage")
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
