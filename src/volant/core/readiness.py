"""What a manifest says about when its workload is ready."""

from __future__ import annotations

from volant.core.manifest import Manifest
from volant.core.probe import HttpRequest, Probe


def readiness_probe(manifest: Manifest) -> Probe | None:
    """The readiness probe, whichever way it is written."""
    check = manifest.health_check
    if manifest.probes.readiness is not None or check is None:
        return manifest.probes.readiness
    return Probe(
        http=HttpRequest(path=check.endpoint),
        interval_ms=check.interval_ms,
        timeout_ms=check.timeout_ms or 1000,
        failure_threshold=check.unhealthy_threshold,
    )


def is_readiness_told(manifest: Manifest) -> bool:
    """Whether an agent has more to go by than that the workload runs."""
    return (
        readiness_probe(manifest) is not None or manifest.probes.startup is not None or manifest.lifecycle.post_start is not None
    )
