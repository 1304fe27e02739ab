"""What is answered about a VM's place on its host."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from volant.core.security import Finding, ProcessSecurity
from volant.node.door import Inspection, UnitFile


class NamedSecurity(ProcessSecurity, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the process of the VM ``name`` is kept in, by the kernel's account; ``weak`` is how many findings are."""

    name: str
    weak: int


class InspectedVM(Inspection, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that there is of the VM ``name``: ``vm`` as the API shows it, and what its host has of it."""

    name: str
    vm: Annotated[dict[str, Any], msgspec.Meta(description="The VM as GET /vms/{name} answers it.")]


RECORDS = (Finding, ProcessSecurity, UnitFile, NamedSecurity, InspectedVM)
