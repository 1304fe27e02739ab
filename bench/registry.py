"""An image from a registry on this machine to an OCI layout, and a plugin to it: ours against ``skopeo copy``."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.report import describe_machine, describe_times, judge
from volant.run import run, spawn

LAYERS = 5
LAYER_BYTES = 48 * 1024 * 1024
RUNS = 3
BUDGET_RATIO = 1.0
"""Of the time that skopeo takes for the same."""

PULL = """
import asyncio, sys
from pathlib import Path
from volant.artifact.registry.client import RegistryClient
from volant.artifact.registry.platform import parse_platform
from volant.artifact.registry.reference import parse_image_reference

async def main():
    async with RegistryClient() as client:
        image = await client.resolve(parse_image_reference(sys.argv[1]), parse_platform("amd64"))
        await client.fetch_image(image, Path(sys.argv[2]))

asyncio.run(main())
# Not ru_maxrss, which begins with that of the process that started this one.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@contextmanager
def serve_registry(directory: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = directory / "config.json"
    settings = {
        "version": "0.1", "log": {"level": "error"}, "http": {"addr": f"127.0.0.1:{port}"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}},
    }  # fmt: skip
    config.write_text(json.dumps(settings))
    process = spawn(["docker-registry", "serve", config])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def push_image(host: str) -> None:
    from volant.artifact.registry.client import RegistryClient
    from volant.artifact.registry.documents import OCI_CONFIG, OCI_MANIFEST, describe_bytes
    from volant.artifact.registry.reference import parse_image_reference

    reference = parse_image_reference(f"{host}/image:1")
    async with RegistryClient() as client:
        entries = []
        config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
        for content, kind in [(config, OCI_CONFIG)] + [(None, "application/vnd.oci.image.layer.v1.tar")] * LAYERS:
            blob = content or os.urandom(LAYER_BYTES)
            descriptor = describe_bytes(blob, kind)
            await client.push_blob(reference, descriptor, blob)
            entries.append({"mediaType": kind, "digest": descriptor.digest, "size": descriptor.size})
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entries[0], "layers": entries[1:]}
        await client.push_manifest(reference, json.dumps(manifest).encode(), OCI_MANIFEST)


async def measure(host: str, scratch: Path) -> None:
    commands = {
        "ours": [sys.executable, "-c", PULL, f"{host}/image:1", scratch / "ours"],
        "skopeo copy": ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{host}/image:1", f"oci:{scratch}/skopeo:1"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    work: dict[str, list[float]] = {name: [] for name in commands}
    memory_kib = 0
    for _ in range(RUNS):
        for name, command in commands.items():
            began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
            done = await run(command, timeout_s=600)
            times[name].append(time.monotonic() - began)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            work[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            if name == "ours":
                memory_kib = max(memory_kib, int(done.text))
            shutil.rmtree(scratch / name.split()[0])
    for name, seconds in times.items():
        print(describe_times(f"pull {LAYERS * LAYER_BYTES // 1024**2} MiB, {name}", seconds))
    for name, seconds in work.items():
        print(describe_times(f"processor time, {name}", seconds))
    for what, taken in (("elapsed", times), ("processor", work)):
        ratio = statistics.median(taken["ours"]) / statistics.median(taken["skopeo copy"])
        print(judge(f"ours / skopeo copy, {what}", ratio, BUDGET_RATIO))
    print(judge("our peak memory", memory_kib / 1024, 150, " MiB"))


def main() -> None:
    print(f"registry: {describe_machine()}")
    if shutil.which("docker-registry") is None or shutil.which("skopeo") is None:
        print("  not measured: needs docker-registry and skopeo")
        return
    with tempfile.TemporaryDirectory() as name, serve_registry(Path(name)) as host:
        asyncio.run(push_image(host))
        asyncio.run(measure(host, Path(name)))
