"""The command line of one VM process: a pure function of the machine and of descriptor numbers. Nothing in it is a path that
a client could name, and every place is explicit, so that a snapshot finds the same machine again."""

from __future__ import annotations

import msgspec

from volant.hypervisor.machine import AGENT_PORT, BlockDevice, Machine, NetworkDevice

BINARY = "/usr/bin/qemu-system-x86_64"

MACHINE_TYPE = "microvm"
"""It has no versions in QEMU 7.2; the hypervisor's version beside it in the record tells two apart."""

AGENT_BUS = 6
RNG_BUS = 7
"""Of the eight virtio-mmio transports that every microvm has, disks and networks take the first six."""

_MACHINE_OPTIONS = (
    "acpi=on,ioapic2=off,pcie=off,usb=off,isa-serial=on,pic=on,pit=on,rtc=on,auto-kernel-cmdline=off,dump-guest-core=off,"
    "memory-backend=ram,suppress-vmdesc=on"
)
# Without ACPI a guest cannot power off: its kernel halts and nobody hears of it. With the second I/O APIC the interrupt of the
# first transport never reaches Linux, and whatever sits there hangs at its first request.

_RESTORED = ("-incoming", "defer", "-S", "-global", "migration.send-configuration=off")
# What was saved is the devices alone, without the frame that a migration has around them (save.py).

TRANSLATED_MIB = 64
"""What an emulated guest's translated code may take on the host. Left to itself QEMU keeps up to 1 GiB of it, a process."""

CPU_MODELS = {"kvm": "host", "tcg": "max"}
BALLOON = "balloon"
"""The balloon's id, under which the monitor finds it."""


class Descriptors(msgspec.Struct, frozen=True, kw_only=True):
    """What the VM process inherits, by number. ``disks`` by serial, ``taps`` by name."""

    kernel: int
    """-1, as ``initramfs``, for a machine that is restored."""
    initramfs: int
    memory: int
    disks: dict[str, int]
    taps: dict[str, int]
    qmp: int
    """A listening socket, as is ``agent``."""
    agent: int
    console: int
    """One end of a socket pair."""

    @property
    def all(self) -> tuple[int, ...]:
        boot = () if self.kernel < 0 else (self.kernel, self.initramfs)
        return (
            *boot, self.memory, *self.disks.values(), *self.taps.values(), self.qmp, self.agent, self.console,
        )  # fmt: skip


def build_command(machine: Machine, descriptors: Descriptors, binary: str = BINARY) -> list[str]:
    """The words to execute: to boot, or without a kernel to wait for the state of a machine that was saved.

    Raises:
        ValueError: two devices of ``machine`` claim one place.
    """
    _check_places(machine)
    words = [
        binary,
        "-name", f"guest={machine.name},process=volant-vm",
        "-msg", "timestamp=on",
        "-no-user-config", "-nodefaults", "-display", "none",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-machine", f"{machine.machine_type},{_MACHINE_OPTIONS}",
        "-object",
        f"memory-backend-file,id=ram,size={machine.memory_mib}M,mem-path=/proc/self/fd/{descriptors.memory},"
        f"share={'off' if machine.base else 'on'}",
        "-accel", "kvm" if machine.accelerator == "kvm" else f"tcg,thread=multi,tb-size={TRANSLATED_MIB}",
        "-cpu", machine.cpu_model,
        "-smp", f"cpus={machine.cpu_cores},sockets=1,cores={machine.cpu_cores},threads=1",
        "-m", f"size={machine.memory_mib}M",
        *(_RESTORED if descriptors.kernel < 0 else _describe_boot(machine, descriptors)),
        # A guest that ends leaves the process paused, so that a volantd that was away can still tell how it ended.
        "-action", "shutdown=pause,reboot=shutdown,panic=shutdown",
        "-global", "virtio-mmio.force-legacy=false",
        "-chardev", f"socket,id=qmp,fd={descriptors.qmp},server=on,wait=off",
        "-mon", "chardev=qmp,mode=control",
        "-chardev", f"socket,id=console,fd={descriptors.console}",
        "-serial", "chardev:console",
        "-device", f"virtio-serial-device,id=ports,bus=virtio-mmio-bus.{AGENT_BUS},max_ports=2",
        "-chardev", f"socket,id=agent,fd={descriptors.agent},server=on,wait=off",
        "-device", f"virtserialport,id=agent-port,bus=ports.0,nr=1,chardev=agent,name={AGENT_PORT}",
        "-object", "rng-builtin,id=entropy",
        "-device", f"virtio-rng-device,id=rng,rng=entropy,bus=virtio-mmio-bus.{RNG_BUS}",
    ]  # fmt: skip
    for number, disk in enumerate(machine.disks, start=1):
        words += _describe_disk(disk, number, descriptors.disks[disk.serial])
    for number, network in enumerate(machine.networks):
        words += _describe_network(network, number, descriptors.taps[network.tap])
    if machine.balloon >= 0:
        # A guest that runs out of memory takes some of it back rather than end a program: what is taken counts as used in
        # there, and MemTotal stays.
        place = f"bus=virtio-mmio-bus.{machine.balloon}"
        words += ["-device", f"virtio-balloon-device,id={BALLOON},{place},deflate-on-oom=on"]
    return words


