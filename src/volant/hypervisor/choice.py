"""Several drivers as one. What a machine runs under is chosen when it is resolved; from then on its record says it.

``auto`` takes Cloud Hypervisor where it is installed and KVM is proven to work, and QEMU, which can emulate, elsewhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Literal

import msgspec

from volant.core.errors import Unavailable, VolantError
from volant.core.ids import Digest
from volant.hypervisor.cgroup import NO_GROUPS, ControlGroups
from volant.hypervisor.cloud_hypervisor.adopt import adopt as adopt_cloud_hypervisor
from volant.hypervisor.cloud_hypervisor.driver import CloudHypervisorDriver, open_cloud_hypervisor
from volant.hypervisor.driver import ANY, SAVED, Capability, Driver, Ending, Instance, NotRestorable, Saved
from volant.hypervisor.machine import Files, Machine, Unit
from volant.hypervisor.qemu.adopt import adopt as adopt_qemu
from volant.hypervisor.qemu.driver import Accelerators, QemuDriver, open_qemu
from volant.hypervisor.record import read_record

Wanted = Literal["auto", "qemu", "cloud-hypervisor"]

PREFERRED = ("cloud-hypervisor", "qemu")
"""In this order ``auto`` looks."""

MACHINE = "machine.json"

Adopt = Callable[[Unit, ControlGroups], Awaitable[Instance | Ending | None]]

# What runs is found again even when the program has been removed since.
_ADOPT: Mapping[str, Adopt] = {"qemu": adopt_qemu, "cloud-hypervisor": adopt_cloud_hypervisor}


class DriverChoice:
    """Implements ``Driver`` over ``drivers``, by their names; ``missing`` says why others are not there. ``wanted`` is what a
    machine runs under that does not ask for one."""

    def __init__(
        self,
        drivers: Mapping[str, Driver],
        missing: Mapping[str, str],
        *,
        wanted: Wanted = "auto",
        cgroups: ControlGroups = NO_GROUPS,
    ) -> None:
        """Raises Unavailable: what is wanted is not there, or nothing is."""
        self._drivers = {name: drivers[name] for name in PREFERRED if name in drivers}
        self._missing = dict(missing)
        self._wanted = wanted
        self._cgroups = cgroups
        self.passed_over: dict[str, str] = {}
        """Why ``auto`` did not take a driver, the last time that it did not; by the driver's name."""
        if wanted != ANY and wanted not in self._drivers:
            raise self._refuse(wanted)
        if not self._drivers:
            raise Unavailable(
                f"no hypervisor can be used here: {'; '.join(self._missing.values()) or 'none is installed'}",
                hint="apt-get install qemu-system-x86",
            )

    @property
    def drivers(self) -> Mapping[str, Driver]:
        return self._drivers

    @property
    def missing(self) -> Mapping[str, str]:
        return self._missing

    @property
    def wanted(self) -> Wanted:
        return self._wanted

    @property
    def name(self) -> str:
        """Of the one that a machine which does not ask most likely gets."""
        return self._default.name

    @property
    def version(self) -> str:
        return self._default.version

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What a machine may find here; ``capabilities_of`` says what this one does."""
        return frozenset().union(*(driver.capabilities for driver in self._drivers.values()))

    def capabilities_of(self, machine: Machine) -> frozenset[Capability]:
        found = self._drivers.get(machine.hypervisor)
        return frozenset() if found is None else found.capabilities_of(machine)

    async def resolve(self, machine: Machine) -> Machine:
        """As ``Driver.resolve``.

        Raises:
            Unavailable: this host has not the hypervisor that ``machine`` asks for, or it cannot run there.
        """
        if machine.hypervisor_version:
            return await self._of(machine.hypervisor).resolve(machine)
        name = machine.hypervisor if machine.hypervisor not in ("", ANY) else self._wanted
        if name != ANY:
            return await self._of(name).resolve(machine)
        *first, last = self._drivers.values()
        for driver in first:
            try:
                resolved = await driver.resolve(msgspec.structs.replace(machine, hypervisor=driver.name))
            except VolantError as error:
                self.passed_over[driver.name] = str(error)
                continue
            self.passed_over.pop(driver.name, None)
            return resolved
        return await last.resolve(msgspec.structs.replace(machine, hypervisor=last.name))

    async def launch(self, unit: Unit, machine: Machine, files: Files) -> Instance:
        return await self._of(machine.hypervisor).launch(unit, machine, files)

    async def restore(self, unit: Unit, machine: Machine, files: Files, saved: Path, base: Path | None = None) -> Instance:
        record = read_record(saved / SAVED, Saved)
        if record is not None and record.machine.hypervisor != machine.hypervisor:
            machine = await self._resolve_like(machine, record.machine)
        return await self._of(machine.hypervisor).restore(unit, machine, files, saved, base)

    def is_base_held(self, key: str) -> bool:
        return any(driver.is_base_held(key) for driver in self._drivers.values())

    async def release_bases(self, keep: AbstractSet[str]) -> None:
        for driver in self._drivers.values():
            await driver.release_bases(keep)

    async def adopt(self, unit: Unit) -> Instance | Ending | None:
        machine = read_record(unit.state / MACHINE, Machine)
        if machine is None:
            return None
        found = self._drivers.get(machine.hypervisor)
        if found is not None:
            return await found.adopt(unit)
        adopt = _ADOPT.get(machine.hypervisor)
        return None if adopt is None else await adopt(unit, self._cgroups)

    @property
    def _default(self) -> Driver:
        if self._wanted != ANY:
            return self._drivers[self._wanted]
        *first, last = self._drivers.values()
        return next((driver for driver in first if not explain_unfit(driver) and driver.name not in self.passed_over), last)

    def _of(self, name: str) -> Driver:
        found = self._drivers.get(name)
        if found is None:
            raise self._refuse(name)
        return found

    def _refuse(self, name: str) -> Unavailable:
        reason = self._missing.get(name, "it runs real guests under " + " or ".join(self._drivers))
        return Unavailable(f"this host has no {name}: {reason}", hint="volar doctor says what there is")

    async def _resolve_like(self, machine: Machine, saved: Machine) -> Machine:
        """``machine`` for the hypervisor that saved it: a guest that sleeps goes on under that, whatever a start would take now.

        Raises:
            NotRestorable: this host has it no more.
        """
        found = self._drivers.get(saved.hypervisor)
        if found is None:
            raise NotRestorable(f"it was saved under {saved.hypervisor}, and {self._refuse(saved.hypervisor).message}")
        bare = msgspec.structs.replace(
            machine, hypervisor=saved.hypervisor, hypervisor_version="", kernel_cmdline="", machine_type="", cpu_model=""
        )
        # What a kernel was told at its boot holds.
        return msgspec.structs.replace(await found.resolve(bare), kernel_cmdline=saved.kernel_cmdline)


async def open_choice(
    *,
    wanted: Wanted,
    cache_dir: Path,
    open_artifact: Callable[[Digest], int],
    accelerator: Accelerators,
    cloud_hypervisor_binary: str = "",
    cgroups: ControlGroups = NO_GROUPS,
) -> DriverChoice:
    """The drivers of the hypervisors that are installed. Arguments as of ``open_qemu`` and ``open_cloud_hypervisor``.

    Raises:
        Unavailable: what is wanted, or everything, is missing.
    """
    drivers: dict[str, Driver] = {}
    missing: dict[str, str] = {}
    try:
        if accelerator == "tcg":
            raise Unavailable("KVM is switched off (accelerator = tcg), and Cloud Hypervisor cannot do without")
        drivers["cloud-hypervisor"] = await open_cloud_hypervisor(
            cache_dir=cache_dir, open_artifact=open_artifact, binary=cloud_hypervisor_binary, cgroups=cgroups
        )
    except Unavailable as error:
        missing["cloud-hypervisor"] = error.message
    try:
        drivers["qemu"] = await open_qemu(
            cache_dir=cache_dir, open_artifact=open_artifact, accelerator=accelerator, cgroups=cgroups
        )
    except Unavailable as error:
        missing["qemu"] = error.message
    return DriverChoice(drivers, missing, wanted=wanted, cgroups=cgroups)


def explain_unfit(driver: Driver) -> str:
    """Why ``auto`` cannot take a driver, as far as is known without a proof; empty when it may."""
    return driver.explain_kvm() if isinstance(driver, CloudHypervisorDriver) else ""


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """For ``volar doctor``: one driver, what is known of it, and whether a machine that does not ask gets it."""

    name: str
    version: str = ""
    is_there: bool
    is_default: bool = False
    message: str = ""


async def describe_choice(choice: DriverChoice) -> list[Described]:
    """What was found and why, the default first. Proves nothing."""
    found: list[Described] = []
    for name, driver in choice.drivers.items():
        is_default = driver.name == choice.name
        found.append(
            Described(
                name=name,
                version=driver.version,
                is_there=True,
                is_default=is_default,
                message=_explain(choice, driver, is_default=is_default),
            )
        )
    found += [Described(name=name, is_there=False, message=reason) for name, reason in choice.missing.items()]
    return sorted(found, key=lambda one: not one.is_default)


def _explain(choice: DriverChoice, driver: Driver, *, is_default: bool) -> str:
    if choice.wanted != ANY:
        return "chosen by the configuration" if is_default else "there, and for VMs that ask for it by name"
    unfit = explain_unfit(driver) or choice.passed_over.get(driver.name, "")
    if unfit:
        return f"there, and not chosen: {unfit}"
    if isinstance(driver, CloudHypervisorDriver):
        return (
            "chosen: KVM works" if driver.is_proven else "chosen if KVM works, which the first start of a kernel proves by a boot"
        )
    if not is_default:
        return "there, for where Cloud Hypervisor cannot run and for VMs that ask for it by name"
    return "chosen" if isinstance(driver, QemuDriver) else "there"
