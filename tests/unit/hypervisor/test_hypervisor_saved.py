"""What is compared before a saved guest is let go on. That it does is told by tests/contract/hypervisor."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from volant.core.ids import Digest, new_run_id, new_uid
from volant.hypervisor.driver import SAVED, NotRestorable, Saved
from volant.hypervisor.machine import BlockDevice, Machine
from volant.hypervisor.qemu.save import read_saved
from volant.hypervisor.record import write_record

ROOTFS = BlockDevice(serial="rootfs", bus=0, readonly=True, content="sha256:" + "3" * 64)
MACHINE = Machine(
    uid=new_uid(),
    run_id=new_run_id(),
    name="web-1",
    slot=3,
    hypervisor="qemu",
    cpu_cores=2,
    memory_mib=256,
    kernel=Digest("sha256:" + "1" * 64),
    initramfs=Digest("sha256:" + "2" * 64),
    kernel_cmdline="",
    disks=(ROOTFS,),
)


def test_a_guest_goes_on_with_the_root_that_it_had(tmp_path: Path) -> None:
    saved = Saved(machine=MACHINE, is_whole=True, memory_bytes=1, state_bytes=1)
    write_record(tmp_path / SAVED, saved)
    assert read_saved(tmp_path, MACHINE) == saved
    other = msgspec.structs.replace(ROOTFS, content="sha256:" + "4" * 64)
    with pytest.raises(NotRestorable, match="'rootfs' held something else"):
        read_saved(tmp_path, msgspec.structs.replace(MACHINE, disks=(other,)))
    with pytest.raises(NotRestorable, match="other devices"):
        read_saved(tmp_path, msgspec.structs.replace(MACHINE, disks=()))
