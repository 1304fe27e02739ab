"""Whether the disks and network cards that are asked for can be had."""

from __future__ import annotations

from volant.core.disks import check_disks, check_places, own_artifacts
from volant.core.errors import InvalidInput
from volant.core.manifest import Manifest
from volant.core.node import Node
from volant.core.vm import VMSpec
from volant.intent.vm_checks import BootFiles
from volant.store.contract import Store
from volant.store.records import list_resources


async def check_devices(store: Store, spec: VMSpec, manifest: Manifest, files: BootFiles | None) -> None:
    """Raises InvalidInput for a disk that cannot be, or more devices than any host has places for."""
    check_disks(spec, manifest)
    if manifest.agent == "none" and spec.network_mode == "vsock":
        raise InvalidInput("network mode vsock needs an agent in the guest, and this plugin's has none", field="network_mode")
    if spec.hypervisor != "auto":
        check_places(spec, manifest, spec.hypervisor)
    else:
        nodes, _ = await list_resources(store, Node, "")
        kinds = sorted({node.status.hypervisor.partition(" ")[0] for node in nodes})
        refusals: list[InvalidInput] = []
        for kind in kinds:
            try:
                check_places(spec, manifest, kind)
            except InvalidInput as error:
                refusals.append(error)
        if kinds and len(refusals) == len(kinds):
            raise refusals[0]
    for digest in sorted(own_artifacts(spec) - {spec.kernel, spec.initramfs}):
        if files is not None and await files.read_head(digest, 1) is None:
            raise InvalidInput(
                f"there is no artifact {digest}", field="disks", hint="upload it first: PUT /api/v1/artifacts/DIGEST"
            )
