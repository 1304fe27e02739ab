"""VMs through the API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from volant.client.connection import ANSWER_S, Connection
from volant.client.stream import follow_server_events, read_json_lines
from volant.client.waiting import if_match, wait_query
from volant.core.resource import read_wire
from volant.core.vm import VM
from volant.core.wait import Goal

if TYPE_CHECKING:
    from volant.client.exec import AttachConnection, ConsoleConnection, ExecConnection
    from volant.client.files import Archive
    from volant.client.port import PortConnection

PATH = "/api/v1/vms"
WRITE_FILES_S = 300.0
"""How long volantd may take for a piece of what is copied, and for the answer."""

FORK_S = 180.0
"""A fork is answered once the VM it is made of was saved."""


class VMChange(NamedTuple):
    """``type`` is put, deleted (or no longer chosen) or synced. ``id`` is empty where one cannot go on."""

    type: str
    vm: VM | None
    id: str


class VMs:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(
        self, wanted: Mapping[str, Any], *, wait: Goal | None = None, timeout_s: float = 60.0, dry_run: bool = False
    ) -> VM:
        """``wanted`` is the flat object: ``{"name": "web", "plugin": "nginx"}``.

        With ``wait`` the answer comes when that is reached or out of reach: look at its status. With ``dry_run`` nothing is
        written, and the answer is what would be.
        """
        return self._write("POST", PATH, wait, timeout_s, document=dict(wanted), more={"dry_run": dry_run or None})

    def fork(self, name: str, names: Iterable[str]) -> list[VM]:
        """A new VM of each of ``names`` that goes on from where ``name`` is now, all or none, as they are written down."""
        document = {"names": list(names)}
        answer = self._connection.request("POST", f"{PATH}/{name}/fork", document=document, timeout_s=FORK_S)
        return [read_wire(VM, item) for item in answer.json()["items"]]

    def get(self, name: str) -> VM:
        return read_wire(VM, self._connection.get_json(f"{PATH}/{name}"))

    def list(self, labels: Mapping[str, str] | str | None = None, **filters: str | int | None) -> list[VM]:
        """All that match, or the first ``limit``. ``labels`` is a selector, or labels that all must be there; the filters are
        those of the API: ``phase``, ``plugin``, ``node``, ``q``, ``sort``, ``order``, ``limit``."""
        return [*self.list_page(labels, filters)[0]]

    def list_page(
        self,
        labels: Mapping[str, str] | str | None = None,
        filters: Mapping[str, str | int | None] | None = None,
        cursor: str | None = None,
    ) -> tuple[Sequence[VM], str | None, int]:
        """A page, the cursor of the one after (None on the last), and how many there are on all."""
        selector = labels if isinstance(labels, str) else ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        answer = self._connection.request("GET", PATH, query={"labels": selector or None, "cursor": cursor, **(filters or {})})
        found = answer.json()
        total = int(answer.headers.get("Volant-Total-Count", len(found["items"])))
        return [read_wire(VM, item) for item in found["items"]], found.get("next"), total

    def start(self, name: str, *, wait: Goal | None = None, timeout_s: float = 60.0, generation: int | None = None) -> VM:
        """``generation``, here and below: raise PreconditionFailed when the VM is at another."""
        return self._write("POST", f"{PATH}/{name}/start", wait, timeout_s, generation)

    def stop(
        self,
        name: str,
        *,
        wait: Goal | None = None,
        timeout_s: float = 60.0,
        generation: int | None = None,
        force: bool = False,
        disrupt: bool = False,
    ) -> VM:
        """In an orderly way, or with ``force`` at once. ``disrupt``, here and below: also when the budget of its deployment
        forbids it, which raises OverBudget else."""
        more = {"force": force or None, "disrupt": disrupt or None}
        return self._write("POST", f"{PATH}/{name}/stop", wait, timeout_s, generation, more=more)

    def restart(
        self,
        name: str,
        *,
        wait: Goal | None = None,
        timeout_s: float = 60.0,
        generation: int | None = None,
        disrupt: bool = False,
    ) -> VM:
        return self._write("POST", f"{PATH}/{name}/restart", wait, timeout_s, generation, more={"disrupt": disrupt or None})

    def suspend(
        self,
        name: str,
        *,
        wait: Goal | None = None,
        timeout_s: float = 60.0,
        generation: int | None = None,
        disrupt: bool = False,
    ) -> VM:
        return self._write("POST", f"{PATH}/{name}/suspend", wait, timeout_s, generation, more={"disrupt": disrupt or None})

    def resume(self, name: str, *, wait: Goal | None = None, timeout_s: float = 60.0, generation: int | None = None) -> VM:
        return self._write("POST", f"{PATH}/{name}/resume", wait, timeout_s, generation)

    def restore(
        self, name: str, snapshot: str, *, wait: Goal | None = None, timeout_s: float = 60.0, generation: int | None = None
    ) -> VM:
        """Put it back to ``snapshot``, which is one of its own; what it did since is lost."""
        return self._write("POST", f"{PATH}/{name}/restore", wait, timeout_s, generation, {"snapshot": snapshot})

    def stats(self, name: str) -> dict[str, Any]:
        """What it uses: ``memory_private_bytes``, ``memory_shared_bytes`` and more; WrongState when it does not run."""
        found: dict[str, Any] = self._connection.get_json(f"{PATH}/{name}/stats")
        return found

    def all_stats(self, labels: str | None = None) -> dict[str, Any]:
        """What all that run use, and ``labels`` selects: ``items`` as of ``stats``, and ``unread`` with those not to be asked."""
        found: dict[str, Any] = self._connection.get_json("/api/v1/stats", {"labels": labels or None})
        return found

    def delete(
        self,
        name: str,
        *,
        wait: bool = False,
        timeout_s: float = 60.0,
        generation: int | None = None,
        force: bool = False,
        disrupt: bool = False,
    ) -> VM | None:
        """The VM as it is being deleted; None when it was waited for and is gone."""
        answer = self._connection.request(
            "DELETE",
            f"{PATH}/{name}",
            query={
                **wait_query("deleted" if wait else None, timeout_s),
                "force": force or None,
                "disrupt": disrupt or None,
            },
            headers=if_match(generation),
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return None if answer.status == 204 else read_wire(VM, answer.json())

    def watch(self, name: str, *, timeout_s: float | None = None) -> Iterator[VM | None]:
        """The VM now and after every change; None, and the end, when it is deleted. A stream that ends is taken up again.

        Close the iterator to stop watching. Raises TimedOut when it lasts longer than ``timeout_s``, Unavailable when volantd
        does not come back.
        """
        for event in follow_server_events(self._connection, f"{PATH}/{name}/watch", timeout_s=timeout_s):
            if event.event == "deleted":
                yield None
                return
            yield read_wire(VM, msgspec.json.decode(event.data))

    def watch_all(
        self, labels: str | None = None, *, since: str = "", timeout_s: float | None = None, **filters: str | None
    ) -> Iterator[VMChange]:
        """Every VM that the selector ``labels`` and the filters choose (``phase``, ``plugin``, ``node``, ``q``), and its changes.

        First those that are there, then a change of the type ``synced``, then what happens. With ``since``, the id of a change,
        only what came after it. Raises Compacted when that is too long ago: begin anew without it.
        """
        query = {"watch": True, "labels": labels, **filters}
        for event in follow_server_events(self._connection, PATH, query, since=since, timeout_s=timeout_s):
            kind = "put" if event.event == "message" else event.event
            vm = None if kind == "synced" else read_wire(VM, msgspec.json.decode(event.data))
            yield VMChange(kind, vm, event.id)

    def logs(
        self, name: str, *, follow: bool = False, tail: int | None = None, since: str | None = None, previous: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Lines of the workload: ``seq``, ``at``, ``source``, ``text``, ``partial``, ``missed``; ``since`` is RFC 3339."""
        query = {"follow": follow or None, "tail": tail, "since": since, "previous": previous or None}
        with self._connection.stream(f"{PATH}/{name}/logs", query=query) as stream:
            yield from read_json_lines(stream)

    def console(self, name: str, *, follow: bool = False, tail_bytes: int | None = None) -> Iterator[bytes]:
        """What the serial console printed, as it comes."""
        query = {"follow": follow or None, "tail_bytes": tail_bytes}
        with self._connection.stream(f"{PATH}/{name}/console", query=query) as stream:
            while chunk := stream.read_some(65536):
                yield chunk

    def exec(
        self,
        name: str,
        argv: tuple[str, ...],
        *,
        env: Mapping[str, str] | None = None,
        user: str = "",
        workdir: str = "",
        stdin: bool = False,
        tty: Mapping[str, Any] | None = None,
    ) -> ExecConnection:
        """Run a program beside the workload; see ExecConnection. ``tty``, as ``{"rows": 24, "cols": 80}``, for a terminal."""
        from volant.client.exec import ExecConnection

        asked = {"argv": list(argv), "env": dict(env or {}), "user": user, "workdir": workdir, "stdin": stdin}
        if tty is not None:
            asked["tty"] = dict(tty)
        return ExecConnection(self._connection, f"{PATH}/{name}/exec", asked)

    def attach(
        self, name: str, *, stdin: bool = False, tty: Mapping[str, Any] | None = None, replay: bool = False
    ) -> AttachConnection:
        """The workload itself, from now on; see AttachConnection. ``tty`` is the size its terminal gets, if it has one.

        ``replay`` begins with what is still there of the output of one that can be talked with."""
        from volant.client.exec import AttachConnection

        asked: dict[str, Any] = {"stdin": stdin, "replay": replay}
        if tty is not None:
            asked["tty"] = dict(tty)
        return AttachConnection(self._connection, f"{PATH}/{name}/attach", asked)

    def open_console(
        self, name: str, *, write: bool = False, force: bool = False, tail_bytes: int | None = None
    ) -> ConsoleConnection:
        """The serial console as it prints; with ``write`` to type at, which one at a time may, ``force`` takes over."""
        from volant.client.exec import ConsoleConnection

        query = {"write": write or None, "force": force or None, "tail_bytes": tail_bytes}
        return ConsoleConnection(self._connection, f"{PATH}/{name}/console", query)

    def open_port(self, name: str, port: int, *, host: str | None = None) -> PortConnection:
        """A connection to a port inside the VM, of its loopback unless ``host`` names another of its addresses."""
        from volant.client.port import PortConnection

        return PortConnection(self._connection, f"{PATH}/{name}/ports/{port}", host)

    def read_files(self, name: str, path: str) -> Archive:
        """A file or a directory of the VM as a tar archive, to be used as a context; see Archive."""
        from volant.client.files import Archive

        return Archive(self._connection, f"{PATH}/{name}/files", path)

    def stat_file(self, name: str, path: str) -> dict[str, Any]:
        """``name``, ``type``, ``mode``, ``uid``, ``gid``, ``mtime_ns``, ``size``, ``target``. Raises NotFound."""
        found: dict[str, Any] = self._connection.get_json(f"{PATH}/{name}/files/stat", {"path": path})
        return found

    def write_files(
        self, name: str, path: str, archive: Iterable[bytes], *, owner: str | None = None, timeout_s: float = WRITE_FILES_S
    ) -> dict[str, Any]:
        """Make what a tar archive holds below the directory ``path``; ``owner``, as ``33:33``, instead of the archive's. Returns
        ``entries`` and ``bytes``."""
        query = {"path": path, "owner": owner}
        made: dict[str, Any] = self._connection.send_archive(
            f"{PATH}/{name}/files", archive, query=query, timeout_s=timeout_s
        ).json()
        return made

    def _write(
        self,
        method: str,
        path: str,
        wait: Goal | None,
        timeout_s: float,
        generation: int | None = None,
        document: Any = None,
        more: Mapping[str, bool | None] | None = None,
    ) -> VM:
        answer = self._connection.request(
            method,
            path,
            query={**wait_query(wait, timeout_s), **(more or {})},
            document=document,
            headers=if_match(generation),
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return read_wire(VM, answer.json())
