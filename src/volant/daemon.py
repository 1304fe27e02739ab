"""The daemon: opens the host, builds the control plane on it, serves its API until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from volant import __version__
from volant.api.app import build_app
from volant.api.listen import bind_loopback, bind_socket, format_address
from volant.api.server import serve
from volant.auth.token import TokenFile
from volant.config import Config
from volant.core.clock import HostClock
from volant.core.errors import HostError, VolantError
from volant.core.types import prepare_all_types
from volant.core.vm import VM
from volant.host import build_hands, check_hands, check_host, check_trust, open_hands
from volant.node.door import Check
from volant.node.host import raise_file_limit
from volant.node.lock import lock_directory
from volant.observe.notify import notify_manager
from volant.plane import ControlPlane
from volant.store.sqlite import open_store

log = structlog.get_logger()

COLLECTOR_THRESHOLDS = (5_000, 5, 20)
"""Objects in the youngest generation, then how often each is looked through before the next one is, too."""


async def serve_daemon(config: Config) -> None:
    """Run until SIGTERM or SIGINT. Prints ``volantd ready ADDRESS`` once requests are answered.

    Raises:
        VolantError: it cannot start; nothing was changed beyond its own directories.
    """
    data, runtime = Path(config.data_dir), Path(config.runtime_dir)
    for directory in (data, runtime):
        try:
            directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        except OSError as error:
            raise HostError(f"cannot use {directory}: {error.strerror}", hint="volantd needs to be root") from error
    clock = HostClock()
    prepare_all_types()
    raise_file_limit()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(lock_directory(data))
        store = await stack.enter_async_context(open_store(data / "volant.db", clock))
        hands = await stack.enter_async_context(open_hands(config, clock, fresh=not (await store.list(VM.kind)).items))
        plane = ControlPlane(config, store, clock, hands)
        await plane.register()
        listening = [stack.enter_context(bind_socket(config.socket_path))]
        tokens = None
        if config.tcp_address is not None:
            listening.append(stack.enter_context(bind_loopback(*config.tcp_address)))
            tokens = TokenFile(data / "token")
            tokens.ensure()
        app = build_app(plane.intents, plane.node, __version__, tokens=tokens)
        stopping = asyncio.Event()
        _stop_on_signals(stopping)
        async with plane.running() as group:
            api = group.create_task(serve(app, listening, on_listening=lambda: _say_ready(config, listening)))
            await stopping.wait()
            log.info("stopping")
            api.cancel()


def _calm_collector() -> None:
    """Have the collector of cycles stop the event loop for less, and less often: with two hundred VMs it did for 100 ms."""
    gc.collect()
    gc.freeze()  # what is there now, code mostly, stays
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def _say_ready(config: Config, listening: Sequence[socket.socket]) -> None:
    _calm_collector()
    notify_manager("READY=1")
    print(f"volantd ready unix:{config.socket_path}", flush=True)  # noqa: T201  # the line that scripts wait for
    tcp = [format_address(each) for each in listening if each.family != socket.AF_UNIX]
    log.info("ready", address=f"unix:{config.socket_path}", version=__version__, **({"tcp": tcp[0]} if tcp else {}))


def _stop_on_signals(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)


async def check_daemon(config: Config) -> list[Check]:
    """The host's checks without a running volantd. Changes nothing."""
    try:
        hands = await build_hands(config, HostClock())
    except VolantError as error:
        broken = Check(name="hypervisor", state="failed", message=str(error), fix=error.hint or "")
        return [*check_host(Path(config.data_dir)), broken]
    return [*await check_hands(hands, config, opened=False), *check_trust(config)]


def describe_error(error: VolantError) -> str:
    return f"volantd: {error}" + (f"\n  hint: {error.hint}" if error.hint else "")


def first_error(group: BaseExceptionGroup[Any]) -> BaseException:
    """The first plain exception in a group of groups."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
