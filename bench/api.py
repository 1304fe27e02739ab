"""The API's latency on the simulated driver, so that it is volantd that is measured and not a guest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from bench.host import build_nginx, daemon, install
from bench.report import describe_machine, describe_times, judge, percentile
from volant.client.client import Client
from volant.client.connection import KEY

GET_BUDGET_MS = 10.0
POST_BUDGET_MS = 25.0
RATE_PER_S = 200
SECONDS = 10
CREATES = 200
CREATES_PER_S = 25
WORKERS = 4
PAGE_BUDGET_MS = 50.0
"""A page holds PAGE VMs: five times what one GET may take, for a hundred times as much."""

PAGE = 100
PAGES_PER_S = 10
PATCHES = 200
PATCHES_PER_S = 25


def at_rate(address: str, per_s: float, ask: Callable[[Client], object]) -> list[float]:
    """Seconds from when each ``ask`` was due until its answer, at ``per_s`` over WORKERS connections."""
    taken: list[float] = []
    lock = threading.Lock()
    began = time.monotonic() + 0.2

    def work(worker: int) -> None:
        client = Client(address)
        for number in range(worker, int(per_s * SECONDS), WORKERS):
            due = began + number / per_s
            time.sleep(max(0.0, due - time.monotonic()))
            ask(client)
            with lock:
                taken.append(time.monotonic() - due)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken


def create_many(client: Any, prefix: str, per_s: float | None) -> list[float]:
    """Seconds to each acknowledgement: at a rate, or each after the other. The VMs start meanwhile, in the same process."""
    taken = []
    start = time.monotonic()
    for number in range(CREATES):
        if per_s is not None:
            time.sleep(max(0.0, start + number / per_s - time.monotonic()))
        began = time.monotonic()
        client.vms.create({"name": f"{prefix}-{number}", "plugin": "nginx"})
        taken.append(time.monotonic() - began)
    return taken


def change_many(client: Client, name: str) -> list[float]:
    """Seconds to each acknowledgement of a PATCH, at a rate."""
    taken = []
    start = time.monotonic()
    for number in range(PATCHES):
        time.sleep(max(0.0, start + number / PATCHES_PER_S - time.monotonic()))
        began = time.monotonic()
        client.configurations.patch(name, {"env": {"NUMBER": str(number)}})
        taken.append(time.monotonic() - began)
    return taken


def repeat_many(client: Client) -> list[float]:
    """Seconds to each answer of a POST that was done before under the same key."""
    taken = []
    for number in range(CREATES):
        wanted = {"name": f"vm-{number}-again", "plugin": "nginx"}
        for is_repeat in (False, True):
            began = time.monotonic()
            client.connection.request("POST", "/api/v1/vms", document=wanted, headers={KEY: f"bench-{number}"})
            if is_repeat:
                taken.append(time.monotonic() - began)
    return taken


def main() -> None:
    print(f"API latency, simulated driver, on {describe_machine()}")
    plugin = build_nginx()
    with daemon("--hypervisor", "simulated", "--subnet", "10.77.0.0/16") as (client, _, root):
        install(client, plugin)
        creates = create_many(client, "vm", CREATES_PER_S)
        rushed = create_many(client, "rushed", None)
        address = f"unix://{root}/run/volantd.sock"
        reads = at_rate(address, RATE_PER_S, lambda client: client.vms.get("vm-0"))
        pages = at_rate(address, PAGES_PER_S, lambda client: client.vms.list_page(filters={"limit": PAGE}))
        changes = change_many(client, "vm-0")
        repeats = repeat_many(client)
    print(describe_times(f"GET one VM at {RATE_PER_S}/s", reads))
    print(judge("GET p99", percentile(reads, 0.99) * 1000, GET_BUDGET_MS, " ms"))
    print(describe_times(f"POST VM acknowledged at {CREATES_PER_S}/s", creates))
    print(judge("POST p99", percentile(creates, 0.99) * 1000, POST_BUDGET_MS, " ms"))
    print(describe_times("POST VM, one after the other", rushed))
    print(judge("POST p99, one after the other", percentile(rushed, 0.99) * 1000, POST_BUDGET_MS, " ms"))
    print(describe_times(f"GET a page of {PAGE} at {PAGES_PER_S}/s", pages))
    print(judge("page p99", percentile(pages, 0.99) * 1000, PAGE_BUDGET_MS, " ms"))
    print(describe_times(f"PATCH acknowledged at {PATCHES_PER_S}/s", changes))
    print(judge("PATCH p99", percentile(changes, 0.99) * 1000, POST_BUDGET_MS, " ms"))
    print(describe_times("POST again under its key", repeats))
    print(judge("repeated POST p99", percentile(repeats, 0.99) * 1000, GET_BUDGET_MS, " ms"))


if __name__ == "__main__":
    main()
