"""The hands of one host, real or simulated as the configuration says, and what can be found out about them."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from volant.artifact.store import ArtifactStore
from volant.artifact.trust import read_keys
from volant.config import Config
from volant.core.address import parse_subnet
from volant.core.clock import Clock
from volant.core.errors import InUse, VolantError
from volant.core.plugin import Plugin
from volant.hypervisor.cgroup import NO_GROUPS, ControlGroups
from volant.hypervisor.cgroup_place import describe_place, find_control_groups, name_groups
from volant.hypervisor.cgroup_place import prepare as prepare_control_groups
from volant.hypervisor.choice import DriverChoice, describe_choice, open_choice
from volant.hypervisor.driver import Driver
from volant.hypervisor.qemu.driver import QemuDriver
from volant.net.dhcp import end_earlier
from volant.net.fabric import Fabric, HostFabric
from volant.net.namespace import list_uplinks, namespace_exists, remove_namespace
from volant.net.plan import NetworkPlan
from volant.net.simulated import SimulatedFabric
from volant.node.door import Check
from volant.node.host import count_cores, count_memory_mib, read_nameservers
from volant.node.unit import Places
from volant.run import build_environment
from volant.volume.disk import Disks, HostDisks
from volant.volume.saved import SavedStore, clean_saved

log = structlog.get_logger()

TOOLS = {"nft": "nftables", "ip": "iproute2", "mkfs.ext4": "e2fsprogs"}
"""Programs that a start needs, and the Debian packages that bring them."""

KERNEL_LABEL = "volant.kernel"
"""What fledge writes about a plugin's kernel."""

LITTLE_DISK_BYTES = 2 * 1024**3


@dataclass(frozen=True, kw_only=True)
class Hands:
    driver: Driver
    fabric: Fabric
    disks: Disks
    artifacts: ArtifactStore
    places: Places
    templates: SavedStore
    snapshots: SavedStore
    cgroups: ControlGroups = NO_GROUPS


@asynccontextmanager
async def open_hands(config: Config, clock: Clock, *, fresh: bool) -> AsyncIterator[Hands]:
    """Open the hands that ``config`` names.

    ``fresh`` says that the registry knows no VM: a network namespace that an earlier volantd left is then made anew. On
    leaving, the namespace is removed unless a VM still runs in it.
    """
    namespace = config.namespace
    simulated = config.hypervisor == "simulated"
    end_earlier(Path(config.data_dir) / "dhcp")
    if namespace is not None and fresh and not simulated:
        await _remove_unused(namespace, config.bridge)
    hands = await build_hands(config, clock)
    await hands.artifacts.prepare()
    await prepare_saved(hands)
    await hands.fabric.open()
    if not simulated:
        await asyncio.to_thread(prepare_control_groups, hands.cgroups, config.cgroup, name_groups(Path(config.data_dir)))
        for uid in hands.cgroups.sweep(hands.places.known_uids()):
            log.warning("orphan_cgroup", uid=uid)
    try:
        yield hands
    finally:
        hands.cgroups.close()
        await hands.fabric.close()
        if namespace is not None and not simulated:
            await _remove_unused(namespace, config.bridge)


async def prepare_saved(hands: Hands) -> None:
    """Make the directories of templates and snapshots, and remove what an earlier volantd left half saved, anywhere."""
    for saved in (hands.templates, hands.snapshots):
        await saved.prepare()
    for uid in hands.places.known_uids():
        await clean_saved(hands.places.unit(uid).state)


async def build_hands(config: Config, clock: Clock) -> Hands:
    """The hands, not opened yet. Changes nothing outside the data directory.

    Raises:
        Unavailable: the hypervisor is not installed.
    """
    data = Path(config.data_dir)
    places = Places(data=data, runtime=Path(config.runtime_dir))
    artifacts = ArtifactStore(data / "artifacts")
    if config.hypervisor == "simulated":
        from volant.volume.simulated import SimulatedDisks

        wires = SimulatedFabric()
        return Hands(
            driver=_build_simulated(clock, wires),
            fabric=wires,
            disks=SimulatedDisks(),
            artifacts=artifacts,
            places=places,
            templates=SavedStore(places.templates),
            snapshots=SavedStore(places.snapshots),
        )
    cgroups = find_control_groups(config.cgroup, name_groups(data))
    driver = await open_choice(
        wanted=config.hypervisor,
        cache_dir=data / "cache",
        open_artifact=artifacts.open,
        accelerator=config.accelerator,
        cloud_hypervisor_binary=config.cloud_hypervisor_binary,
        cgroups=cgroups,
    )
    return Hands(
        driver=driver,
        fabric=HostFabric(config.namespace, dhcp_directory=data / "dhcp", nameservers=read_nameservers()),
        disks=HostDisks(),
        artifacts=artifacts,
        places=places,
        templates=SavedStore(places.templates),
        snapshots=SavedStore(places.snapshots),
        cgroups=cgroups,
    )


