"""The application: every route, behind one guard, with every error as a problem."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from litestar import Litestar
from litestar.datastructures import State
from litestar.exceptions import HTTPException

from volant.api import artifacts, events, plugins, pools, snapshots, system, templates, vm_exec, vm_fork, vm_output, vm_stats, vms
from volant.api.access import require_peer
from volant.api.openapi import build_document
from volant.api.problem import handle_http_error, handle_unexpected, handle_volant_error
from volant.auth.peer import PeerPolicy
from volant.core.errors import VolantError

if TYPE_CHECKING:
    from volant.intent import Intents
    from volant.node.door import NodeDoor

JSON_MAX_BYTES = 1024 * 1024

HANDLERS = (
    *vms.HANDLERS,
    *vm_output.HANDLERS,
    *vm_exec.HANDLERS,
    *vm_fork.HANDLERS,
    *vm_stats.HANDLERS,
    *snapshots.HANDLERS,
    *templates.HANDLERS,
    *pools.HANDLERS,
    *plugins.HANDLERS,
    *artifacts.HANDLERS,
    *events.HANDLERS,
    *system.HANDLERS,
)


def build_app(intents: Intents, door: NodeDoor, version: str, *, policy: PeerPolicy | None = None) -> Litestar:
    """``policy`` says which peers may ask; by default root, this process's user and the group ``volant``."""
    return Litestar(
        route_handlers=list(HANDLERS),
        guards=[require_peer],
        exception_handlers={
            VolantError: handle_volant_error,
            HTTPException: handle_http_error,
            Exception: handle_unexpected,
        },
        request_max_body_size=JSON_MAX_BYTES,
        openapi_config=None,
        logging_config=None,
        state=State(
            {
                "intents": intents,
                "door": door,
                "version": version,
                "policy": policy or PeerPolicy(own_uid=os.geteuid()),
                "stopping": asyncio.Event(),
                "openapi": build_document(HANDLERS, version),
            }
        ),
    )
