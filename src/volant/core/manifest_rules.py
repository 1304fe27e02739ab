"""Rules of a manifest that its types cannot say: probes, hooks, limits, network, files of cloud-init, hardware.

Each function raises InvalidInput that names the first field at fault.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from volant.core.errors import InvalidInput
from volant.core.ids import check_digest

if TYPE_CHECKING:
    from volant.core.hardware import Hardware
    from volant.core.manifest import CloudInit, Devices, Disk, Lifecycle, Manifest, Network
    from volant.core.probe import Hook, HttpRequest, Probe

ULIMITS = frozenset(
    {
        "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
        "rttime", "sigpending", "stack",
    }
)  # fmt: skip
"""The names of setrlimit(2)."""

NOFILE_MAX = 1_048_576
"""The kernel's own bound (fs.nr_open) for open files, which knows no "none"."""

CLOUD_INIT_SOURCES = ("NoCloud",)
SERIAL = re.compile(r"[A-Za-z0-9._-]{1,20}")
_PCI = re.compile(r"[0-9a-f]{4}(:[0-9a-f]{4})?", re.IGNORECASE)
_PCI_ADDRESS = re.compile(r"([0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", re.IGNORECASE)
_CPU_FEATURE = re.compile(r"[a-z0-9_.]{1,32}", re.IGNORECASE)
_REQUEST_TARGET = re.compile(r"/[!-~]{0,1023}")
_METHOD = re.compile(r"[A-Za-z]{1,16}")


def check_probes(manifest: Manifest) -> None:
    if manifest.health_check is not None and manifest.probes.readiness is not None:
        raise InvalidInput(
            "health_check is a readiness probe, and there is another", field="health_check", hint="keep probes.readiness"
        )
    for name in ("startup", "readiness", "liveness"):
        probe: Probe | None = getattr(manifest.probes, name)
        if probe is not None:
            _check_probe(manifest, f"probes.{name}", probe)
    if manifest.probes.liveness is not None and manifest.probes.liveness.success_threshold != 1:
        raise InvalidInput(
            "what is alive needs no second success", field="probes.liveness.success_threshold", hint="leave it out"
        )


def _check_probe(manifest: Manifest, field: str, probe: Probe) -> None:
    if sum(each is not None for each in (probe.http, probe.tcp, probe.exec)) != 1:
        raise InvalidInput("a probe is exactly one of http, tcp and exec", field=field)
    if probe.http is not None:
        _check_request(manifest, f"{field}.http", probe.http)
    elif probe.tcp is not None:
        _check_host(f"{field}.tcp.host", probe.tcp.host)
    elif probe.exec is not None:
        _check_command(f"{field}.exec", probe.exec)


def check_lifecycle(manifest: Manifest) -> None:
    lifecycle: Lifecycle = manifest.lifecycle
    for name in ("post_start", "pre_stop"):
        hook: Hook | None = getattr(lifecycle, name)
        if hook is None:
            continue
        field = f"lifecycle.{name}"
        if (hook.http is None) == (hook.exec is None):
            raise InvalidInput("a hook is exactly one of exec and http", field=field)
        if hook.http is not None:
            _check_request(manifest, f"{field}.http", hook.http)
        elif hook.exec is not None:
            _check_command(f"{field}.exec", hook.exec)


def _check_request(manifest: Manifest, field: str, request: HttpRequest) -> None:
    if not _REQUEST_TARGET.fullmatch(request.path):
        raise InvalidInput("the path begins with / and has printable characters alone", field=f"{field}.path")
    _check_host(f"{field}.host", request.host)
    if request.port is None and not manifest.workload.base_url:
        raise InvalidInput("nothing says which port to ask", field=f"{field}.port", hint="give a port, or workload.base_url")


def _check_host(field: str, host: str) -> None:
    if host == "localhost":
        return
    try:
        ipaddress.IPv4Address(host)
    except ValueError as error:
        raise InvalidInput(f"{host[:80]!r} is not an IPv4 address of the guest", field=field, hint="127.0.0.1") from error


def _check_command(field: str, command: tuple[str, ...]) -> None:
    if not command[0]:
        raise InvalidInput("the program has no name", field=field)
    if any("\x00" in word for word in command):
        raise InvalidInput("an argument holds a NUL byte", field=field)


def check_limits(manifest: Manifest) -> None:
    for name, limit in manifest.workload.ulimits.items():
        field = f"workload.ulimits.{name}"
        if name not in ULIMITS:
            raise InvalidInput(
                f"{name[:40]!r} is no limit of setrlimit(2)", field="workload.ulimits", hint=", ".join(sorted(ULIMITS))
            )
        if limit.hard >= 0 and not 0 <= limit.soft <= limit.hard:
            raise InvalidInput("the soft limit is above the hard one", field=f"{field}.soft")
        if name == "nofile" and not 0 <= limit.hard <= NOFILE_MAX:
            raise InvalidInput(f"the kernel allows 0 to {NOFILE_MAX} open files", field=f"{field}.hard")
        if name == "nofile" and limit.soft < 0:
            raise InvalidInput(f"the kernel allows 0 to {NOFILE_MAX} open files", field=f"{field}.soft")
    restart = manifest.workload.restart
    if restart.initial_backoff_ms > restart.max_backoff_ms:
        raise InvalidInput("the first pause is longer than the longest", field="workload.restart.initial_backoff_ms")


