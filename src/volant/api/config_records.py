"""What crosses the API about the configuration of VMs."""

from __future__ import annotations

from typing import Any

import msgspec

from volant.core.changes import Difference


class VMConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a VM is configured. ``version`` is the generation that the latest change of it gave the VM."""

    version: int
    updated_at: str
    config: dict[str, Any]


class VMVersion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of a VM's configuration: who made it, why, and what differs from the one before, as paths."""

    version: int
    updated_at: str
    by: str
    reason: str
    changed: tuple[str, ...]
    config: dict[str, Any]


class VMVersions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Newest first."""

    items: tuple[VMVersion, ...]


class VMDiff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the configuration ``to`` differs from the one it is compared with."""

    before: int
    after: int
    differences: tuple[Difference, ...]


class RollbackWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The version that the VM is to be configured as again."""

    version: int


RECORDS = (VMConfig, VMVersion, VMVersions, VMDiff, RollbackWanted, Difference)
"""For the schemas of the OpenAPI document."""
