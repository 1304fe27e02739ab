"""What a simulated guest uses, and what its workload tells of itself: both as whoever made it says."""

from __future__ import annotations

import asyncio
from typing import Any

from volant.core.clock import Clock

TOTAL_KB = 256 * 1024


class SimulatedUse:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._busy_cores = 0.0
        self._cpu_s = 0.0
        self._counted_s = clock.monotonic()
        self.memory_total_kb = TOTAL_KB
        self.memory_available_kb = TOTAL_KB // 2
        self.metrics: dict[str, float] = {}
        """What the workload tells at ``serve_metrics``: by the beginning of a line, ``queued`` or ``queued{kind="mail"}``."""

    @property
    def busy_cores(self) -> float:
        """How many processors it keeps busy."""
        return self._busy_cores

    @busy_cores.setter
    def busy_cores(self, cores: float) -> None:
        self._cpu_s = self.cpu_s
        self._counted_s = self._clock.monotonic()
        self._busy_cores = cores

    @property
    def cpu_s(self) -> float:
        """Processor time since it was made, in seconds."""
        return self._cpu_s + self._busy_cores * (self._clock.monotonic() - self._counted_s)

    def stats(self, uptime_ms: int) -> dict[str, Any]:
        """The answer to ``stats`` (docs/guest-protocol.md)."""
        return {
            "memory_total_kb": self.memory_total_kb, "memory_available_kb": self.memory_available_kb, "load1": 0.0,
            "cpu_ms": uptime_ms // 100 + round(self.cpu_s * 1000), "uptime_ms": uptime_ms, "processes": 2,
            "disk_total_kb": 1 << 20, "disk_available_kb": 1 << 19, "disk_read_bytes": 0, "disk_write_bytes": 0,
            "net_rx_bytes": 0, "net_tx_bytes": 0,
        }  # fmt: skip

    async def serve_metrics(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one HTTP request with ``metrics`` in the Prometheus text format: for ``guest.ports``."""
        await reader.readuntil(b"\r\n\r\n")
        body = "".join(f"{beginning} {value:g}\n" for beginning, value in self.metrics.items()).encode()
        head = ("HTTP/1.1 200 OK", "Content-Type: text/plain; version=0.0.4", f"Content-Length: {len(body)}", "Connection: close")
        writer.write("\r\n".join((*head, "", "")).encode() + body)
        await writer.drain()
        writer.write_eof()
