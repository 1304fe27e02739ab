"""Intents and a node's door in memory, with a guest's programs scripted: what the API, its client and the CLI are tested on."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import msgspec

from volant.core.condition import Condition
from volant.core.errors import (
    AlreadyExists,
    ChecksumMismatch,
    GuestUnreachable,
    InUse,
    InvalidInput,
    NotFound,
    StaleRevision,
    TimedOut,
    WrongState,
)
from volant.core.event import Event, EventSpec, EventStatus
from volant.core.ids import check_name, new_uid
from volant.core.manifest import convert_manifest
from volant.core.plugin import ArtifactStatus, Plugin, PluginSpec, PluginStatus, wanted_artifacts
from volant.core.resource import Meta, to_stored
from volant.core.security import ProcessSecurity
from volant.core.trust import SignedManifest
from volant.core.vm import VM, Address, StartRecord, VMStatus
from volant.core.vm_revision import NOBODY, Author
from volant.core.wait import goal_reached
from volant.intent.listing import Ask, Page, choose_page
from volant.intent.plugin_list import PLUGINS
from volant.intent.vm_list import VMS
from volant.node.door import Check, ExecRequest, ExecResult, Inspection, LogLine, VMStats
from volant.store.contract import Stored
from volant.store.records import key_of

from .fast_starts import FakePools, FakeSnapshots, FakeTemplates
from .guest_ports import FakePort, FakePorts

NOW = "2026-01-31T12:00:00.000000Z"
replace = msgspec.structs.replace


class Table:
    """Resources of one kind by name; every change wakes who waits."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.rows: dict[str, Any] = {}
        self.revision = 0
        self._changed = asyncio.Condition()

    def get(self, name: str) -> Any:
        if name not in self.rows:
            raise NotFound(f"there is no {self._what} named {name!r}", hint="look at the list")
        return self.rows[name]

    async def put(self, row: Any) -> Any:
        async with self._changed:
            self.revision += 1
            self.rows[row.name] = replace(row, revision=self.revision)
            self._changed.notify_all()
        return self.rows[row.name]

    async def drop(self, name: str) -> None:
        async with self._changed:
            self.revision += 1
            del self.rows[name]
            self._changed.notify_all()

    async def follow(self, uid: str) -> AsyncIterator[Any]:
        last = 0
        while True:
            async with self._changed:
                row = next((row for row in self.rows.values() if row.uid == uid), None)
                if row is not None and row.revision == last:
                    await self._changed.wait()
                    continue
            yield row
            if row is None:
                return
            last = row.revision


