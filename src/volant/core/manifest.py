"""The plugin manifest, version 1: what a VM is made from.

One JSON document. Beside the fields of the original format it carries ``boot`` (the kernel and the initramfs that carries
kestrel), ``rootfs.filesystem``, ``workload.user`` and ``workload.stop_signal``. A top-level ``initramfs`` stays what it
was: the whole of a diskless guest. docs/reference/manifest.md describes every field.
"""

from __future__ import annotations

import functools
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from volant.core.duration import parse_duration
from volant.core.errors import InvalidInput
from volant.core.hardware import Hardware
from volant.core.ids import check_digest, check_name
from volant.core.limits import Limits
from volant.core.manifest_origin import modernise
from volant.core.manifest_rules import (
    check_actions,
    check_agent_needs,
    check_cloud_init,
    check_devices,
    check_disks,
    check_hardware,
    check_lifecycle,
    check_limits,
    check_network,
    check_probes,
)
from volant.core.part import Milliseconds, Part, Port
from volant.core.probe import Hook, Probes
from volant.core.resource import split_validation_error
from volant.core.signals import signal_number

SCHEMA_VERSIONS = ("v1", "1", "1.0")
WRITTEN_SCHEMA_VERSION = "v1"
MANIFEST_MAX_BYTES = 256 * 1024
MAX_POOL = 256
MAX_AUTO_SUSPEND_S = 30 * 86400

Agent = Literal["kestrel", "none"]
"""Who in the guest answers to volantd. Without anybody there is no exec, no log of the workload, no orderly stop and no clone."""

Filesystem = Literal["erofs", "squashfs", "ext4", "xfs", "btrfs"]
NetworkMode = Literal["bridged", "dhcp", "vsock"]
"""``bridged``: an address that Volant chose. ``dhcp``: one that the guest asked the network for. ``vsock``: no network card."""

RestartPolicy = Literal["always", "on-failure", "never"]
Positive = Annotated[int, msgspec.Meta(ge=1)]

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}")
_ENV_NAME = re.compile(r"[^=\x00]+")


class Media(Part, frozen=True, kw_only=True):
    """A file that the plugin brings, named by its content: ``checksum`` is ``sha256:`` and 64 hexadecimal digits."""

    url: str
    checksum: str = ""


class RootFilesystem(Part, frozen=True, kw_only=True):
    """``format`` says how the file holds blocks (raw, qcow2), ``filesystem`` what lies in them."""

    url: str
    checksum: str = ""
    format: Literal["raw", "qcow2"] = "raw"
    filesystem: Filesystem = "erofs"


class Boot(Part, frozen=True, kw_only=True):
    """What brings the guest up to its agent: an uncompressed kernel, and an initramfs with kestrel and its modules.

    A diskless guest has no initramfs here: its own is the top-level one.
    """

    kernel: Media
    initramfs: Media | None = None


class Resources(Part, frozen=True, kw_only=True):
    """Cores and MiB of memory that a VM gets unless its own spec says otherwise."""

    cpu_cores: Positive = 1
    memory_mb: Annotated[int, msgspec.Meta(ge=32)] = 256
    disk_mb: Annotated[int, msgspec.Meta(ge=64)] = 1024
    """The writable layer over the read-only root, sparse."""
    limits: Limits = Limits()


class Ulimit(Part, frozen=True, kw_only=True):
    """A limit of setrlimit(2); -1 is none."""

    soft: Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]
    hard: Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]


class Restart(Part, frozen=True, kw_only=True):
    """When the workload is started again after it ended, and how long after. ``max_restarts`` in a row without a run of
    ``reset_after_ms`` end the VM's run as failed; 0 is no limit."""

    policy: RestartPolicy = "always"
    initial_backoff_ms: Milliseconds = 500
    max_backoff_ms: Milliseconds = 30_000
    reset_after_ms: Milliseconds = 60_000
    max_restarts: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0


class Workload(Part, frozen=True, kw_only=True):
    """``entrypoint`` is the whole argument vector. ``base_url`` is where the workload listens, seen from inside the guest.

    ``tty``: it runs on a terminal of its own. ``stdin``: who attaches may write to it; else its stdin is empty.
    ``ulimits`` by the names of setrlimit(2) in lower case: ``nofile``, ``nproc``, ``memlock``.
    """

    type: Literal["http", "exec"] = "http"
    base_url: str = ""
    entrypoint: tuple[str, ...]
    env: dict[str, str] = {}
    workdir: str = "/"
    user: str = "0:0"
    stop_signal: str = "SIGTERM"
    stop_grace_s: Annotated[int, msgspec.Meta(ge=0, le=3600)] = 10
    """Seconds between the stop signal and the end."""
    tty: bool = False
    stdin: bool = False
    ulimits: dict[str, Ulimit] = {}
    restart: Restart = Restart()


