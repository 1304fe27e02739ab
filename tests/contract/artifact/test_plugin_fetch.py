"""volantd fetches plugins itself: through its real API, from Debian's docker-registry and from a TLS server, all on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.server
import itertools
import json
import os
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import minisign
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.registry_server import HAS_REGISTRY, RegistryServer, serve_registry

from volant.api.app import build_app
from volant.api.listen import bind_socket
from volant.api.server import serve
from volant.artifact.bundle import push_bundle
from volant.artifact.plugin_fetch import TRANSFERS, PluginFetch
from volant.artifact.registry.client import RegistryClient
from volant.artifact.registry.credentials import CredentialStore
from volant.artifact.registry.reference import parse_plugin_reference
from volant.artifact.registry.settings import RegistrySettings
from volant.client.client import Client
from volant.config import Config
from volant.core.clock import HostClock
from volant.core.errors import (
    AlreadyExists,
    ChecksumMismatch,
    Forbidden,
    HostError,
    InvalidInput,
    NotFound,
    Unavailable,
    Untrusted,
    VolantError,
)
from volant.core.ids import Digest
from volant.core.plugin_source import SOURCE_LABEL, FetchProgress
from volant.host import open_hands
from volant.plane import ControlPlane
from volant.store.sqlite import open_store

START_TIMEOUT_S = 20.0
MIB = 1024 * 1024
ACME = minisign.KeyPair.generate()


def digest_of(content: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")


def make_plugin(directory: Path, content: bytes, *, signer: minisign.KeyPair | None = None, **changes: Any) -> bytes:
    """What fledge build leaves; returns the manifest's bytes."""
    contents = {"vmlinux": b"kernel" * 1000, "boot.cpio": b"initramfs" * 500, "rootfs.erofs": content, "build.json": b"{}"}
    manifest = {
        "schema_version": "v1", "name": "web", "version": "1.0",
        "workload": {"type": "exec", "entrypoint": ["/bin/true"]},
        "boot": {
            "kernel": {"url": "vmlinux", "checksum": digest_of(contents["vmlinux"])},
            "initramfs": {"url": "boot.cpio", "checksum": digest_of(contents["boot.cpio"])},
        },
        "rootfs": {"url": "rootfs.erofs", "checksum": digest_of(content)}, **changes,
    }  # fmt: skip
    written = json.dumps(manifest, indent=1).encode()
    directory.mkdir(exist_ok=True)
    for name, each in {**contents, "manifest.json": written}.items():
        (directory / name).write_bytes(each)
    if signer is not None:
        (directory / "manifest.json.minisig").write_bytes(bytes(signer.secret_key.sign(written)))
    return written


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "trust").mkdir()
    return Config(
        data_dir=str(tmp_path / "data"), runtime_dir=str(tmp_path / "run"), hypervisor="simulated", node="here",
        trust_keys=str(tmp_path / "trust"), plugin_download_allow="loopback",
    )  # fmt: skip


class Volantd:
    """A control plane and its API, asked by a client in another thread."""

    def __init__(self, plane: ControlPlane, address: str, data: Path) -> None:
        self.plane = plane
        self.client = Client(address)
        self._data = data

    async def install(self, source: str, checksum: str = "", on_progress: Callable[[FetchProgress], None] = print) -> Any:
        return await asyncio.to_thread(self.client.plugins.install_from, source, checksum, on_progress=on_progress)

    def stored(self) -> set[str]:
        return {f"sha256:{path.name}" for path in (self._data / "artifacts/sha256").glob("??/*")}

    def arriving(self) -> list[Path]:
        return list((self._data / "artifacts/arriving").iterdir())

    def transfers(self) -> int:
        """How many files are being fetched."""
        fetcher = self.plane.intents.plugins._fetcher
        assert isinstance(fetcher, PluginFetch)
        return TRANSFERS - fetcher._slots._value

    def partials(self) -> dict[str, int]:
        """What broke off: its digest, and how many bytes came."""
        found = (self._data / "artifacts/partial").glob("*.partial")
        return {f"sha256:{path.stem}": path.stat().st_size for path in found}

    async def assert_nothing(self) -> None:
        assert await asyncio.to_thread(self.client.plugins.list) == []
        assert self.arriving() == []


