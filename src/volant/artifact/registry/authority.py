"""Leave to ask: Docker registry token authentication (token, OAuth2 and scope specifications of distribution) and Basic."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlencode

import msgspec

from volant.artifact.registry.challenge import Challenge, read_challenges
from volant.artifact.registry.credentials import Credential, CredentialStore
from volant.artifact.registry.settings import Endpoint
from volant.core.clock import Clock
from volant.core.errors import Forbidden, HostError

CLIENT_ID = "volant"
TOKEN_MAX_BYTES = 256 * 1024
TOKEN_LIFE_S = 60.0
"""Unless the server says otherwise, as the specification has it."""
TOKEN_MARGIN_S = 10.0
"""A token is not used when it ends within this time: the request has to arrive before it does."""

SendToRealm = Callable[[Endpoint, str, str, dict[str, str], bytes | None], Awaitable[tuple[int, bytes]]]
"""``(endpoint, method, url, headers, content)`` to status and body; the destination is checked by whoever gives this."""


class _TokenAnswer(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""
    expires_in: float | None = None


class _Token(msgspec.Struct, frozen=True):
    value: str
    ends_s: float


class Authority:
    """Remembers how each host wants to be asked, and its tokens until they end. Many may ask at once; one fetches."""

    def __init__(self, credentials: CredentialStore, send: SendToRealm, clock: Clock) -> None:
        self._credentials = credentials
        self._send = send
        self._clock = clock
        self._challenges: dict[str, Challenge] = {}
        self._tokens: dict[tuple[str, str], _Token] = {}
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._known: dict[str, Credential | None] = {}
        self._finding = asyncio.Lock()

    async def authorize(self, endpoint: Endpoint, scopes: str) -> str:
        """The ``Authorization`` for ``scopes`` (separated by spaces), or nothing while the host has not asked for any.

        Raises:
            Forbidden: there are no credentials, or they are refused. InvalidInput, HostError: they cannot be read.
        """
        challenge = self._challenges.get(endpoint.host)
        if challenge is None:
            return ""
        credential = await self._find_credential(endpoint)
        if credential is not None and credential.registry_token:
            return f"Bearer {credential.registry_token}"
        if challenge.scheme == "basic":
            if credential is None or not credential.basic:
                raise _ask_for_login(endpoint)
            return credential.basic
        key = (endpoint.host, scopes)
        async with self._locks.setdefault(key, asyncio.Lock()):
            token = self._tokens.get(key)
            if token is None or token.ends_s <= self._clock.monotonic():
                token = self._tokens[key] = await self._fetch(endpoint, challenge, scopes, credential)
        return f"Bearer {token.value}"

    async def answer(self, endpoint: Endpoint, scopes: str, headers: Sequence[str], refused: str) -> str:
        """The ``Authorization`` after a 401 with these ``WWW-Authenticate`` headers; ``refused`` is what was sent before.

        Raises:
            Forbidden: nothing more can be said than was said already. Others: as ``authorize``.
        """
        challenges = read_challenges(headers)
        if not challenges:
            raise Forbidden(f"{endpoint.host} answers 401 and does not say how to log in")
        self._challenges[endpoint.host] = challenges[0]
        key = (endpoint.host, scopes)
        token = self._tokens.get(key)
        if token is not None and refused == f"Bearer {token.value}":
            del self._tokens[key]
        authorization = await self.authorize(endpoint, scopes)
        if authorization == refused:
            raise await self.explain_refusal(endpoint)
        return authorization

    async def explain_refusal(self, endpoint: Endpoint) -> Forbidden:
        """What a 401 means that a fresh authorization was answered with."""
        credential = await self._find_credential(endpoint)
        return _refuse_credentials(endpoint) if credential is not None else _ask_for_login(endpoint)

    async def _find_credential(self, endpoint: Endpoint) -> Credential | None:
        # Once, because a helper is a program and may ask somebody.
        async with self._finding:
            if str(endpoint) not in self._known:
                self._known[str(endpoint)] = await self._credentials.find(endpoint.account)
        return self._known[str(endpoint)]

    async def _fetch(self, endpoint: Endpoint, challenge: Challenge, scopes: str, credential: Credential | None) -> _Token:
        wanted = _add_scope(scopes, challenge.scope)
        if credential is not None and credential.identity_token:
            form = {
                "grant_type": "refresh_token", "service": challenge.service, "client_id": CLIENT_ID, "scope": wanted,
                "refresh_token": credential.identity_token,
            }  # fmt: skip
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            status, body = await self._send(endpoint, "POST", challenge.realm, headers, urlencode(form).encode())
        else:
            query = [("service", challenge.service)] if challenge.service else []
            query += [("scope", scope) for scope in wanted.split()]
            url = challenge.realm + ("&" if "?" in challenge.realm else "?") + urlencode(query)
            basic = credential.basic if credential is not None else ""
            status, body = await self._send(endpoint, "GET", url, {"Authorization": basic} if basic else {}, None)
        if status in (400, 401, 403):
            raise await self.explain_refusal(endpoint)
        if status != 200:
            raise HostError(f"{endpoint.host}: its token server answers {status}")
        return self._read(endpoint, body)

    def _read(self, endpoint: Endpoint, body: bytes) -> _Token:
        try:
            answer = msgspec.json.decode(body, type=_TokenAnswer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise HostError(f"{endpoint.host}: its token server does not answer with a token") from error
        value = answer.token or answer.access_token
        # It becomes a header: what could end one is no token.
        if not value or not value.isascii() or not value.isprintable():
            raise HostError(f"{endpoint.host}: its token server does not answer with a token")
        life_s = TOKEN_LIFE_S if answer.expires_in is None else answer.expires_in
        return _Token(value, self._clock.monotonic() + max(life_s - TOKEN_MARGIN_S, 0.0))


def name_scope(repository: str, actions: str) -> str:
    return f"repository:{repository}:{actions}"


def _refuse_credentials(endpoint: Endpoint) -> Forbidden:
    return Forbidden(
        f"{endpoint.host} refuses the credentials for {endpoint.repository}",
        hint=f"log in again (skopeo login {endpoint.account.registry}), or ask for access to {endpoint.repository}",
    )


def _ask_for_login(endpoint: Endpoint) -> Forbidden:
    return Forbidden(
        f"{endpoint.host} wants a login for {endpoint.repository}",
        hint=f"skopeo login {endpoint.account.registry} (a name that does not exist is also answered like this)",
    )


def _add_scope(scopes: str, asked: str) -> str:
    """Ours, and what the registry asks for about anything else than that."""
    resources = {scope.rpartition(":")[0] for scope in scopes.split()}
    return " ".join([*scopes.split(), *(scope for scope in asked.split() if scope.rpartition(":")[0] not in resources)])
