"""Networks through the API."""

from __future__ import annotations

from collections.abc import Mapping

from volant.client.connection import ANSWER_S, Connection
from volant.client.waiting import if_match, wait_query
from volant.core.network import DhcpSource, Network
from volant.core.resource import read_wire

PATH = "/api/v1/networks"


class Networks:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(
        self,
        name: str,
        *,
        subnet: str = "",
        bridge: str = "",
        mtu: int = 1500,
        dhcp: DhcpSource = "volant",
        labels: Mapping[str, str] | None = None,
        wait: bool = False,
        timeout_s: float = 60.0,
    ) -> Network:
        """With ``wait`` the answer comes when its bridge is there or it has failed: look at its status."""
        document = {"name": name, "subnet": subnet, "bridge": bridge, "mtu": mtu, "dhcp": dhcp, "labels": dict(labels or {})}
        answer = self._connection.request(
            "POST",
            PATH,
            query=wait_query("ready" if wait else None, timeout_s),
            document=document,
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return read_wire(Network, answer.json())

    def get(self, name: str) -> Network:
        return read_wire(Network, self._connection.get_json(f"{PATH}/{name}"))

    def list(self, labels: Mapping[str, str] | None = None) -> list[Network]:
        selector = ",".join(f"{key}={value}" for key, value in labels.items()) if labels else None
        return [read_wire(Network, item) for item in self._connection.get_json(PATH, {"labels": selector})["items"]]

    def delete(self, name: str, *, wait: bool = False, timeout_s: float = 60.0, generation: int | None = None) -> Network | None:
        """The network as it is being deleted; None when it was waited for and is gone. ``generation``: raise PreconditionFailed
        when it is at another."""
        answer = self._connection.request(
            "DELETE",
            f"{PATH}/{name}",
            query=wait_query("deleted" if wait else None, timeout_s),
            headers=if_match(generation),
            timeout_s=ANSWER_S + (timeout_s if wait else 0),
        )
        return None if answer.status == 204 else read_wire(Network, answer.json())