def _build_simulated(clock: Clock, fabric: SimulatedFabric) -> Driver:
    from volant.guest.simulated import SimulatedGuest
    from volant.guest.simulated_agent import make_agent_factory
    from volant.guest.simulated_types import Machinelike
    from volant.hypervisor.simulated import SimulatedDriver, SimulatedHost

    def make_guest(machine: Machinelike) -> SimulatedGuest:
        guest = SimulatedGuest(clock)
        guest.network.ask = fabric.find_lease
        return guest

    return SimulatedDriver(SimulatedHost(clock, agent_factory=make_agent_factory(clock, make_guest)))


async def _remove_unused(namespace: str, bridge: str) -> None:
    """Remove a namespace that holds nothing but what volantd made; one that somebody wired to elsewhere is theirs."""
    if not namespace_exists(namespace):
        return
    try:
        uplinks = await list_uplinks(namespace, bridge)
        if uplinks:
            log.info("namespace_kept", namespace=namespace, reason=f"it holds {', '.join(uplinks)}, which volantd did not make")
            return
        await remove_namespace(namespace)
    except InUse as error:
        log.info("namespace_kept", namespace=namespace, reason=str(error))


async def check_hands(hands: Hands, config: Config, *, opened: bool = True) -> list[Check]:
    """What works on this host, what does not, and what to do about it. Changes nothing."""
    checks = check_host(hands.places.data)
    if config.hypervisor == "simulated":
        return [*checks, Check(name="hypervisor", state="ok", message="simulated: no guest is real")]
    checks += await _check_hypervisor(hands.driver)
    checks.append(_check_cgroups(hands.cgroups))
    if opened:
        checks += await _check_network(hands.fabric, config)
    return checks


def check_host(data: Path) -> list[Check]:
    """What can be said of a host without any of its hands."""
    return [_check_root(), _check_memory(), _check_disk(data), *_check_tools(), _check_tun()]


async def _check_hypervisor(driver: Driver) -> list[Check]:
    if not isinstance(driver, DriverChoice):
        return []
    checks = [
        Check(
            name="hypervisor" if one.is_default else one.name,
            state="ok",
            message=f"{one.name} {one.version}, {one.message}" if one.is_there else f"not used: {one.message}",
        )
        for one in await describe_choice(driver)
    ]
    emulator = driver.drivers.get("qemu")
    return [*checks, *(await _check_accelerator(emulator) if isinstance(emulator, QemuDriver) else [])]


async def _check_accelerator(driver: QemuDriver) -> list[Check]:
    found = await driver.describe()
    if found.kvm in ("works", "off"):
        words = "KVM works" if found.kvm == "works" else "KVM is switched off; guests are emulated"
        return [Check(name="accelerator", state="ok", message=words)]
    if found.kvm == "unproven":
        words = "KVM is there and unproven; the first start of a kernel proves it by a boot"
        return [Check(name="accelerator", state="ok", message=words)]
    said = "KVM is absent" if found.kvm == "absent" else f"KVM {found.kvm}"
    return [
        Check(
            name="accelerator",
            state="warning",
            message=f"{said}; guests are emulated, which is slow and no isolation boundary",
            fix="use a host with hardware virtualization, or turn nested virtualization on",
        ),
    ]


def _check_cgroups(cgroups: ControlGroups) -> Check:
    place = describe_place(cgroups)
    if not cgroups.problems:
        return Check(name="control groups", state="ok", message=place)
    return Check(
        name="control groups",
        state="warning",
        message="; ".join(filter(None, (place, *cgroups.problems))),
        fix="VMs run, and what is missing is not limited; see docs/explanation/isolation.md, Control groups",
    )


