"""A registry inside the test's own process: answers requests as the distribution API does, and fails when it is told to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2

from volant.artifact.registry.client import RegistryClient
from volant.artifact.registry.credentials import CredentialStore
from volant.artifact.registry.settings import RegistrySettings
from volant.core.ids import Digest
from volant.core.simulated_clock import SimulatedClock

HOST = "registry.example.org"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
ADDRESSES = {HOST: ("93.184.216.34",), "mirror.example.org": ("93.184.216.35",), "cdn.example.org": ("93.184.216.36",)}

Hook = Callable[[httpx2.Request], httpx2.Response | None]


def digest_of(content: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")


class InstantClock(SimulatedClock):
    """Remembers what was slept and goes on at once."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._elapsed_s += seconds
        await asyncio.sleep(0)


class Whole(httpx2.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), 65536):
            yield self._content[start : start + 65536]


class Broken(httpx2.AsyncByteStream):
    """Gives ``content`` and then fails."""

    def __init__(self, content: bytes, error: Exception) -> None:
        self._content = content
        self._error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content
        raise self._error


class FakeRegistry:
    """``hooks`` are asked first, in their order; one that gives an answer is used up. ``requests`` are all that came."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.requests: list[httpx2.Request] = []
        self.hooks: list[Hook] = []
        self.uploads: dict[str, bytes] = {}
        self.takes_ranges = True

    def seen(self, method: str = "GET") -> list[str]:
        return [request.url.path for request in self.requests if request.method == method]

    def add_blob(self, content: bytes, media_type: str = LAYER, **more: Any) -> dict[str, Any]:
        self.blobs[digest_of(content)] = content
        return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}

    def add_manifest(
        self, document: dict[str, Any] | bytes, media_type: str = MANIFEST, tag: str = "", **more: Any
    ) -> dict[str, Any]:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        for selector in filter(None, (tag, digest_of(content))):
            self.manifests[selector] = (media_type, content)
        return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}

    def add_image(self, *layers: bytes, tag: str = "", architecture: str = "amd64", **more: Any) -> dict[str, Any]:
        config = json.dumps({"os": "linux", "architecture": architecture, "config": {}}).encode()
        document = {
            "schemaVersion": 2, "mediaType": MANIFEST, "config": self.add_blob(config, CONFIG),
            "layers": [self.add_blob(layer) for layer in layers],
        }  # fmt: skip
        platform = {"platform": {"os": "linux", "architecture": architecture}}
        return self.add_manifest(document, tag=tag, **platform, **more)

    def add_index(self, *manifests: dict[str, Any], tag: str = "") -> dict[str, Any]:
        return self.add_manifest({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)}, INDEX, tag)

    async def handle(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        for hook in list(self.hooks):
            answer = hook(request)
            if answer is not None:
                self.hooks.remove(hook)
                return answer
        return self.answer(request)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if "/blobs/uploads/" in path:
            return self._upload(request)
        kind, _, selector = path.rpartition("/")
        if kind.endswith("/manifests"):
            if request.method == "PUT":
                self.manifests[selector] = (request.headers["content-type"], request.content)
                return httpx2.Response(201, headers={"Docker-Content-Digest": digest_of(request.content)})
            if selector not in self.manifests:
                return refuse(404, "MANIFEST_UNKNOWN")
            media_type, content = self.manifests[selector]
            headers = {"Content-Type": media_type, "Docker-Content-Digest": digest_of(content)}
            return httpx2.Response(200, headers=headers, content=content)
        if selector not in self.blobs:
            return refuse(404, "BLOB_UNKNOWN")
        return give_blob(request, self.blobs[selector], self.takes_ranges)

    def _upload(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if request.method == "POST":
            name = f"u{len(self.uploads)}"
            self.uploads[name] = b""
            return httpx2.Response(202, headers={"Location": f"{path}{name}?_state=a%2Fb", "Range": "0-0"})
        name = path.rpartition("/")[2]
        if name not in self.uploads:
            return refuse(404, "BLOB_UPLOAD_UNKNOWN")
        assert request.url.params["_state"] == "a/b"
        self.uploads[name] += request.content
        if request.method == "PUT":
            content = self.uploads.pop(name)
            if digest_of(content) != request.url.params["digest"]:
                return refuse(400, "DIGEST_INVALID")
            self.blobs[digest_of(content)] = content
            return httpx2.Response(201)
        received = {"Location": f"{path}?_state=a%2Fb", "Range": f"0-{max(len(self.uploads[name]) - 1, 0)}"}
        return httpx2.Response(202 if request.method == "PATCH" else 204, headers=received)


def refuse(status: int, code: str = "DENIED", **headers: str) -> httpx2.Response:
    return httpx2.Response(status, json={"errors": [{"code": code, "message": code.lower()}]}, headers=headers)


def give_blob(request: httpx2.Request, content: bytes, takes_ranges: bool = True) -> httpx2.Response:
    wanted = request.headers.get("range", "")
    if wanted and takes_ranges:
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return httpx2.Response(206, headers=headers, content=content[start:])
    return httpx2.Response(200, content=content)


def break_blob(content: bytes, after: int, error: Exception | None = None) -> Hook:
    """The next GET of that blob breaks off ``after`` bytes after where it was asked to begin."""

    def hook(request: httpx2.Request) -> httpx2.Response | None:
        if request.method != "GET" or not request.url.path.endswith(digest_of(content)):
            return None
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        whole = give_blob(request, content)
        stream = Broken(content[start : start + after], error or httpx2.RemoteProtocolError("peer closed connection"))
        kept = {name: value for name, value in whole.headers.items() if name in ("content-range", "content-length")}
        return httpx2.Response(whole.status_code, headers=kept, stream=stream)

    return hook


def answer_once(path_end: str, response: Callable[[], httpx2.Response], method: str = "GET") -> Hook:
    def hook(request: httpx2.Request) -> httpx2.Response | None:
        return response() if request.method == method and request.url.path.endswith(path_end) else None

    return hook


def write_auth(**auths: str) -> str:
    """A containers-auth.json with ``name:password`` by key."""
    return json.dumps({"auths": {key: {"auth": base64.b64encode(value.encode()).decode()} for key, value in auths.items()}})


async def lookup(host: str, port: int) -> tuple[str, ...]:
    if host not in ADDRESSES:
        raise OSError(-2, "Name or service not known")
    return ADDRESSES[host]


def open_client(
    handler: FakeRegistry | Callable[[httpx2.Request], Any], *, settings: RegistrySettings | None = None,
    clock: InstantClock | None = None, auth_file: str = "/nonexistent", lookup: Any = lookup,
) -> RegistryClient:  # fmt: skip
    answer = handler.handle if isinstance(handler, FakeRegistry) else handler

    async def handle(request: httpx2.Request) -> httpx2.Response:
        response = await answer(request)
        if response.is_stream_consumed:  # made of bytes, which httpx2 reads at once
            return httpx2.Response(response.status_code, headers=response.headers, stream=Whole(response.content))
        return response

    return RegistryClient(
        settings, CredentialStore({"HOME": "/nonexistent", "REGISTRY_AUTH_FILE": auth_file}), clock=clock or InstantClock(),
        random=lambda: 1.0, lookup=lookup, transport=httpx2.MockTransport(handle),
    )  # fmt: skip
