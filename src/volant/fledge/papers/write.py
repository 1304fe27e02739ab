"""The papers of an artifact: what is in it, and how it came to be."""

from __future__ import annotations

from volant import __version__
from volant.fledge.build_record import MANIFEST, BuildRecord
from volant.fledge.epoch import fixed_epoch, read_epoch
from volant.fledge.papers.provenance import (
    Build,
    Dependency,
    depend_on_debs,
    depend_on_file,
    depend_on_image,
    depend_on_kernel,
    write_provenance,
)
from volant.fledge.recipe.record import Recipe
from volant.fledge.sbom.scan import Scan
from volant.fledge.sbom.spdx import Component, Inventory, write_spdx

SBOM = "sbom.spdx.json"
PROVENANCE = "provenance.json"


def write_papers(recipe: Recipe, record: BuildRecord, scan: Scan) -> dict[str, bytes]:
    """The SBOM (SPDX 2.3) and the provenance (in-toto, SLSA v1), by the names of their files."""
    return {SBOM: _write_sbom(record, scan), PROVENANCE: _write_provenance(recipe, record, scan)}


def _write_sbom(record: BuildRecord, scan: Scan) -> bytes:
    kernel = record.kernel
    return write_spdx(
        Inventory(
            artifact=Component(
                name=record.name,
                version=record.version,
                file=MANIFEST,
                sha256=record.outputs[MANIFEST].sha256,
                purpose="OPERATING-SYSTEM",
            ),
            parts=(
                Component(
                    name=kernel.name,
                    version=kernel.version,
                    sha256=kernel.sha256,
                    purl=depend_on_kernel(kernel).uri,
                    purpose="OPERATING-SYSTEM",
                    comment=f"The guest's kernel, {record.kernel_label}; the digest is that of the package file",
                ),
                Component(
                    name="kestrel",
                    version=record.fledge,
                    sha256=record.kestrel_sha256,
                    purpose="APPLICATION",
                    comment="The guest's first program and agent",
                ),
            ),
            packages=scan.packages,
            notes=scan.notes,
            created_s=fixed_epoch(),
            tool_version=__version__,
        )
    )


def _write_provenance(recipe: Recipe, record: BuildRecord, scan: Scan) -> bytes:
    epoch_s = read_epoch()
    return write_provenance(
        Build(
            outputs={name: one.sha256 for name, one in record.outputs.items()},
            recipe=recipe,
            options={} if epoch_s is None else {"sourceDateEpoch": epoch_s},
            tools=record.tools,
            dependencies=(depend_on_kernel(record.kernel), *_list_dependencies(record, scan)),
            fledge_version=record.fledge,
        )
    )


def _list_dependencies(record: BuildRecord, scan: Scan) -> tuple[Dependency, ...]:
    source = record.source
    if source.manifest_digest:
        return depend_on_image(source.reference, source.manifest_digest, source.layers)
    if source.packages:
        return depend_on_debs(source.packages, distribution=scan.distribution.id or "debian")
    return (depend_on_file(source.reference, source.sha256),) if source.sha256 else ()
