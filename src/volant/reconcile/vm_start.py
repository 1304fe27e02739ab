"""How a run of a VM begins: what it needs is made ready, then it is launched, then the agent is told who it is."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec
import structlog

from volant.core.cards import card_taps
from volant.core.clock import Clock, format_time
from volant.core.condition import set_condition
from volant.core.defaults import fit_command
from volant.core.errors import ChecksumMismatch, HostError, NotFound, Unavailable, VolantError
from volant.core.ids import Digest, RunId
from volant.core.limits import Limits
from volant.core.manifest import Manifest
from volant.core.plugin import Plugin, wanted_artifacts
from volant.core.readiness import is_readiness_told
from volant.core.template import TemplateKind
from volant.core.vm import VM, VMSpec, VMStatus
from volant.guest.document import Document, digest_document, encode_document
from volant.hypervisor.driver import SAVED, Driver, NotRestorable, Saved
from volant.hypervisor.machine import Machine
from volant.hypervisor.record import read_record
from volant.net.fabric import Fabric
from volant.node.local import LocalNode
from volant.node.run import Run
from volant.node.unit import Identity, forget_identity, note_document, read_secret, write_identity
from volant.reconcile.admission import Admission
from volant.reconcile.guest_config import ROOTFS_SERIAL, build_document
from volant.reconcile.guest_demands import check_agent
from volant.reconcile.guest_network import check_guest_network, describe_network, judge_network
from volant.reconcile.identity import identity_of
from volant.reconcile.mounts import check_mounts, describe_mounts
from volant.reconcile.network import NetworkKeeper
from volant.reconcile.outside import describe_address
from volant.reconcile.parts import Artifacts, Parts, describe_devices
from volant.reconcile.templates import Choice, TemplateKeeper, TemplateRecord
from volant.store.contract import Store
from volant.store.plugins import PluginShelf
from volant.volume.disk import Disks

log = structlog.get_logger()

ENTROPY_BYTES = 64
CLONE = "clone"
"""The agent's capability to find its network device by another's address, and to mount a disk that changed since it was seen."""


class Started(msgspec.Struct, frozen=True):
    """What a start came to: a run, or None for one that waits for its template."""

    choice: Choice
    run: Run | None = None


class VMStarter:
    """The parts that a start puts together. Each step may be repeated; what a failed start opened is closed."""

    def __init__(
        self,
        *,
        store: Store,
        plugins: PluginShelf,
        clock: Clock,
        driver: Driver,
        node: LocalNode,
        templates: TemplateKeeper,
        artifacts: Artifacts,
        disks: Disks,
        fabric: Fabric,
        networks: NetworkKeeper,
        admission: Admission,
        nameservers: tuple[str, ...] = (),
        random_source: random.Random | None = None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._plugins = plugins
        self._clock = clock
        self._driver = driver
        self._node = node
        self._templates = templates
        self.parts = Parts(store, node.places, artifacts, disks, fabric, networks)
        self.fabric = fabric
        self._networks = networks
        self.admission = admission
        self._nameservers = nameservers
        self._random_bytes = random_bytes
        self.random_source = random_source or random.Random()  # noqa: S311  # spreads retries, keeps no secret

    async def start(self, vm: VM) -> Started:
        """Begin the run that ``vm.status.run_id`` names, from a template where that can be.

        Raises:
            VolantError: it could not be started; nothing of this start is left but the VM's own disk.
        """
        asked = self._clock.monotonic()
        manifest, machine, media = await self.resolve(vm)
        # A disk that is there holds what the VM wrote, which no template's workload knows of.
        written = [disk for disk in self.parts.own_disks(vm, manifest) if disk.path.exists()]
        choice = await self._templates.choose(vm, machine, manifest, media, is_first=not written)
        if choice.capture and any(disk.wanted is not None for disk in written):
            # The guest's kernel looks at every disk as it finds it, and this one's are nobody else's business.
            self._templates.break_promise(choice.key)
            choice = msgspec.structs.replace(choice, capture=False)
        if choice.how == "wait":
            return Started(choice)
        if choice.how == "template":
            try:
                with self._templates.starting(choice.key):
                    return Started(choice, await self._start_clone(vm, machine, manifest, media, choice, asked))
            except (NotFound, Unavailable, HostError) as error:
                self._templates.give_up(choice.key, f"its template did not start: {error}")
                if vm.spec.start == "template":
                    raise
                choice = Choice(how="cold", reason=f"its template did not start: {error}")
        try:
            run = await self.boot(vm, machine, manifest, media, held=choice.capture, asked=asked)
            if choice.capture:
                self._templates.capture(choice.key, self.describe_template(vm, choice.kind), run)
        finally:
            if choice.capture:
                self._templates.break_promise(choice.key)
        return Started(choice, run)

    async def wake(self, vm: VM, saved: Path, *, as_new: bool) -> Run:
        """Begin the run anew from what was saved of its guest, up to where it could go on.

        Raises:
            NotRestorable: what was saved, or the template that it stands on, is not what it was. Else as ``start``.
        """
        asked = self._clock.monotonic()
        manifest, machine, media = await self.resolve(vm)
        machine = msgspec.structs.replace(_at_saved_places(machine, saved), base=read_base(saved))
        try:
            base = await self._templates.open(machine.base) if machine.base else None
        except (NotFound, ChecksumMismatch) as error:
            raise NotRestorable(f"the template that it stands on is lost: {error}") from error
        if as_new:
            machine = _with_device_macs(machine, saved)
        async with self.parts.prepare(vm, machine, manifest, media, boots=False) as files:
            prepared = self._clock.monotonic()
            run = await self._node.restore(vm.uid, machine, files, saved, base, as_new=as_new)
        run.marks |= {"asked": asked, "prepared": prepared}
        return run

    async def go_on(self, run: Run) -> None:
        """Let a restored or paused guest run, and talk to it."""
        await run.instance.resume()
        run.paused = False
        run.clock_due = True
        run.mark("resumed")
        run.release()

    async def boot(
        self, vm: VM, machine: Machine, manifest: Manifest, media: dict[str, Digest], *, held: bool, asked: float
    ) -> Run:
        forget_identity(self._node.places.make(vm.uid))
        async with self.parts.prepare(vm, machine, manifest, media, boots=True) as files:
            prepared = self._clock.monotonic()
            run = await self._node.launch(vm.uid, machine, files, held=held)
        run.marks |= {"asked": asked, "prepared": prepared}
        return run

    async def resolve(self, vm: VM) -> tuple[Manifest, Machine, dict[str, Digest]]:
        """What ``vm`` is made from, as a machine and its files' digests. Every start comes through here.

        Raises:
            Unavailable: the plugin is gone, or this host is not what was asked for. Untrusted: the trust policy forbids it.
        """
        plugin, manifest = await self._read_plugin(vm)
        await self.admission.check(plugin)
        media = with_overrides(wanted_artifacts(manifest), vm.spec)
        machine = await self._driver.resolve(self._describe(vm, manifest, media))
        if vm.spec.isolation == "hardware" and machine.accelerator != "kvm":
            raise Unavailable(
                "hardware isolation was asked for and this host cannot give it",
                hint="volar doctor says why KVM does not work here",
            )
        return manifest, machine, media

    def describe_template(self, vm: VM, kind: TemplateKind) -> TemplateRecord:
        return TemplateRecord(
            kind=kind,
            plugin=vm.spec.plugin,
            project=vm.meta.project,
            disk_mb=(vm.spec.disk_mb or 0) if vm.spec.root == "disk" else 0,
            created_at=format_time(self._clock.now()),
        )

    def find_unfit(self, run: Run) -> str:
        """Why a clone that waits cannot become a machine of its own; its template is left alone then. Empty when it can."""
        hello, machine = run.agent.hello, run.instance.machine
        if not machine.base or hello is None or CLONE in hello.capabilities:
            return ""
        reason = f"its agent, {hello.agent}, is too old to be cloned: build its plugin again"
        self._templates.give_up(machine.base, reason)
        return reason

    async def configure(self, vm: VM, run: Run) -> None:
        """Tell the waiting agent who it is. A document once accepted stays; asking twice is answered and changes nothing."""
        if "configured" in run.marks:
            return
        unit = self._node.places.unit(vm.uid)
        content = encode_document(await self.build_guest_document(vm, run, read_secret(unit)))
        note_document(unit, digest_document(content))
        await run.link.configure(content)
        self._remember(vm, run, content)

    async def renew(self, vm: VM, run: Run) -> None:
        """Tell an agent whose workload runs already who it is now."""
        unit = self._node.places.unit(vm.uid)
        secret = read_secret(unit)
        content = encode_document(await self.build_guest_document(vm, run, secret))
        note_document(unit, digest_document(content))
        await run.link.renew(content, secret=secret)
        self._remember(vm, run, content)

    async def build_guest_document(self, vm: VM, run: Run, secret: bytes) -> Document:
        _, manifest = await self._read_plugin(vm)
        networks = await self.parts.read_networks(vm)
        mounts = describe_mounts(vm, manifest)
        check_guest_network(vm, run.agent.hello)
        check_mounts(mounts, run.agent.hello)
        document = build_document(
            vm,
            manifest,
            secret=secret,
            entropy=self._random_bytes(ENTROPY_BYTES),
            unix_ns=int(self._clock.now().timestamp() * 1e9),
            network=describe_network(vm, networks, run.instance.machine, self._nameservers),
        )
        check_agent(document, run.agent.hello)
        return msgspec.structs.replace(document, mounts=mounts) if mounts else document

    def _remember(self, vm: VM, run: Run, content: bytes) -> None:
        run.identity = Identity(document=digest_document(content), of=identity_of(vm, run.instance.machine))
        write_identity(self._node.places.unit(vm.uid), run.identity)
        run.clock_due = False
        run.mark("configured")

    async def _start_clone(
        self, vm: VM, machine: Machine, manifest: Manifest, media: dict[str, Digest], choice: Choice, asked: float
    ) -> Run:
        assert choice.path is not None
        machine = _with_device_macs(msgspec.structs.replace(machine, base=choice.key), choice.path)
        unit = self._node.places.make(vm.uid)
        forget_identity(unit)
        if choice.kind == "ready":
            # Their file systems are mounted in the template already, so that the disks must be the template's.
            await self.parts.install_own(vm, manifest, choice.path)
        async with self.parts.prepare(vm, machine, manifest, media, boots=False) as files:
            prepared = self._clock.monotonic()
            run = await self._node.restore(vm.uid, machine, files, choice.path, as_new=True)
        run.marks |= {"asked": asked, "prepared": prepared}
        try:
            await self.go_on(run)
        except VolantError as error:
            # It stands there, paused; whoever looks at it next resumes it.
            log.warning("not_resumed", name=vm.name, error=str(error))
        return run

    async def connect(self, vm: VM) -> None:
        """Let the card of a VM that runs already speak with its addresses."""
        await self._networks.ensure_port(vm)

    async def close_ports(self, vm: VM) -> None:
        """Have who connects to its published ports from now on come to volantd, which can wake it."""
        await self._networks.close_ports(vm)

    async def release_network(self, vm: VM) -> None:
        """Take down what a dead VM process may have left of its taps."""
        for tap in card_taps(vm):
            await self.fabric.remove_tap(tap)

    def network_condition(self, vm: VM, now: datetime) -> VMStatus:
        """``vm.status`` with NetworkReady said."""
        condition = judge_network(vm)
        return msgspec.structs.replace(vm.status, conditions=set_condition(vm.status.conditions, condition, format_time(now)))

    async def read_manifest(self, vm: VM) -> Manifest:
        """Raises Unavailable when its plugin is gone."""
        return (await self._read_plugin(vm))[1]

    async def has_health_check(self, vm: VM) -> bool:
        _, manifest = await self._read_plugin(vm)
        return is_readiness_told(manifest)

    def _describe(self, vm: VM, manifest: Manifest, digests: dict[str, Digest]) -> Machine:
        assert vm.status.slot is not None and vm.spec.cpu_cores is not None and vm.spec.memory_mb is not None
        words: list[str] = []
        disks, networks = describe_devices(vm, manifest, digests.get("rootfs"), self._hypervisor_of(vm))
        if manifest.rootfs is not None:
            words += [f"volant.rootfs_device={ROOTFS_SERIAL}", f"volant.rootfs_fstype={manifest.rootfs.filesystem}"]
        if manifest.agent == "none":
            words += describe_address(vm, self._nameservers)
        if vm.spec.kernel_cmdline:
            words.append(vm.spec.kernel_cmdline)
        return Machine(
            uid=vm.uid,
            run_id=RunId(vm.status.run_id),
            name=vm.name,
            slot=vm.status.slot,
            hypervisor=vm.spec.hypervisor,
            cpu_cores=vm.spec.cpu_cores,
            memory_mib=vm.spec.memory_mb,
            limits=vm.spec.limits or Limits(),
            kernel=digests["kernel"],
            initramfs=digests["boot_initramfs"] if manifest.rootfs is not None else digests["initramfs"],
            kernel_cmdline=" ".join(words),
            has_agent=manifest.agent != "none",
            disks=disks,
            networks=networks,
        )

    def _hypervisor_of(self, vm: VM) -> str:
        return self._driver.name if vm.spec.hypervisor == "auto" else vm.spec.hypervisor

    async def _read_plugin(self, vm: VM) -> tuple[Plugin, Manifest]:
        plugin = await self._plugins.find_of(vm)
        if plugin is None:
            raise Unavailable(f"its plugin {vm.spec.plugin!r} is not installed", hint="install it again, or delete the VM")
        return plugin, fit_command(plugin.manifest, vm.spec)


def _with_device_macs(machine: Machine, saved: Path) -> Machine:
    """``machine``, told by what its guest's network devices will be found."""
    record = _read_saved(saved)
    networks = [
        msgspec.structs.replace(nic, device_mac=was.mac if was.mac != nic.mac else "")
        for nic, was in zip(machine.networks, record.machine.networks, strict=False)
    ]
    return msgspec.structs.replace(machine, networks=tuple(networks))


