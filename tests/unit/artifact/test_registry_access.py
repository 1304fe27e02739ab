"""Who is asked with which credentials, and where redirects may lead."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.artifact.registry.challenge import Challenge, read_challenges
from volant.artifact.registry.client import RegistryClient
from volant.artifact.registry.credentials import Credential, CredentialStore, list_files
from volant.artifact.registry.destination import Reach, classify_address, find_proxy
from volant.artifact.registry.documents import Descriptor
from volant.artifact.registry.reference import ImageReference, parse_image_reference
from volant.artifact.registry.settings import RegistrySettings
from volant.core.errors import Forbidden, HostError, InvalidInput, Unavailable, VolantError

from .registry_fake import HOST, FakeRegistry, InstantClock, answer_once, digest_of, lookup, open_client, refuse, write_auth

CONTENT = b"content of a layer"
BLOB = Descriptor(digest=digest_of(CONTENT), size=len(CONTENT))
REFERENCE = parse_image_reference(f"{HOST}/images/web:1")
REALM = "https://auth.example.org/token"


async def read(client: RegistryClient, reference: ImageReference = REFERENCE) -> bytes:
    return b"".join([piece async for piece in client.open_blob(reference, BLOB)])


class Guarded(FakeRegistry):
    """Wants a Bearer token of its realm, which gives one a name and password (or a refresh token); or wants Basic."""

    def __init__(self, scheme: str = "bearer", life_s: int = 300, realm: str = REALM) -> None:
        super().__init__()
        self.scheme, self.life_s, self.realm = scheme, life_s, realm
        self.valid: set[str] = set()
        self.token_requests: list[httpx2.Request] = []
        self.add_blob(CONTENT)

    async def handle(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/token":
            self.token_requests.append(request)
            token = f"t{len(self.token_requests)}"
            self.valid.add(f"Bearer {token}")
            return httpx2.Response(200, json={"token": token, "expires_in": self.life_s})
        authorization = request.headers.get("authorization", "")
        if authorization not in self.valid:
            self.requests.append(request)
            bearer = f'Bearer realm="{self.realm}",service="registry",scope="repository:images/web:pull"'
            return refuse(401, **{"WWW-Authenticate": bearer if self.scheme == "bearer" else 'Basic realm="here"'})
        return await super().handle(request)


async def lookup_guarded(host: str, port: int) -> tuple[str, ...]:
    return ("93.184.216.40",) if host == "auth.example.org" else await lookup(host, port)


async def test_an_anonymous_token_is_fetched_once_and_used_for_all() -> None:
    registry = Guarded()
    async with open_client(registry, lookup=lookup_guarded) as client:
        assert await read(client) == CONTENT == await read(client)
    (asked,) = registry.token_requests
    assert asked.url.params.get_list("scope") == ["repository:images/web:pull"]
    assert asked.url.params["service"] == "registry" and "authorization" not in asked.headers
    assert asked.url.host == "93.184.216.40" and asked.headers["host"] == "auth.example.org"


async def test_who_has_no_credentials_is_not_told_that_they_are_wrong() -> None:
    registry = Guarded()

    async def handle(request: httpx2.Request) -> httpx2.Response:
        response = await registry.handle(request)
        registry.valid.clear()  # a token without the scope: Docker Hub's answer for names that do not exist
        return response

    async with open_client(handle, lookup=lookup_guarded) as client:
        with pytest.raises(Forbidden, match="wants a login") as refused:
            await read(client)
    assert refused.value.hint is not None and "does not exist" in refused.value.hint


async def test_credentials_go_to_the_realm_and_tokens_end(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    file.write_text(write_auth(**{HOST: "me:secret"}))
    registry, clock = Guarded(life_s=60), InstantClock()
    async with open_client(registry, lookup=lookup_guarded, clock=clock, auth_file=str(file)) as client:
        await read(client)
        await clock.sleep(49)
        await read(client)
        assert len(registry.token_requests) == 1
        await clock.sleep(2)
        await read(client)
        assert len(registry.token_requests) == 2
        registry.valid.clear()  # the registry forgets them early
        await read(client)
    assert len(registry.token_requests) == 3
    expected = "Basic " + base64.b64encode(b"me:secret").decode()
    assert {request.headers["authorization"] for request in registry.token_requests} == {expected}


async def test_an_identity_token_is_exchanged(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"auths": {HOST: {"identitytoken": "long lived"}}}))
    registry = Guarded()
    async with open_client(registry, lookup=lookup_guarded, auth_file=str(file)) as client:
        assert await read(client) == CONTENT
    (asked,) = registry.token_requests
    assert asked.method == "POST"
    form = dict(httpx2.QueryParams(asked.content.decode()))
    assert form["grant_type"] == "refresh_token" and form["refresh_token"] == "long lived"


async def test_basic_goes_to_the_registry_itself_and_wrong_ones_are_told(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    file.write_text(write_auth(**{HOST: "me:secret"}))
    registry = Guarded("basic")
    async with open_client(registry, auth_file=str(file)) as client:
        with pytest.raises(Forbidden, match="refuses the credentials"):
            await read(client)
        registry.valid.add("Basic " + base64.b64encode(b"me:secret").decode())
        assert await read(client) == CONTENT
    async with open_client(registry) as client:
        with pytest.raises(Forbidden, match="wants a login"):
            await read(client)


@pytest.mark.parametrize(
    ("realm", "error"),
    [
        ("http://auth.example.org/token", "not https"),
        ("https://169.254.169.254/token", "link-local"),
        ("https://127.0.0.1/token", "loopback"),
        ("file:///etc/passwd", "not https"),
        ("https://inside.example.org/token", "private"),
    ],
)
async def test_a_realm_leads_no_more_astray_than_a_redirect(realm: str, error: str) -> None:
    async def find(host: str, port: int) -> tuple[str, ...]:
        return ("10.1.2.3",) if host == "inside.example.org" else await lookup_guarded(host, port)

    registry = Guarded(realm=realm)
    async with open_client(registry, lookup=find) as client:
        with pytest.raises(Forbidden, match=error):
            await read(client)
    assert registry.token_requests == []


async def test_a_token_server_that_babbles_is_not_believed() -> None:
    for answer in ({"token": "a\r\nX: y"}, {"token": ""}, {"token": "é"}, []):
        registry = Guarded()

        async def handle(request: httpx2.Request, registry: Guarded = registry, answer: object = answer) -> httpx2.Response:
            return httpx2.Response(200, json=answer) if request.url.path == "/token" else await registry.handle(request)

        async with open_client(handle, lookup=lookup_guarded) as client:
            with pytest.raises(HostError, match="token"):
                await read(client)


def redirect(to: str, status: int = 307) -> Callable[[], httpx2.Response]:
    return lambda: httpx2.Response(status, headers={"Location": to})


async def test_a_blob_may_come_from_another_host_which_gets_no_credentials(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    file.write_text(write_auth(**{HOST: "me:secret"}))
    registry = Guarded("basic")
    registry.valid.add("Basic " + base64.b64encode(b"me:secret").decode())
    seen: list[httpx2.Request] = []

    async def handle(request: httpx2.Request) -> httpx2.Response:
        if request.headers["host"] == "cdn.example.org":
            seen.append(request)
            return httpx2.Response(200, content=CONTENT)
        return await registry.handle(request)

    registry.hooks.append(answer_once(BLOB.digest, redirect("https://cdn.example.org/x?signature=s3cret")))
    async with open_client(handle, auth_file=str(file)) as client:
        assert await read(client) == CONTENT
    (asked,) = seen
    assert "authorization" not in asked.headers
    assert asked.url.host == "93.184.216.36" and asked.extensions["sni_hostname"] == "cdn.example.org"


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("http://cdn.example.org/x", "from https to http"),
        (f"http://{HOST}/x", "from https to http"),
        ("https://169.254.169.254/latest/meta-data", "link-local"),
        ("https://[fe80::1]/", "link-local"),
        ("https://[::ffff:169.254.169.254]/", "link-local"),
        ("https://[64:ff9b::a9fe:a9fe]/", "link-local"),
        ("https://127.0.0.1:6443/", "loopback"),
        ("https://0.0.0.0/", "reserved"),
        ("https://10.0.0.1/", "private"),
        ("https://inside.example.org/", "private"),
        ("https://both.example.org/", "loopback"),
        ("https://localhost/", "loopback"),
        ("file:///etc/shadow", "no plain web address"),
        ("ftp://cdn.example.org/", "no plain web address"),
        ("https://user:pass@cdn.example.org/", "no plain web address"),
    ],
)
async def test_redirects_that_lead_into_the_hosts_own_networks_are_refused(location: str, error: str) -> None:
    inside = {
        "inside.example.org": ("10.1.2.3",),
        "both.example.org": ("93.184.216.34", "127.0.0.1"),
        "localhost": ("127.0.0.1",),
    }

    async def find(host: str, port: int) -> tuple[str, ...]:
        return inside[host] if host in inside else await lookup(host, port)

    registry = FakeRegistry()
    registry.add_blob(CONTENT)
    registry.hooks.append(answer_once(BLOB.digest, redirect(location)))
    async with open_client(registry, lookup=find) as client:
        with pytest.raises(Forbidden, match=error):
            await read(client)
    assert len(registry.requests) == 1


async def test_a_registry_of_a_private_network_may_use_it_but_not_this_machine() -> None:
    async def find(host: str, port: int) -> tuple[str, ...]:
        return {HOST: ("10.0.0.5",), "store.example.org": ("10.0.0.6",)}[host]

    for location, is_allowed in (("https://store.example.org/x", True), ("https://127.0.0.1/x", False)):
        registry = FakeRegistry()
        registry.add_blob(CONTENT)
        registry.hooks.append(answer_once(BLOB.digest, redirect(location)))
        registry.hooks.append(answer_once("/x", lambda: httpx2.Response(200, content=CONTENT)))
        async with open_client(registry, lookup=find) as client:
            if is_allowed:
                assert await read(client) == CONTENT
            else:
                with pytest.raises(Forbidden):
                    await read(client)


async def test_redirects_end() -> None:
    registry = FakeRegistry()
    registry.add_blob(CONTENT)

    async def handle(request: httpx2.Request) -> httpx2.Response:
        registry.requests.append(request)
        return httpx2.Response(302, headers={"Location": str(request.url)})

    async with open_client(handle) as client:
        with pytest.raises(HostError, match="more than 3 times"):
            await read(client)
    assert len(registry.requests) == 4


async def test_uploads_are_never_redirected() -> None:
    registry = FakeRegistry()
    registry.hooks.append(answer_once("/blobs/uploads/", redirect("https://cdn.example.org/x"), "POST"))
    async with open_client(registry) as client:
        with pytest.raises(HostError, match="redirects a POST"):
            await client.push_blob(REFERENCE, BLOB, CONTENT)


async def test_plain_http_is_spoken_only_to_loopback_and_hosts_that_were_named() -> None:
    registry = FakeRegistry()
    registry.add_blob(CONTENT)

    async def handle(request: httpx2.Request) -> httpx2.Response:
        if request.url.scheme == "https":
            raise httpx2.RemoteProtocolError("that is no TLS")
        return await registry.handle(request)

    for host, insecure, is_allowed in ((HOST, (), False), (HOST, (HOST,), True), ("127.0.0.1:5000", (), True)):
        settings = RegistrySettings(insecure=frozenset(insecure))
        async with open_client(handle, settings=settings) as client:
            reference = parse_image_reference(f"{host}/images/web")
            if is_allowed:
                assert await read(client, reference) == CONTENT
            else:
                with pytest.raises(Unavailable):
                    await read(client, reference)


def test_addresses_are_classified() -> None:
    expected = {
        "93.184.216.34": Reach.PUBLIC, "2606:2800:220:1::1": Reach.PUBLIC, "10.0.0.1": Reach.PRIVATE, "fd00::1": Reach.PRIVATE,
        "100.64.0.1": Reach.PRIVATE, "127.0.0.2": Reach.LOOPBACK, "::1": Reach.LOOPBACK, "::ffff:127.0.0.1": Reach.LOOPBACK,
        "169.254.169.254": Reach.NEVER, "fe80::1%eth0": Reach.NEVER, "224.0.0.1": Reach.NEVER, "0.0.0.0": Reach.NEVER,
        "::": Reach.NEVER, "255.255.255.255": Reach.NEVER, "2002:7f00:1::": Reach.LOOPBACK,
    }  # fmt: skip
    assert {address: classify_address(address) for address in expected} == expected


def test_proxies_are_the_environments_but_never_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example.org:3128")
    monkeypatch.setenv("no_proxy", "inside.example.org")
    assert find_proxy("https", HOST) == "http://proxy.example.org:3128"
    assert find_proxy("http", HOST) is None
    assert [find_proxy("https", host) for host in ("localhost", "127.0.0.1", "inside.example.org")] == [None, None, None]


def test_challenges_are_read_as_they_come() -> None:
    bearer = Challenge("bearer", "https://a/token", "reg,istry", "repository:x:pull,push")
    assert read_challenges(
        ['Basic realm="x", Bearer realm="https://a/token",service="reg,istry" , scope="repository:x:pull,push"']
    ) == (bearer, Challenge("basic", "x"))
    assert read_challenges(["Negotiate", 'BEARER realm="q\\"q"']) == (Challenge("bearer", 'q"q'),)
    assert read_challenges(["Bearer", "", "=", ",,,"]) == ()


@given(st.lists(st.text(max_size=60), max_size=3))
def test_any_challenge_is_read_or_passed_over(headers: list[str]) -> None:
    assert isinstance(read_challenges(headers), tuple)


async def find(files: dict[str, str], home: Path, reference: str, **environment: str) -> Credential | None:
    for name, content in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(content)
    return await CredentialStore({"HOME": str(home), **environment}).find(parse_image_reference(reference))


async def test_the_closest_entry_wins(tmp_path: Path) -> None:
    auths = {HOST: "host:1", f"{HOST}/a": "a:1", f"{HOST}/a/b": "ab:1", "https://index.docker.io/v1/": "hub:1"}
    files = {".docker/config.json": write_auth(**auths)}
    for reference, name in (
        (f"{HOST}/x", "host"),
        (f"{HOST}/a/c", "a"),
        (f"{HOST}/a/b", "ab"),
        (f"{HOST}/ab", "host"),
        ("nginx", "hub"),
    ):
        found = await find(files, tmp_path, reference)
        assert found is not None and found.username == name
    assert await find(files, tmp_path, "other.example.org/x") is None


async def test_containers_own_file_comes_before_dockers(tmp_path: Path) -> None:
    files = {
        ".docker/config.json": write_auth(**{HOST: "docker:1"}),
        ".config/containers/auth.json": write_auth(**{HOST: "podman:1"}),
    }
    found = await find(files, tmp_path, f"{HOST}/x")
    assert found is not None and found.username == "podman"
    assert list_files({"REGISTRY_AUTH_FILE": "/a", "HOME": "/h"}) == (Path("/a"),)
    assert list_files({"XDG_RUNTIME_DIR": "/run/u", "DOCKER_CONFIG": "/d", "HOME": "/h"}) == (
        Path("/run/u/containers/auth.json"), Path("/h/.config/containers/auth.json"), Path("/d/config.json"),
    )  # fmt: skip


@pytest.mark.parametrize("content", ["{", "[]", '{"auths": {"registry.example.org": {"auth": "%%%"}}}', '{"auths": []}'])
async def test_a_damaged_file_is_named_and_its_secrets_are_not(tmp_path: Path, content: str) -> None:
    with pytest.raises(InvalidInput, match=r"config\.json"):
        await find({".docker/config.json": content}, tmp_path, f"{HOST}/x")


def test_credentials_do_not_show_their_secret() -> None:
    assert "hunter2" not in repr(Credential(username="me", password="hunter2", identity_token="hunter2"))


@given(st.binary(max_size=200))
async def test_any_bytes_in_a_file_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.json"
    file.write_bytes(content)
    with contextlib.suppress(VolantError):
        await CredentialStore({"REGISTRY_AUTH_FILE": str(file)}).find(REFERENCE)


HELPER = """#!/bin/sh
read host
case "$1 $host" in
"get registry.example.org") echo '{"ServerURL":"x","Username":"<token>","Secret":"identity"}' ;;
"get broken.example.org") echo "no session bus" >&2; exit 1 ;;
*) echo "credentials not found in native keychain"; exit 1 ;;
esac
"""


@pytest.mark.spawns
async def test_credential_helpers_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "docker-credential-fake"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    path = f"{program.parent}:/usr/bin:/bin"
    # The program is looked for where this process looks.
    monkeypatch.setenv("PATH", path)
    files = {
        ".docker/config.json": json.dumps(
            {"credsStore": "fake", "credHelpers": {"gone.example.org": "missing", "evil.example.org": "../x"}}
        )
    }
    found = await find(files, tmp_path, f"{HOST}/x", PATH=path)
    assert found == Credential(identity_token="identity")
    assert await find(files, tmp_path, "other.example.org/x", PATH=path) is None
    with pytest.raises(HostError, match="no session bus"):
        await find(files, tmp_path, "broken.example.org/x", PATH=path)
    with pytest.raises(HostError, match="docker-credential-missing"):
        await find(files, tmp_path, "gone.example.org/x", PATH=path)
    with pytest.raises(InvalidInput, match="credential helper"):
        await find(files, tmp_path, "evil.example.org/x", PATH=path)
