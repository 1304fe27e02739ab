"""The quota: how much the VMs of a project may have together."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from volant.core.resource import Resource, Spec, Status

Limit = Annotated[int, msgspec.Meta(ge=0)] | None


class QuotaSpec(Spec, frozen=True, kw_only=True):
    """None is no limit. Sizes are MiB. All quotas of a project hold."""

    vms: Limit = None
    cpu_cores: Limit = None
    memory_mb: Limit = None
    disk_mb: Limit = None
    deployments: Limit = None
    jobs: Limit = None


class QuotaStatus(Status, frozen=True, kw_only=True):
    """What is used: written in the transaction that uses it."""

    vms: int = 0
    cpu_cores: int = 0
    memory_mb: int = 0
    disk_mb: int = 0
    deployments: int = 0
    jobs: int = 0


class Quota(Resource[QuotaSpec, QuotaStatus], frozen=True, kw_only=True):
    kind: ClassVar[str] = "Quota"
    plural: ClassVar[str] = "quotas"
    spec_type: ClassVar[type[Spec]] = QuotaSpec
    status_type: ClassVar[type[Status]] = QuotaStatus
