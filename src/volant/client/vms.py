"""VMs through the API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from volant.client.connection import ANSWER_S, Connection
from volant.client.stream import read_json_lines, read_server_events
from volant.client.waiting import if_match, wait_query
from volant.core.resource import read_wire
from volant.core.vm import VM
from volant.core.wait import Goal

if TYPE_CHECKING:
    from volant.client.exec import ExecConnection

PATH = "/api/v1/vms"
FORK_S = 180.0
"""A fork is answered once the VM it is made of was saved."""


class VMs:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, wanted: Mapping[str, Any], *, wait: Goal | None = None, timeout_s: float = 60.0) -> VM:
        """``wanted`` is the flat object: ``{"name": "web", "plugin": "nginx"}``.

        With ``wait`` the answer comes when that is reached or out of reach: look at its status.
        """
        return self._write("POST", PATH, wait, timeout_s, document=dict(wanted))

    def fork(self, name: str, names: Iterable[str]) -> list[VM]:
        """A new VM of each of ``names`` that goes on from where ``name`` is now, all or none, as they are written down."""
        document = {"names": list(names)}
        answer = self._connection.request("POST", f"{PATH}/{name}/fork", document=document, timeout_s=FORK_S)
        return [read_wire(VM, item) for item in answer.json()["items"]]

    def get(self, name: str) -> VM:
        return read_wire(VM, self._connection.get_json(f"{PATH}/{name}"))

    def list(self, labels: Mapping[str, str] | None = None) -> list[VM]:
        selector = ",".join(f"{key}={value}" for key, value in labels.items()) if labels else None
        found = self._connection.get_json(PATH, {"labels": selector})
        return [read_wire(VM, item) for item in found["items"]]

    def start(self, name: str, *, wait: Goal | None = None, timeout_s: float = 60.0, generation: int | None = None) -> VM:
        """``generation``, here and below: raise PreconditionFailed when the VM is at another."""
        return self._write("POST", f"{PATH}/{name}/start", wait, timeout_s, generation)

    def stop(self, name: str, *, wait: Goal | None = None, timeout_s: float = 60.0, generation: int | None = None) -> VM:
        return self._write("POST", f"{PATH}/{name}/stop", wait, timeout_s, generation)

    def restart(self, name: str, *, wait: Goal | None = None, timeout_s: float = 60.0, generation: int | None = None) -> VM:
        return self._write("POST", f"{PATH}/{name}/restart", wait, timeout_s, generation)

    def suspend(self, name: str, *, wait: Goal | None = None, timeout_s: float = 60.0, generation: int | None = None) -> VM:
        return self._write("POST", f"{PATH}/{name}/suspend", wait, timeout_s, generation)

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

    def delete(self, name: str, *, wait: bool = False, timeout_s: float = 60.0, generation: int | None = None) -> VM | None:
        """The VM as it is being deleted; None when it was waited for and is gone."""
        answer = self._connection.request(
            "DELETE",
            f"{PATH}/{name}",
            query=wait_query("deleted" if wait else None, timeout_s),
            headers=if_match(generation),
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return None if answer.status == 204 else read_wire(VM, answer.json())

    def watch(self, name: str, *, timeout_s: float | None = None) -> Iterator[VM | None]:
        """The VM now and after every change; None, and the end, when it is deleted. It also ends when volantd stops.

        Close the iterator to stop watching. Raises TimedOut when it lasts longer than ``timeout_s``.
        """
        headers = {"Accept": "text/event-stream"}
        with self._connection.stream(f"{PATH}/{name}/watch", headers=headers, timeout_s=timeout_s) as stream:
            for event in read_server_events(stream):
                if event is None:
                    continue
                if event.event == "deleted":
                    yield None
                    return
                yield read_wire(VM, msgspec.json.decode(event.data))

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
    ) -> ExecConnection:
        """Run a program beside the workload; see ExecConnection."""
        from volant.client.exec import ExecConnection

        asked = {"argv": list(argv), "env": dict(env or {}), "user": user, "workdir": workdir, "stdin": stdin}
        return ExecConnection(self._connection.path, f"{PATH}/{name}/exec", asked)

    def _write(
        self, method: str, path: str, wait: Goal | None, timeout_s: float, generation: int | None = None, document: Any = None
    ) -> VM:
        answer = self._connection.request(
            method,
            path,
            query=wait_query(wait, timeout_s),
            document=document,
            headers=if_match(generation),
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return read_wire(VM, answer.json())
