"""The VM: one microVM, what was asked of it and what it is."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from volant.core.condition import Conditions
from volant.core.ids import Digest
from volant.core.limits import Limits
from volant.core.manifest import NetworkMode, RestartPolicy
from volant.core.placement import Placement
from volant.core.resource import Resource, Spec, Status

Phase = Literal[
    "Pending",
    "Preparing",
    "Starting",
    "Running",
    "Suspending",
    "Suspended",
    "Parked",
    "Stopping",
    "Stopped",
    "Failed",
    "Deleting",
]
Power = Literal["running", "suspended", "stopped", "parked"]
"""``parked`` is a pool's own: started, healthy and paused, waiting for the create that takes it."""

StartMode = Literal["auto", "cold", "template"]
StartKind = Literal["cold", "template", "pool", "resume", "snapshot"]
AddressSource = Literal["static", "dhcp", "external"]
"""Who tells a guest its address: Volant's channel, Volant's DHCP server, or somebody else's."""

HypervisorChoice = Literal["auto", "qemu", "cloud-hypervisor", "simulated"]

SCHEDULED = "Scheduled"
NETWORK_READY = "NetworkReady"
BOOTED = "Booted"
AGENT_CONNECTED = "AgentConnected"
READY = "Ready"
RESTART_REQUIRED = "RestartRequired"
"""True while the run does not have what the spec asks for, and only a restart gives it; its message names the fields."""
CONDITION_TYPES = (SCHEDULED, NETWORK_READY, BOOTED, AGENT_CONNECTED, READY)

FINALIZER = "volant/host"
"""Held while anything of the VM may be left on its host."""

DEFAULT_GRACE_S = 10
MAX_CPU_CORES = 64
MIN_MEMORY_MB = 32
MAX_MEMORY_MB = 4 * 1024 * 1024
MAX_DISK_MB = 16 * 1024 * 1024