class HealthCheck(Part, frozen=True, kw_only=True):
    """HTTP GET of ``endpoint`` under the workload's ``base_url``; 2xx and 3xx are healthy."""

    endpoint: str
    timeout_ms: Annotated[int, msgspec.Meta(ge=0)] = 1000
    interval_ms: Annotated[int, msgspec.Meta(ge=50)] = 5000
    unhealthy_threshold: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 3


class Action(Part, frozen=True, kw_only=True):
    method: str
    path: str
    description: str = ""
    timeout_ms: Annotated[int, msgspec.Meta(ge=0)] = 0


class Disk(Part, frozen=True, kw_only=True):
    """A file that the plugin brings as one more disk, which the guest finds by ``name`` (its serial). One that is not
    ``readonly`` is copied for each VM. ``target``: where the guest mounts it, when it is a path."""

    name: str
    source: str
    checksum: str = ""
    format: Literal["raw", "qcow2"] = "raw"
    readonly: bool = False
    target: str = ""


class Expose(Part, frozen=True, kw_only=True):
    port: Port
    protocol: Literal["tcp", "udp"] = "tcp"
    host_port: Port | None = None


class Network(Part, frozen=True, kw_only=True):
    mode: NetworkMode = "bridged"
    subnet: str = ""
    gateway: str = ""
    auto_assign: bool = True
    expose: tuple[Expose, ...] = ()


class CloudInitFile(Part, frozen=True, kw_only=True):
    inline: bool = False
    content: str = ""
    path: str = ""


class CloudInit(Part, frozen=True, kw_only=True):
    datasource: str = "NoCloud"
    seed_mode: Literal["vfat"] = "vfat"
    user_data: CloudInitFile | None = None
    meta_data: CloudInitFile | None = None
    network_config: CloudInitFile | None = None


class Devices(Part, frozen=True, kw_only=True):
    pci_passthrough: tuple[str, ...] = ()
    allowlist: tuple[str, ...] = ()


class Start(Part, frozen=True, kw_only=True):
    """``booted``: clones begin before the workload does. ``ready``: they begin with a workload that is healthy already.

    ``pool``: how many clones are kept ready to be taken.
    """

    template: Literal["booted", "ready"] = "booted"
    pool: Annotated[int, msgspec.Meta(ge=0, le=MAX_POOL)] = 0


class Lifecycle(Part, frozen=True, kw_only=True):
    """``auto_suspend``: a duration such as ``5m``; a VM without traffic for that long is suspended. Empty is never.

    ``post_start`` runs once the workload was started, and it is not ready before; when it fails the workload is ended.
    ``pre_stop`` runs before the stop signal, within the stop's grace.
    """

    auto_suspend: str = ""
    post_start: Hook | None = None
    pre_stop: Hook | None = None


class Manifest(Part, frozen=True, kw_only=True):
    """A plugin manifest v1. ``check_manifest`` holds the rules that types cannot say."""

    schema_: str = msgspec.field(name="$schema", default="")
    schema_version: str
    name: str
    version: str
    runtime: str = ""
    enabled: bool = True
    image: str = ""
    image_digest: str = ""
    openapi: str = ""
    labels: dict[str, str] = {}
    resources: Resources = Resources()
    workload: Workload
    health_check: HealthCheck | None = None
    """A readiness probe, as it was written at first; ``probes.readiness`` says more."""
    probes: Probes = Probes()
    actions: dict[str, Action] = {}
    boot: Boot | None = None
    rootfs: RootFilesystem | None = None
    initramfs: Media | None = None
    agent: Agent = "kestrel"
    disks: tuple[Disk, ...] = ()
    cloud_init: CloudInit | None = None
    network: Network = Network()
    devices: Devices = Devices()
    start: Start = Start()
    lifecycle: Lifecycle = Lifecycle()
    hardware: Hardware = Hardware()


def read_manifest(content: bytes) -> Manifest:
    """Parse and check a manifest document, also one that the first Volant's tools wrote (manifest_origin.py).

    Raises:
        InvalidInput: it is too large, no JSON, or breaks a rule; the message names the field.
    """
    if len(content) > MANIFEST_MAX_BYTES:
        raise InvalidInput(f"the manifest is larger than {MANIFEST_MAX_BYTES} bytes")
    try:
        return check_manifest(msgspec.convert(modernise(msgspec.json.decode(content)), Manifest))
    except msgspec.ValidationError as error:
        message, field = split_validation_error(error)
        raise InvalidInput(f"manifest: {message}", field=field) from error
    except msgspec.DecodeError as error:
        raise InvalidInput(f"the manifest is not JSON: {error}") from error


def convert_manifest(data: Any) -> Manifest:
    """``read_manifest`` for what is already parsed."""
    return _read_again(msgspec.json.encode(data))


@functools.lru_cache(maxsize=256)
def _read_again(content: bytes) -> Manifest:
    """A plugin's manifest is read at every step of every VM of it, and says the same each time."""
    return read_manifest(content)


