from __future__ import annotations

import itertools

import msgspec
import pytest

from volant.core.ids import Digest, RunId, Uid
from volant.hypervisor.machine import BlockDevice, Machine, NetworkDevice
from volant.hypervisor.qemu.command import Descriptors, build_command, build_kernel_cmdline

MACHINE = Machine(
    uid=Uid("a" * 32),
    run_id=RunId("b" * 32),
    name="web-1",
    slot=3,
    hypervisor="qemu",
    hypervisor_version="7.2.22",
    machine_type="microvm",
    accelerator="tcg",
    cpu_model="max",
    cpu_cores=2,
    memory_mib=256,
    kernel=Digest("sha256:" + "1" * 64),
    initramfs=Digest("sha256:" + "2" * 64),
    kernel_cmdline="console=ttyS0 quiet",
    disks=(
        BlockDevice(serial="rootfs", bus=0, readonly=True),
        BlockDevice(serial="disk", bus=1, readonly=False, format="qcow2"),
    ),
    networks=(NetworkDevice(mac="52:54:00:00:00:01", tap="vt0", bus=2),),
)
DESCRIPTORS = Descriptors(
    kernel=10, initramfs=11, disks={"rootfs": 12, "disk": 13}, taps={"vt0": 14}, qmp=15, agent=16, console=17, memory=18
)
RESTORED = msgspec.structs.replace(DESCRIPTORS, kernel=-1, initramfs=-1)


def values_of(words: list[str], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(words) if name == option]


def test_files_sockets_and_taps_are_named_by_descriptor_alone() -> None:
    words = build_command(MACHINE, DESCRIPTORS)
    assert values_of(words, "-kernel") == ["/proc/self/fd/10"]
    assert values_of(words, "-initrd") == ["/proc/self/fd/11"]
    assert values_of(words, "-add-fd") == ["fd=12,set=1", "fd=13,set=2"]
    assert values_of(words, "-netdev") == ["tap,id=tap0,fd=14"]
    assert [value for value in values_of(words, "-chardev") if "fd=15," in value and "id=qmp" in value]
    assert [value for value in values_of(words, "-chardev") if "fd=16," in value and "id=agent" in value]
    assert "socket,id=console,fd=17" in values_of(words, "-chardev")
    paths = [word for word in words[1:] if "/" in word]
    assert all("/proc/self/fd/" in path or "/dev/fdset/" in path for path in paths), paths


def test_every_descriptor_is_listed_for_the_holder() -> None:
    assert sorted(DESCRIPTORS.all) == list(range(10, 19))
    assert sorted(RESTORED.all) == list(range(12, 19))


def test_devices_stand_in_their_places() -> None:
    devices = values_of(build_command(MACHINE, DESCRIPTORS), "-device")
    places = {device.split(",")[0] + device.split("bus=")[1].split(",")[0] for device in devices}
    assert places == {
        "virtio-blk-devicevirtio-mmio-bus.0",
        "virtio-blk-devicevirtio-mmio-bus.1",
        "virtio-net-devicevirtio-mmio-bus.2",
        "virtio-serial-devicevirtio-mmio-bus.6",
        "virtserialportports.0",
        "virtio-rng-devicevirtio-mmio-bus.7",
    }
    assert any("serial=rootfs" in device for device in devices)
    assert any("mac=52:54:00:00:00:01" in device for device in devices)


def test_a_disk_is_writable_only_when_it_is_meant_to_be() -> None:
    rootfs, _, disk, qcow = (value for value in values_of(build_command(MACHINE, DESCRIPTORS), "-blockdev"))
    assert "read-only=on" in rootfs and "discard" not in rootfs
    assert "read-only=off" in disk and "discard=unmap" in disk
    assert qcow.startswith("driver=qcow2,")


def test_the_process_may_do_little_and_stays_when_its_guest_ends() -> None:
    words = build_command(MACHINE, DESCRIPTORS)
    assert values_of(words, "-sandbox") == ["on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    assert values_of(words, "-action") == ["shutdown=pause,reboot=shutdown,panic=shutdown"]
    assert {"-nodefaults", "-no-user-config"} <= set(words)


def test_the_accelerator_is_what_was_resolved() -> None:
    assert values_of(build_command(MACHINE, DESCRIPTORS), "-accel") == ["tcg,thread=multi,tb-size=64"]
    proven = msgspec.structs.replace(MACHINE, accelerator="kvm", cpu_model="host")
    words = build_command(proven, DESCRIPTORS)
    assert (values_of(words, "-accel"), values_of(words, "-cpu")) == (["kvm"], ["host"])


def test_what_is_restored_has_no_kernel_and_waits_for_its_state() -> None:
    words = build_command(MACHINE, RESTORED)
    assert not {"-kernel", "-initrd", "-append"} & set(words)
    assert values_of(words, "-incoming") == ["defer"]
    assert "-S" in words and "migration.send-configuration=off" in values_of(words, "-global")
    assert "-incoming" not in build_command(MACHINE, DESCRIPTORS)


def test_memory_is_the_guests_own_unless_it_stands_on_a_base() -> None:
    (own,) = [value for value in values_of(build_command(MACHINE, DESCRIPTORS), "-object") if "memory-backend" in value]
    assert "mem-path=/proc/self/fd/18" in own and "size=256M" in own and own.endswith("share=on")
    clone = msgspec.structs.replace(MACHINE, base="c" * 64)
    (private,) = [value for value in values_of(build_command(clone, RESTORED), "-object") if "memory-backend" in value]
    assert private.endswith("share=off")


@pytest.mark.parametrize("bus", [0, 1, 6, 7, 8, -1])
def test_two_devices_in_one_place_are_refused(bus: int) -> None:
    network = msgspec.structs.replace(MACHINE.networks[0], bus=bus)
    with pytest.raises(ValueError, match="places"):
        build_command(msgspec.structs.replace(MACHINE, networks=(network,)), DESCRIPTORS)


def test_an_emulated_kernel_is_told_how_fast_its_clock_runs() -> None:
    words = build_kernel_cmdline("tcg", 2_596_128, "volant.rootfs_device=rootfs  volant.rootfs_fstype=erofs").split()
    assert {"tsc_early_khz=2596128", "no_timer_check", "tsc=reliable"} <= set(words)
    assert words[-2:] == ["volant.rootfs_device=rootfs", "volant.rootfs_fstype=erofs"]
    assert not [word for word in build_kernel_cmdline("kvm", 2_596_128, "").split() if "timer" in word or "tsc" in word]
    assert "tsc_early_khz" not in build_kernel_cmdline("tcg", None, "")
