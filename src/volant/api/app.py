"""The application: every route, behind one guard, with every error as a problem."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from litestar import Litestar
from litestar.datastructures import State
from litestar.exceptions import HTTPException

from volant.api import (
    apply,
    artifacts,
    cron_jobs,
    deployment_rollout,
    deployments,
    events,
    jobs,
    networks,
    nodes,
    plugin_index,
    plugin_versions,
    plugins,
    pools,
    queues,
    quotas,
    snapshots,
    system,
    templates,
    top,
    vm_actions,
    vm_agent,
    vm_attach,
    vm_config,
    vm_console,
    vm_exec,
    vm_files,
    vm_fork,
    vm_inspect,
    vm_operations,
    vm_output,
    vm_ports,
    vm_stats,
    vms,
)
from volant.api.access import require_peer
from volant.api.admission import admit_request
from volant.api.guest_document import GuestDocuments
from volant.api.openapi import build_document
from volant.api.problem import handle_http_error, handle_unexpected, handle_volant_error
from volant.auth.peer import PeerPolicy
from volant.auth.token import TokenFile
from volant.core.clock import HostClock
from volant.core.errors import VolantError

if TYPE_CHECKING:
    from volant.intent import Intents
    from volant.node.door import NodeDoor

JSON_MAX_BYTES = 1024 * 1024

HANDLERS = (
    *vms.HANDLERS,
    *vm_config.HANDLERS,
    *vm_output.HANDLERS,
    *vm_exec.HANDLERS,
    *vm_attach.HANDLERS,
    *vm_console.HANDLERS,
    *vm_files.HANDLERS,
    *vm_ports.HANDLERS,
    *vm_fork.HANDLERS,
    *vm_inspect.HANDLERS,
    *vm_stats.HANDLERS,
    *top.HANDLERS,
    *vm_agent.HANDLERS,
    *vm_actions.HANDLERS,
    *vm_operations.HANDLERS,
    *jobs.HANDLERS,
    *cron_jobs.HANDLERS,
    *snapshots.HANDLERS,
    *templates.HANDLERS,
    *pools.HANDLERS,
    *networks.HANDLERS,
    *nodes.HANDLERS,
    *quotas.HANDLERS,
    *deployments.HANDLERS,
    *deployment_rollout.HANDLERS,
    *apply.HANDLERS,
    *plugins.HANDLERS,
    *plugin_versions.HANDLERS,
    *plugin_index.HANDLERS,
    *artifacts.HANDLERS,
    *events.HANDLERS,
    *system.HANDLERS,
    *queues.HANDLERS,
)


def build_app(
    intents: Intents, door: NodeDoor, version: str, *, policy: PeerPolicy | None = None, tokens: TokenFile | None = None
) -> Litestar:
    """``policy`` says which peers may ask; by default root, this process's user and the group ``volant``. ``tokens`` vouches
    for who comes by TCP; without it nobody may."""
    return Litestar(
        route_handlers=list(HANDLERS),
        guards=[require_peer],
        before_request=admit_request,
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
                "tokens": tokens,
                "stopping": asyncio.Event(),
                "guest_documents": GuestDocuments(HostClock()),
                "openapi": build_document(HANDLERS, version),
            }
        ),
    )
