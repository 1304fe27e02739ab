"""Where the workload of a VM listens, seen from inside its guest."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import msgspec
from litestar import Litestar

from volant.api.access import intents_of
from volant.core.errors import WrongState
from volant.core.manifest import Manifest, split_base_url
from volant.core.vm import VM

_HERE = {"localhost": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # names of a guest's own loopback


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """``host`` is a literal address, ``prefix`` the path of ``workload.base_url`` without a slash at its end."""

    vm: VM
    manifest: Manifest
    host: str
    port: int
    prefix: str

    @property
    def authority(self) -> str:
        """What stands in ``Host``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 80 else f"{host}:{self.port}"

    def target_of(self, path: str) -> str:
        """The request target of ``path``, which may hold a query, under the base URL."""
        rest = path if path.startswith("/") else f"/{path}"
        return f"{self.prefix}{rest}"


async def find_manifest(app: Litestar, name: str) -> tuple[VM, Manifest]:
    """The VM ``name`` and the manifest that it is made from. Raises NotFound."""
    intents = intents_of(app)
    vm = await intents.vms.get(name)
    plugin = await intents.plugins.get_of(vm)
    return vm, plugin.manifest


async def find_workload(app: Litestar, name: str) -> Workload:
    """Raises NotFound, WrongState when the manifest does not say where the workload listens."""
    vm, manifest = await find_manifest(app, name)
    base_url = manifest.workload.base_url
    if not base_url:
        raise WrongState(
            f"the workload of {name!r} does not say where it listens",
            hint='its manifest needs workload.base_url, as in "http://127.0.0.1:80"',
        )
    host, port = split_base_url(base_url)
    host = _HERE.get(host, host)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise WrongState(
            f"workload.base_url of {name!r} names the host {host[:80]!r}", hint="inside the guest it is 127.0.0.1"
        ) from None
    return Workload(vm=vm, manifest=manifest, host=host, port=port, prefix=urlsplit(base_url).path.rstrip("/"))
