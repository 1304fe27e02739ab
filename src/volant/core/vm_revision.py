"""What a VM's configuration was: a record for every change of it, made in the transaction that changes the VM."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from volant.core.changes import compare_configs, describe_config
from volant.core.errors import InvalidInput
from volant.core.ids import Uid
from volant.core.resource import Meta, Resource, Spec, Status
from volant.core.vm import VM

KEPT = 64
"""So many versions of one VM are kept; the oldest go."""

REASON_MAX_CHARS = 500
VM_LABEL = "volant.vm-uid"
"""By which the versions of a VM are found."""


class Author(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for a change, and why. Both may be unknown."""

    by: str = ""
    reason: str = ""


NOBODY = Author()


class VMRevisionSpec(Spec, frozen=True, kw_only=True):
    """``number`` is the generation that the change gave the VM, so that a later one has a higher one; starts and stops count
    generations too, and leave no version."""

    vm: str
    vm_uid: Uid
    number: int
    at: str
    by: str = ""
    reason: str = ""
    changed: tuple[str, ...] = ()
    """Paths, as in ``env.MODE``. Empty for the first."""
    config: dict[str, Any] = {}


class VMRevisionStatus(Status, frozen=True, kw_only=True):
    pass


class VMRevision(Resource[VMRevisionSpec, VMRevisionStatus], frozen=True, kw_only=True):
    kind: ClassVar[str] = "VMRevision"
    plural: ClassVar[str] = "vmrevisions"
    spec_type: ClassVar[type[Spec]] = VMRevisionSpec
    status_type: ClassVar[type[Status]] = VMRevisionStatus


def revision_name(uid: Uid, number: int) -> str:
    return f"{uid}.{number:010d}"


def build_revision(vm: VM, before: VM | None, author: Author, at: str) -> VMRevision:
    """The version that ``vm`` is, made of ``before``. It goes with the VM."""
    config = describe_config(vm.spec, vm.meta.labels)
    changed: tuple[str, ...] = ()
    if before is not None:
        changed = tuple(each.path for each in compare_configs(describe_config(before.spec, before.meta.labels), config))
    spec = VMRevisionSpec(
        vm=vm.name,
        vm_uid=vm.uid,
        number=vm.meta.generation,
        at=at,
        by=author.by,
        reason=author.reason,
        changed=changed,
        config=config,
    )
    meta = Meta(
        name=revision_name(vm.uid, vm.meta.generation),
        uid=Uid(f"{vm.uid[:22]}{vm.meta.generation:010d}"),
        project=vm.meta.project,
        labels={VM_LABEL: vm.uid},
        created_at=at,
        owner=vm.uid,
    )
    return VMRevision(meta=meta, spec=spec, status=VMRevisionStatus())


def check_reason(text: str) -> str:
    """``text`` as it may be kept and shown. Raises InvalidInput."""
    words = " ".join(text.split())
    if len(words) > REASON_MAX_CHARS or not words.isprintable():
        raise InvalidInput(f"a reason is one line of at most {REASON_MAX_CHARS} printable characters", field="Volant-Reason")
    return words
