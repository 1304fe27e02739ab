"""A fabric that is a memory: what the simulated driver, simulations and newcomers without root run on."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from volant.core.address import check_bridge_name, check_tap_name
from volant.core.errors import InUse, NotFound, WrongState
from volant.net.dhcp import Served
from volant.net.plan import NetworkPlan
from volant.net.rules import Port, Ruleset, extend_rules
from volant.net.socket import adopt_socket, listen, make_connection_socket

LOOPBACK = "127.0.0.1"


def _go_on(step: str) -> None:
    return


class _Tap(msgspec.Struct, frozen=True):
    bridge: str
    watched: int
    """The other end of the pipe that stands for the tap: it hangs up when nobody holds the tap any more."""


class SimulatedFabric:
    """Implements Fabric. Like a namespace it outlives the volantd that uses it: open and close it as often as you like.

    ``before`` is called with a method's name before it does anything, and may raise in its place.
    """

    def __init__(self, before: Callable[[str], None] = _go_on) -> None:
        self.before = before
        self.networks: dict[str, NetworkPlan] = {}
        self._digest = ""
        self._commands: list[Mapping[str, Any]] = []
        self.applied = 0
        """How often rules were really installed."""
        self.extended = 0
        """How often ports were added to them."""
        self.traffic: dict[str, int] = {}
        """By tap, the packets that its guest is to have sent."""
        self.taken_ports: set[int] = set()
        """Ports that another program is to have."""
        self.listening: dict[int, int] = {}
        """By port that was listened on last, the port of the loopback that stands for it."""
        self.served: tuple[Served, ...] = ()
        """Whose DHCP questions would be answered."""
        self._taps: dict[str, _Tap] = {}
        self._listeners: dict[int, socket.socket] = {}

    @property
    def ruleset(self) -> Ruleset:
        """What is installed."""
        return Ruleset(self._digest, tuple(self._commands))

    async def open(self) -> None:
        self.before("open")

    async def close(self) -> None:
        """Also forgets taps that nobody holds; the others stay, as they would on a host."""
        self._forget_dropped()

    async def ensure_network(self, plan: NetworkPlan) -> None:
        self.before("ensure_network")
        check_bridge_name(plan.bridge)
        self.networks[plan.bridge] = plan

    async def serve_dhcp(self, served: Sequence[Served]) -> None:
        self.before("serve_dhcp")
        self.served = tuple(each for each in served if each.leases)

    def find_lease(self, mac: str) -> str:
        """What the card ``mac`` is given when it asks, with its prefix length; empty when nobody answers."""
        for each in self.served:
            for lease in each.leases:
                if lease.mac == mac:
                    return f"{lease.ip}/{each.plan.prefix_length}"
        return ""

    async def remove_network(self, plan: NetworkPlan) -> None:
        self.before("remove_network")
        self._forget_dropped()
        if any(tap.bridge == plan.bridge for tap in self._taps.values()):
            raise InUse(f"bridge {plan.bridge} has ports", hint="delete the VMs first")
        self.networks.pop(plan.bridge, None)

    async def open_tap(self, name: str, bridge: str) -> int:
        self.before("open_tap")
        check_tap_name(name)
        if bridge not in self.networks:
            raise NotFound(f"there is no bridge {bridge} to connect {name} to")
        old = self._taps.get(name)
        if old is not None:
            if not _is_dropped(old):
                raise WrongState(f"tap {name} is held by a process", hint="the VM that it belongs to may still be ending")
            self._forget(name)
        watched, held = os.pipe()
        self._taps[name] = _Tap(bridge, watched)
        asyncio.get_running_loop().add_reader(watched, self._forget, name)
        return held

    async def list_taps(self) -> set[str]:
        self.before("list_taps")
        self._forget_dropped()
        return set(self._taps)

    async def remove_tap(self, name: str) -> None:
        self.before("remove_tap")
        check_tap_name(name)
        self._forget(name)

    async def apply_rules(self, ruleset: Ruleset) -> None:
        self.before("apply_rules")
        if ruleset.digest != self._digest:
            self._digest, self._commands = ruleset.digest, list(ruleset.commands)
            self.applied += 1

    async def extend_rules(self, ports: Sequence[Port]) -> bool:
        self.before("extend_rules")
        if not self._digest:
            return False
        extended = extend_rules(self._digest, ports)
        self._digest = extended.digest
        self._commands += extended.commands
        self.extended += 1
        return True

    async def open_listener(self, port: int) -> socket.socket:
        """One of the loopback, whose own port ``listening`` tells."""
        self.before("open_listener")
        held = self._listeners.get(port)
        if port in self.taken_ports or (held is not None and held.fileno() >= 0):
            raise InUse(f"port {port} of the host is used by another program")
        listener = self._listeners[port] = adopt_socket(listen(0, LOOPBACK))
        self.listening[port] = listener.getsockname()[1]
        return listener

    async def open_connection_socket(self) -> socket.socket:
        """One that reaches the loopback only: what stands for a guest listens there."""
        self.before("open_connection_socket")
        made = adopt_socket(make_connection_socket())
        made.bind((LOOPBACK, 0))
        return made

    async def read_traffic(self) -> dict[str, int]:
        self.before("read_traffic")
        self._forget_dropped()
        return {**dict.fromkeys(self._taps, 0), **self.traffic}

    async def find_collisions(self, plan: NetworkPlan) -> list[str]:
        self.before("find_collisions")
        return []

    async def find_forward_drops(self) -> list[str]:
        self.before("find_forward_drops")
        return []

    def _forget_dropped(self) -> None:
        for name in [name for name, tap in self._taps.items() if _is_dropped(tap)]:
            self._forget(name)

    def _forget(self, name: str) -> None:
        tap = self._taps.pop(name, None)
        if tap is not None:
            asyncio.get_running_loop().remove_reader(tap.watched)
            os.close(tap.watched)


def _is_dropped(tap: _Tap) -> bool:
    poll = select.poll()
    poll.register(tap.watched, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
