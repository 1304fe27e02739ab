"""A simulated guest: what the `simulated` hypervisor boots. It has a workload, a log and a clock, and no kernel.

Everything that happens by itself is due at a moment of the injected clock and done when somebody looks, so a thousand
of them at rest cost nothing.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from volant.core.clock import Clock
from volant.core.log import LogSource
from volant.guest.document import Document, Root, Workload, decode_document, digest_document
from volant.guest.preamble import ZERO_SECRET
from volant.guest.simulated_agenda import SimulatedAgenda
from volant.guest.simulated_farewell import say_farewell
from volant.guest.simulated_freezer import SimulatedFreezer
from volant.guest.simulated_log import SimulatedLog
from volant.guest.simulated_network import SimulatedNetwork
from volant.guest.simulated_probe import count_liveness, foresee_health
from volant.guest.simulated_program import describe_exit, foresee_end
from volant.guest.simulated_tree import SimulatedFiles
from volant.guest.simulated_types import CAPABILITIES, Misbehaviour, Refusal, ServePort, Writer, read_document
from volant.guest.simulated_use import SimulatedUse

MAX_STREAMS = 512
FIRST_PID = 200

Due = Literal["start", "healthy", "unstarted", "dead", "ended", "power_off"]
"""What a guest does by itself when its time has come."""


class SimulatedGuest:
    """One guest from power-on to power-off; connections to its agent come and go (SimulatedAgent serves them).

    ``boot_s`` passes until the agent opens its port, ``healthy_after_s`` from the start of the workload until its health
    check passes, ``stop_s`` until the workload has obeyed its stop signal. ``on_power_off`` is called once.

    ``save`` and ``load`` are what its driver's snapshots are made of: a guest that loads what another saved goes on where that
    one was, and has its boot id and secret, until it is renewed. A guest that had not said hello had no boot id, so every guest
    that loads its state gets one of its own.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        boot_s: float = 0.0,
        healthy_after_s: float = 0.0,
        stop_s: float = 0.0,
        on_power_off: Callable[[], None] | None = None,
        programs: Mapping[str, tuple[bytes, bytes, int]] | None = None,
    ) -> None:
        self.clock = clock
        self.healthy_after_s = healthy_after_s
        self.stop_s = stop_s
        self.on_power_off = on_power_off
        self.programs = dict(programs or {})
        """What a program of this name prints on stdout and stderr, and its exit code."""
        self.capabilities = CAPABILITIES
        """What its hello says that it can; a test takes some away to have an agent of an earlier version."""
        self.max_streams = MAX_STREAMS
        self.ports: dict[int, ServePort] = {}
        """What answers a connection to a port in the guest."""
        self.network = SimulatedNetwork()
        self.use = SimulatedUse(clock)
        self.files = SimulatedFiles()
        """What its root holds."""
        self.writer: Writer | None = None
        """Who is attached and writes to the workload."""
        self.boot_id = ""
        """Made by the first hello, as a kernel makes it when it is first read."""
        self._misbehaviour: Misbehaviour = ""
        self.secret = ZERO_SECRET
        self.workload: Workload | None = None
        self.state: Literal["waiting", "configured", "stopping"] = "waiting"
        self.stopping_reason = ""
        self.powered_off = False
        self.clock_offset_ns = 0
        self.version = 0
        """Rises with every change, so that each connection can tell what it has not seen."""
        self._changed = asyncio.Event()
        self._document = b""
        self._root = Root(writable="none")
        self.freezer = SimulatedFreezer(clock)
        self._powered_on_s = clock.monotonic()
        self._workload_began_s = self._powered_on_s
        self.ready_at_s = self._powered_on_s + boot_s
        self._timeline: dict[str, int] = {"init_ms": 0, "channel_ms": round(boot_s * 1000)}
        self._workload_notice: dict[str, Any] | None = None
        self._health_notice: dict[str, Any] | None = None
        self._restarts = 0
        self._row = 0
        self._pid = FIRST_PID
        self._agenda: SimulatedAgenda[Due] = SimulatedAgenda(clock)
        self.logged = SimulatedLog()

    @property
    def misbehaviour(self) -> Misbehaviour:
        """How it breaks the protocol, "" while it does not."""
        return self._misbehaviour

    @misbehaviour.setter
    def misbehaviour(self, kind: Misbehaviour) -> None:
        self._misbehaviour = kind
        self._touch()

    @property
    def pid(self) -> int:
        """The workload's."""
        return self._pid

    @property
    def workload_end(self) -> dict[str, int] | None:
        """How the workload ended for good; None while it has not."""
        notice = self._workload_notice or {}
        is_over = notice.get("state") in ("exited", "failed") or self.powered_off
        return dict(notice.get("exit") or {"code": 0}) if is_over else None

    @property
    def farewell(self) -> bytes:
        """What it leaves on its console when it powers off."""
        return say_farewell(self._document, self.stopping_reason, self._workload_notice)

    @property
    def uptime_ms(self) -> int:
        return round((self.clock.monotonic() - self._powered_on_s) * 1000)

    @property
    def next_due_s(self) -> float | None:
        """Seconds until something happens by itself."""
        return self._agenda.next_due_s

    def catch_up(self) -> None:
        """Let everything happen that is due by now."""
        while (action := self._agenda.take_due()) is not None:
            self._do(action)

    def hello(self) -> dict[str, Any]:
        self.boot_id = self.boot_id or str(uuid.uuid4())
        return {
            "type": "hello",
            "version": 1,
            "agent": "kestrel/0.1.0-simulated",
            "boot_id": self.boot_id,
            "uptime_ms": self.uptime_ms,
            "state": self.state,
            "config_digest": digest_document(self._document) if self._document else "",
            "timeline": self._timeline,
            "capabilities": list(self.capabilities),
            "max_streams": self.max_streams,
        }

    def notices(self) -> Iterator[dict[str, Any]]:
        """The latest notice of each kind."""
        for notice in (self._workload_notice, self._health_notice, self.network.notice):
            if notice is not None:
                yield notice
        if self.state == "stopping":
            yield {"type": "stopping", "reason": self.stopping_reason}

    def configure(self, content: bytes) -> None:
        """Raises Refusal as kestrel would."""
        if self._document:
            if content != self._document:
                raise Refusal("already_configured", "another document holds")
            return
        self._hold(content, read_document(content))
        self.state = "configured"
        self._timeline["configured_ms"] = self.uptime_ms
        self.log("configured", LogSource.KESTREL)
        self._start_workload()

    def renew(self, content: bytes) -> None:
        """Another identity for a guest that is configured. Raises Refusal as kestrel would."""
        if not self._document:
            raise Refusal("not_configured", "no configuration is in force that could be renewed")
        if self.state == "stopping":
            raise Refusal("failed", "the guest is stopping")
        if content == self._document:
            return
        document = read_document(content)
        if document.root != self._root:
            raise Refusal("malformed", "root: not the root that is in force")
        self.freezer.thaw()
        self._hold(content, document)
        if document.unix_ns > 0:
            self.set_clock(document.unix_ns)
        self.boot_id = str(uuid.uuid4())
        self.log("renewed", LogSource.KESTREL)

    def set_clock(self, unix_ns: int) -> None:
        self.clock_offset_ns = unix_ns - int(self.clock.now().timestamp() * 1_000_000) * 1000

    def freeze(self, timeout_s: float) -> bool:
        """Whether there is a disk to freeze; thawed by itself after ``timeout_s``."""
        if self._root.writable != "disk":
            return False
        self.freezer.freeze(timeout_s)
        return True

    def save(self) -> dict[str, Any]:
        """Everything that a snapshot of its memory would hold, in types that JSON has."""
        self.catch_up()
        now_s = self.clock.monotonic()
        return {
            "boot_id": self.boot_id,
            "secret": self.secret.hex(),
            "document": self._document.decode(),
            "state": self.state,
            "stopping_reason": self.stopping_reason,
            "clock_offset_ns": self.clock_offset_ns,
            "uptime_s": now_s - self._powered_on_s,
            "ready_in_s": max(0.0, self.ready_at_s - now_s),
            "frozen_for_s": self.freezer.left_s,
            "timeline": dict(self._timeline),
            "workload": self._workload_notice,
            "health": self._health_notice,
            "network": self.network.notice,
            "restarts": self._restarts,
            "row": self._row,
            "pid": self._pid,
            "due": self._agenda.save(),
            **self.logged.save(),
        }

    def load(self, saved: Mapping[str, Any]) -> None:
        """Become the guest that ``save`` saved. Its ways (delays, programs) stay those it was made with."""
        now_s = self.clock.monotonic()
        self.boot_id = saved["boot_id"]
        if saved["document"]:
            content = saved["document"].encode()
            self._hold(content, decode_document(content))
        self.secret = bytes.fromhex(saved["secret"])
        self.state, self.stopping_reason = saved["state"], saved["stopping_reason"]
        self.clock_offset_ns = saved["clock_offset_ns"]
        self._powered_on_s = now_s - saved["uptime_s"]
        self.ready_at_s = now_s + saved["ready_in_s"]
        self.freezer.freeze(saved["frozen_for_s"])
        self._timeline = dict(saved["timeline"])
        self._workload_notice, self._health_notice = saved["workload"], saved["health"]
        self.network.notice = saved["network"]
        self._restarts, self._row, self._pid = saved["restarts"], saved["row"], saved["pid"]
        self._agenda.load(saved["due"])
        self.logged.load(dict(saved))
        self._touch()

    def shut_down(self, reason: str = "requested") -> None:
        """Stop the workload and power off."""
        if self.state == "stopping":
            return
        self.state, self.stopping_reason = "stopping", reason
        self._agenda.clear()
        if self._workload_notice is not None and self._workload_notice["state"] == "running":
            self._notice_workload("stopping")
        self._schedule(self.stop_s, "power_off")
        self._touch()

    def crash_workload(self, exit_: Mapping[str, int] | None = None, *, why: str = "") -> None:
        """The workload ends by itself, by default with code 1; its restart policy decides what follows. ``why``: it was ended."""
        assert self.workload is not None
        how = dict(exit_ or {"code": 1})
        restart = self.workload.restart
        self._agenda.clear()
        self._notice_health("unknown", "the workload does not run")
        message = why or describe_exit(how)
        if restart.policy == "never" or (restart.policy == "on-failure" and how == {"code": 0} and not why):
            self._notice_workload("exited", exit=how, message=message, last_end=message)
            self.shut_down("workload_ended")
            return
        if self.clock.monotonic() - self._workload_began_s >= restart.reset_after_ms / 1000:
            self._row = 0
        if restart.max_restarts and self._row >= restart.max_restarts:
            message = f"{message}; it was restarted {self._row} times already"
            self._notice_workload("failed", exit=how, message=message, last_end=message)
            self.shut_down("restart_limit")
            return
        backoff_ms = min(restart.max_backoff_ms, restart.initial_backoff_ms * 2 ** min(self._row, 30))
        self._row += 1
        self._notice_workload("backoff", exit=how, next_start_ms=backoff_ms, message=message, last_end=message)
        self._restarts += 1
        self._schedule(backoff_ms / 1000, "start")

    def fail_liveness(self, said: str = "Connection refused") -> None:
        """The workload fails its liveness probe as often as it may, and is ended for it."""
        assert self.workload is not None
        times = count_liveness(self.workload)
        self.crash_workload({"signal": self.workload.stop_signal}, why=f"the liveness probe failed {times} times: {said}")

    def give_lease(self, address: str, gateway: str = "", *, lease_s: int = 3600) -> None:
        """The network has given every interface that asks by DHCP this address, with its prefix length; "" takes it back."""
        self.network.give_lease(address, gateway, lease_s)
        self._touch()

    def flood_notice(self) -> None:
        """Change the health notice for no reason, so that there is something to send."""
        flapped = "unhealthy" if (self._health_notice or {}).get("state") == "healthy" else "healthy"
        self._notice_health(flapped, "flapping")

    def log(self, text: str | bytes, source: LogSource = LogSource.STDOUT) -> None:
        """Add a line to the log."""
        time_ns = int(self.clock.now().timestamp() * 1_000_000) * 1000 + self.clock_offset_ns
        self.logged.add(text, source, time_ns)
        self._touch()

    async def wait_changed(self, seen: int) -> None:
        """Until ``version`` has passed ``seen``."""
        while self.version == seen:
            await self._changed.wait()

    def _touch(self) -> None:
        self.version += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _hold(self, content: bytes, document: Document) -> None:
        self._document, self._root = content, document.root
        self.network.hold(document)
        self.secret = bytes.fromhex(document.channel_secret)
        self.workload = document.workloads[0]

    def _start_workload(self) -> None:
        assert self.workload is not None
        self._pid += 1
        self._timeline.setdefault("started_ms", self.uptime_ms)
        self._notice_workload("running", pid=self._pid)
        self._workload_began_s = self.clock.monotonic()
        self.log(f"{' '.join(self.workload.argv)} started")
        self._run_program()
        foreseen = foresee_health(self.workload, self.programs)
        if foreseen.hook_fails:
            self.crash_workload({"signal": 15}, why="its post_start hook failed: exited with code 1")
            return
        if foreseen.is_probed:
            self._notice_health("unknown", "not probed yet")
        if foreseen.unstarted_s is not None:
            self._schedule(foreseen.unstarted_s, "unstarted")
            return
        if foreseen.dead_s is not None:
            self._schedule(foreseen.dead_s, "dead")
        if foreseen.gets_healthy:
            self._schedule(self.healthy_after_s, "healthy")

    def _run_program(self) -> None:
        assert self.workload is not None
        foreseen = foresee_end(self.workload.argv, self.programs)
        if foreseen is None:
            return
        for text, source in ((foreseen.stdout, LogSource.STDOUT), (foreseen.stderr, LogSource.STDERR)):
            for line in text.splitlines():
                self.log(line, source)
        self._schedule(foreseen.after_s, "ended")

    def _power_off(self) -> None:
        self.powered_off = True
        self._touch()
        if self.on_power_off is not None:
            self.on_power_off()

    def _notice_workload(self, state: str, **members: Any) -> None:
        self._workload_notice = {"type": "workload", "workload": "main", "state": state, "restarts": self._restarts, **members}
        self._touch()

    def _notice_health(self, state: str, message: str) -> None:
        self._health_notice = {
            "type": "health", "workload": "main", "state": state, "message": message, "since_ms": self.uptime_ms,
            "started": state != "unknown", "live": True,
        }  # fmt: skip
        self._touch()

    def _schedule(self, delay_s: float, action: Due) -> None:
        if delay_s <= 0:
            self._do(action)
            return
        self._agenda.add(delay_s, action)
        self._touch()

    def _do(self, action: Due) -> None:
        match action:
            case "start":
                self._start_workload()
            case "healthy":
                self._notice_health("healthy", "")
            case "unstarted":
                self.crash_workload({"signal": 15}, why="the startup probe failed: exited with code 1")
            case "dead":
                self.fail_liveness("exited with code 1")
            case "ended":
                assert self.workload is not None
                foreseen = foresee_end(self.workload.argv, self.programs)
                self.crash_workload({"code": 0 if foreseen is None else foreseen.code})
            case "power_off":
                self._power_off()