class FakeVMs:
    def __init__(self, plugins: Table) -> None:
        self.table = Table("VM")
        self._plugins = plugins

    async def create(self, wanted: Any, *, project: str = "default", author: Author = NOBODY, dry_run: bool = False) -> VM:
        check_name(wanted.name)
        if wanted.spec.plugin not in self._plugins.rows:
            raise InvalidInput(f"there is no plugin named {wanted.spec.plugin!r}", field="plugin", hint="volar plugins list")
        if wanted.name in self.table.rows:
            raise AlreadyExists(f"there is a VM named {wanted.name!r} already")
        meta = Meta(name=wanted.name, uid=new_uid(), labels=wanted.labels, created_at=NOW)
        spec = replace(wanted.spec, cpu_cores=wanted.spec.cpu_cores or 1, memory_mb=wanted.spec.memory_mb or 256, disk_mb=1024)
        vm = VM(meta=meta, spec=spec, status=VMStatus())
        return vm if dry_run else await self.table.put(vm)

    async def get(self, name: str, *, project: str = "default") -> VM:
        return self.table.get(name)

    async def list_page(self, ask: Ask, *, project: str = "default") -> Page[VM]:
        rows = sorted(self.table.rows.items())
        stored = [Stored(key_of(vm), vm.revision, to_stored(vm)) for _, vm in rows]
        return choose_page(VMS, stored, self.table.revision, ask)

    async def list(self, *, project: str = "default", labels: dict[str, str] | None = None) -> tuple[list[VM], int]:
        wanted = (labels or {}).items()
        return [vm for vm in self.table.rows.values() if wanted <= vm.meta.labels.items()], self.table.revision

    async def start(self, name: str, *, project: str = "default", expected_generation: int | None = None) -> VM:
        return await self._change(name, expected_generation, "running")

    async def stop(
        self,
        name: str,
        *,
        project: str = "default",
        expected_generation: int | None = None,
        force: bool = False,
        disrupt: bool = False,
    ) -> VM:
        vm = await self._change(name, expected_generation, "stopped")
        return await self.table.put(replace(vm, spec=replace(vm.spec, force_stop=True))) if force else vm

    async def suspend(
        self, name: str, *, project: str = "default", expected_generation: int | None = None, disrupt: bool = False
    ) -> VM:
        if self.table.get(name).spec.power == "stopped":
            raise WrongState(f"the VM {name!r} does not run", hint=f"volar vms start {name}")
        return await self._change(name, expected_generation, "suspended")

    async def restore(self, name: str, snapshot: str, *, project: str = "default", expected_generation: int | None = None) -> VM:
        vm = await self._change(name, expected_generation, "running")
        return await self.table.put(replace(vm, spec=replace(vm.spec, snapshot=snapshot)))

    async def restart(
        self, name: str, *, project: str = "default", expected_generation: int | None = None, disrupt: bool = False
    ) -> VM:
        return await self.start(name, project=project, expected_generation=expected_generation)

    resume = start

    async def delete(
        self,
        name: str,
        *,
        project: str = "default",
        uid: str | None = None,
        expected_generation: int | None = None,
        force: bool = False,
        disrupt: bool = False,
    ) -> VM:
        vm = self._checked(name, expected_generation)
        if uid not in (None, vm.uid):
            raise NotFound(f"the VM {name!r} with that uid is gone")
        return await self.table.put(replace(vm, meta=replace(vm.meta, deleting_at=NOW)))

    async def wait(self, vm: VM, goal: Any, *, timeout_s: float) -> VM | None:
        try:
            async with asyncio.timeout(timeout_s):
                async for current in self.table.follow(vm.uid):
                    if current is None or goal_reached(current, goal):
                        return current
        except TimeoutError:
            raise TimedOut(f"VM {vm.name!r} is not {goal}: Pending") from None
        return None

    async def watch(self, name: str, *, project: str = "default", since: int | None = None) -> AsyncIterator[VM | None]:
        async for current in self.table.follow(self.table.get(name).uid):
            yield current

    def _checked(self, name: str, expected: int | None) -> VM:
        vm: VM = self.table.get(name)
        if expected not in (None, vm.meta.generation):
            raise StaleRevision(f"the VM {name!r} is at generation {vm.meta.generation}, not {expected}")
        return vm

    async def _change(self, name: str, expected: int | None, power: Any) -> VM:
        vm = self._checked(name, expected)
        if vm.deleting:
            raise WrongState(f"the VM {name!r} is being deleted")
        meta = replace(vm.meta, generation=vm.meta.generation + 1)
        return await self.table.put(replace(vm, meta=meta, spec=replace(vm.spec, power=power)))