def check_version(version: str, field: str = "version") -> str:
    """Return ``version`` when it can be a plugin's. Raises InvalidInput."""
    if not _VERSION.fullmatch(version):
        raise InvalidInput(f"{version[:80]!r} is not a version", field=field, hint="letters, digits and . _ + ~ -, at most 128")
    return version


def check_manifest(manifest: Manifest) -> Manifest:
    """Return ``manifest`` when every rule holds. Raises InvalidInput naming the first field that breaks one."""
    if manifest.schema_version not in SCHEMA_VERSIONS:
        raise InvalidInput(
            f"schema_version {manifest.schema_version!r} is not known", field="schema_version", hint='this Volant reads "v1"'
        )
    check_name(manifest.name, "name")
    check_version(manifest.version)
    _check_workload(manifest.workload)
    if manifest.health_check is not None:
        if not manifest.health_check.endpoint.startswith("/"):
            raise InvalidInput("the endpoint is a path and begins with /", field="health_check.endpoint")
        if not manifest.workload.base_url:
            raise InvalidInput("a health check needs to know where the workload listens", field="workload.base_url")
    if (manifest.rootfs is None) == (manifest.initramfs is None):
        raise InvalidInput("a manifest has either a rootfs or an initramfs", field="rootfs")
    _check_agent(manifest)
    check_probes(manifest)
    check_lifecycle(manifest)
    check_limits(manifest)
    check_network(manifest.network)
    check_disks(manifest.disks)
    check_cloud_init(manifest.cloud_init)
    check_devices(manifest.devices)
    check_hardware(manifest.hardware)
    check_actions(manifest)
    read_auto_suspend(manifest)
    media: list[tuple[str, Media | RootFilesystem]] = []
    if manifest.rootfs is not None:
        media.append(("rootfs", manifest.rootfs))
    if manifest.initramfs is not None:
        media.append(("initramfs", manifest.initramfs))
    if manifest.boot is not None:
        media.append(("boot.kernel", manifest.boot.kernel))
        if manifest.boot.initramfs is not None:
            media.append(("boot.initramfs", manifest.boot.initramfs))
    for field, medium in media:
        _check_medium(field, medium)
    return manifest


def read_auto_suspend(manifest: Manifest) -> int:
    """Whole seconds without traffic after which a VM is suspended, 0 for never. Raises InvalidInput."""
    text = manifest.lifecycle.auto_suspend
    if not text:
        return 0
    seconds = parse_duration(text, "lifecycle.auto_suspend")
    if not 1 <= seconds <= MAX_AUTO_SUSPEND_S:
        raise InvalidInput(f"{text!r} is not between 1s and 720h", field="lifecycle.auto_suspend")
    return round(seconds)


def _check_agent(manifest: Manifest) -> None:
    if manifest.agent == "kestrel":
        return
    check_agent_needs(manifest)
    if manifest.rootfs is not None:
        raise InvalidInput("kestrel mounts the root file system", field="agent", hint="a guest without an agent is an initramfs")
    for field, is_given in (("start.pool", manifest.start.pool), ("lifecycle.auto_suspend", manifest.lifecycle.auto_suspend)):
        if is_given:
            raise InvalidInput(
                f"{field} needs an agent in the guest, and agent is none", field=field, hint="remove one of the two"
            )


def _check_workload(workload: Workload) -> None:
    if not workload.entrypoint or not workload.entrypoint[0]:
        raise InvalidInput("the entrypoint is empty", field="workload.entrypoint")
    if workload.type == "http" and not workload.base_url:
        raise InvalidInput(
            "an http workload says where it listens", field="workload.base_url", hint='for example "http://127.0.0.1:80"'
        )
    if workload.base_url:
        split_base_url(workload.base_url)
    if any("\x00" in word for word in (*workload.entrypoint, workload.workdir, workload.user, *workload.env.values())):
        raise InvalidInput("a value holds a NUL byte", field="workload")
    for name in workload.env:
        if not _ENV_NAME.fullmatch(name):
            raise InvalidInput(f"{name!r} cannot name an environment variable", field="workload.env")
    if not workload.workdir.startswith("/"):
        raise InvalidInput("the working directory is an absolute path", field="workload.workdir")
    signal_number(workload.stop_signal)


def _check_medium(field: str, medium: Media | RootFilesystem) -> None:
    if not medium.url:
        raise InvalidInput("the url is empty", field=f"{field}.url")
    if medium.checksum:
        check_digest(medium.checksum, f"{field}.checksum")


def split_base_url(base_url: str) -> tuple[str, int]:
    """``(host, port)`` of an http base URL. Raises InvalidInput."""
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"{base_url[:80]!r} is not a URL", field="workload.base_url") from error
    if parts.scheme != "http" or not parts.hostname:
        raise InvalidInput(f"{base_url[:80]!r} is not an http URL", field="workload.base_url")
    return parts.hostname, 80 if port is None else port
