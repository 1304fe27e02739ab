"""The API's latency on the simulated driver, so that it is volantd that is measured and not a guest."""

from __future__ import annotations

import threading
import time
from typing import Any

from bench.host import build_nginx, daemon, install
from bench.report import describe_machine, describe_times, judge, percentile
from volant.client.client import Client

GET_BUDGET_MS = 10.0
POST_BUDGET_MS = 25.0
RATE_PER_S = 200
SECONDS = 10
CREATES = 200
CREATES_PER_S = 25
WORKERS = 4


def read_at_rate(address: str, name: str) -> list[float]:
    """Seconds from when each GET was due until its answer, at RATE_PER_S over WORKERS connections."""
    taken: list[float] = []
    lock = threading.Lock()
    began = time.monotonic() + 0.2

    def work(worker: int) -> None:
        client = Client(address)
        for number in range(worker, RATE_PER_S * SECONDS, WORKERS):
            due = began + number / RATE_PER_S
            time.sleep(max(0.0, due - time.monotonic()))
            client.vms.get(name)
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


def main() -> None:
    print(f"API latency, simulated driver, on {describe_machine()}")
    plugin = build_nginx()
    with daemon("--hypervisor", "simulated", "--subnet", "10.77.0.0/16") as (client, _, root):
        install(client, plugin)
        creates = create_many(client, "vm", CREATES_PER_S)
        rushed = create_many(client, "rushed", None)
        reads = read_at_rate(f"unix://{root}/run/volantd.sock", "vm-0")
    print(describe_times(f"GET one VM at {RATE_PER_S}/s", reads))
    print(judge("GET p99", percentile(reads, 0.99) * 1000, GET_BUDGET_MS, " ms"))
    print(describe_times(f"POST VM acknowledged at {CREATES_PER_S}/s", creates))
    print(judge("POST p99", percentile(creates, 0.99) * 1000, POST_BUDGET_MS, " ms"))
    print(describe_times("POST VM, one after the other", rushed))
    print(judge("POST p99, one after the other", percentile(rushed, 0.99) * 1000, POST_BUDGET_MS, " ms"))


if __name__ == "__main__":
    main()