@pytest.fixture
async def volantd(config: Config) -> AsyncIterator[Volantd]:
    async with open_volantd(config) as opened:
        yield opened


@contextlib.asynccontextmanager
async def open_volantd(config: Config) -> AsyncIterator[Volantd]:
    clock, data = HostClock(), Path(config.data_dir)
    for directory in (data, Path(config.runtime_dir)):
        directory.mkdir(exist_ok=True)
    listening = asyncio.Event()
    async with open_store(data / "volant.db", clock) as store, open_hands(config, clock, fresh=True) as hands:
        plane = ControlPlane(config, store, clock, hands)
        await plane.register()
        app = build_app(plane.intents, plane.node, "test")
        with bind_socket(config.socket_path) as socket_:
            async with plane.running() as group:
                api = group.create_task(serve(app, [socket_], on_listening=listening.set, grace_s=1))
                await listening.wait()
                try:
                    yield Volantd(plane, f"unix://{config.socket_path}", data)
                finally:
                    api.cancel()


# From a registry


async def push(server: RegistryServer, directory: Path, name: str = "plugins/web:1.0") -> Digest:
    async with RegistryClient(credentials=CredentialStore({"HOME": "/nonexistent"})) as client:
        return await push_bundle(directory, parse_plugin_reference(f"oci://{server.host}/{name}"), client)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryServer]:
    if not HAS_REGISTRY:
        pytest.skip("needs Debian's docker-registry")
    with serve_registry(tmp_path / "registry") as server:
        yield server


async def test_a_plugin_of_a_registry_is_installed_and_says_where_it_is_from(
    registry: RegistryServer, volantd: Volantd, tmp_path: Path
) -> None:
    make_plugin(tmp_path / "built", os.urandom(3 * MIB + 17))
    digest = await push(registry, tmp_path / "built")
    told: list[FetchProgress] = []

    plugin, created = await volantd.install(f"oci://{registry.host}/plugins/web:1.0", on_progress=told.append)
    assert (created, plugin.status.phase) == (True, "Ready")
    assert plugin.meta.labels[SOURCE_LABEL] == f"oci://{registry.host}/plugins/web:1.0@{digest}"
    assert volantd.stored() == {artifact.digest for artifact in plugin.status.artifacts} and volantd.arriving() == []
    assert {progress.file for progress in told} == {"boot.kernel", "boot.initramfs", "rootfs"}
    assert max(progress.done_bytes for progress in told) == 3 * MIB + 17

    told.clear()
    again, created = await volantd.install(f"oci://{registry.host}/plugins/web@{digest}", on_progress=told.append)
    assert (again.uid, created, told) == (plugin.uid, False, [])


async def test_what_is_stored_is_not_fetched(registry: RegistryServer, volantd: Volantd, tmp_path: Path) -> None:
    make_plugin(tmp_path / "one", b"one" * 1000)
    make_plugin(tmp_path / "two", b"two" * 1000, name="two")
    await push(registry, tmp_path / "one")
    await push(registry, tmp_path / "two", "plugins/two:1.0")
    await volantd.install(f"oci://{registry.host}/plugins/web:1.0")
    told: list[FetchProgress] = []
    await volantd.install(f"oci://{registry.host}/plugins/two:1.0", on_progress=told.append)
    assert {progress.file for progress in told} == {"rootfs"}


async def test_a_plain_request_is_answered_when_it_is_installed(
    registry: RegistryServer, volantd: Volantd, tmp_path: Path
) -> None:
    make_plugin(tmp_path / "built", b"rootfs")
    await push(registry, tmp_path / "built")
    ask = volantd.client.connection.request
    document = {"source": f"oci://{registry.host}/plugins/web:1.0"}
    answer = await asyncio.to_thread(ask, "POST", "/api/v1/plugins", document=document)
    assert (answer.status, answer.json()["name"], answer.headers["Location"]) == (201, "web", "/api/v1/plugins/web")
    assert (await asyncio.to_thread(ask, "POST", "/api/v1/plugins", document=document)).status == 200


