"""HTTP on the API's socket, as micro_http speaks it: descriptors come with a request's bytes."""

from __future__ import annotations

import json
import socket
import sys

from description import DESCRIPTION, validate
from refusal import Refusal
from vmm import Vmm


def split_request(head: bytes) -> tuple[str, str, int]:
    first, *lines = head.decode().split("\r\n")
    method, uri, version = first.split(" ")
    if version != "HTTP/1.1":
        raise ValueError(version)
    length = 0
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            length = int(value)
    return method, uri, length


def answer(vmm: Vmm, method: str, uri: str, content: bytes, files: list[int]) -> tuple[int, bytes]:
    path = uri.removeprefix("/api/v1")
    known = DESCRIPTION["paths"].get(path)
    try:
        if known is None or path == uri:
            raise Refusal(404, "Not Found")
        described = known.get(method.lower())
        if described is None:
            raise Refusal(400, "Bad Request")
        body = None
        if ("requestBody" in described) != bool(content):
            raise Refusal(400, "Bad Request")
        if content:
            schema = described["requestBody"]["content"]["application/json"]["schema"]
            try:
                body = json.loads(content)
                validate(schema, body, "the body")
            except ValueError as error:
                raise Refusal(400, "Failed to deserialize JSON", str(error)) from error
        sys.stderr.write(json.dumps({"method": method, "path": path, "body": body, "descriptors": len(files)}) + "\n")
        if files and path not in ("/vm.add-net", "/vm.restore"):
            raise Refusal(400, "Bad Request", "it came with descriptors that nobody takes")
        with vmm.lock:
            found = getattr(vmm, path[1:].replace(".", "_").replace("-", "_"))(body, files)
            how = vmm.words.get("info") if path == "/vm.info" else None
    except Refusal as refusal:
        return refusal.status, json.dumps(refusal.words).encode()
    except OSError as error:
        return 500, json.dumps(["Error from API", str(error)]).encode()
    if how == "garbage":
        return 200, b"\xff\xfe no JSON"
    if how == "huge":
        return 200, b"[" + b"0," * (3 << 20) + b"0]"
    return (204, b"") if found is None else (200, json.dumps(found).encode())


def serve_connection(vmm: Vmm, connection: socket.socket) -> None:
    data, files = b"", []
    while True:
        while b"\r\n\r\n" not in data:
            got, sent, _, _ = socket.recv_fds(connection, 4096, 16)
            files += sent
            if not got:
                return
            data += got
        head, _, data = data.partition(b"\r\n\r\n")
        method, uri, length = split_request(head)
        while len(data) < length:
            got, sent, _, _ = socket.recv_fds(connection, 65536, 16)
            files += sent
            if not got:
                return
            data += got
        content, data = data[:length], data[length:]
        status, body = answer(vmm, method, uri, content, files)
        files = []
        lines = [f"HTTP/1.1 {status} ", "Server: Cloud Hypervisor API", "Connection: keep-alive"]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)


def serve_one(vmm: Vmm, connection: socket.socket) -> None:
    with connection:
        try:
            serve_connection(vmm, connection)
        except OSError:
            return
