"""Manifests as the first Volant and its fledge wrote them, brought into today's words before they are read."""

from __future__ import annotations

import json
import re
from typing import Any

FILESYSTEMS = ("erofs", "squashfs", "ext4", "xfs", "btrfs")
_BARE_DIGEST = re.compile(r"[0-9a-f]{64}")


def modernise(document: Any) -> Any:
    """``document`` in today's words; what is in them already, and what is no manifest at all, stays as it is.

    What was written: ``workload.entrypoint`` as one string with ``workload.args`` (fledge), ``env`` beside the workload
    (fledge), the file system as ``rootfs.format`` (fledge, the docs), ``initramfs.format``, a checksum without its ``sha256:``,
    a health check without a page (which is none), ``cloud_init.meta_data`` as a plain map (fledge), no ``workload.type``, or
    one in capitals.
    """
    if not isinstance(document, dict):
        return document
    made = dict(document)
    _join_workload(made)
    for field in ("rootfs", "initramfs"):
        if isinstance(made.get(field), dict):
            made[field] = _modernise_medium(made[field])
    check = made.get("health_check")
    if isinstance(check, dict) and check.get("endpoint") == "":
        del made["health_check"]
    disks = made.get("disks")
    if isinstance(disks, list):
        made["disks"] = [_with_digest(disk) if isinstance(disk, dict) else disk for disk in disks]
    cloud_init = made.get("cloud_init")
    if isinstance(cloud_init, dict) and _is_plain_map(cloud_init.get("meta_data")):
        # JSON is YAML, which is what cloud-init reads.
        content = json.dumps(cloud_init["meta_data"], sort_keys=True)
        made["cloud_init"] = {**cloud_init, "meta_data": {"inline": True, "content": content}}
    return made


def _join_workload(made: dict[str, Any]) -> None:
    workload = made.get("workload")
    if not isinstance(workload, dict):
        return
    workload = dict(workload)
    if isinstance(workload.get("entrypoint"), str) and workload["entrypoint"]:
        args = workload.pop("args", [])
        workload["entrypoint"] = [workload["entrypoint"], *args] if isinstance(args, list) else args
    env = made.get("env")
    if isinstance(env, dict) and isinstance(workload.get("env", {}), dict):
        workload["env"] = {**env, **workload.get("env", {})}
        del made["env"]
    if isinstance(workload.get("type"), str):
        workload["type"] = workload["type"].lower()
    elif "type" not in workload and not workload.get("base_url"):
        workload["type"] = "exec"
    made["workload"] = workload


def _modernise_medium(medium: dict[str, Any]) -> dict[str, Any]:
    made = _with_digest(medium)
    if made.get("format") in FILESYSTEMS:
        made.setdefault("filesystem", made["format"])
        made["format"] = "raw"
    elif made.get("format") in ("cpio.gz", "cpio"):
        del made["format"]  # the kernel sees for itself
    return made


def _with_digest(medium: dict[str, Any]) -> dict[str, Any]:
    checksum = medium.get("checksum")
    is_bare = isinstance(checksum, str) and _BARE_DIGEST.fullmatch(checksum) is not None
    return {**medium, "checksum": f"sha256:{checksum}"} if is_bare else dict(medium)


def _is_plain_map(value: Any) -> bool:
    return isinstance(value, dict) and not set(value) <= {"inline", "content", "path"}
