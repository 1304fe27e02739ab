"""Where one VM's things lie on this host. Every path follows from its uid, so it is found again after any crash."""

from __future__ import annotations

import functools
import os
import secrets
import shutil
from pathlib import Path

import msgspec

from volant.core.ids import Digest, Uid
from volant.hypervisor.machine import Unit
from volant.hypervisor.record import read_record, write_record

SECRET_BYTES = 32
SECRET, FORMER = "agent.key", "agent.former"
TOLD = "told.json"
MAX_DOCUMENTS = 8


class Places(msgspec.Struct, frozen=True, dict=True):
    """The two roots, and what lies under them per VM."""

    data: Path
    runtime: Path

    @functools.cached_property
    def units(self) -> Path:
        return self.data / "vms"

    @functools.cached_property
    def _sockets(self) -> Path:
        return self.runtime / "vms"

    def unit(self, uid: Uid) -> Unit:
        return Unit(uid=uid, state=self.units / uid, sockets=self._sockets / uid)

    def disk(self, uid: Uid) -> Path:
        return self.units / uid / "disk.img"

    def logs(self, uid: Uid) -> Path:
        return self.units / uid / "logs"

    def console(self, uid: Uid) -> Path:
        return self.units / uid / "console.log"

    def saved(self, uid: Uid) -> Path:
        """What a VM that sleeps goes on from. While it is there the guest has not run since it was saved."""
        return self.units / uid / "saved"

    @property
    def templates(self) -> Path:
        return self.data / "templates"

    @property
    def snapshots(self) -> Path:
        return self.data / "snapshots"

    def make(self, uid: Uid) -> Unit:
        """The unit with its directories there. Repeatable."""
        unit = self.unit(uid)
        for directory in (unit.state, unit.sockets):
            try:
                os.mkdir(directory, 0o700)  # noqa: PTH102  # most often it is there or can be made, and that is all to find out
            except FileExistsError:
                continue
            except FileNotFoundError:
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
        for root in (self.units, self._sockets):
            if root.is_dir():
                found.update(Uid(entry.name) for entry in root.iterdir())
        return found


class Identity(msgspec.Struct, frozen=True):
    """Who the guest of a unit was told to be: ``document``, the digest of its configuration, and ``of``, which stands for the
    name and addresses in it."""

    document: str
    of: str


def write_identity(unit: Unit, identity: Identity) -> None:
    write_record(unit.state / "identity.json", identity, outlives_host=False)


def read_identity(unit: Unit) -> Identity | None:
    return read_record(unit.state / "identity.json", Identity)


def note_document(unit: Unit, digest: Digest) -> None:
    """Remember that the guest of ``unit`` is about to be sent the document with this digest. Whether it takes it may never be
    known, and what it says of its end goes by the one that it holds."""
    told = [*(known for known in read_documents(unit) if known != digest), digest]
    write_record(unit.state / TOLD, told[-MAX_DOCUMENTS:], outlives_host=False)


def read_documents(unit: Unit) -> tuple[Digest, ...]:
    """The digests of what the guest of the latest run was sent, and may hold."""
    identity = read_identity(unit)
    told = read_record(unit.state / TOLD, tuple[Digest, ...]) or ()
    return told if identity is None or identity.document in told else (Digest(identity.document), *told)


def forget_identity(unit: Unit) -> None:
    """The guest that comes is to be told who it is; nothing of an earlier one's secrets is its own."""
    for name in ("identity.json", TOLD, FORMER):
        (unit.state / name).unlink(missing_ok=True)


def new_secret(unit: Unit) -> bytes:
    """Make and keep the channel secret of a run that begins. It replaces the one before."""
    secret = secrets.token_bytes(SECRET_BYTES)
    _write_secret(unit.state / SECRET, secret)
    return secret


def read_secret(unit: Unit) -> bytes:
    """The channel secret of the current run; zeros when there is none, which is what an unconfigured guest expects."""
    return _read_secret(unit.state / SECRET)


def read_former(unit: Unit) -> bytes:
    """The secret that the guest held when it was saved, for one that was made from another; zeros when there is none."""
    return _read_secret(unit.state / FORMER)


def copy_secret(source: Path, target: Path) -> None:
    """Keep the secret in file ``source`` as file ``target``."""
    _write_secret(target, _read_secret(source))


def _write_secret(path: Path, secret: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, secret)
    finally:
        os.close(descriptor)
    temporary.replace(path)


def _read_secret(path: Path) -> bytes:
    try:
        secret = path.read_bytes()
    except FileNotFoundError:
        return bytes(SECRET_BYTES)
    return secret if len(secret) == SECRET_BYTES else bytes(SECRET_BYTES)
