"""A kestrel-test to talk to, and a page for its health probe."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
from pathlib import Path

from .wire import ZEROS, Host

AGENT = Path(__file__).parents[3] / "build" / "native" / os.uname().machine / "kestrel-test"
SECRET = bytes.fromhex("ab" * 32)
SLEEP = ["/bin/sh", "-c", "exec sleep 1000"]


def document(argv: list[str], **members: object) -> str:
    workload = {"name": "main", "argv": argv, "user": f"{os.getuid()}:{os.getgid()}", "env": {"PATH": "/usr/bin:/bin"}}
    identity = {"channel_secret": SECRET.hex(), "entropy": "cd" * 64, "unix_ns": 0, "hostname": "web", "machine_id": "0" * 32}
    return json.dumps({"version": 1, **identity, "root": {"writable": "none"}, "workloads": [{**workload, **members}]})


class Agent:
    """A kestrel-test that listens as QEMU's port does: one host at a time; with ``--replace-fd`` as vsock: the newest."""

    def __init__(self, path: Path, mode: str = "--listen-fd") -> None:
        self.path = path
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(4)
            command = [os.environ.get("VOLANT_KESTREL_TEST", str(AGENT)), mode, str(listener.fileno())]
            self.process = subprocess.Popen(command, pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL)
        self.hosts: list[Host] = []

    def connect(self, secret: bytes = ZEROS) -> Host:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.path))
        host = Host(connection, secret)
        self.hosts.append(host)
        host.hello()
        return host

    def run(self, argv: list[str], **members: object) -> Host:
        host = self.connect()
        assert host.request("configure", document=document(argv, **members))["ok"] == {}
        return host

    def close(self) -> None:
        for host in self.hosts:
            host.connection.close()
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Page(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