class FakePlugins:
    def __init__(self, table: Table, vms: FakeVMs, artifacts: dict[str, bytes]) -> None:
        self.table = table
        self._vms = vms
        self._artifacts = artifacts

    async def install(
        self, manifest: Any, signed: SignedManifest | None = None, *, how: Any = None, project: str = "default"
    ) -> tuple[Plugin, bool]:
        checked = convert_manifest(manifest)
        found = []
        for role, digest in wanted_artifacts(checked).items():
            if digest not in self._artifacts:
                raise InvalidInput(f"the file of {role} was not uploaded", field=role)
            found.append(ArtifactStatus(role=role, digest=digest, size_bytes=len(self._artifacts[digest])))  # type: ignore[arg-type]
        spec = PluginSpec(version=checked.version, manifest=manifest, signed=signed)
        if checked.name in self.table.rows:
            if self.table.rows[checked.name].spec == spec:
                return self.table.rows[checked.name], False
            raise AlreadyExists(f"a plugin named {checked.name!r} is installed already")
        meta = Meta(name=checked.name, uid=new_uid(), created_at=NOW)
        status = PluginStatus(phase="Ready", artifacts=tuple(found))
        return await self.table.put(Plugin(meta=meta, spec=spec, status=status)), True

    async def get(self, name: str, *, project: str = "default") -> Plugin:
        stem, _, version = name.partition("@")
        plugin: Plugin = self.table.get(stem)
        if version not in ("", plugin.spec.version):
            raise NotFound(f"there is no plugin named {name!r}")
        return plugin

    async def list_needed(self) -> dict[str, set[str]]:
        return {one.digest: {row.name} for row in self.table.rows.values() for one in row.status.artifacts}

    async def get_of(self, vm: VM) -> Plugin:
        return self.table.get(vm.spec.plugin)

    async def list(self, *, project: str = "default") -> tuple[list[Plugin], int]:
        return list(self.table.rows.values()), self.table.revision

    async def list_page(self, ask: Ask, *, project: str = "default") -> Page[Plugin]:
        stored = [Stored(key_of(row), row.revision, to_stored(row)) for row in self.table.rows.values()]
        return choose_page(PLUGINS, stored, self.table.revision, ask)

    async def wait_gone(self, name: str, *, timeout_s: float, project: str = "default") -> None:
        pass  # it goes at once

    async def remove(self, name: str, *, force: bool = False, project: str = "default") -> Plugin:
        plugin = await self.get(name)
        name = plugin.name
        if any(vm.spec.plugin == name for vm in self._vms.table.rows.values()):
            raise InUse(f"the plugin {name!r} is used", hint="delete those VMs first")
        await self.table.drop(name)
        return plugin

    async def set_pool(
        self, name: str, size: int | None, *, project: str = "default", expected_generation: int | None = None
    ) -> Plugin:
        plugin: Plugin = self.table.get(name)
        if size is not None and not 0 <= size <= 256:
            raise InvalidInput("a pool has 0 to 256 clones", field="pool")
        if expected_generation not in (None, plugin.meta.generation):
            raise StaleRevision(f"the plugin {name!r} is at generation {plugin.meta.generation}, not {expected_generation}")
        meta = replace(plugin.meta, generation=plugin.meta.generation + 1)
        changed: Plugin = await self.table.put(replace(plugin, meta=meta, spec=replace(plugin.spec, pool=size)))
        return changed

    async def wait(self, plugin: Plugin, *, timeout_s: float) -> Plugin | None:
        return self.table.rows.get(plugin.name)


class FakeEvents:
    def __init__(self) -> None:
        self._events: list[tuple[int, Event]] = []
        self._changed = asyncio.Condition()

    async def record(self, about: str, reason: str, message: str) -> None:
        async with self._changed:
            spec = EventSpec(
                type="Normal", reason=reason, message=message, about_kind="VM", about_name=about, about_uid=new_uid(), at=NOW,
                first_at=NOW,
            )  # fmt: skip
            revision = len(self._events) + 1
            meta = Meta(name=f"{about}-{revision}", uid=new_uid(), created_at=NOW)
            self._events.append((revision, Event(meta=meta, spec=spec, status=EventStatus(), revision=revision)))
            self._changed.notify_all()

    async def list(
        self, *, about_kind: str | None = None, about_name: str | None = None, limit: int | None = None
    ) -> tuple[list[Event], int]:
        kept = [event for _, event in self._events if about_name in (None, event.spec.about_name)]
        return kept[len(kept) - limit if limit is not None and limit < len(kept) else 0 :], len(self._events)

    async def follow(self, since: int | None, *, about_name: str | None = None) -> AsyncIterator[tuple[int, Event]]:
        seen = len(self._events) if since is None else since
        while True:
            async with self._changed:
                while len(self._events) <= seen:
                    await self._changed.wait()
            revision, event = self._events[seen]
            seen = revision
            if about_name in (None, event.spec.about_name):
                yield revision, event