@pytest.mark.parametrize("name", ["plugins/absent:1.0", "plugins/web:2.0"])
async def test_what_is_not_there_is_said_so(registry: RegistryServer, volantd: Volantd, tmp_path: Path, name: str) -> None:
    make_plugin(tmp_path / "built", b"rootfs")
    await push(registry, tmp_path / "built")
    with pytest.raises(NotFound, match=registry.host):
        await volantd.install(f"oci://{registry.host}/{name}")
    await volantd.assert_nothing()


async def test_a_damaged_and_a_missing_blob_install_nothing(registry: RegistryServer, volantd: Volantd, tmp_path: Path) -> None:
    rootfs = os.urandom(2 * MIB)
    make_plugin(tmp_path / "built", rootfs)
    await push(registry, tmp_path / "built")
    blob = registry.blob(digest_of(rootfs))
    blob.write_bytes(b"x" * len(rootfs))
    with pytest.raises(ChecksumMismatch):
        await volantd.install(f"oci://{registry.host}/plugins/web:1.0")
    await volantd.assert_nothing()
    blob.unlink()
    with pytest.raises(NotFound):
        await volantd.install(f"oci://{registry.host}/plugins/web:1.0")
    await volantd.assert_nothing()
    assert digest_of(rootfs) not in volantd.stored()


async def test_another_plugin_of_that_name_is_refused_before_its_files_are_fetched(
    registry: RegistryServer, volantd: Volantd, tmp_path: Path
) -> None:
    make_plugin(tmp_path / "built", b"rootfs")
    await push(registry, tmp_path / "built")
    await volantd.install(f"oci://{registry.host}/plugins/web:1.0")
    make_plugin(tmp_path / "built", b"another")
    await push(registry, tmp_path / "built", "plugins/web:2.0")
    with pytest.raises(AlreadyExists, match=r"version 1\.0"):
        await volantd.install(f"oci://{registry.host}/plugins/web:2.0")
    assert digest_of(b"another") not in volantd.stored()


async def test_only_what_a_trusted_publisher_signed_is_fetched(registry: RegistryServer, config: Config, tmp_path: Path) -> None:
    (Path(config.trust_keys) / "acme.pub").write_bytes(bytes(ACME.public_key))
    make_plugin(tmp_path / "plain", b"plain")
    make_plugin(tmp_path / "other", b"other", signer=minisign.KeyPair.generate())
    content = make_plugin(tmp_path / "signed", b"signed", signer=ACME)
    for name in ("plain", "other", "signed"):
        await push(registry, tmp_path / name, f"plugins/{name}")
    async with open_volantd(msgspec.structs.replace(config, trust_policy="enforce")) as volantd:
        for name, said in (("plain", "it is not signed"), ("other", "is none of the 1 keys")):
            with pytest.raises(Untrusted, match=said):
                await volantd.install(f"oci://{registry.host}/plugins/{name}")
        assert volantd.stored() == set()
        await volantd.assert_nothing()
        plugin, _ = await volantd.install(f"oci://{registry.host}/plugins/signed")
        assert plugin.spec.signed is not None and plugin.spec.signed.manifest.encode() == content
        assert plugin.status.trust is not None and plugin.status.trust.publisher == "acme"


class Dying:
    """Stands before a registry and hangs up for good after so many bytes of answers; ``gate`` holds them back before that."""

    def __init__(self, behind: str, after_bytes: int) -> None:
        host, _, port = behind.rpartition(":")
        self._behind = (host, int(port))
        self._left = after_bytes
        self.reached = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __aenter__(self) -> Dying:
        self._passing: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.host = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        with contextlib.closing(writer):
            if self._left <= 0 and self.gate.is_set():
                return
            theirs, ours = await asyncio.open_connection(*self._behind)
            with contextlib.closing(ours), contextlib.suppress(asyncio.CancelledError, ConnectionError):
                ways = {asyncio.ensure_future(self._copy_back(theirs, writer)), asyncio.ensure_future(_copy(reader, ours))}
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)

    async def _copy_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while content := await reader.read(65536):
            self._left -= len(content)
            if self._left <= 0:
                self.reached.set()
                if self.gate.is_set():
                    return
                await self.gate.wait()
            writer.write(content)
            await writer.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while content := await reader.read(65536):
        writer.write(content)
        await writer.drain()


