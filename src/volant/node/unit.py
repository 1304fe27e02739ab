"""Where one VM's things lie on this host. Every path follows from its uid, so it is found again after any crash."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

import msgspec

from volant.core.ids import Uid
from volant.hypervisor.machine import Unit

SECRET_BYTES = 32


class Places(msgspec.Struct, frozen=True):
    """The two roots, and what lies under them per VM."""

    data: Path
    runtime: Path

    @property
    def units(self) -> Path:
        return self.data / "vms"

    def unit(self, uid: Uid) -> Unit:
        return Unit(uid=uid, state=self.units / uid, sockets=self.runtime / "vms" / uid)

    def disk(self, uid: Uid) -> Path:
        return self.units / uid / "disk.img"

    def logs(self, uid: Uid) -> Path:
        return self.units / uid / "logs"

    def console(self, uid: Uid) -> Path:
        return self.units / uid / "console.log"

    def make(self, uid: Uid) -> Unit:
        """The unit with its directories there. Repeatable."""
        unit = self.unit(uid)
        for directory in (unit.state, unit.sockets):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return unit

    def clear(self, uid: Uid) -> None:
        """Remove everything of one VM. Repeatable; nothing may run in it any more."""
        unit = self.unit(uid)
        for directory in (unit.sockets, unit.state):
            if directory.exists():
                shutil.rmtree(directory)

    def known_uids(self) -> set[Uid]:
        """The uids that have anything here."""
        found: set[Uid] = set()
        for root in (self.units, self.runtime / "vms"):
            if root.is_dir():
                found.update(Uid(entry.name) for entry in root.iterdir())
        return found


def new_secret(unit: Unit) -> bytes:
    """Make and keep the channel secret of a run that begins. It replaces the one before."""
    secret = secrets.token_bytes(SECRET_BYTES)
    path = unit.state / "agent.key"
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, secret)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    return secret


def read_secret(unit: Unit) -> bytes:
    """The channel secret of the current run; zeros when there is none, which is what an unconfigured guest expects."""
    try:
        secret = (unit.state / "agent.key").read_bytes()
    except FileNotFoundError:
        return bytes(SECRET_BYTES)
    return secret if len(secret) == SECRET_BYTES else bytes(SECRET_BYTES)