class FakeSystem:
    def __init__(self, vms: FakeVMs) -> None:
        self._vms = vms

    async def drain(self) -> int:
        running = [vm for vm in self._vms.table.rows.values() if vm.spec.power == "running"]
        for vm in running:
            await self._vms.stop(vm.name)
        return len(running)

    async def summary(self) -> dict[str, Any]:
        return {"vms": len(self._vms.table.rows), "vms_by_phase": {}}


class FakeSession:
    """``echo``, ``fail CODE``, ``cat``, ``hang`` (until a signal ends it) and ``flood`` (more than anybody buffers)."""

    def __init__(self, request: ExecRequest) -> None:
        self._request = request
        self._stdin: asyncio.Queue[bytes] = asyncio.Queue()
        self._signal: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._result = ExecResult(code=0)
        self.hung_up = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[tuple[Any, bytes]]:
        program, *words = self._request.argv
        if program == "echo":
            yield "stdout", " ".join(words).encode() + b"\n"
        elif program == "fail":
            yield "stderr", b"it went wrong\n"
            self._result = ExecResult(code=int(words[0]))
        elif program == "cat":
            while chunk := await self._stdin.get():
                yield "stdout", chunk
        elif program == "flood":
            for _ in range(200):
                yield "stdout", b"\x00\xff" * 16384
        elif program == "hang":
            yield "stdout", b"hanging\n"
            self._result = ExecResult(signal=await self._signal)

    async def write_stdin(self, content: bytes) -> None:
        self._stdin.put_nowait(content)

    async def close_stdin(self) -> None:
        self._stdin.put_nowait(b"")

    async def send_signal(self, number: int) -> None:
        if not self._signal.done():
            self._signal.set_result(number)

    async def result(self) -> ExecResult:
        return self._result


