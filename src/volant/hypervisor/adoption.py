"""Finding again what runs, or ran, in a unit: the part that is the same whatever the hypervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from volant.core.errors import HostError
from volant.hypervisor.cgroup import ControlGroups
from volant.hypervisor.driver import Ending
from volant.hypervisor.ending import MACHINE, write_ending
from volant.hypervisor.lock import is_locked
from volant.hypervisor.machine import Machine, Unit
from volant.hypervisor.record import read_record

START_TIMEOUT_S = 10.0
LOOK_PERIOD_S = 0.005

Found = TypeVar("Found")


async def adopt_unit(
    unit: Unit,
    cgroups: ControlGroups,
    *,
    find: Callable[[Unit, Machine, ControlGroups], Found | None],
    keep: Callable[[Unit, Found], Awaitable[Found | Ending]],
    explain: Callable[[Unit, Machine], Awaitable[Ending | None]],
) -> Found | Ending | None:
    """As Driver.adopt. ``find`` looks for the process, ``keep`` says whether it is to be kept, ``explain`` how it ended.

    Raises:
        HostError: the lock is held and nothing that holds it shows itself.
    """
    machine = read_record(unit.state / MACHINE, Machine)
    if machine is None:
        return None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            # While the lock is held there is a holder, and it is running a VM, beginning to, or writing its last words.
            while is_locked(unit.state):
                instance = find(unit, machine, cgroups)
                if instance is not None:
                    return await keep(unit, instance)
                await asyncio.sleep(LOOK_PERIOD_S)
    except TimeoutError as error:
        raise HostError(
            f"the lock of {machine.name} is held, and no VM process shows itself",
            hint=f"find out who holds it with: fuser -v {unit.state}/lock",
        ) from error
    ending = await explain(unit, machine)
    group = cgroups.find(unit.uid)
    if group is not None:
        if ending is not None and (told := group.explain(ending)) is not ending:
            # The group that shows it goes now.
            write_ending(unit.state, machine.run_id, told)
            ending = told
        await asyncio.to_thread(group.remove)
    return ending
