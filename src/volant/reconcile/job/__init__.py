"""Jobs: VMs that run to their end, so many times, with retries and deadlines."""

from __future__ import annotations

from volant.core.job import CronJob, Job
from volant.core.vm import VM
from volant.store.cache import Cache
from volant.store.contract import Change, Key, Stored


def find_looks(cache: Cache, change: Change, old: Stored | None) -> Key | None:
    """The job, or the schedule, that has to look because of a change of what it made; None when it need not."""
    if change.key.kind not in (VM.kind, Job.kind):
        return None
    owner = change.data["meta"].get("owner")
    if not owner or (old is not None and change.type == "put" and _stays(change, old)):
        return None
    wanted = Job.kind if change.key.kind == VM.kind else CronJob.kind
    return next((stored.key for stored in cache.by_index("uid", owner) if stored.key.kind == wanted), None)


def _stays(change: Change, old: Stored) -> bool:
    """Most changes of a VM are how far its start is, which no job waits for."""
    before, after = old.data, change.data
    if before["meta"].get("deleting_at") != after["meta"].get("deleting_at") or before["spec"] != after["spec"]:
        return False
    watched = ("phase", "reason", "last_end", "failures", "pid", "ended_at")
    return all(before["status"].get(field) == after["status"].get(field) for field in watched)