class FakeDoor:
    def __init__(self) -> None:
        self.lines: list[LogLine] = []
        self.console = b"booting\r\n"
        self.artifacts: dict[str, bytes] = {}
        self.sessions: list[FakeSession] = []
        self.requests: list[ExecRequest] = []
        self.templates = FakeTemplates()
        self.stats: dict[str, VMStats] = {}
        self.security: dict[str, ProcessSecurity] = {}
        """By uid, of those that run."""
        self.ports = FakePorts()
        self._changed = asyncio.Condition()

    async def write_line(self, text: str, source: Any = "stdout", partial: bool = False) -> None:
        async with self._changed:
            self.lines.append(LogLine(seq=len(self.lines) + 1, at=NOW, source=source, text=text, partial=partial))
            self._changed.notify_all()

    @asynccontextmanager
    async def open_exec(self, uid: str, request: ExecRequest) -> AsyncIterator[FakeSession]:
        if request.argv[0] not in ("echo", "fail", "cat", "hang", "flood", "unreachable"):
            raise InvalidInput(f"there is no program {request.argv[0]!r} in the guest", field="argv")
        if request.argv[0] == "unreachable":
            raise GuestUnreachable("the guest does not answer")
        self.requests.append(request)
        session = FakeSession(request)
        self.sessions.append(session)
        try:
            yield session
        finally:
            session.hung_up.set()

    @asynccontextmanager
    async def open_port(self, uid: str, port: int, *, host: str = "127.0.0.1") -> AsyncIterator[FakePort]:
        async with self.ports.open(port, host) as connection:
            yield connection

    async def read_logs(
        self, uid: str, *, tail: int | None = None, since: str | None = None, previous: bool = False, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        if previous:
            raise WrongState("there was no run before this one")
        seen = 0 if tail is None else max(0, len(self.lines) - tail)
        while True:
            while seen < len(self.lines):
                seen += 1
                if self.lines[seen - 1].text == "BREAK":
                    raise GuestUnreachable("the guest went away")
                yield self.lines[seen - 1]
            if not follow:
                return
            async with self._changed:
                while len(self.lines) <= seen:
                    await self._changed.wait()

    async def read_console(self, uid: str, *, tail_bytes: int | None = None, follow: bool = False) -> AsyncIterator[bytes]:
        yield self.console if tail_bytes is None else self.console[-tail_bytes:]

    async def put_artifact(self, digest: Any, content: AsyncIterator[bytes]) -> int:
        whole = b"".join([chunk async for chunk in content])
        if "sha256:" + hashlib.sha256(whole).hexdigest() != digest:
            raise ChecksumMismatch("the content is not what its digest says")
        self.artifacts[digest] = whole
        return len(whole)

    async def list_artifacts(self, *, older_than_s: float = 0.0) -> dict[str, int]:
        return {} if older_than_s else {digest: len(content) for digest, content in self.artifacts.items()}

    async def remove_artifacts(self, digests: Any) -> set[str]:
        return {digest for digest in digests if self.artifacts.pop(digest, None) is not None}

    async def artifact_size(self, digest: Any) -> int | None:
        return len(self.artifacts[digest]) if digest in self.artifacts else None

    async def read_stats(self, uid: str) -> VMStats:
        if uid not in self.stats:
            raise WrongState("the VM does not run", hint="volar vms start NAME")
        return self.stats[uid]

    async def read_security(self, uid: str) -> ProcessSecurity:
        if uid not in self.security:
            raise WrongState("the VM does not run", hint="volar vms start NAME")
        return self.security[uid]

    async def inspect(self, uid: str) -> Inspection:
        found = Inspection(state_directory=f"/data/{uid}", socket_directory=f"/run/{uid}")
        if uid not in self.security:
            return found
        return msgspec.structs.replace(found, run_state="running", command=("vmm",), security=self.security[uid])

    async def check_host(self) -> list[Check]:
        return [
            Check(name="memory", state="ok", message="2000 MiB"),
            Check(name="kvm", state="warning", message="unproven", fix="load the kvm module"),
        ]


class ControlPlane:
    """Everything behind the API. Made on the event loop that serves it."""

    def __init__(self) -> None:
        self.door = FakeDoor()
        plugins = Table("plugin")
        self.vms = FakeVMs(plugins)
        self.plugins = FakePlugins(plugins, self.vms, self.door.artifacts)
        self.events = FakeEvents()
        self.snapshots = FakeSnapshots(Table("snapshot"), self.vms)
        self.intents: Any = SimpleNamespace(
            vms=self.vms,
            plugins=self.plugins,
            events=self.events,
            system=FakeSystem(self.vms),
            snapshots=self.snapshots,
            pools=FakePools(plugins),
        )

    async def add_plugin(self, name: str = "nginx") -> Plugin:
        """A plugin without files."""
        manifest = {
            "schema_version": "v1",
            "name": name,
            "version": "1.0",
            "workload": {"entrypoint": ["/bin/true"], "type": "exec"},
            "initramfs": {"url": "x"},
        }
        meta = Meta(name=name, uid=new_uid(), created_at=NOW)
        status = PluginStatus(phase="Ready")
        plugin: Plugin = await self.plugins.table.put(
            Plugin(meta=meta, spec=PluginSpec(version="1.0", manifest=manifest), status=status)
        )
        return plugin

    async def settle(self, name: str, phase: Any, **status: Any) -> VM:
        """What a reconciler would write."""
        vm = self.vms.table.get(name)
        settled = replace(vm.status, phase=phase, observed_generation=vm.meta.generation, **status)
        changed: VM = await self.vms.table.put(replace(vm, status=settled))
        return changed

    async def make_ready(self, name: str) -> VM:
        address = Address(
            network="default", ip="192.168.127.2", mac="02:00:00:00:00:01", prefix_length=24, gateway="192.168.127.1"
        )
        booted = Condition(type="Booted", status="True")
        start = StartRecord(kind="cold", duration_ms=2410)
        return await self.settle(name, "Running", ready=True, addresses=(address,), start=start, conditions=(booted,))