class PublishedPort(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``host_port`` of the host leads to ``port`` of the guest."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    host_port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    protocol: Literal["tcp"] = "tcp"


class ExtraDisk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A disk of the VM's own beside its root, which the guest finds by ``name`` (its serial). Empty at first, or a copy of
    ``artifact``; a read-only one is the artifact itself. It goes when it is taken out of the spec, or with the VM."""

    name: str
    size_mb: Annotated[int, msgspec.Meta(ge=1, le=MAX_DISK_MB)] | None = None
    artifact: str = ""
    readonly: bool = False


class VMSpec(Spec, frozen=True, kw_only=True):
    """Sizes are MiB. ``None`` means what the plugin's manifest says, filled in when the VM is created."""

    plugin: str
    cpu_cores: Annotated[int, msgspec.Meta(ge=1, le=MAX_CPU_CORES)] | None = None
    memory_mb: Annotated[int, msgspec.Meta(ge=MIN_MEMORY_MB, le=MAX_MEMORY_MB)] | None = None
    disk_mb: Annotated[int, msgspec.Meta(ge=64, le=MAX_DISK_MB)] | None = None
    root: Literal["disk", "ephemeral"] = "disk"
    """``disk``: the writable layer survives stop, crash and reboot of the host. ``ephemeral``: it is the guest's memory."""
    power: Power = "running"
    start: StartMode = "auto"
    """``auto``: from a template, or cold where that cannot be. ``template``: fail rather than boot. ``cold``: always boot."""
    snapshot: str = ""
    """The snapshot that it starts from, once for every value of ``snapshot_token``."""
    snapshot_token: Annotated[int, msgspec.Meta(ge=0)] = 0
    ports: tuple[PublishedPort, ...] | None = None
    auto_suspend_s: Annotated[int, msgspec.Meta(ge=0, le=30 * 86400)] | None = None
    """Seconds without traffic after which it is suspended; 0 is never."""
    restart_policy: RestartPolicy | None = None
    """Of the workload in its guest, and of the VM when its run ended unasked."""
    restart_token: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Raised by one for every start or restart that somebody asks for by name."""
    force_stop: bool = False
    """Its run ends at once when it is to end, and its guest is not asked. Set by a forced stop or delete, cleared by a start."""
    command: Annotated[tuple[str, ...], msgspec.Meta(max_length=256)] = ()
    """The whole argument vector of the workload, instead of the manifest's entrypoint."""
    env: dict[str, str] = {}
    """Added to the workload's environment, over the manifest's."""
    network: str = "default"
    isolation: Literal["any", "hardware"] = "any"
    """``hardware`` refuses to run under emulation, which is no isolation boundary."""
    stop_grace_s: Annotated[int, msgspec.Meta(ge=0, le=3600)] | None = None
    hypervisor: HypervisorChoice = "auto"
    """``auto``: what the host was set up with; ``status.hypervisor`` says which it became."""
    network_mode: NetworkMode | None = None
    extra_networks: tuple[str, ...] = ()
    """Networks that it has a further card in."""
    disks: Annotated[tuple[ExtraDisk, ...], msgspec.Meta(max_length=16)] = ()
    kernel: Digest | None = None
    """An artifact to boot instead of the plugin's kernel; likewise ``initramfs``."""
    initramfs: Digest | None = None
    kernel_cmdline: str = ""
    """Words added to the kernel's command line, of those that the host allows."""
    limits: Limits | None = None
    placement: Placement = Placement()
    """Which nodes it may be placed on."""

    @property
    def policy(self) -> RestartPolicy:
        return self.restart_policy or "always"

    @property
    def grace_s(self) -> int:
        """Seconds between the workload's stop signal and its end."""
        return DEFAULT_GRACE_S if self.stop_grace_s is None else self.stop_grace_s


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """One network card. ``ip`` is empty until a guest in a network of somebody else's has told what it was given."""

    network: str
    ip: str
    mac: str
    prefix_length: int
    gateway: str
    source: AddressSource = "static"


class StartRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How the current run began, or went on after it was suspended. ``steps_ms`` holds what each part of it took."""

    kind: StartKind = "cold"
    template: str = ""
    """The template that its memory stands on."""
    reason: str = ""
    """Why it was not started from a template."""
    duration_ms: int | None = None
    """From the moment the start was asked for until Ready; ``None`` until then."""
    asked_at: str = ""
    steps_ms: dict[str, int] = {}


class SuspendRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What lies on the disk of a VM that sleeps. ``duration_ms``: from the moment it was paused until all was written."""

    at: str
    size_bytes: int
    duration_ms: int


class EndRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How the run before ended. ``asked`` when it was wanted."""

    run_id: str
    kind: str
    message: str
    at: str
    asked: bool = False
    clean: bool = False
    """The guest switched itself off, and its workload (if that is why) had ended with status 0."""
    exit_code: int | None = None
    """The workload's, when the run ended with it; or ``exit_signal``, the signal that ended it."""
    exit_signal: int | None = None
    gave_up: bool = False
    """The workload was restarted as often as its manifest allows, so that nothing is started again by itself."""


class WorkloadStatus(msgspec.Struct, frozen=True, kw_only=True):
    state: str = "unknown"
    health: str = "unknown"
    """Readiness: ``unknown``, ``healthy`` or ``unhealthy``."""
    started: bool | None = None
    """The startup probe and the ``post_start`` hook are behind it; None from an agent that does not tell."""
    live: bool | None = None
    """The liveness probe has not failed."""
    restarts: int = 0
    pid: int | None = None
    message: str = ""
    exit_code: int | None = None
    """Of its last end, or ``exit_signal``; ``last_end`` says why it ended."""
    exit_signal: int | None = None
    last_end: str = ""


class VMStatus(Status, frozen=True, kw_only=True):
    phase: Phase = "Pending"
    ready: bool = False
    reason: str = ""
    message: str = ""
    node: str = ""
    slot: int | None = None
    addresses: tuple[Address, ...] = ()
    plugin_uid: str = ""
    plugin_version: str = ""
    """What it was made from and stays on, whatever its plugin's default becomes."""
    hypervisor: str = ""
    accelerator: str = ""
    isolation: Literal["", "hardware", "emulated", "simulated"] = ""
    pid: int | None = None
    run_id: str = ""
    started_at: str | None = None
    started_token: int | None = None
    """``spec.restart_token`` when the latest run was begun."""
    restarts: int = 0
    """Runs begun because the one before ended unasked."""
    failures: int = 0
    """Unasked ends in a row, for the backoff; a run that lasts clears it."""
    retry_at: str | None = None
    template: str = ""
    """The template that the memory of the current run, or of the suspended VM, stands on."""
    snapshot_token: int | None = None
    """``spec.snapshot_token`` when the VM last began from its snapshot."""
    suspended: SuspendRecord | None = None
    start: StartRecord | None = None
    last_end: EndRecord | None = None
    workload: WorkloadStatus = WorkloadStatus()
    conditions: Conditions = ()
    observed_generation: int = 0


def is_parked(vm: VM) -> bool:
    """True for a clone that a pool keeps; nobody but the pool may see it as a VM."""
    return vm.spec.power == "parked"


class VM(Resource[VMSpec, VMStatus], frozen=True, kw_only=True):
    kind: ClassVar[str] = "VM"
    plural: ClassVar[str] = "vms"
    spec_type: ClassVar[type[Spec]] = VMSpec
    status_type: ClassVar[type[Status]] = VMStatus