def choose_balloon_place(machine: Machine) -> int:
    """The last place that no device of ``machine`` has; -1 when it has one everywhere."""
    taken = {*(disk.bus for disk in machine.disks), *(network.bus for network in machine.networks)}
    return max((place for place in range(AGENT_BUS) if place not in taken), default=-1)


def build_kernel_cmdline(accelerator: str, tsc_khz: int | None, extra: str) -> str:
    """What the kernel is told: where its console is, to end rather than hang, and under emulation how fast its clock runs.

    Left to calibrate the time stamp counter by itself, a guest on a busy host fails and hangs for good.
    """
    words = ["console=ttyS0", "quiet", "reboot=t", "panic=-1"]
    if accelerator == "tcg":
        # The kernel would check the counter against its own ticks, which come late on a busy host, give it up for them, and tick
        # on for ever: an idle guest then takes 3 % of a core, and its clock counts in hundredths.
        words += ["no_timer_check", "tsc=reliable"]
        if tsc_khz is not None:
            words.append(f"tsc_early_khz={tsc_khz}")
    return " ".join([*words, *extra.split()])


def _describe_boot(machine: Machine, descriptors: Descriptors) -> list[str]:
    return [
        "-kernel", f"/proc/self/fd/{descriptors.kernel}",
        "-initrd", f"/proc/self/fd/{descriptors.initramfs}",
        "-append", machine.kernel_cmdline,
    ]  # fmt: skip


def _describe_disk(disk: BlockDevice, number: int, descriptor: int) -> list[str]:
    readonly = "on" if disk.readonly else "off"
    discard = "" if disk.readonly else ",discard=unmap"
    return [
        "-add-fd", f"fd={descriptor},set={number}",
        "-blockdev", f"driver=file,node-name=file{number},filename=/dev/fdset/{number},read-only={readonly}{discard}",
        "-blockdev", f"driver={disk.format},node-name=disk{number},file=file{number},read-only={readonly}{discard}",
        # A full disk of the host's is an I/O error in the guest. To pause it instead would need somebody to resume it.
        "-device",
        f"virtio-blk-device,id=block{number},drive=disk{number},serial={disk.serial},bus=virtio-mmio-bus.{disk.bus},"
        "rerror=report,werror=report",
    ]  # fmt: skip


def _describe_network(network: NetworkDevice, number: int, descriptor: int) -> list[str]:
    return [
        "-netdev", f"tap,id=tap{number},fd={descriptor}",
        "-device", f"virtio-net-device,id=net{number},netdev=tap{number},mac={network.mac},bus=virtio-mmio-bus.{network.bus}",
    ]  # fmt: skip


def _check_places(machine: Machine) -> None:
    places = [AGENT_BUS, RNG_BUS, *(disk.bus for disk in machine.disks), *(network.bus for network in machine.networks)]
    places += [machine.balloon] if machine.balloon >= 0 else []
    if len(set(places)) != len(places) or not all(0 <= place <= RNG_BUS for place in places):
        raise ValueError(f"the devices of {machine.name} claim the places {places}: each needs its own from 0 to {AGENT_BUS - 1}")
