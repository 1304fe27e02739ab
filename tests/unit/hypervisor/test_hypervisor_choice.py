"""Which hypervisor a machine runs under, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from volant.core.errors import HostError, NotFound, Unavailable, VolantError
from volant.core.ids import Digest, new_run_id, new_uid
from volant.core.simulated_clock import SimulatedClock
from volant.hypervisor.choice import DriverChoice, Wanted, describe_choice
from volant.hypervisor.driver import SAVED, Capability, Ending, Instance, NotRestorable, Saved
from volant.hypervisor.machine import Files, Machine, Unit
from volant.hypervisor.record import write_record
from volant.hypervisor.simulated import ALL_CAPABILITIES, SimulatedDriver, SimulatedHost

FILES = Files(kernel=-1, initramfs=-1, disks={}, taps={})
NO_CH = {"cloud-hypervisor": "there is no cloud-hypervisor here"}


class NamedDriver(SimulatedDriver):
    """A simulated driver by another name, which may find that it cannot run a machine."""

    def __init__(self, name: str, host: SimulatedHost, *, lacks: frozenset[Capability] = frozenset()) -> None:
        super().__init__(host, capabilities=ALL_CAPABILITIES - lacks)
        self._name = name
        self.unfit: VolantError | None = None

    @property
    def name(self) -> str:
        return self._name

    async def resolve(self, machine: Machine) -> Machine:
        if self.unfit is not None:
            raise self.unfit
        return await super().resolve(machine)


@pytest.fixture
def drivers() -> dict[str, NamedDriver]:
    host = SimulatedHost(SimulatedClock())
    return {
        "qemu": NamedDriver("qemu", host, lacks=frozenset({Capability.HOTPLUG})),
        "cloud-hypervisor": NamedDriver("cloud-hypervisor", host, lacks=frozenset({Capability.SHARED_MEMORY})),
    }


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    return Unit(uid=new_uid(), state=tmp_path, sockets=tmp_path)


def make_machine(unit: Unit, hypervisor: str = "auto") -> Machine:
    return Machine(
        uid=unit.uid,
        run_id=new_run_id(),
        name="web-1",
        slot=0,
        hypervisor=hypervisor,
        cpu_cores=1,
        memory_mib=128,
        kernel=Digest("sha256:" + "1" * 64),
        initramfs=Digest("sha256:" + "2" * 64),
        kernel_cmdline="",
    )


async def test_auto_takes_cloud_hypervisor_and_qemu_where_that_cannot(drivers: dict[str, NamedDriver], unit: Unit) -> None:
    choice = DriverChoice(drivers, {})
    assert choice.name == "cloud-hypervisor"
    assert (await choice.resolve(make_machine(unit))).hypervisor == "cloud-hypervisor"
    for reason in (Unavailable("KVM does not work: no guest boots"), NotFound("its kernel is gone")):
        drivers["cloud-hypervisor"].unfit = reason
        assert (await choice.resolve(make_machine(unit))).hypervisor == "qemu"
        assert choice.passed_over == {"cloud-hypervisor": str(reason)}
        assert choice.name == "qemu", "the next one would most likely get it, too"
    drivers["cloud-hypervisor"].unfit = None
    assert (await choice.resolve(make_machine(unit))).hypervisor == "cloud-hypervisor"
    assert choice.name == "cloud-hypervisor" and not choice.passed_over


async def test_a_machine_may_ask_for_one_by_name_and_is_told_why_not(drivers: dict[str, NamedDriver], unit: Unit) -> None:
    choice = DriverChoice(drivers, {})
    assert (await choice.resolve(make_machine(unit, "qemu"))).hypervisor == "qemu"
    drivers["cloud-hypervisor"].unfit = Unavailable("KVM does not work: no guest boots")
    with pytest.raises(Unavailable, match="no guest boots"):
        await choice.resolve(make_machine(unit, "cloud-hypervisor"))
    alone = DriverChoice({"qemu": drivers["qemu"]}, NO_CH)
    with pytest.raises(Unavailable, match="this host has no cloud-hypervisor: there is no cloud-hypervisor here"):
        await alone.resolve(make_machine(unit, "cloud-hypervisor"))
    with pytest.raises(Unavailable, match="no simulated: it runs real guests under qemu"):
        await alone.resolve(make_machine(unit, "simulated"))
    assert (await alone.resolve(make_machine(unit))).hypervisor == "qemu"


@pytest.mark.parametrize(("wanted", "expected"), [("qemu", "qemu"), ("cloud-hypervisor", "cloud-hypervisor")])
async def test_the_configuration_decides_for_those_that_do_not_ask(
    drivers: dict[str, NamedDriver], unit: Unit, wanted: Wanted, expected: str
) -> None:
    choice = DriverChoice(drivers, {}, wanted=wanted)
    assert choice.name == (await choice.resolve(make_machine(unit))).hypervisor == expected


def test_what_is_wanted_must_be_there(drivers: dict[str, NamedDriver]) -> None:
    with pytest.raises(Unavailable, match="there is no cloud-hypervisor here"):
        DriverChoice({"qemu": drivers["qemu"]}, NO_CH, wanted="cloud-hypervisor")
    with pytest.raises(Unavailable, match="no hypervisor can be used here: QEMU cannot be run"):
        DriverChoice({}, {"qemu": "QEMU cannot be run"})


async def test_capabilities_are_those_of_what_a_machine_runs_under(drivers: dict[str, NamedDriver], unit: Unit) -> None:
    choice = DriverChoice(drivers, {})
    assert choice.capabilities == frozenset(Capability)
    machine = await choice.resolve(make_machine(unit))
    assert Capability.SHARED_MEMORY not in choice.capabilities_of(machine)
    other = await choice.resolve(make_machine(unit, "qemu"))
    assert Capability.HOTPLUG not in choice.capabilities_of(other)
    assert choice.capabilities_of(msgspec.structs.replace(other, hypervisor="gone")) == frozenset()


async def test_what_runs_is_found_again_under_what_it_was_started_with(drivers: dict[str, NamedDriver], unit: Unit) -> None:
    choice = DriverChoice(drivers, {})
    machine = await choice.resolve(make_machine(unit, "qemu"))
    machine = msgspec.structs.replace(machine, hypervisor="qemu")
    assert await choice.adopt(unit) is None
    started = await choice.launch(unit, machine, FILES)
    found = await DriverChoice(drivers, {}).adopt(unit)
    assert found is not None and not isinstance(found, Ending) and found.pid == started.pid


async def test_a_guest_that_sleeps_goes_on_under_what_saved_it(
    drivers: dict[str, NamedDriver], unit: Unit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = DriverChoice(drivers, {})
    saved = tmp_path / "saved"
    saved.mkdir()
    was = msgspec.structs.replace(
        await choice.resolve(make_machine(unit, "qemu")), hypervisor="qemu", kernel_cmdline="what it was told"
    )
    write_record(saved / SAVED, Saved(machine=was, is_whole=True, memory_bytes=1, state_bytes=1))
    now = await choice.resolve(make_machine(unit))
    assert now.hypervisor == "cloud-hypervisor"
    asked: list[Machine] = []

    async def restore(unit: Unit, machine: Machine, *_: object) -> Instance:
        asked.append(machine)
        raise HostError("that is all")

    monkeypatch.setattr(drivers["qemu"], "restore", restore)
    with pytest.raises(HostError, match="that is all"):
        await choice.restore(unit, now, FILES, saved)
    assert asked[0].hypervisor_version and asked[0].kernel_cmdline == "what it was told"
    assert (asked[0].run_id, asked[0].uid) == (now.run_id, now.uid)
    without = DriverChoice({"cloud-hypervisor": drivers["cloud-hypervisor"]}, {"qemu": "QEMU cannot be run"})
    with pytest.raises(NotRestorable, match="it was saved under qemu"):
        await without.restore(unit, now, FILES, saved)


async def test_what_was_found_and_chosen_is_explained(drivers: dict[str, NamedDriver], unit: Unit) -> None:
    choice = DriverChoice({"qemu": drivers["qemu"]}, NO_CH)
    found = await describe_choice(choice)
    assert [(one.name, one.is_there, one.is_default) for one in found] == [
        ("qemu", True, True),
        ("cloud-hypervisor", False, False),
    ]
    assert found[1].message == "there is no cloud-hypervisor here"
    both = DriverChoice(drivers, {})
    drivers["cloud-hypervisor"].unfit = Unavailable("KVM does not work: no guest boots")
    await both.resolve(make_machine(unit))
    explained = {one.name: one for one in await describe_choice(both)}
    assert explained["qemu"].is_default
    assert explained["cloud-hypervisor"].message == "there, and not chosen: KVM does not work: no guest boots"
