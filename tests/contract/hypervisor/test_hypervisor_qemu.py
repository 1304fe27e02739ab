"""What holds of QEMU alone: its jail as the kernel sees it, its crashes, and the proof of KVM."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from volant.core.errors import HostError, Unavailable
from volant.core.ids import Digest
from volant.hypervisor.driver import Ending, Instance
from volant.hypervisor.lock import take_lock
from volant.hypervisor.machine import BlockDevice, Unit
from volant.hypervisor.process import ProcessRecord, read_boot_id
from volant.hypervisor.qemu import QemuDriver
from volant.hypervisor.qemu.launch import Launcher, wait_record
from volant.hypervisor.qemu.proof import Prover, Verdict
from volant.hypervisor.record import read_record, write_record
from volant.native import find_native

from .hypervisor_hosts import PATIENCE_S, QemuSide, open_for_launch, reach_guest

pytestmark = pytest.mark.vm

DISKS = tuple(BlockDevice(serial=f"disk{bus}", bus=bus, readonly=bus % 2 == 0) for bus in range(6))


@pytest.fixture
def unit(qemu: QemuSide) -> Unit:
    return qemu.make_unit()


@pytest.fixture
async def instance(qemu: QemuSide, unit: Unit) -> AsyncIterator[Instance]:
    driver = await qemu.open_driver()
    started = await qemu.launch(driver, unit, qemu.make_machine(unit, disks=DISKS, cpu_cores=2))
    yield started
    await started.destroy()
    await started.close()


def read_status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def read_record_of(unit: Unit) -> ProcessRecord:
    record = read_record(unit.state / "process.json", ProcessRecord)
    assert record is not None
    return record


def test_the_process_has_no_privileges(instance: Instance) -> None:
    status = read_status(instance.pid)
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(instance.machine.host_uid)}
    assert status["Groups"] == ""
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_the_process_sees_no_network(instance: Instance) -> None:
    lines = Path(f"/proc/{instance.pid}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in lines] in ([], ["lo"])
    assert Path(f"/proc/{instance.pid}/net/route").read_text().count("\n") <= 1
    for kind in ("net", "mnt", "ipc", "uts"):
        assert os.readlink(f"/proc/{instance.pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind


def test_the_process_has_what_it_was_given_and_no_more(instance: Instance, qemu: QemuSide) -> None:
    targets = {os.readlink(entry) for entry in Path(f"/proc/{instance.pid}/fd").iterdir()}
    files = {target for target in targets if target.startswith("/")}
    disks = {str(qemu.place / f"{disk.serial}.img") for disk in DISKS}
    memory = "/memfd:volant-guest (deleted)"
    assert files == {"/dev/null", memory, str(qemu.boot / "vmlinux"), str(qemu.boot / "boot.cpio"), *disks}
    kinds = {target.split(":")[0] for target in targets - files}
    assert kinds <= {"pipe", "socket", "anon_inode"}
    # Two listeners, the console, the monitor's connection.
    assert len([target for target in targets if target.startswith("socket:")]) == 4


def test_the_processes_user_can_open_nobodys_files(instance: Instance, unit: Unit, qemu: QemuSide) -> None:
    user = instance.machine.host_uid
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        opened = 0
        for path in (unit.state / "machine.json", unit.sockets / "qmp.sock", qemu.place / "disk1.img"):
            try:
                os.close(os.open(path, os.O_RDONLY))
                opened += 1
            except PermissionError:
                continue
        os._exit(opened)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


async def test_a_guest_finds_every_device_in_its_place(instance: Instance) -> None:
    reader, writer = await reach_guest(instance)
    writer.write(b"I")
    async with asyncio.timeout(PATIENCE_S):
        told = (await reader.readuntil(b"\n.")).decode().splitlines()
    writer.close()
    assert sorted(line.split("=")[1] for line in told if line.startswith("serial")) == [disk.serial for disk in DISKS]
    names = {line.split("=")[1]: line.split("=")[0].split()[1] for line in told if line.startswith("serial")}
    for disk in DISKS:
        assert f"ro {names[disk.serial]}={int(disk.readonly)}" in told
    assert "rng virtio_rng.0" in told
    assert "cpus 2" in told
    assert f"cmdline {instance.machine.kernel_cmdline}" in told


async def test_the_console_is_a_file_and_a_socket(instance: Instance, unit: Unit) -> None:
    _, writer = await reach_guest(instance)
    short = os.open(unit.sockets, os.O_PATH | os.O_CLOEXEC)
    reader, listening = await asyncio.open_unix_connection(f"/proc/self/fd/{short}/console.sock")
    os.close(short)
    async with asyncio.timeout(PATIENCE_S):
        # Until the holder has taken the connection, what is printed does not come to it.
        seen = b""
        while b"abc" not in seen:
            writer.write(b"C")
            try:
                async with asyncio.timeout(0.2):
                    seen += await reader.read(4096)
            except TimeoutError:
                continue
    assert b"guest: ready" in (unit.state / "console.log").read_bytes()
    for stream in (writer, listening):
        stream.close()


async def test_a_killed_holder_takes_the_vm_with_it(instance: Instance, unit: Unit, qemu: QemuSide) -> None:
    waiting = asyncio.ensure_future(instance.wait_ended())
    os.kill(read_record_of(unit).holder_pid, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        ending = await waiting
    assert ending.kind == "crashed"
    assert "holder" in ending.message
    await instance.destroy()
    assert not qemu.find_leftovers(unit)


async def test_a_monitor_that_hears_another_first_is_patient(qemu: QemuSide, unit: Unit) -> None:
    driver = await qemu.open_driver()
    first = await qemu.launch(driver, unit)
    other = await driver.adopt(unit)
    assert other is not None and not isinstance(other, Ending)
    # QEMU serves one client at a time: the second waits until the first hangs up, and then hears all the same.
    waiting = asyncio.ensure_future(other.wait_ended())
    await asyncio.sleep(0)
    await first.close()
    _, writer = await reach_guest(other)
    writer.write(b"P")
    async with asyncio.timeout(PATIENCE_S):
        assert (await waiting).kind == "powered_off"
    writer.close()
    await other.destroy()
    await other.close()


async def test_stale_files_are_not_mistaken_for_a_run(qemu: QemuSide, unit: Unit) -> None:
    driver = await qemu.open_driver()
    machine = await driver.resolve(qemu.make_machine(unit))
    write_record(unit.state / "machine.json", machine)
    # Killed before anything was started.
    assert await driver.adopt(unit) is None
    ours = ProcessRecord(pid=os.getpid(), start_time=1, holder_pid=os.getpid(), holder_start_time=1, boot_id=read_boot_id())
    write_record(unit.state / "process.json", ours)
    found = await driver.adopt(unit)
    assert isinstance(found, Ending) and found.kind == "lost"
    write_record(unit.state / "process.json", msgspec.structs.replace(ours, boot_id="an earlier one"))
    found = await driver.adopt(unit)
    assert isinstance(found, Ending) and (found.kind, found.message) == ("lost", "the host was rebooted")
    for name in ("qmp.sock", "agent.sock", "console.sock"):
        (unit.sockets / name).touch()
    started = await qemu.launch(driver, unit)
    await started.destroy()
    await started.close()


async def test_a_launch_that_has_just_begun_is_waited_for(qemu: QemuSide, unit: Unit) -> None:
    driver = await qemu.open_driver()
    write_record(unit.state / "machine.json", await driver.resolve(qemu.make_machine(unit)))
    lock = take_lock(unit.state)
    adopting = asyncio.ensure_future(driver.adopt(unit))
    await asyncio.sleep(0)
    assert not adopting.done()
    os.close(lock)
    assert await adopting is None


async def test_a_launch_given_up_leaves_nothing(qemu: QemuSide, unit: Unit) -> None:
    driver = await qemu.open_driver()
    machine = await driver.resolve(qemu.make_machine(unit))
    with open_for_launch(qemu, machine) as files:
        launching = asyncio.ensure_future(driver.launch(unit, machine, files))
        async with asyncio.timeout(PATIENCE_S):
            await wait_record(unit.state, lambda: not launching.done())
        launching.cancel()
        await asyncio.wait([launching])
    assert launching.cancelled()
    assert not qemu.find_leftovers(unit)
    assert await driver.adopt(unit) is None


async def test_a_kernel_that_the_vms_user_cannot_read_is_said_to_be_so(qemu: QemuSide, unit: Unit) -> None:
    driver = await qemu.open_driver()
    qemu.broken.chmod(0o400)
    with pytest.raises(HostError, match="cannot be read by the VM's user"):
        await qemu.launch(driver, unit, broken=True)
    assert not qemu.find_leftovers(unit)


async def test_kvm_that_fails_hinders_nothing_and_is_tried_once(tmp_path: Path, boot: Path) -> None:
    side = QemuSide(tmp_path, boot, accelerator="auto")
    driver = await side.open_driver()
    assert isinstance(driver, QemuDriver)
    machine = side.make_machine(side.make_unit())
    resolved = await driver.resolve(machine)
    if resolved.accelerator == "kvm":
        pytest.skip("KVM works here")
    assert resolved.accelerator == "tcg"
    assert (await driver.describe()).kvm.startswith(("does not work: ", "absent"))
    opened: list[Digest] = []
    side.open_artifact = opened.append  # type: ignore[assignment, method-assign]  # a second proof would open the kernel
    assert (await (await side.open_driver()).resolve(machine)).accelerator == "tcg"
    assert not opened
    assert not list((tmp_path / "cache").glob("kvm-proof-*"))
    side.accelerator = "kvm"
    with pytest.raises(Unavailable, match="KVM does not work"):
        await (await side.open_driver()).resolve(machine)


async def test_a_proof_is_a_guest_that_answers(qemu: QemuSide) -> None:
    kernel, initramfs = Digest("sha256:" + "1" * 64), Digest("sha256:" + "2" * 64)
    launcher = Launcher(holder=find_native("holder"))
    # KVM works nowhere that these tests are sure to run; what a proof does is the same under emulation.
    impatient = Prover(launcher, "1", qemu.place, qemu.open_artifact, accelerator="tcg", deadline_s=0.01)
    assert (await impatient.prove_kvm(kernel, initramfs)).reason == "a guest's kernel did not boot to its agent within 0.01 s"
    patient = Prover(launcher, "2", qemu.place, qemu.open_artifact, accelerator="tcg", deadline_s=PATIENCE_S)
    first, second = await asyncio.gather(*(patient.prove_kvm(kernel, initramfs) for _ in range(2)))
    assert first == second == Verdict(works=True, reason="")
    assert patient.verdicts == {kernel: first}
    assert not impatient.verdicts, "another version's verdicts are void"
    # A kernel without PID 1 panics, which is an end and no answer.
    ended = Prover(launcher, "3", qemu.place, qemu.open_artifact, accelerator="tcg", deadline_s=PATIENCE_S)
    assert "ended before its agent answered" in (await ended.prove_kvm(kernel, kernel)).reason
    assert not list(qemu.place.glob("kvm-proof-*"))
