"""Who comes by TCP: the token vouches for them, and nothing else does."""

from __future__ import annotations

import http.client
import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from volant.auth.token import TokenFile
from volant.client.client import Client
from volant.config import load_config
from volant.core.errors import Forbidden, HostError, InvalidInput, Unauthorized, VolantError

from .served import Served


def ask(served: Served, path: str = "/api/v1/vms", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(urlsplit(served.tcp_address).netloc, timeout=10)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    content = answer.read().decode()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content


def test_the_token_opens_the_door(served: Served) -> None:
    client = Client(served.tcp_address, token_file=str(served.tokens.path))
    assert client.vms.list() == []
    assert client.system.health()["status"] == "ok"
    assert served.peers == [], "no user is known by TCP"


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer wrong", "Basic {token}", "{token}", "Bearer {token}x", "Bearer  "]
)
def test_without_it_nobody_is_let_in(served: Served, authorization: str | None) -> None:
    token = served.tokens.path.read_text().strip()
    headers = {} if authorization is None else {"Authorization": authorization.format(token=token)}
    status, answered, content = ask(served, **headers)
    assert status == 401
    assert answered["www-authenticate"] == 'Bearer realm="volantd"'
    assert token not in content


def test_the_client_says_what_is_missing(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOLANT_TOKEN", raising=False)
    monkeypatch.delenv("VOLANT_TOKEN_FILE", raising=False)
    with pytest.raises(Unauthorized, match="wants its token") as refused:
        Client(served.tcp_address).vms.list()
    assert "VOLANT_TOKEN_FILE" in str(refused.value.hint)


def test_whether_it_answers_anybody_may_ask(served: Served) -> None:
    assert ask(served, "/healthz")[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "10.0.0.1"])
def test_a_name_that_only_leads_here_is_refused(served: Served, host: str) -> None:
    token = served.tokens.path.read_text().strip()
    status, _, content = ask(served, Host=host, Authorization=f"Bearer {token}")
    assert (status, "is not this host" in content) == (403, True)


def test_a_page_of_another_place_is_refused(served: Served) -> None:
    token = f"Bearer {served.tokens.path.read_text().strip()}"
    assert ask(served, Authorization=token, Origin="https://evil.example")[0] == 403
    assert ask(served, Authorization=token, Origin="null")[0] == 403
    assert ask(served, Authorization=token, Origin=served.tcp_address)[0] == 200


def test_a_conversation_needs_it_too(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOLANT_TOKEN", raising=False)
    monkeypatch.delenv("VOLANT_TOKEN_FILE", raising=False)
    with pytest.raises(VolantError):
        Client(served.tcp_address).vms.exec("web", ("true",))


def test_a_new_token_ends_the_old_one(served: Served) -> None:
    old = Client(served.tcp_address, token_file=str(served.tokens.path))
    new = old.system.rotate_token()
    assert served.tokens.path.read_text().strip() == new
    assert stat.S_IMODE(served.tokens.path.stat().st_mode) == 0o600
    with pytest.raises(Unauthorized):
        old.vms.list()
    assert Client(served.tcp_address, token_file=str(served.tokens.path)).vms.list() == []


def test_a_token_that_others_may_read_counts_for_nothing(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "token")
    tokens.ensure()
    token = tokens.path.read_text().strip()
    tokens.ensure()
    assert tokens.path.read_text().strip() == token, "one that is there stays"
    assert tokens.vouches_for(f"Bearer {token}")
    tokens.path.chmod(0o640)
    with pytest.raises(HostError, match="may read"):
        tokens.vouches_for(f"Bearer {token}")


def test_without_a_token_file_nothing_vouches(tmp_path: Path) -> None:
    assert not TokenFile(tmp_path / "none").vouches_for("Bearer x")


@pytest.mark.parametrize("text", ["0.0.0.0:80", "10.0.0.1:80", "example.org:80", "127.0.0.1", "127.0.0.1:99999", "[::]:1", ":80"])
def test_only_this_host_is_listened_to(text: str) -> None:
    with pytest.raises(InvalidInput, match="cannot listen on"):
        load_config({"listen_tcp": text}, {})


def test_loopback_is_written_in_several_ways() -> None:
    for text, wanted in (
        ("127.0.0.1:7777", ("127.0.0.1", 7777)),
        ("[::1]:0", ("::1", 0)),
        ("tcp://localhost:1", ("127.0.0.1", 1)),
    ):
        assert load_config({"listen_tcp": text}, {}).tcp_address == wanted


def test_forbidden_is_not_unauthorized() -> None:
    assert not issubclass(Unauthorized, Forbidden)