def check_kernels(plugins: Sequence[Plugin]) -> list[Check]:
    """Which kernels the installed plugins boot."""
    users: dict[str, list[str]] = {}
    for plugin in plugins:
        users.setdefault(plugin.meta.labels.get(KERNEL_LABEL, "unknown"), []).append(plugin.name)
    if not users:
        return []
    words = "; ".join(f"{kernel} ({', '.join(sorted(names))})" for kernel, names in sorted(users.items()))
    slow = any(not kernel.startswith("minimal ") for kernel in users)
    hint = 'a minimal one boots in half the time: [kernel] source = "minimal" in fledge.toml' if slow else ""
    return [Check(name="kernels", state="ok", message=words, fix=hint)]


def check_trust(config: Config) -> list[Check]:
    """Whether the trust policy can do what it is there for."""
    if config.trust_policy == "off":
        return []
    ring = read_keys(Path(config.trust_keys))
    publishers = sorted({key.publisher for key in ring.keys})
    words = f"policy {config.trust_policy}, {len(ring.keys)} keys of {len(publishers)} publishers in {ring.directory}"
    if ring.problems:
        words += f"; not used: {'; '.join(ring.problems[:5])}"
    loose = _find_loose([ring.directory, *(key.path for key in ring.keys)])
    if loose:
        return [Check(name="trust", state="warning", message=f"{words}; others may write {loose}", fix=f"chmod go-w {loose}")]
    if ring.keys and not ring.problems:
        return [Check(name="trust", state="ok", message=words)]
    return [Check(name="trust", state="warning", message=words, fix=f"put public keys there: {ring.directory / 'PUBLISHER.pub'}")]


def _find_loose(paths: Sequence[Path]) -> Path | None:
    """The first of ``paths`` that users other than its owner may write."""
    for path in paths:
        try:
            if path.stat().st_mode & 0o022:
                return path
        except OSError:
            continue
    return None


def _check_root() -> Check:
    if os.geteuid() == 0:
        return Check(name="privileges", state="ok", message="volantd runs as root; VM processes do not")
    return Check(name="privileges", state="failed", message="volantd does not run as root", fix="run it as root")


def _check_memory() -> Check:
    return Check(name="host", state="ok", message=f"{count_cores()} cores, {count_memory_mib()} MiB of memory")


def _check_disk(data: Path) -> Check:
    place = next(parent for parent in (data, *data.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    words = f"{free / 1024**3:.1f} GiB free for {data}"
    if free < LITTLE_DISK_BYTES:
        return Check(name="disk", state="warning", message=words, fix="free some, or choose another --data-dir")
    return Check(name="disk", state="ok", message=words)


def _check_tools() -> list[Check]:
    missing = {
        program: package for program, package in TOOLS.items() if shutil.which(program, path=build_environment()["PATH"]) is None
    }
    if not missing:
        return [Check(name="tools", state="ok", message=", ".join(TOOLS))]
    return [
        Check(
            name="tools",
            state="failed",
            message=f"not installed: {', '.join(missing)}",
            fix=f"apt-get install {' '.join(sorted(set(missing.values())))}",
        )
    ]


def _check_tun() -> Check:
    if Path("/dev/net/tun").exists():
        return Check(name="tun", state="ok", message="/dev/net/tun is there")
    return Check(name="tun", state="failed", message="/dev/net/tun is absent", fix="modprobe tun")


async def _check_network(fabric: Fabric, config: Config) -> list[Check]:
    subnet = parse_subnet(config.subnet)
    plan = NetworkPlan(bridge=config.bridge, gateway=subnet.gateway, prefix_length=subnet.prefix_length)
    try:
        collisions = await fabric.find_collisions(plan)
        drops = await fabric.find_forward_drops()
    except VolantError as error:
        return [Check(name="network", state="failed", message=str(error), fix=error.hint or "")]
    found: list[Check] = []
    if collisions:
        found.append(
            Check(
                name="subnet",
                state="warning",
                message=f"{config.subnet} overlaps with {'; '.join(collisions)}",
                fix="choose another with --subnet",
            )
        )
    else:
        where = f"namespace {config.namespace}" if config.namespace else "the host's own namespace"
        found.append(Check(name="subnet", state="ok", message=f"{config.subnet} on {config.bridge} in {where}"))
    found += [Check(name="forwarding", state="warning", message=drop, fix=f"let {config.bridge} pass there") for drop in drops]
    return found