def _at_saved_places(machine: Machine, saved: Path) -> Machine:
    """``machine`` with each disk and card where it was: what was added while it ran stands behind what it began with."""
    was = _read_saved(saved).machine
    places = {disk.serial: number for number, disk in enumerate(was.disks)}
    disks = [
        msgspec.structs.replace(disk, bus=was.disks[places[disk.serial]].bus) if disk.serial in places else disk
        for disk in sorted(machine.disks, key=lambda disk: places.get(disk.serial, len(places)))
    ]
    networks = [
        msgspec.structs.replace(nic, bus=was.networks[number].bus) if number < len(was.networks) else nic
        for number, nic in enumerate(machine.networks)
    ]
    return msgspec.structs.replace(machine, disks=tuple(disks), networks=tuple(networks))


def read_base(saved: Path) -> str:
    """The template that what was saved stands on; empty for none. Raises NotRestorable."""
    return _read_saved(saved).machine.base


def _read_saved(saved: Path) -> Saved:
    record = read_record(saved / SAVED, Saved)
    if record is None:
        raise NotRestorable(f"nothing that was saved lies in {saved}")
    return record


def with_overrides(media: dict[str, Digest], spec: VMSpec) -> dict[str, Digest]:
    """``media`` by role, with what ``spec`` boots instead of its plugin's kernel and initramfs."""
    chosen = dict(media)
    if spec.kernel is not None:
        chosen["kernel"] = spec.kernel
    if spec.initramfs is not None:
        chosen["boot_initramfs" if "boot_initramfs" in media else "initramfs"] = spec.initramfs
    return chosen