def check_agent_needs(manifest: Manifest) -> None:
    """What nobody does in a guest without an agent."""
    workload, probes, lifecycle = manifest.workload, manifest.probes, manifest.lifecycle
    asked = {
        "probes.startup": probes.startup,
        "probes.liveness": probes.liveness,
        "probes.readiness.exec": probes.readiness.exec if probes.readiness is not None else None,
        "lifecycle.post_start": lifecycle.post_start,
        "lifecycle.pre_stop": lifecycle.pre_stop,
        "workload.ulimits": workload.ulimits,
        "workload.tty": workload.tty,
        "workload.stdin": workload.stdin,
    }
    for field, is_given in asked.items():
        if is_given:
            raise InvalidInput(
                f"{field} needs an agent in the guest, and agent is none", field=field, hint="remove one of the two"
            )
    if manifest.network.mode == "vsock":
        raise InvalidInput("a guest without network card and agent can do nothing for anybody", field="network.mode")


def check_network(network: Network) -> None:
    subnet = None
    if network.subnet:
        try:
            subnet = ipaddress.IPv4Network(network.subnet, strict=False)
        except ValueError as error:
            raise InvalidInput(f"{network.subnet[:80]!r} is not an IPv4 subnet", field="network.subnet") from error
    if network.gateway:
        try:
            gateway = ipaddress.IPv4Address(network.gateway)
        except ValueError as error:
            raise InvalidInput(f"{network.gateway[:80]!r} is not an IPv4 address", field="network.gateway") from error
        if subnet is not None and gateway not in subnet:
            raise InvalidInput(f"{gateway} does not lie in {subnet}", field="network.gateway")
    if network.mode == "bridged" and network.subnet and not network.gateway and not network.auto_assign:
        raise InvalidInput("a subnet without a gateway has its addresses assigned", field="network.gateway", hint="auto_assign")
    seen = set()
    for number, expose in enumerate(network.expose):
        if (expose.protocol, expose.port) in seen:
            raise InvalidInput(f"port {expose.port}/{expose.protocol} is exposed twice", field=f"network.expose[{number}].port")
        seen.add((expose.protocol, expose.port))


def check_disks(disks: tuple[Disk, ...]) -> None:
    seen: set[str] = set()
    for number, disk in enumerate(disks):
        field = f"disks[{number}]"
        if not SERIAL.fullmatch(disk.name):
            raise InvalidInput(
                f"{disk.name[:40]!r} cannot name a disk", field=f"{field}.name", hint="1 to 20 letters, digits, . _ -"
            )
        if disk.name in seen or disk.name in ("rootfs", "data"):
            raise InvalidInput(f"there is another disk named {disk.name!r}", field=f"{field}.name")
        seen.add(disk.name)
        if not disk.source:
            raise InvalidInput("the disk has no source", field=f"{field}.source")
        if disk.checksum:
            check_digest(disk.checksum, f"{field}.checksum")
        if "\x00" in disk.target or ".." in disk.target.split("/"):
            raise InvalidInput(f"{disk.target[:80]!r} is no place to mount a disk at", field=f"{field}.target")


def check_cloud_init(cloud_init: CloudInit | None) -> None:
    if cloud_init is None:
        return
    if cloud_init.datasource not in CLOUD_INIT_SOURCES:
        raise InvalidInput(
            f"{cloud_init.datasource[:40]!r} is no datasource that Volant gives", field="cloud_init.datasource", hint="NoCloud"
        )
    for name in ("user_data", "meta_data", "network_config"):
        file = getattr(cloud_init, name)
        if file is None:
            continue
        field = f"cloud_init.{name}"
        if file.content and file.path:
            raise InvalidInput("either content or path", field=field)
        if file.content and not file.inline:
            raise InvalidInput("content needs inline to be true", field=f"{field}.inline")
        if file.path and file.inline:
            raise InvalidInput("a path needs inline to be false", field=f"{field}.inline")


def check_devices(devices: Devices) -> None:
    for number, address in enumerate(devices.pci_passthrough):
        if not _PCI_ADDRESS.fullmatch(address):
            raise InvalidInput(
                f"{address[:40]!r} is no PCI address", field=f"devices.pci_passthrough[{number}]", hint="such as 0000:01:00.0"
            )
    for number, ids in enumerate(devices.allowlist):
        if not _PCI.fullmatch(ids.replace("*", "0000")):
            raise InvalidInput(f"{ids[:40]!r} are no PCI ids", field=f"devices.allowlist[{number}]", hint="such as 10de:*")


def check_hardware(hardware: Hardware) -> None:
    for number, feature in enumerate(hardware.cpu_features):
        if not _CPU_FEATURE.fullmatch(feature):
            raise InvalidInput(
                f"{feature[:40]!r} is no feature of a processor",
                field=f"hardware.cpu_features[{number}]",
                hint="a word of /proc/cpuinfo",
            )
    for number, gpu in enumerate(hardware.gpus):
        if gpu.device and not _PCI.fullmatch(gpu.device):
            raise InvalidInput(f"{gpu.device[:40]!r} are no PCI ids", field=f"hardware.gpus[{number}].device", hint="10de:2684")


def check_actions(manifest: Manifest) -> None:
    for name, action in manifest.actions.items():
        if not name.strip():
            raise InvalidInput("an action has no name", field="actions")
        field = f"actions.{name[:40]}"
        if not _METHOD.fullmatch(action.method):
            raise InvalidInput(f"{action.method[:20]!r} is no HTTP method", field=f"{field}.method")
        if not action.path.startswith("/"):
            raise InvalidInput("the path begins with /", field=f"{field}.path")
    if (
        manifest.openapi
        and not manifest.openapi.startswith("/")
        and urlsplit(manifest.openapi).scheme not in ("", "http", "https", "file")
    ):
        raise InvalidInput(f"{manifest.openapi[:80]!r} is neither a URL nor a path", field="openapi")
