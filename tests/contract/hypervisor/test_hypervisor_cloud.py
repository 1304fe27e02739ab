"""What holds of Cloud Hypervisor alone: what it is asked, in which order and with which files, and what comes of its failures."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from volant.core.errors import GuestUnreachable, HostError, Unavailable, WrongState
from volant.core.ids import Digest
from volant.hypervisor.cloud_hypervisor import CloudHypervisorDriver, launch, open_cloud_hypervisor
from volant.hypervisor.cloud_hypervisor.driver import make_prover, read_version
from volant.hypervisor.cloud_hypervisor.work import WORK
from volant.hypervisor.driver import SAVED, Ending, Instance, NotRestorable, Saved
from volant.hypervisor.machine import BlockDevice, Machine, NetworkDevice, Unit
from volant.hypervisor.qemu.kvm import KvmAccess
from volant.hypervisor.qemu.launch import wait_record
from volant.hypervisor.record import read_record, write_record
from volant.hypervisor.socket import connect_socket

from .cloud_hypervisor_program import INTERPRETER, read_description
from .hypervisor_hosts import PATIENCE_S, CloudHypervisorSide, open_for_launch, reach_guest
from .test_hypervisor_devices import ask, wait_counters

DISKS = (
    BlockDevice(serial="rootfs", bus=0, readonly=True, content="sha256:" + "3" * 64),
    BlockDevice(serial="disk", bus=1, readonly=False),
)
CARD = NetworkDevice(mac="52:54:00:00:00:01", tap="vtcloud0", bus=2)
FURTHER = BlockDevice(serial="further", bus=3, readonly=False)
OTHER_CARD = NetworkDevice(mac="52:54:00:00:00:02", tap="vtcloud1", bus=4)


@pytest.fixture
def unit(cloud_hypervisor: CloudHypervisorSide) -> Unit:
    return cloud_hypervisor.make_unit()


@pytest.fixture
async def driver(cloud_hypervisor: CloudHypervisorSide) -> CloudHypervisorDriver:
    return await cloud_hypervisor.open_driver()


@asynccontextmanager
async def running(
    side: CloudHypervisorSide, driver: CloudHypervisorDriver, unit: Unit, **changes: object
) -> AsyncIterator[Instance]:
    instance = await side.launch(driver, unit, side.make_machine(unit, **changes))
    try:
        yield instance
    finally:
        await instance.destroy()
        await instance.close()


def requests_of(unit: Unit) -> list[dict[str, Any]]:
    """Every request that the process of ``unit`` was sent."""
    lines = (unit.state / "qemu.log").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith('{"method"')]


def strictly(schema: Any) -> Any:
    """``schema`` as JSON Schema, in which an object has no field but those that are described."""
    if isinstance(schema, list):
        return [strictly(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: strictly(part) for name, part in schema.items()}
    if "properties" in strict and strict.get("type") == "object":
        strict.setdefault("additionalProperties", False)
    return strict


def check_request(description: dict[str, Any], request: dict[str, Any]) -> None:
    described = description["paths"][request["path"]][request["method"].lower()]
    if request["body"] is None:
        assert "requestBody" not in described
        return
    body = dict(request["body"])
    if request["path"] == "/vm.restore":
        # The one thing that Cloud Hypervisor's code takes and its description does not name.
        assert all(set(net) == {"id", "num_fds"} for net in body.pop("net_fds", []))
    schema = {**described["requestBody"]["content"]["application/json"]["schema"], "components": description["components"]}
    jsonschema.Draft4Validator(schema).validate(body)


async def test_every_request_is_one_that_the_description_knows(
    cloud_hypervisor: CloudHypervisorSide, driver: CloudHypervisorDriver, unit: Unit, tmp_path: Path
) -> None:
    async with running(cloud_hypervisor, driver, unit, disks=DISKS, networks=(CARD,), cpu_cores=2) as instance:
        with cloud_hypervisor.open_disk(FURTHER) as disk, cloud_hypervisor.open_tap(OTHER_CARD.tap) as tap:
            await instance.add_disk(FURTHER, disk)
            await instance.add_network(OTHER_CARD, tap)
        await instance.set_memory(96)
        await instance.read_counters()
        await instance.remove_disk(FURTHER.serial)
        await instance.remove_network(OTHER_CARD.tap)
        await instance.pause()
        (tmp_path / "saved").mkdir()
        await instance.save(tmp_path / "saved")
        await instance.resume()
    again = cloud_hypervisor.make_unit()
    machine = await driver.resolve(cloud_hypervisor.make_machine(again, disks=DISKS, networks=(CARD,), cpu_cores=2))
    with open_for_launch(cloud_hypervisor, machine) as files:
        restored = await driver.restore(again, machine, files, tmp_path / "saved")
    await restored.destroy()
    await restored.close()
    description = strictly(read_description())
    made = [*requests_of(unit), *requests_of(again)]
    for request in made:
        check_request(description, request)
    assert {request["path"][1:] for request in made} == {
        "vmm.ping", "vm.create", "vm.add-net", "vm.boot", "vm.info", "vm.counters", "vm.add-disk", "vm.resize",
        "vm.remove-device", "vm.pause", "vm.snapshot", "vm.resume", "vm.restore",
    }  # fmt: skip
    order = [request["path"] for request in requests_of(unit)]
    assert order[:4] == ["/vmm.ping", "/vm.create", "/vm.add-net", "/vm.boot"], (
        "cards come before the boot, their taps as descriptors"
    )
    assert [request["descriptors"] for request in made if request["path"] in ("/vm.add-net", "/vm.restore")] == [1, 1, 1]


async def test_a_machine_has_what_its_record_says_and_opens_nothing_else(
    cloud_hypervisor: CloudHypervisorSide, driver: CloudHypervisorDriver, unit: Unit
) -> None:
    async with running(cloud_hypervisor, driver, unit, disks=DISKS, networks=(CARD,), kernel_cmdline="one two") as instance:
        machine = instance.machine
        config = next(request["body"] for request in requests_of(unit) if request["path"] == "/vm.create")
        assert config["cpus"] == {"boot_vcpus": 1, "max_vcpus": 1}
        assert config["memory"]["size"] == 128 << 20
        assert config["payload"]["cmdline"] == machine.kernel_cmdline == "console=ttyS0 quiet reboot=t panic=-1 one two"
        assert [(disk["serial"], disk["readonly"], disk["image_type"]) for disk in config["disks"]] == [
            ("rootfs", True, "Raw"), ("disk", False, "Raw"),
        ]  # fmt: skip
        paths = [config["payload"]["kernel"], config["payload"]["initramfs"], *(disk["path"] for disk in config["disks"])]
        assert all(path.startswith("/proc/self/fd/") for path in (*paths, config["vsock"]["socket"]))
        assert (machine.accelerator, machine.channel) == ("kvm", "vsock")
        assert await ask(instance, "W") == "w", "a disk is the VM's user's to open again, for writing"
        counters = await instance.read_counters()
        assert counters.disks["disk"].written_bytes == 1 << 18 and counters.disks["rootfs"].written_bytes == 0
        assert set(counters.networks) == {CARD.tap}
        status = Path(f"/proc/{instance.pid}/status").read_text()  # noqa: ASYNC240  # not of a disk
        assert f"Uid:\t{machine.host_uid}\t" in status and "CapEff:\t0000000000000000" in status and "Seccomp:\t2" in status


async def test_what_was_saved_goes_on_with_other_files_of_its_own(
    cloud_hypervisor: CloudHypervisorSide, driver: CloudHypervisorDriver, unit: Unit, tmp_path: Path
) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    async with running(cloud_hypervisor, driver, unit, disks=DISKS, networks=(CARD,)) as instance:
        assert await ask(instance, "N") == "1-"
        _, writer = await reach_guest(instance)
        writer.write(b"f")
        await writer.drain()
        writer.close()
        assert await ask(instance, "N") == "2f"
        await instance.set_memory(96)
        await wait_counters(instance, lambda counters: counters.memory_mib == 96)
        await instance.pause()
        record = await instance.save(saved)
        assert 4 << 20 <= record.memory_bytes < 16 << 20, "what a guest has not used takes no place"
    assert {path.name for path in saved.iterdir()} == {"config.json", "state.json", "memory-ranges", SAVED}
    assert all(path.stat().st_uid == 0 and path.stat().st_mode & 0o777 == 0o600 for path in saved.iterdir())
    assert not cloud_hypervisor.find_leftovers(unit)
    again = cloud_hypervisor.make_unit()
    card = msgspec.structs.replace(CARD, tap="vtcloud9", mac="52:54:00:00:00:09", device_mac=CARD.mac)
    machine = await driver.resolve(cloud_hypervisor.make_machine(again, disks=DISKS, networks=(card,)))
    with open_for_launch(cloud_hypervisor, machine) as files:
        restored = await driver.restore(again, machine, files, saved)
    try:
        assert await restored.query_state() == "paused"
        await restored.resume()
        assert await ask(restored, "N") == "3f"
        counters = await restored.read_counters()
        assert counters.memory_mib == 96 and set(counters.networks) == {"vtcloud9"}
    finally:
        await restored.destroy()
        await restored.close()


@pytest.mark.parametrize(
    "change",
    [
        {"devices": [{"path": "/sys/bus/pci/devices/0000:00:00.0"}]},
        {"disks": [{"id": "disk-rootfs", "path": "/etc/shadow"}]},
        {"fs": [{"tag": "host", "socket": "/tmp/virtiofsd"}]},
        [],
    ],
)
async def test_a_configuration_that_is_not_such_a_machines_is_never_restored(
    cloud_hypervisor: CloudHypervisorSide, driver: CloudHypervisorDriver, unit: Unit, tmp_path: Path, change: Any
) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    async with running(cloud_hypervisor, driver, unit, disks=DISKS) as instance:
        await instance.pause()
        await instance.save(saved)
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, **change} if isinstance(change, dict) else change))
    again = cloud_hypervisor.make_unit()
    machine = await driver.resolve(cloud_hypervisor.make_machine(again, disks=DISKS))
    with open_for_launch(cloud_hypervisor, machine) as files, pytest.raises(NotRestorable, match="cannot be used"):
        await driver.restore(again, machine, files, saved)
    assert not cloud_hypervisor.find_leftovers(again)
    (saved / "memory-ranges").unlink()
    with open_for_launch(cloud_hypervisor, machine) as files, pytest.raises(NotRestorable, match="memory-ranges"):
        await driver.restore(again, machine, files, saved)
    assert read_record(saved / SAVED, Saved) is not None


async def test_its_own_words_say_why_it_did_not_boot(
    cloud_hypervisor: CloudHypervisorSide, driver: CloudHypervisorDriver, unit: Unit
) -> None:
    with pytest.raises(HostError, match=r"refused vm.boot: .*Cannot open \[31m the gates"):
        await cloud_hypervisor.launch(driver, unit, cloud_hypervisor.make_machine(unit, kernel_cmdline="fake.boot=refuse"))
    with pytest.raises(HostError, match=r"ended while its machine was made; it said: (?s:.*)cannot go on with it"):
        await cloud_hypervisor.launch(driver, unit, cloud_hypervisor.make_machine(unit, kernel_cmdline="fake.boot=die"))
    assert not cloud_hypervisor.find_leftovers(unit)
    assert await driver.adopt(unit) is None


async def test_one_that_does_not_answer_is_given_up(
    cloud_hypervisor: CloudHypervisorSide, driver: CloudHypervisorDriver, unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "BOOT_TIMEOUT_S", 0.2)
    with pytest.raises(Unavailable, match=r"did not answer vm.boot within 0.2 s"):
        await cloud_hypervisor.launch(driver, unit, cloud_hypervisor.make_machine(unit, kernel_cmdline="fake.boot=hang"))
    assert not cloud_hypervisor.find_leftovers(unit)


@pytest.mark.parametrize(("how", "message"), [("garbage", "something else"), ("huge", "announces")])
async def test_nonsense_is_no_answer(
    cloud_hypervisor: CloudHypervisorSide, driver: CloudHypervisorDriver, unit: Unit, how: str, message: str
) -> None:
    async with running(cloud_hypervisor, driver, unit, kernel_cmdline=f"fake.info={how}") as instance:
        with pytest.raises(Unavailable, match=message):
            await instance.query_state()


async def test_a_liar_gives_the_guest_nothing(
    cloud_hypervisor: CloudHypervisorSide, driver: CloudHypervisorDriver, unit: Unit
) -> None:
    async with running(cloud_hypervisor, driver, unit, kernel_cmdline="fake.info=liar") as instance:
        assert await instance.query_state() == "paused"
        assert (await instance.read_counters()).memory_mib == 0


async def test_a_request_that_hangs_ends_in_time_and_the_process_can_still_be_ended(
    cloud_hypervisor: CloudHypervisorSide, driver: CloudHypervisorDriver, unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volant.hypervisor.cloud_hypervisor.instance.PAUSE_TIMEOUT_S", 0.2)
    async with running(cloud_hypervisor, driver, unit, kernel_cmdline="fake.pause=hang") as instance:
        with pytest.raises(Unavailable, match=r"did not answer vm\.pause"):
            await instance.pause()
    assert not cloud_hypervisor.find_leftovers(unit)


async def test_the_console_is_a_file_and_a_socket_to_type_at(
    cloud_hypervisor: CloudHypervisorSide, driver: CloudHypervisorDriver, unit: Unit
) -> None:
    async with running(cloud_hypervisor, driver, unit) as instance:
        reader, writer = await asyncio.open_unix_connection(sock=connect_socket(unit.sockets, "console.sock"))
        writer.write(b"hello\x03")
        async with asyncio.timeout(PATIENCE_S):
            assert b"typed hello\x03" in await reader.readuntil(b"hello\x03"), "a terminal that passes everything on"
        await ask(instance, "N")
        writer.close()
        log = (unit.state / "console.log").read_bytes()
        assert b"guest: ready\r\n" in log and b"typed hello" in log


async def test_a_launch_that_volantd_did_not_survive_is_cleared(
    cloud_hypervisor: CloudHypervisorSide, driver: CloudHypervisorDriver, unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object, **__: object) -> None:
        """volantd is gone here."""

    monkeypatch.setattr(launch.Launcher, "_set_up", nothing)
    begun = await cloud_hypervisor.launch(driver, unit)
    await begun.close()
    found = await (await cloud_hypervisor.open_driver()).adopt(unit)
    assert isinstance(found, Ending) and found.kind == "lost"
    assert not cloud_hypervisor.find_leftovers(unit)


async def test_a_launch_given_up_leaves_nothing(
    cloud_hypervisor: CloudHypervisorSide, driver: CloudHypervisorDriver, unit: Unit
) -> None:
    machine = await driver.resolve(cloud_hypervisor.make_machine(unit, kernel_cmdline="fake.boot=hang"))
    with open_for_launch(cloud_hypervisor, machine) as files:
        launching = asyncio.ensure_future(driver.launch(unit, machine, files))
        async with asyncio.timeout(PATIENCE_S):
            await wait_record(unit.state, lambda: not launching.done())
        launching.cancel()
        await asyncio.wait([launching])
    assert launching.cancelled()
    assert not cloud_hypervisor.find_leftovers(unit)
    assert await driver.adopt(unit) is None


async def test_nobody_is_taken_for_the_agent_but_the_processs_own_socket(
    cloud_hypervisor: CloudHypervisorSide, driver: CloudHypervisorDriver, unit: Unit, tmp_path: Path
) -> None:
    async with running(cloud_hypervisor, driver, unit) as instance:
        agent = unit.state / WORK / "agent.sock"
        agent.rename(agent.with_name("kept"))
        with socket.socket(socket.AF_UNIX) as somebody:
            os.chdir(tmp_path)
            somebody.bind("somebody.sock")
            somebody.listen()
            for lead in (lambda: agent.symlink_to(tmp_path / "somebody.sock"), lambda: os.link("somebody.sock", agent)):
                lead()
                with pytest.raises(GuestUnreachable):
                    await instance.connect_agent()
                agent.unlink()


async def test_a_disk_that_the_vms_user_cannot_read_is_said_to_be_so(
    cloud_hypervisor: CloudHypervisorSide, driver: CloudHypervisorDriver, unit: Unit
) -> None:
    machine = await driver.resolve(cloud_hypervisor.make_machine(unit, disks=DISKS))
    with open_for_launch(cloud_hypervisor, machine) as files:
        os.fchmod(files.disks["rootfs"], 0o600)
        with pytest.raises(HostError, match="'rootfs' of web-1 cannot be read by the VM's user"):
            await driver.launch(unit, machine, files)
    assert not cloud_hypervisor.find_leftovers(unit)


def write_script(place: Path, text: str) -> Path:
    place.write_text(f"#!{INTERPRETER} -I\n{text}\n")
    place.chmod(0o755)
    return place


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise SystemExit('no such feature')", "it ended while it was starting; it said: no such feature"),
        ("import signal; signal.pause()", "did not answer within 0.5 s"),
    ],
)
async def test_a_program_that_does_not_come_up_is_explained(
    cloud_hypervisor: CloudHypervisorSide,
    driver: CloudHypervisorDriver,
    unit: Unit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    message: str,
) -> None:
    monkeypatch.setattr(launch, "START_TIMEOUT_S", 0.5)
    cloud_hypervisor.program = write_script(tmp_path / "broken-hypervisor", text)
    machine = await driver.resolve(cloud_hypervisor.make_machine(unit))
    with open_for_launch(cloud_hypervisor, machine) as files, pytest.raises(HostError, match=message):
        await cloud_hypervisor.make_launcher().launch(unit, machine, files)
    assert not cloud_hypervisor.find_leftovers(unit)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("cloud-hypervisor v39.0", "39.0 is too old: 40.0 is the first"),
        ("something else 53.0", "does not say which version"),
    ],
)
async def test_what_is_no_cloud_hypervisor_of_today_is_not_used(tmp_path: Path, said: str, message: str) -> None:
    with pytest.raises(Unavailable, match=message):
        await read_version(str(write_script(tmp_path / "cloud-hypervisor", f"print({said!r})")))
    with pytest.raises(Unavailable, match="there is no"):
        await open_cloud_hypervisor(cache_dir=tmp_path, open_artifact=lambda _: -1, binary=str(tmp_path / "nothing"))
    assert (
        await read_version(str(write_script(tmp_path / "cloud-hypervisor", "print('cloud-hypervisor v53.0-dirty')")))
        == "53.0-dirty"
    )


async def test_kvm_is_proven_by_a_guest_that_answers(cloud_hypervisor: CloudHypervisorSide, tmp_path: Path) -> None:
    kernel, initramfs = Digest("sha256:" + "1" * 64), Digest("sha256:" + "2" * 64)
    launcher = cloud_hypervisor.make_launcher()
    (tmp_path / "cache").mkdir()
    good = make_prover(launcher, "53.0", tmp_path / "cache", cloud_hypervisor.open_artifact, deadline_s=PATIENCE_S)
    assert (await good.prove_kvm(kernel, initramfs)).works
    assert not list((tmp_path / "cache").glob("kvm-proof-*"))
    proven = CloudHypervisorDriver(version="53.0", launcher=launcher, cache_dir=tmp_path / "cache", prover=good, access=KvmAccess)
    machine = cloud_hypervisor.make_machine(cloud_hypervisor.make_unit())
    assert (await proven.resolve(machine)).accelerator == "kvm"
    assert proven.is_proven and not proven.explain_kvm()
    cloud_hypervisor.kernel = cloud_hypervisor.broken
    bad = make_prover(launcher, "54.0", tmp_path / "cache", cloud_hypervisor.open_artifact)
    unproven = CloudHypervisorDriver(
        version="54.0", launcher=launcher, cache_dir=tmp_path / "cache", prover=bad, access=KvmAccess
    )
    with pytest.raises(Unavailable, match=r"KVM does not work: .*Cannot load the kernel"):
        await unproven.resolve(machine)
    assert "Cannot load the kernel" in unproven.explain_kvm()
    closed = CloudHypervisorDriver(
        version="53.0", launcher=launcher, cache_dir=tmp_path, prover=good, access=lambda: KvmAccess("there is no /dev/kvm")
    )
    with pytest.raises(Unavailable, match="there is no /dev/kvm"):
        await closed.resolve(machine)


async def test_a_paused_guest_may_be_paused_again(
    cloud_hypervisor: CloudHypervisorSide, driver: CloudHypervisorDriver, unit: Unit
) -> None:
    async with running(cloud_hypervisor, driver, unit) as instance:
        for _ in range(2):
            await instance.pause()
            assert await instance.query_state() == "paused"
        for _ in range(2):
            await instance.resume()
            assert await instance.query_state() == "running"


async def test_one_whose_record_is_older_than_its_process_has_no_balloon(
    cloud_hypervisor: CloudHypervisorSide, driver: CloudHypervisorDriver, unit: Unit
) -> None:
    async with running(cloud_hypervisor, driver, unit) as instance:
        without = msgspec.structs.replace(instance.machine, balloon=-1)
        write_record(unit.state / "machine.json", without)
        adopted = await driver.adopt(unit)
        assert adopted is not None and not isinstance(adopted, Ending)
        assert isinstance(adopted.machine, Machine) and adopted.machine == without
        with pytest.raises(WrongState, match="without a balloon"):
            await adopted.set_memory(64)
        await adopted.close()