async def test_a_registry_that_dies_in_the_middle_installs_nothing(
    registry: RegistryServer, config: Config, tmp_path: Path
) -> None:
    rootfs = os.urandom(8 * MIB)
    make_plugin(tmp_path / "built", rootfs)
    await push(registry, tmp_path / "built")
    async with Dying(registry.host, 3 * MIB) as dying, open_volantd(config) as volantd:
        fetcher = volantd.plane.intents.plugins._fetcher
        assert isinstance(fetcher, PluginFetch)
        fetcher._load_settings = lambda: RegistrySettings(attempts=2)
        with pytest.raises(Unavailable, match=dying.host):
            await volantd.install(f"oci://{dying.host}/plugins/web:1.0")
        await volantd.assert_nothing()
        assert digest_of(rootfs) not in volantd.stored()
        plugin, _ = await volantd.install(f"oci://{registry.host}/plugins/web:1.0")
        assert plugin.status.phase == "Ready"


@pytest.mark.parametrize("accept", ["application/x-ndjson", "application/json"])
async def test_a_client_that_goes_away_ends_the_fetching(
    registry: RegistryServer, volantd: Volantd, tmp_path: Path, accept: str
) -> None:
    make_plugin(tmp_path / "built", os.urandom(8 * MIB))
    await push(registry, tmp_path / "built")
    async with Dying(registry.host, 3 * MIB) as stalling, asyncio.timeout(20):
        stalling.gate.clear()
        _, writer = await asyncio.open_unix_connection(str(volantd.client.connection.address.path))
        body = json.dumps({"source": f"oci://{stalling.host}/plugins/web:1.0"}).encode()
        head = f"POST /api/v1/plugins HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nContent-Type: application/json\r\n"
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await stalling.reached.wait()
        await until(lambda: volantd.transfers() > 0)
        writer.close()
        await until(lambda: volantd.transfers() == 0)
    await volantd.assert_nothing()


async def until(satisfied: Callable[[], bool]) -> None:
    for _ in itertools.count():
        if satisfied():
            return
        await asyncio.sleep(0.01)


# From the web


class Site:
    """A TLS server on loopback with a certificate of its own authority. ``redirects`` and ``failures`` are by path."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "site"
        self.root.mkdir()
        self.redirects: dict[str, str] = {}
        self.cuts: dict[str, int] = {}
        self.asked: list[tuple[str, str]] = []
        self.lengths: dict[str, int] = {}
        """What is said of a path's length where that is not the truth."""
        self.authority = directory / "ca.pem"
        certificate = _make_certificate(directory)
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                site.answer(self)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        # Greeted by the thread that serves them: a client that was cancelled in the middle of it must hold up nobody else.
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._server.daemon_threads = True
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        wanted = request.headers.get("Range", "")
        self.asked.append((path, wanted))
        if path in self.redirects:
            request.send_response(302)
            request.send_header("Location", self.redirects[path])
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        file = self.root / path.lstrip("/")
        if not file.is_file():
            request.send_error(404)
            return
        content = file.read_bytes()
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        request.send_response(206 if wanted else 200)
        if wanted:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(self.lengths.get(path, len(content)) - start))
        request.end_headers()
        cut = self.cuts.pop(path, None)
        request.wfile.write(content[start:][:cut])
        if cut is not None:
            request.close_connection = True

    def __enter__(self) -> Site:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _make_certificate(directory: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "volant test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "ca.pem").write_bytes(public)
    (directory / "server.pem").write_bytes(public + private)
    return directory / "server.pem"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with Site(tmp_path) as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(running.authority))
        yield running


