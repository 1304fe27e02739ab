from __future__ import annotations

from typing import Any

import msgspec
import pytest

from volant.core.ids import Digest, RunId, Uid
from volant.core.manifest import Manifest, convert_manifest
from volant.core.vm import VMSpec
from volant.hypervisor.machine import BlockDevice, Machine, NetworkDevice
from volant.reconcile.template_key import derive_template_key, read_cpu

MEDIA = {"kernel": Digest("sha256:" + "1" * 64), "rootfs": Digest("sha256:" + "2" * 64)}
SPEC = VMSpec(plugin="nginx", cpu_cores=1, memory_mb=128, disk_mb=1024)
MACHINE = Machine(
    uid=Uid("a" * 32),
    run_id=RunId("b" * 32),
    name="web",
    slot=3,
    hypervisor="qemu",
    hypervisor_version="7.2.22",
    hypervisor_build="Debian 7.2-7",
    machine_type="microvm",
    accelerator="tcg",
    cpu_model="max",
    cpu_cores=1,
    memory_mib=128,
    kernel=MEDIA["kernel"],
    initramfs=MEDIA["kernel"],
    kernel_cmdline="console=ttyS0 tsc_early_khz=2596128 volant.rootfs_fstype=erofs",
    disks=(BlockDevice(serial="rootfs", bus=0, readonly=True),),
    networks=(NetworkDevice(mac="02:00:00:00:00:01", tap="vt-a", bus=2),),
)


def make_manifest(**changes: Any) -> Manifest:
    medium = {"url": "x", "checksum": MEDIA["kernel"]}
    return convert_manifest(
        {
            "schema_version": "v1",
            "name": "nginx",
            "version": "1",
            "workload": {"type": "exec", "entrypoint": ["/bin/true"]},
            "boot": {"kernel": medium, "initramfs": medium},
            "rootfs": medium,
            **changes,
        }
    )


def derive(machine: Machine = MACHINE, spec: VMSpec = SPEC, **more: Any) -> str:
    given: dict[str, Any] = {"media": MEDIA, "manifest": make_manifest(), "kind": "booted", "project": "a", "cpu": "c", **more}
    return derive_template_key(machine, given.pop("media"), spec, given.pop("manifest"), given.pop("kind"), **given)


def test_who_asks_plays_no_part() -> None:
    other = msgspec.structs.replace(
        MACHINE,
        uid=Uid("d" * 32),
        run_id=RunId("e" * 32),
        name="other",
        slot=9,
        networks=(NetworkDevice(mac="02:00:00:00:00:09", tap="vt-d", bus=2),),
    )
    assert derive(other) == derive()
    assert derive(project="b") == derive(), "nothing of any workload is in a booted one"
    assert derive(spec=msgspec.structs.replace(SPEC, env={"A": "b"}, restart_policy="never")) == derive()


def test_a_clock_that_was_measured_again_is_the_same_clock() -> None:
    again = MACHINE.kernel_cmdline.replace("2596128", "2596131")
    assert derive(msgspec.structs.replace(MACHINE, kernel_cmdline=again)) == derive()
    other = MACHINE.kernel_cmdline.replace("2596128", "3000000")
    assert derive(msgspec.structs.replace(MACHINE, kernel_cmdline=other)) != derive()


@pytest.mark.parametrize(
    "change",
    [
        {"hypervisor": "other"},
        {"hypervisor_version": "8"},
        {"hypervisor_build": "Debian 7.2-8"},
        {"machine_type": "q35"},
        {"accelerator": "kvm"},
        {"cpu_model": "host"},
        {"cpu_cores": 2},
        {"memory_mib": 256},
        {"kernel_cmdline": "console=ttyS0"},
        {"disks": ()},
        {"networks": ()},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_that_decides_the_content_decides_the_key(change: dict[str, Any]) -> None:
    assert derive(msgspec.structs.replace(MACHINE, **change)) != derive()


def test_files_disk_and_processor_decide_too() -> None:
    assert derive(media={**MEDIA, "rootfs": Digest("sha256:" + "3" * 64)}) != derive()
    assert derive(spec=msgspec.structs.replace(SPEC, disk_mb=2048)) != derive()
    assert derive(cpu="another") != derive()


def test_one_that_is_ready_belongs_to_its_project_and_workload() -> None:
    ready = derive(kind="ready")
    assert ready != derive()
    assert derive(kind="ready", project="b") != ready
    other = make_manifest(workload={"type": "exec", "entrypoint": ["/bin/false"]})
    assert derive(kind="ready", manifest=other) != ready
    assert derive(manifest=other) == derive()


def test_the_processor_is_the_same_from_call_to_call() -> None:
    assert read_cpu() == read_cpu() != ""


@pytest.mark.parametrize(
    "changes",
    [
        {"probes": {"readiness": {"tcp": {"port": 80}}}},
        {"lifecycle": {"post_start": {"exec": ["/bin/warm"]}}},
        {"workload": {"type": "exec", "entrypoint": ["/bin/true"], "ulimits": {"nofile": {"soft": 1, "hard": 1}}}},
    ],
)
def test_what_a_ready_workload_went_through_is_part_of_its_template(changes: dict[str, Any]) -> None:
    other = make_manifest(**changes)
    assert derive(kind="ready", manifest=other) != derive(kind="ready")
    assert derive(kind="booted", manifest=other) == derive(kind="booted")
