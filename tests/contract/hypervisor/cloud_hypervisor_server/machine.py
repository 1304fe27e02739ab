"""The machine: its state, its devices, its sockets."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import socket
import threading

from guest import Guest
from refusal import Refusal

TUNGETIFF = 0x800454D2


class Machine:
    def __init__(self, events: int) -> None:
        self.events = events
        self.lock = threading.RLock()
        self.runs = threading.Event()
        self.config: dict | None = None
        self.state = ""
        self.guest: Guest | None = None
        self.balloon = 0
        self.files: dict[str, int] = {}
        self.taps: dict[str, int] = {}
        self.tree: dict[str, str] = {}
        """Ids, and the address of each."""
        self.counters: dict[str, dict[str, int]] = {}
        self.vsock: socket.socket | None = None
        self.words: dict[str, str] = {}
        fcntl.fcntl(events, fcntl.F_SETFL, os.O_NONBLOCK | fcntl.fcntl(events, fcntl.F_GETFL))

    def tell(self, source: str, event: str, **properties: str) -> None:
        content = {"timestamp": {"secs": 0, "nanos": 1}, "source": source, "event": event, "properties": properties or None}
        with contextlib.suppress(BlockingIOError):  # as the real one: what nobody reads is lost
            os.write(self.events, json.dumps(content, indent=2).encode() + b"\n\n")

    # What they do

    def check_config(self, config: dict, *, is_saved: bool = False) -> None:
        ids = [device.get("id") for kind in ("disks", "net") for device in config.get(kind, [])]
        if None in ids or len(set(ids)) != len(ids):
            raise Refusal(409, "Error from API", "Identifier is not unique")
        if config["cpus"]["boot_vcpus"] > config["cpus"]["max_vcpus"]:
            raise Refusal(400, "Error from API", "Max CPUs fewer than boot CPUs")
        if config["serial"]["mode"] != "Tty" or config["console"]["mode"] != "Off":
            raise Refusal(500, "Error from API", "the console is not the terminal that was given")
        if not is_saved and "kernel" not in config["payload"]:
            raise Refusal(400, "Error from API", "No kernel or firmware specified")

    def check_terminal(self) -> None:
        if not os.isatty(0) or not os.isatty(1):
            raise Refusal(500, "Error from API", "stdin is no terminal, so that nobody could type")
        # As the real one does, which would make a shared description non-blocking for stdout, too.
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_NONBLOCK)
        if fcntl.fcntl(1, fcntl.F_GETFL) & os.O_NONBLOCK:
            raise Refusal(500, "Error from API", "stdin and stdout are one open file")

    def check_addition(self, kind: str, device: dict) -> None:
        if self.config is None:
            raise Refusal(404, "Error from API", "VM is not created")
        ids = {one["id"] for many in ("disks", "net") for one in self.config.get(many, [])}
        if "id" not in device or device["id"] in ids:
            raise Refusal(409, "Error from API", f"Identifier {device.get('id')} is not unique")
        if device["id"] in self.tree:
            raise Refusal(500, "Error from API", f"Identifier {device['id']} is not unique: the guest has not let go of it")

    def answer_addition(self, name: str):
        if self.guest is None:
            return None
        self.tree[name] = f"0000:00:{len(self.tree) + 1:02x}.0"
        return {"id": name, "bdf": self.tree[name]}

    def eject(self, name: str) -> None:
        with self.lock:
            self.tree.pop(name, None)
            self.counters.pop(name, None)
            for held in (self.files, self.taps):
                if name in held:
                    os.close(held.pop(name))
        self.tell("vm", "device-removed", id=name)

    def take_tap(self, name: str, tap: int) -> None:
        try:
            fcntl.ioctl(tap, TUNGETIFF, bytes(40))
        except OSError as error:
            raise Refusal(500, "Error from API", f"Failed to open taps: {error}") from error
        self.taps[name] = tap
        self.counters[name] = {"rx_bytes": 0, "tx_bytes": 0, "rx_frames": 0, "tx_frames": 0}

    def open_disk(self, disk: dict) -> None:
        try:
            descriptor = os.open(disk["path"], os.O_RDONLY if disk.get("readonly") else os.O_RDWR)
        except OSError as error:
            raise Refusal(500, "Error from API", f"Failed to open disk {disk['path']}: {error.strerror}") from error
        if disk.get("image_type", "Unknown") == "Unknown":
            raise Refusal(500, "Error from API", "the kind of its image would be guessed")
        self.files[disk["id"]] = descriptor
        self.counters[disk["id"]] = {"read_bytes": 0, "write_bytes": 0, "read_ops": 0, "write_ops": 0, "read_latency_avg": 0}

    def open_devices(self) -> None:
        self.tree = {"_rng": "0000:00:01.0"}
        for disk in self.config.get("disks", []):
            self.open_disk(disk)
            self.answer_boot(disk["id"])
        for net in self.config.get("net", []):
            self.answer_boot(net["id"])
        if "balloon" in self.config:
            self.tree["__balloon"] = ""
        if "vsock" in self.config:
            self.tree["_vsock"] = ""
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(self.config["vsock"]["socket"])
            listener.listen(8)
            self.vsock = listener
            threading.Thread(target=self.accept, args=(listener,), daemon=True).start()

    def answer_boot(self, name: str) -> None:
        self.tree[name] = f"0000:00:{len(self.tree) + 1:02x}.0"

    def load_kernel(self, path: str) -> None:
        try:
            with open(path, "rb") as stream:
                head = stream.read(64)
        except OSError as error:
            raise Refusal(500, "Error from API", "The VM could not boot", f"Cannot open kernel file: {error.strerror}") from error
        if len(head) < 64 or not head.startswith(b"\x7fELF"):
            raise Refusal(500, "Error from API", "The VM could not boot", "Cannot load the kernel into memory")

    def start(self, guest: Guest) -> None:
        self.guest = guest
        self.state = "Running"

    def stop(self) -> None:
        self.runs.clear()
        self.guest = None
        self.state = ""
        self.balloon = 0
        for descriptor in self.files.values():
            os.close(descriptor)
        self.files, self.tree = {}, {}
        if self.vsock is not None:
            os.unlink(self.config["vsock"]["socket"])
            self.vsock.close()
            self.vsock = None

    def reset(self) -> None:
        self.tell("vm", "rebooting")
        self.stop()
        self.open_devices()
        self.start(Guest(self))
        self.runs.set()
        self.tell("vm", "rebooted")

    def ask_reset(self) -> None:
        threading.Thread(target=self.locked, args=(self.reset,), daemon=True).start()

    def locked(self, work) -> None:
        with self.lock:
            work()

    def power_off(self) -> None:
        def end() -> None:
            self.stop()
            for source, event in (("vm", "shutdown"), ("vm", "deleted"), ("vmm", "shutdown")):
                self.tell(source, event)
            os._exit(0)

        threading.Thread(target=self.locked, args=(end,), daemon=True).start()

    def must_run(self) -> None:
        if self.guest is None:
            raise Refusal(500, "Error from API", "VM is not running")

    def move(self, before: str, after: str) -> None:
        if self.state != before:
            raise Refusal(500, "Error from API", f"Invalid transition: from {self.state} to {after}")
        self.state = after

    def read_url(self, url: str) -> str:
        path = url.removeprefix("file://")
        if path == url or not os.path.isdir(path):
            raise Refusal(500, "Error from API", f"Destination is not a directory: {path!r}")
        return path

    def read_words(self, cmdline: str) -> None:
        self.words = dict(word.removeprefix("fake.").split("=", 1) for word in cmdline.split() if word.startswith("fake."))

    def memory_left(self) -> int:
        return self.config["memory"]["size"] - self.balloon

    def write_disk(self) -> bytes:
        for disk in self.config.get("disks", []):
            if not disk.get("readonly"):
                written = os.pwrite(self.files[disk["id"]], b"w" * (1 << 18), 0)
                counters = self.counters[disk["id"]]
                counters["write_bytes"] += written
                counters["write_ops"] += 1
                return b"w."
        return b"-."

    # The hybrid vsock

    def accept(self, listener: socket.socket) -> None:
        while True:
            try:
                stream, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.connect, args=(stream,), daemon=True).start()

    def connect(self, stream: socket.socket) -> None:
        with stream:
            line = b""
            while not line.endswith(b"\n") and len(line) < 32:
                got = stream.recv(1)
                if not got:
                    return
                line += got
            self.runs.wait()
            found = re.fullmatch(rb"CONNECT (\d+)\n", line)
            guest = self.guest
            if found is None or int(found[1]) != 1024 or guest is None:
                return  # nobody listens there
            stream.sendall(b"OK 1073741824\n")
            try:
                # Whom a guest reaches at its port 1024 of the host may play its agent in its place.
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
                    other.connect(self.config["vsock"]["socket"] + "_1024")
                    self.relay(stream, other)
                    return
            except FileNotFoundError:
                pass
            except OSError:
                return
            try:
                guest.serve(stream)
            except OSError:
                return

    def relay(self, one: socket.socket, other: socket.socket) -> None:
        peers = {one: other, other: one}
        while True:
            for ready in select.select(list(peers), [], [])[0]:
                got = ready.recv(65536)
                if not got:
                    return
                self.runs.wait()
                peers[ready].sendall(got)