async def test_a_plugin_of_the_web_is_installed_with_its_signature(site: Site, volantd: Volantd) -> None:
    content = make_plugin(site.root / "web", os.urandom(MIB + 3), signer=ACME)
    plugin, created = await volantd.install(f"{site.url}/web/manifest.json?token=secret", digest_of(content))
    assert (created, plugin.status.phase) == (True, "Ready")
    assert plugin.meta.labels[SOURCE_LABEL] == f"{site.url}/web/manifest.json#{digest_of(content)}"
    assert plugin.spec.signed is not None and plugin.spec.signed.manifest.encode() == content
    assert volantd.stored() == {artifact.digest for artifact in plugin.status.artifacts}


async def test_what_broke_off_is_taken_up_where_it_ended(site: Site, volantd: Volantd) -> None:
    rootfs = os.urandom(2 * MIB)
    content = make_plugin(site.root / "web", rootfs)
    site.cuts["/web/rootfs.erofs"] = MIB
    plugin, _ = await volantd.install(f"{site.url}/web/manifest.json", digest_of(content))
    assert plugin.status.phase == "Ready"
    assert [wanted for path, wanted in site.asked if path.endswith("rootfs.erofs")] == ["", f"bytes={MIB}-"]


async def test_the_manifest_must_be_the_one_that_was_asked_for(site: Site, volantd: Volantd) -> None:
    make_plugin(site.root / "web", b"rootfs")
    with pytest.raises(ChecksumMismatch, match="the manifest"):
        await volantd.install(f"{site.url}/web/manifest.json", digest_of(b"another"))
    with pytest.raises(InvalidInput, match="needs its checksum"):
        await volantd.install(f"{site.url}/web/manifest.json")
    await volantd.assert_nothing()
    assert volantd.stored() == set()


async def test_a_file_that_is_not_what_the_manifest_says_is_not_kept(site: Site, volantd: Volantd) -> None:
    content = make_plugin(site.root / "web", b"rootfs")
    (site.root / "web/rootfs.erofs").write_bytes(b"ROOTFS")
    with pytest.raises(ChecksumMismatch):
        await volantd.install(f"{site.url}/web/manifest.json", digest_of(content))
    (site.root / "web/rootfs.erofs").unlink()
    with pytest.raises(NotFound, match=r"rootfs\.erofs"):
        await volantd.install(f"{site.url}/web/manifest.json", digest_of(content))
    await volantd.assert_nothing()
    assert digest_of(b"ROOTFS") not in volantd.stored()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1/rootfs", "only https is"),
        ("file:///etc/shadow", "only https is"),
        ("https://name:password@127.0.0.1/rootfs", "holds a password"),
        ("artifact:x", "is not stored here"),
    ],
)
async def test_files_are_fetched_over_https_or_not_at_all(site: Site, volantd: Volantd, url: str, said: str) -> None:
    content = make_plugin(site.root / "web", b"rootfs", rootfs={"url": url, "checksum": digest_of(b"rootfs")})
    with pytest.raises(InvalidInput, match=said):
        await volantd.install(f"{site.url}/web/manifest.json", digest_of(content))
    await volantd.assert_nothing()


async def test_each_file_needs_its_checksum(site: Site, volantd: Volantd) -> None:
    content = make_plugin(site.root / "web", b"rootfs", rootfs={"url": "rootfs.erofs"})
    with pytest.raises(InvalidInput, match="rootfs has no checksum"):
        await volantd.install(f"{site.url}/web/manifest.json", digest_of(content))


@pytest.mark.parametrize(
    ("to", "error"),
    [
        ("http://127.0.0.1/rootfs", Forbidden),
        ("file:///etc/shadow", Forbidden),
        ("https://169.254.169.254/latest/meta-data", Forbidden),
        ("https://0.0.0.0/rootfs", Forbidden),
        ("/web/rootfs.erofs", HostError),
    ],
)
async def test_a_redirect_leads_nowhere_that_it_may_not(site: Site, volantd: Volantd, to: str, error: type[VolantError]) -> None:
    content = make_plugin(site.root / "web", b"rootfs")
    site.redirects["/web/rootfs.erofs"] = to
    with pytest.raises(error):
        await volantd.install(f"{site.url}/web/manifest.json", digest_of(content))
    await volantd.assert_nothing()


