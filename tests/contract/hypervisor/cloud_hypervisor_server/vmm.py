"""What each request does, and when it may not: the rules of vmm/src/lib.rs and vm.rs."""

from __future__ import annotations

import json
import os
import sys
import threading

from guest import Guest
from machine import Machine
from refusal import Refusal

VERSION = "53.0"
BALLAST = 4 << 20


class Vmm(Machine):
    def vmm_ping(self, body, files):
        return {"build_version": f"v{VERSION}", "version": VERSION, "pid": os.getpid(), "features": ["kvm"]}

    def vmm_shutdown(self, body, files):
        self.vm_delete(None, ())
        self.tell("vmm", "shutdown")
        threading.Timer(0.01, os._exit, (0,)).start()

    def vm_create(self, body, files):
        if self.config is not None:
            raise Refusal(500, "Error from API", "The VM could not be created", "VM is already created")
        if any(net.get("fds") for net in body.get("net", [])):
            raise Refusal(500, "Error from API", "a net of vm.create has descriptors, which it would forget")
        self.check_config(body)
        self.config = json.loads(json.dumps(body))
        self.check_terminal()

    def vm_delete(self, body, files):
        if self.config is None:
            return
        if self.guest is not None:
            self.vm_shutdown(None, ())
        self.config = None
        self.tell("vm", "deleted")

    def vm_boot(self, body, files):
        if self.guest is not None:
            raise Refusal(500, "Error from API", "The VM could not boot", "VM is already created")
        self.tell("vm", "booting")
        if self.config is None:
            raise Refusal(404, "Error from API", "The VM could not boot", "VM config is missing")
        payload = self.config["payload"]
        self.read_words(payload.get("cmdline", ""))
        how = self.words.get("boot")
        if how == "refuse":
            raise Refusal(500, "Error from API", "The VM could not boot", "Cannot open\x1b[31m the gates")
        if how == "die":
            sys.stderr.write("cannot go on with it\n")
            os._exit(7)
        if how == "hang":
            threading.Event().wait()
        self.load_kernel(payload["kernel"])
        if payload.get("initramfs"):
            os.close(os.open(payload["initramfs"], os.O_RDONLY))
        self.open_devices()
        self.start(Guest(self))
        self.runs.set()
        self.tell("vm", "booted")
        os.write(1, b"guest: ready\r\n")

    def vm_pause(self, body, files):
        self.must_run()
        if self.words.get("pause") == "hang":
            threading.Event().wait()
        self.tell("vm", "pausing")
        self.move("Running", "Paused")
        self.runs.clear()
        self.tell("vm", "paused")

    def vm_resume(self, body, files):
        self.must_run()
        self.tell("vm", "resuming")
        self.move("Paused", "Running")
        self.runs.set()
        self.tell("vm", "resumed")

    def vm_shutdown(self, body, files):
        self.must_run()
        self.stop()
        self.tell("vm", "shutdown")

    def vm_reboot(self, body, files):
        self.must_run()
        self.reset()

    def vm_power_button(self, body, files):
        self.must_run()
        self.power_off()

    def vm_info(self, body, files):
        if self.config is None:
            raise Refusal(404, "Error from API", "The VM info is not available", "VM is not created")
        size = self.config["memory"]["size"]
        found = {"config": self.config, "state": self.state or "Created", "memory_actual_size": size - self.balloon}
        if self.guest is not None:
            found["device_tree"] = {
                name: {"id": name, "resources": [], "children": [], "pci_bdf": address} for name, address in self.tree.items()
            }
        how = self.words.get("info")
        if how == "liar":
            found["memory_actual_size"] = -5
            found["state"] = "Dancing"
        return found

    def vm_counters(self, body, files):
        self.must_run()
        return self.counters

    def vm_resize(self, body, files):
        if self.config is None:
            raise Refusal(404, "Error from API", "The VM could not be resized", "VM is not created")
        if set(body) != {"desired_balloon"}:
            raise Refusal(500, "Error from API", "nothing but the balloon is resized here")
        if "balloon" not in self.config:
            raise Refusal(500, "Error from API", "The VM could not be resized", "Missing virtio-balloon")
        if body["desired_balloon"] > self.config["memory"]["size"]:
            raise Refusal(500, "Error from API", "The VM could not be resized", "the balloon is larger than the memory")
        self.config["balloon"]["size"] = body["desired_balloon"]

        def give() -> None:
            with self.lock:
                self.balloon = body["desired_balloon"]

        if self.guest is None:
            give()
        else:
            threading.Timer(0.02, give).start()

    def vm_add_disk(self, body, files):
        self.check_addition("disks", body)
        if self.guest is not None:
            self.open_disk(body)
        self.config.setdefault("disks", []).append(body)
        return self.answer_addition(body["id"])

    def vm_add_net(self, body, files):
        self.check_addition("net", body)
        if len(files) * 2 != body.get("num_queues", 2):
            raise Refusal(400, "Error from API", "Number of queues to virtio_net does not match the number of input FDs")
        self.take_tap(body["id"], files[0])
        self.config.setdefault("net", []).append({**body, "fds": [files[0]]})
        return self.answer_addition(body["id"])

    def vm_remove_device(self, body, files):
        if self.config is None:
            raise Refusal(404, "Error from API", "VM is not created")
        name = body["id"]
        lists = [self.config.get(kind, []) for kind in ("disks", "net")]
        if not any(device["id"] == name for devices in lists for device in devices):
            raise Refusal(404, "Error from API", f"Failed to remove device: {name}")
        for devices in lists:
            devices[:] = [device for device in devices if device["id"] != name]
        if self.guest is not None:
            threading.Timer(0.05, self.eject, (name,)).start()

    def vm_snapshot(self, body, files):
        self.must_run()
        if self.state != "Paused":
            raise Refusal(500, "Error from API", "The VM could not be snapshotted", "Trying to snapshot while VM is running")
        place = self.read_url(body["destination_url"])
        self.tell("vm", "snapshotting")
        config = {**self.config, "balloon": {**self.config["balloon"]}} if "balloon" in self.config else self.config
        state = {"version": VERSION, "ids": sorted(self.tree), "count": self.guest.count, "balloon": self.balloon}
        for name, content in (("config.json", config), ("state.json", state)):
            with open(f"{place}/{name}", "x") as stream:
                json.dump(content, stream)
        with open(f"{place}/memory-ranges", "xb") as stream:
            stream.truncate(config["memory"]["size"])
            if self.guest.ballast:
                stream.write(self.guest.ballast.encode() * BALLAST)
        self.tell("vm", "snapshotted")

    def vm_restore(self, body, files):
        if self.config is not None:
            raise Refusal(500, "Error from API", "The VM could not be restored", "VM is already created")
        wanted = body.get("net_fds", [])
        if sum(net["num_fds"] for net in wanted) != len(files):
            raise Refusal(400, "Bad Request")
        place = self.read_url(body["source_url"])
        with open(f"{place}/config.json") as stream:
            config = json.load(stream)
        with open(f"{place}/state.json") as stream:
            state = json.load(stream)
        with open(f"{place}/memory-ranges", "rb") as stream:
            ballast = stream.read(1).decode().strip("\0")
        self.check_config(config, is_saved=True)
        saved = {net["id"] for net in config.get("net", []) if net.get("fds")}
        if saved != {net["id"] for net in wanted}:
            raise Refusal(400, "Error from API", "Restore expects all net ids that have fds")
        self.tell("vm", "restoring")
        self.config = config
        try:
            self.check_terminal()
            for net, tap in zip(wanted, files, strict=True):
                self.take_tap(net["id"], tap)
            self.open_devices()
            if sorted(self.tree) != state["ids"] or state["version"] != VERSION:
                raise Refusal(500, "Error from API", "The VM could not be restored", "the devices are not those of the state")
        except BaseException:
            self.stop()
            self.config = None
            raise
        self.balloon = state["balloon"]
        self.read_words(config["payload"].get("cmdline", ""))
        self.start(Guest(self, state["count"], ballast))
        self.state = "Paused"
        self.tell("vm", "restored")
