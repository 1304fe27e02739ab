"""Where volantd answers."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from volant.api.listen import bind_socket
from volant.client.address import Address, read_token
from volant.client.connection import Connection, format_query, open_socket
from volant.core.errors import Forbidden, InvalidInput, Unavailable, WrongState

from ..api.served import Served  # noqa: TID252  # importlib mode knows no top-level name for it


def test_the_environment_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLANT_API", "unix:///elsewhere.sock")
    assert Connection().address.path == "/elsewhere.sock"
    assert Connection("unix:///here.sock").address.path == "/here.sock"
    monkeypatch.delenv("VOLANT_API")
    assert Connection().address.path == "/run/volant/volantd.sock"


def test_a_token_comes_from_a_file_or_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("VOLANT_TOKEN", "VOLANT_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert Connection("http://127.0.0.1:1").credentials == {}
    (tmp_path / "token").write_text("from-file\n")
    assert read_token(str(tmp_path / "token")) == "from-file"
    monkeypatch.setenv("VOLANT_TOKEN_FILE", str(tmp_path / "token"))
    assert Connection("http://127.0.0.1:1").credentials == {"Authorization": "Bearer from-file"}
    monkeypatch.setenv("VOLANT_TOKEN", "from-environment")
    assert read_token(None) == "from-environment"
    assert Connection("unix:///v.sock").credentials == {}, "the kernel vouches for who asks there"
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_token(str(tmp_path / "none"))


def test_nobody_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"no volantd answers at .*no such file") as absent:
        Connection(f"unix://{tmp_path}/x.sock").get_json("/healthz")
    assert "is volantd running?" in str(absent.value.hint)
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="connection refused"):
        open_socket(Address(str(tmp_path / "file")), 1.0)
    with pytest.raises(Unavailable, match="no volantd answers"):
        open_socket(Address("/" + "x" * 200), 1.0)


def test_a_path_longer_than_an_address_is_reached(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    with bind_socket(directory / "volantd.sock") as listening:
        assert stat.S_IMODE(os.stat(directory / "volantd.sock").st_mode) == 0o660
        with open_socket(Address(str(directory / "volantd.sock")), 1.0):
            accepted, _ = listening.accept()
            accepted.close()
    assert not (directory / "volantd.sock").exists()


def test_a_socket_is_taken_over_only_when_nobody_listens(tmp_path: Path) -> None:
    path = tmp_path / "volantd.sock"
    with bind_socket(path), pytest.raises(WrongState, match="listens"), bind_socket(path):
        pass
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with bind_socket(path):
        assert path.is_socket()
    path.write_text("mine")
    with pytest.raises(WrongState, match="no socket"), bind_socket(path):
        pass
    assert path.read_text() == "mine"


def test_a_socket_that_is_not_ours_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("socket.socket.connect", refuse)
    with pytest.raises(Forbidden) as refused:
        open_socket(Address(str(tmp_path / "v.sock")), 1.0)
    assert "join the group volant" in str(refused.value.hint)


def test_a_server_that_goes_is_unavailable(served: Served) -> None:
    api = Connection(served.address)
    served.stop()
    assert os.path.exists(served.path)
    with pytest.raises(Unavailable):
        api.get_json("/healthz")


def test_queries_leave_out_what_is_not_asked() -> None:
    assert format_query({"a": None}) == ""
    assert format_query({"a": "x y", "b": 3, "c": True}) == "?a=x+y&b=3&c=true"