async def test_a_redirect_on_the_same_host_is_followed(site: Site, volantd: Volantd) -> None:
    content = make_plugin(site.root / "web", b"rootfs")
    (site.root / "web/rootfs.erofs").rename(site.root / "moved")
    site.redirects["/web/rootfs.erofs"] = "/moved"
    plugin, _ = await volantd.install(f"{site.url}/web/manifest.json", digest_of(content))
    assert plugin.status.phase == "Ready"


async def test_a_server_that_nobody_vouches_for_is_not_spoken_to(
    site: Site, volantd: Volantd, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make_plugin(site.root / "web", b"rootfs")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(HostError, match="is not trusted"):
        await volantd.install(f"{site.url}/web/manifest.json", digest_of(content))
    assert site.asked == []


@pytest.mark.parametrize("source", ["http://127.0.0.1/manifest.json", "file:///etc/passwd", "docker://nginx", "x", "oci://web"])
async def test_a_source_that_cannot_be_right_is_refused(volantd: Volantd, source: str) -> None:
    with pytest.raises(InvalidInput):
        await volantd.install(source, digest_of(b""))
    await volantd.assert_nothing()


class TestWhatIsAllowed:
    @pytest.fixture
    def config(self, config: Config) -> Config:
        return msgspec.structs.replace(config, plugin_download_allow="")

    async def test_nothing_on_this_machine_is_spoken_to_unless_a_setting_allows(self, site: Site, volantd: Volantd) -> None:
        manifest = make_plugin(site.root, b"rootfs")
        with pytest.raises(Forbidden, match=r"127\.0\.0\.1 is a loopback address"):
            await volantd.install(f"{site.url}/manifest.json", digest_of(manifest))
        port = site.url.rpartition(":")[2]
        with pytest.raises(Forbidden, match="loopback address"):
            await volantd.install(f"https://localhost:{port}/manifest.json", digest_of(manifest))
        with pytest.raises(Forbidden, match="loopback address"):
            await volantd.install(f"oci://127.0.0.1:{port}/plugins/web:1.0")
        assert site.asked == []
        await volantd.assert_nothing()


async def test_a_registry_that_the_file_of_registries_names_is_allowed(
    registry: RegistryServer, config: Config, tmp_path: Path
) -> None:
    make_plugin(tmp_path / "built", b"rootfs")
    await push(registry, tmp_path / "built")
    (tmp_path / "registries.toml").write_text(f'insecure = ["{registry.host}"]\n')
    named = msgspec.structs.replace(config, plugin_download_allow="", registries=str(tmp_path / "registries.toml"))
    async with open_volantd(named) as volantd:
        plugin, _ = await volantd.install(f"oci://{registry.host}/plugins/web:1.0")
        assert plugin.status.phase == "Ready"


@pytest.mark.parametrize("source", ["https://169.254.169.254/manifest.json", "https://[fe80::1]/manifest.json"])
async def test_link_local_addresses_are_never_spoken_to(volantd: Volantd, source: str) -> None:
    with pytest.raises(Forbidden, match="link-local or reserved address"):
        await volantd.install(source, digest_of(b""))


async def test_what_broke_off_is_taken_up_by_the_next_volantd(site: Site, config: Config) -> None:
    rootfs = os.urandom(6 * MIB)
    manifest = make_plugin(site.root, rootfs)
    source, digest = f"{site.url}/manifest.json", digest_of(manifest)
    async with open_volantd(config) as volantd:
        fetcher = volantd.plane.intents.plugins._fetcher
        assert isinstance(fetcher, PluginFetch)
        fetcher._load_settings = lambda: RegistrySettings(attempts=1)
        site.cuts["/rootfs.erofs"] = 4 * MIB
        with pytest.raises(Unavailable):
            await volantd.install(source, digest)
        kept = volantd.partials()[digest_of(rootfs)]
        assert 2 * MIB <= kept <= 4 * MIB
        await volantd.assert_nothing()
    site.asked.clear()
    async with open_volantd(config) as volantd:
        plugin, created = await volantd.install(source, digest)
        assert (plugin.status.phase, created) == ("Ready", True)
        assert ("/rootfs.erofs", f"bytes={kept}-") in site.asked
        assert volantd.partials() == {}


async def test_a_rest_that_does_not_fit_is_fetched_anew(site: Site, config: Config) -> None:
    rootfs = os.urandom(2 * MIB)
    manifest = make_plugin(site.root, rootfs)
    partial = Path(config.data_dir) / "artifacts/partial" / f"{digest_of(rootfs).removeprefix('sha256:')}.partial"
    async with open_volantd(config) as volantd:
        partial.parent.mkdir(exist_ok=True)
        partial.write_bytes(b"something else" * 1000)
        plugin, _ = await volantd.install(f"{site.url}/manifest.json", digest_of(manifest))
        assert plugin.status.phase == "Ready"
        assert [wanted for path, wanted in site.asked if path == "/rootfs.erofs"] == ["bytes=14000-", ""]


@pytest.mark.parametrize("said", [1, 1 << 40])
async def test_a_length_that_is_a_lie_installs_nothing(site: Site, config: Config, said: int) -> None:
    manifest = make_plugin(site.root, b"rootfs" * 1000)
    site.lengths["/rootfs.erofs"] = said
    async with open_volantd(config) as volantd:
        fetcher = volantd.plane.intents.plugins._fetcher
        assert isinstance(fetcher, PluginFetch)
        fetcher._load_settings = lambda: RegistrySettings(attempts=1)
        site.cuts["/rootfs.erofs"] = 6000
        with pytest.raises((VolantError,)):
            await volantd.install(f"{site.url}/manifest.json", digest_of(manifest))
        await volantd.assert_nothing()
        assert digest_of(b"rootfs" * 1000) not in volantd.stored()


async def test_an_index_leads_to_what_it_vouches_for_and_nothing_else(site: Site, volantd: Volantd) -> None:
    manifest = make_plugin(site.root, b"rootfs")
    one = {"version": "1.0", "digest": digest_of(manifest), "source": "manifest.json"}
    index = json.dumps({"schema_version": "v1", "plugins": [{"name": "web", "versions": [one]}]}).encode()
    (site.root / "index.json").write_bytes(index)
    indexes = volantd.client.plugin_indexes
    key = bytes(ACME.public_key).decode().splitlines()[-1]
    with pytest.raises(NotFound):  # it is not signed
        await asyncio.to_thread(indexes.add, "acme", f"{site.url}/index.json", key=key)
    (site.root / "index.json.minisig").write_bytes(bytes(ACME.secret_key.sign(index + b" ")))
    with pytest.raises(Untrusted, match="not signed by its key"):
        await asyncio.to_thread(indexes.add, "acme", f"{site.url}/index.json", key=key)
    assert await asyncio.to_thread(indexes.list) == []
    (site.root / "index.json.minisig").write_bytes(bytes(ACME.secret_key.sign(index)))
    assert (await asyncio.to_thread(indexes.add, "acme", f"{site.url}/index.json", key=key))["plugins"] == 1
    found = await asyncio.to_thread(indexes.resolve, "web")
    assert found is not None and found["source"] == f"{site.url}/manifest.json"
    plugin, _ = await volantd.install(found["source"], found["digest"])
    assert plugin.status.phase == "Ready"
    make_plugin(site.root, b"another")
    with pytest.raises(ChecksumMismatch):
        await volantd.install(found["source"], found["digest"])
    (site.root / "index.json").write_bytes(index.replace(b"1.0", b"2.0"))
    with pytest.raises(Untrusted):
        await asyncio.to_thread(indexes.update, "acme")
    for source in ("file:///etc/passwd", "http://127.0.0.1/index.json", "/etc/passwd"):
        with pytest.raises(InvalidInput):
            await asyncio.to_thread(indexes.add, "other", source)
