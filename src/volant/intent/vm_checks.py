"""What cannot be right about a VM, whatever else there is."""

from __future__ import annotations

from typing import Any, Protocol

from volant.core.boot_files import HEAD_BYTES, tell_boot_file
from volant.core.errors import InvalidInput, StaleRevision, WrongState
from volant.core.ids import Digest, check_digest
from volant.core.resource import Resource
from volant.core.snapshot import Snapshot
from volant.core.trust import Policy
from volant.core.vm import VM, VMSpec

ENV_MAX_BYTES = 32 * 1024
LABELS_MAX_BYTES = 16 * 1024
COMMAND_MAX_BYTES = 32 * 1024

OWN_LABELS = "volant."
RUN_LABELS = ("volant.run", "volant.run-by")
"""Those by which ``volar run`` finds its VMs again: people make them, too."""

PLUGIN_HINT = "volar plugins list shows those installed"


class BootFiles(Protocol):
    """What a check needs of the artifact store."""

    async def read_head(self, digest: Digest, size: int) -> bytes | None:
        """The first ``size`` bytes of an artifact; None when it is not stored."""
        ...


def check_without_agent(spec: VMSpec) -> None:
    needs_agent = ("command", "env", "auto_suspend_s", "snapshot")
    for field, is_given in ((field, getattr(spec, field)) for field in needs_agent):
        if is_given:
            raise InvalidInput(
                f"{field} needs an agent in the guest, and this plugin's has none", field=field, hint="leave it out"
            )


def check_power(spec: VMSpec) -> None:
    if spec.power not in ("running", "stopped"):
        raise InvalidInput(f"a VM cannot be created {spec.power}", field="power", hint="create it running, or stopped")
    if spec.force_stop:
        raise InvalidInput("what does not run cannot be stopped", field="force_stop", hint="leave it out")


def check_usable(snapshot: Snapshot | None, name: str) -> None:
    if snapshot is None or snapshot.deleting:
        raise InvalidInput(f"there is no snapshot named {name[:80]!r}", field="snapshot", hint="volar snapshots list")
    if snapshot.status.phase != "Ready":
        raise WrongState(f"the snapshot {name!r} is {snapshot.status.phase.lower()}: {snapshot.status.message}".rstrip(": "))


def check_generation(resource: Resource[Any, Any], expected: int | None) -> None:
    if expected is not None and resource.meta.generation != expected:
        what = "VM" if isinstance(resource, VM) else resource.kind.lower()
        raise StaleRevision(
            f"the {what} {resource.name!r} is at generation {resource.meta.generation}, not {expected}",
            hint="read it again, then decide",
        )


def check_env(env: dict[str, str]) -> None:
    if sum(len(name) + len(value) for name, value in env.items()) > ENV_MAX_BYTES:
        raise InvalidInput(f"the environment is larger than {ENV_MAX_BYTES} bytes", field="env")
    for name, value in env.items():
        if not name or "=" in name or "\x00" in name + value:
            raise InvalidInput(f"{name[:40]!r} cannot be an environment variable", field="env")


def check_command(command: tuple[str, ...]) -> None:
    """An argument vector is given whole or not at all."""
    if command and not command[0]:
        raise InvalidInput("a command begins with a program", field="command", hint="leave it out to run what the plugin runs")
    if any("\x00" in word for word in command):
        raise InvalidInput("a word of a command cannot hold a NUL", field="command")
    if sum(len(word.encode(errors="surrogatepass")) + 1 for word in command) > COMMAND_MAX_BYTES:
        raise InvalidInput(f"the command is larger than {COMMAND_MAX_BYTES} bytes", field="command")


def check_labels(labels: dict[str, str], *, own: bool = False) -> None:
    """``own``: they may be Volant's."""
    if sum(len(name) + len(value) for name, value in labels.items()) > LABELS_MAX_BYTES:
        raise InvalidInput(f"the labels are larger than {LABELS_MAX_BYTES} bytes", field="labels")
    if any(not name for name in labels):
        raise InvalidInput("a label needs a name", field="labels")
    reserved = next((name for name in labels if name.startswith(OWN_LABELS) and name not in RUN_LABELS), None)
    if reserved is not None and not own:
        raise InvalidInput(
            f"labels that begin with {OWN_LABELS} are Volant's own", field="labels", hint=f"rename {reserved[:80]}"
        )


async def check_boot_files(spec: VMSpec, files: BootFiles | None, policy: Policy) -> None:
    """``kernel`` and ``initramfs`` of a spec are stored, and are what they are said to be.

    Raises:
        InvalidInput: one is not. WrongState: the trust policy wants everything vouched for, and nobody vouches for these.
    """
    for field, kind in (("kernel", "kernel"), ("initramfs", "initramfs")):
        given = getattr(spec, field)
        if given is None:
            continue
        digest = check_digest(given, field)
        if policy == "enforce":
            raise WrongState(
                f"{field} of its own is not for a host that starts only what is signed",
                hint="boot what the plugin brings, or build a plugin with this file and sign it",
            )
        head = None if files is None else await files.read_head(digest, HEAD_BYTES)
        if head is None:
            raise InvalidInput(f"there is no artifact {digest}", field=field, hint=f"volar vms create --{field} FILE uploads it")
        if tell_boot_file(head) != kind:
            raise InvalidInput(f"the artifact {digest} is no {kind}", field=field)
