"""A driver that finds again what an earlier one started."""

from __future__ import annotations

import asyncio

from volant.hypervisor.driver import Driver, Ending
from volant.hypervisor.machine import Unit

from .hypervisor_hosts import PATIENCE_S, Host, reach_guest


async def find_ending(host: Host, unit: Unit) -> str:
    found = await (await host.open_driver()).adopt(unit)
    assert found is not None
    if isinstance(found, Ending):
        return found.kind
    async with asyncio.timeout(PATIENCE_S):
        kind = (await found.wait_ended()).kind
    await found.destroy()
    await found.close()
    return kind


async def test_a_new_driver_finds_the_same_process(host: Host, driver: Driver, unit: Unit) -> None:
    instance = await host.launch(driver, unit)
    was = (instance.pid, instance.started_at, instance.machine)
    await instance.close()
    adopted = await (await host.open_driver()).adopt(unit)
    assert adopted is not None and not isinstance(adopted, Ending)
    assert (adopted.pid, adopted.started_at, adopted.machine) == was
    _, writer = await reach_guest(adopted)
    writer.close()
    await adopted.destroy()
    await adopted.close()
    assert not host.find_leftovers(unit)


async def test_a_power_off_that_nobody_watched_is_found(host: Host, driver: Driver, unit: Unit) -> None:
    instance = await host.launch(driver, unit)
    await host.tell_guest(instance, "P")
    await instance.close()
    # A hypervisor may end with its guest, and then there is nothing left to adopt.
    assert await find_ending(host, unit) == "powered_off"


async def test_a_reset_that_nobody_watched_is_told_from_a_power_off(host: Host, driver: Driver, unit: Unit) -> None:
    instance = await host.launch(driver, unit)
    await host.tell_guest(instance, "R")
    await instance.close()
    assert await find_ending(host, unit) == "reset"


async def test_a_death_that_nobody_watched_has_an_ending(host: Host, driver: Driver, unit: Unit) -> None:
    instance = await host.launch(driver, unit)
    await instance.close()
    host.kill_process(instance)
    found = await (await host.open_driver()).adopt(unit)
    assert isinstance(found, Ending)
    assert (found.kind, found.signal) == ("crashed", 9)
    assert not (set(host.find_leftovers(unit)) & {"lock"})


async def test_another_units_run_is_not_mistaken_for_ones_own(host: Host, driver: Driver, unit: Unit) -> None:
    instance = await host.launch(driver, unit)
    assert await driver.adopt(host.make_unit()) is None
    await instance.destroy()
    await instance.close()
