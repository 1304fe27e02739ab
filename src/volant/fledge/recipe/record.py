"""``fledge.toml`` version 1 as records. docs/reference/fledge.md describes every key."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from volant.core.hardware import Hardware
from volant.core.manifest import Action, CloudInit, Devices, HealthCheck, Lifecycle, Network, Resources, Restart, Start, Ulimit
from volant.core.probe import Probes

Strategy = Literal["oci_rootfs", "initramfs"]
FilesystemType = Literal["erofs", "squashfs", "ext4", "xfs", "btrfs"]

SOURCES = ("image", "dockerfile", "packages", "directory", "binary", "script")
"""The keys of ``[source]`` that each say where the content comes from."""


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class PluginSection(_Section, frozen=True, kw_only=True):
    """Who the plugin is; what is not given here comes from the source."""

    name: str = ""
    version: str = ""
    runtime: str = ""
    openapi: str = ""
    labels: dict[str, str] = {}


class AgentSection(_Section, frozen=True, kw_only=True):
    """Which kestrel goes into the guest: fledge's own (``release``), a file here (``local``), or one fetched (``http``)."""

    source_strategy: Literal["release", "local", "http"] = "release"
    version: str = ""
    path: str = ""
    url: str = ""
    checksum: str = ""


class InitSection(_Section, frozen=True, kw_only=True):
    """The first program of an initramfs: a file (``path``), or whatever the content brings as /init (``none``).

    ``agent`` is ``kestrel`` when that program goes on with /bin/kestrel, which Volant can then talk to.
    """

    path: str = ""
    none: bool = False
    agent: Literal["none", "kestrel"] = "none"


class SourceSection(_Section, frozen=True, kw_only=True):
    """One of ``SOURCES``, and what goes with it."""

    image: str = ""
    platform: str = ""
    dockerfile: str = ""
    context: str = ""
    target: str = ""
    build_args: dict[str, str] = {}
    secrets: dict[str, str] = {}
    """The id that ``RUN --mount=type=secret`` names, and the file that holds the value."""
    build_network: Literal["host", "none"] = "host"
    packages: tuple[str, ...] = ()
    suite: str = ""
    mirror: str = ""
    directory: str = ""
    owners: Literal["root", "keep"] = "root"
    binary: str = ""
    certificates: bool = False
    script: str = ""
    script_inputs: tuple[str, ...] = ()
    busybox: bool = True
    busybox_url: str = ""
    busybox_sha256: str = ""

    @property
    def given(self) -> tuple[str, ...]:
        """Those of ``SOURCES`` that are set."""
        return tuple(name for name in SOURCES if getattr(self, name))


class FilesystemSection(_Section, frozen=True, kw_only=True):
    type: FilesystemType = "erofs"
    compression: str = ""
    compression_level: Annotated[int, msgspec.Meta(ge=0, le=22)] | None = None
    overlay_size: str = ""
    size_buffer_mb: Annotated[int, msgspec.Meta(ge=0, le=1024 * 1024)] = 0
    preallocate: bool = False


class InitramfsSection(_Section, frozen=True, kw_only=True):
    compression: Literal["none", "gzip", "zstd", "xz"] = "none"


class WorkloadSection(_Section, frozen=True, kw_only=True):
    """What is given here wins over the image's own configuration; ``env`` is merged into the image's."""

    type: Literal["http", "exec"] | None = None
    base_url: str = ""
    entrypoint: tuple[str, ...] = ()
    env: dict[str, str] = {}
    user: str = ""
    workdir: str = ""
    stop_signal: str = ""
    stop_grace_s: int | None = None
    tty: bool | None = None
    stdin: bool | None = None
    ulimits: dict[str, Ulimit] = {}
    restart: Restart | None = None


class KernelSection(_Section, frozen=True, kw_only=True):
    """``deb`` is a package file: of a kernel, or of the source that a minimal one is compiled from."""

    source: Literal["debian", "minimal"] = "debian"
    package: str = ""
    deb: str = ""


class Recipe(_Section, frozen=True, kw_only=True):
    """The whole file. The sections that also stand in a ``manifest.toml`` are what the plugin's manifest says."""

    schema_: str = msgspec.field(name="$schema", default="")
    version: Literal["1"]
    strategy: Strategy
    plugin: PluginSection = PluginSection()
    agent: AgentSection | None = None
    init: InitSection | None = None
    source: SourceSection = SourceSection()
    filesystem: FilesystemSection | None = None
    initramfs: InitramfsSection | None = None
    mappings: dict[str, str] = {}
    workload: WorkloadSection = WorkloadSection()
    health_check: HealthCheck | None = None
    probes: Probes | None = None
    resources: Resources | None = None
    network: Network | None = None
    actions: dict[str, Action] = {}
    cloud_init: CloudInit | None = None
    devices: Devices | None = None
    start: Start | None = None
    lifecycle: Lifecycle | None = None
    hardware: Hardware | None = None
    kernel: KernelSection = KernelSection()
