"""A kernel by itself: ready in the cache, and copied out when somebody wants to see it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from volant.fledge.cache import Cache
from volant.fledge.content import record_file
from volant.fledge.kept.publish import NOTES, publish
from volant.fledge.kernel.boot import INITRAMFS, BootRecord, KernelChoice, open_boot_files
from volant.fledge.kernel.minimal import VMLINUX
from volant.fledge.progress import Progress
from volant.fledge.recipe.record import FilesystemSection
from volant.native import find_native

KERNEL_RECORD = "kernel.json"


async def ready_kernel(choice: KernelChoice, output: Path | None, cache: Cache, progress: Progress) -> tuple[Path, BootRecord]:
    """See that the kernel and its initramfs are there, in ``output`` too when it is given. Returns where vmlinux is.

    Raises:
        VolantError: they cannot be had; each kind as ``open_boot_files`` says.
    """
    await cache.open()
    async with open_boot_files(
        cache, choice, filesystem=FilesystemSection().type, kestrel=find_native("kestrel"), progress=progress
    ) as boot:
        if output is None:
            return boot.vmlinux, boot.record
        async with cache.workspace() as workspace:
            document = workspace.path / KERNEL_RECORD
            document.write_bytes(msgspec.json.format(msgspec.json.encode(boot.record), indent=2) + b"\n")
            files = {
                VMLINUX: (boot.vmlinux, boot.record.vmlinux),
                INITRAMFS: (boot.initramfs, boot.record.initramfs),
                KERNEL_RECORD: (document, record_file(document)),
            }
            await asyncio.to_thread(publish, output, files, last=KERNEL_RECORD, notes=cache.root / NOTES)
    return output / VMLINUX, boot.record
