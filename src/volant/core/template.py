"""The template: a booted guest's memory and devices, from which clones start. It lies on one node and is found by its key."""

from __future__ import annotations

from typing import Literal

import msgspec

TemplateKind = Literal["booted", "ready"]


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """``key``: 64 hexadecimal digits over everything that decides the content. ``users``: what stands on it now."""

    key: str
    kind: TemplateKind
    plugin: str
    cpu_cores: int
    memory_mb: int
    disk_mb: int
    accelerator: str
    hypervisor: str
    size_bytes: int
    created_at: str
    used_at: str
    users: int = 0
    loaded: bool = False
    """Its memory is held for clones that may come."""
