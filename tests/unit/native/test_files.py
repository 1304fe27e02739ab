"""Files out of the guest and into it. The test agent's root is this host's: everything happens below a temporary directory."""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Any

import pytest

from .agent import SLEEP, Agent
from .wire import RST, WINDOW, Host, frame

pytestmark = pytest.mark.spawns

ENTRY, CONTENT, END = 0, 1, 2


@pytest.fixture
def host(agent: Agent) -> Host:
    connected = agent.run(SLEEP)
    connected.wait_notice(type="workload", state="running")
    return connected


def record(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BI", kind, len(payload)) + payload


def read_tree(
    host: Host, path: Path | str, **members: object
) -> tuple[dict[str, dict[str, Any]], dict[str, bytes], dict[str, Any]]:
    """Entries by path, contents by path, the end."""
    stream = host.open({"open": "read_files", "path": str(path), **members})
    answer = host.read_message(stream)
    if "error" in answer:
        return {}, {}, answer
    entries: dict[str, dict[str, Any]] = {}
    contents: dict[str, bytes] = {}
    last = ""
    while True:
        kind, payload = host.read_record(stream)
        if kind == END:
            host.send(stream, b"", 4)
            return entries, contents, json.loads(payload)
        if kind == ENTRY:
            entry = json.loads(payload)
            last = entry["path"]
            assert last not in entries
            entries[last] = entry
            contents.setdefault(last, b"")
        else:
            contents[last] += payload


class Writer:
    def __init__(self, host: Host, path: Path | str) -> None:
        self.host = host
        self.stream = host.open({"open": "write_files", "path": str(path)})
        self.answer: Any = host.read_message(self.stream)

    def entry(self, path: str, kind: str, content: bytes | None = None, **members: object) -> Writer:
        size = {} if content is None else {"size": len(content)}
        owner = {"uid": os.getuid(), "gid": os.getgid()}
        self.host.send(self.stream, record(ENTRY, json.dumps({"path": path, "type": kind, **owner, **size, **members}).encode()))
        for at in range(0, len(content or b""), 60000):
            self.content((content or b"")[at : at + 60000])
        return self

    def content(self, payload: bytes) -> Writer:
        self.host.send(self.stream, record(CONTENT, payload))
        return self

    def end(self) -> Any:
        self.host.send(self.stream, record(END, b"{}"))
        return self.result()

    def result(self) -> Any:
        kind, payload = self.host.read_record(self.stream)
        assert kind == END
        return json.loads(payload)


def test_a_tree_comes_out_whole(host: Host, tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "empty").mkdir(parents=True)
    (top / "deep" / "er").mkdir(parents=True)
    (top / "small").write_bytes(b"small")
    (top / "nothing").write_bytes(b"")
    big = os.urandom(700_001)
    (top / "deep" / "er" / "big").write_bytes(big)
    (top / "deep" / "er" / "big").chmod(0o4751)
    (top / "link").symlink_to("../elsewhere")
    os.mkfifo(top / "pipe", 0o640)
    (top / 'ünïcode \n"name"').write_bytes(b"u")
    os.utime(top / "small", ns=(1, 1_234_567_890_123_456_789))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(top / "sock"))
    entries, contents, end = read_tree(host, top)
    assert set(entries) == {
        ".", "empty", "deep", "deep/er", "deep/er/big", "small", "nothing", "link", "pipe", "ünïcode \n\"name\"",
    }  # fmt: skip
    order = list(entries)
    assert order[0] == "." and order.index("deep") < order.index("deep/er") < order.index("deep/er/big")
    assert contents["deep/er/big"] == big
    assert contents["small"] == b"small"
    assert entries["deep/er/big"]["mode"] == 0o4751
    assert entries["small"]["mtime_ns"] == 1_234_567_890_123_456_789
    assert (entries["small"]["uid"], entries["small"]["gid"]) == (os.getuid(), os.getgid())
    assert entries["link"] | {"mtime_ns": 0} == {
        "path": "link", "type": "symlink", "mode": 0o777, "uid": os.getuid(), "gid": os.getgid(), "mtime_ns": 0,
        "target": "../elsewhere",
    }  # fmt: skip
    assert entries["pipe"]["type"] == "fifo"
    assert end == {"entries": 10, "bytes": 700_001 + 6, "skipped": 1}


def test_one_file_is_the_thing_itself(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"one")
    entries, contents, end = read_tree(host, tmp_path / "file")
    assert list(entries) == ["."]
    assert contents["."] == b"one"
    assert end == {"entries": 1, "bytes": 3}


def test_a_link_at_the_end_is_itself_and_with_a_slash_what_it_leads_to(host: Host, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("directory")
    assert read_tree(host, tmp_path / "link")[0]["."]["type"] == "symlink"
    assert set(read_tree(host, f"{tmp_path}/link/")[0]) == {".", "file"}
    assert set(read_tree(host, tmp_path / "link" / "file")[0]) == {"."}


def test_links_in_a_tree_are_not_followed(host: Host, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("/etc")
    assert {entry["type"] for entry in read_tree(host, tmp_path)[0].values()} >= {"directory", "symlink"}
    assert "a/passwd" not in read_tree(host, tmp_path)[0]


@pytest.mark.parametrize(("path", "code"), [("nosuch", "not_found"), ("file/below", "not_a_directory"), ("loop", "")])
def test_what_cannot_be_read(host: Host, tmp_path: Path, path: str, code: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    result = read_tree(host, f"{tmp_path}/{path}")[2]
    assert result.get("error", {}).get("code", "") == code


@pytest.mark.parametrize("opening", [{}, {"path": "relative"}, {"path": 3}, {"path": "/" + "x" * 5000}])
@pytest.mark.parametrize("kind", ["read_files", "write_files"])
def test_a_bad_path_is_malformed(host: Host, kind: str, opening: dict[str, object]) -> None:
    assert host.read_message(host.open({"open": kind, **opening}))["error"]["code"] == "malformed"


def test_files_need_a_configuration(agent: Agent) -> None:
    host = agent.connect()
    for kind in ("read_files", "write_files"):
        assert host.read_message(host.open({"open": kind, "path": "/"}))["error"]["code"] == "not_configured"


def test_a_directory_of_very_many(host: Host, tmp_path: Path) -> None:
    for number in range(20_000):
        (tmp_path / f"file-{number}").touch()
    entries, _, end = read_tree(host, tmp_path)
    assert (end["entries"], end["bytes"]) == (len(entries), 0)
    assert len(entries) >= 20_001


def test_a_name_that_json_cannot_carry_is_passed_over(host: Host, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(str(tmp_path)) + b"/bad\xff")).touch()
    (tmp_path / "good").touch()
    entries, _, end = read_tree(host, tmp_path)
    assert "good" in entries
    assert end["skipped"] >= 1


def test_a_deep_tree_is_bounded(host: Host, tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_DIRECTORY)
    for _ in range(600):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    end = read_tree(host, tmp_path)[2]
    assert end["error"]["code"] == "failed"
    assert end["error"]["message"] == "its directories are too deep"


def test_a_host_that_reads_nothing_holds_back_the_child_only(host: Host, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(8 * 1048576))
    host.give_window = False
    stream = host.open({"open": "read_files", "path": str(tmp_path / "big")})
    host.read_message(stream)
    for _ in range(20):
        assert "ok" in host.request("stats")
    assert sum(length for kind, _, number, length in host.frames if kind == 0 and number == stream) <= 262144
    host.connection.sendall(frame(WINDOW, RST, stream, 0))


def test_a_tree_goes_in_whole(host: Host, tmp_path: Path) -> None:
    big = os.urandom(500_000)
    old = 1_000_000_000_000_000_123
    writer = Writer(host, tmp_path)
    writer.entry("a", "directory", mode=0o750, mtime_ns=old)
    writer.entry("a/b", "directory", mode=0o711, mtime_ns=old)
    writer.entry("a/b/big", "file", big, mode=0o4755, mtime_ns=old)
    writer.entry("a/link", "symlink", target="b/big", mtime_ns=old)
    writer.entry("a/pipe", "fifo", mode=0o622)
    writer.entry("empty", "file", b"", mode=0o400)
    assert writer.end() == {"entries": 6, "bytes": 500_000}
    assert (tmp_path / "a/b/big").read_bytes() == big
    for name, mode in {"a": 0o750, "a/b": 0o711, "a/b/big": 0o4755, "a/pipe": 0o622, "empty": 0o400}.items():
        assert stat.S_IMODE((tmp_path / name).lstat().st_mode) == mode, name
    for name in ("a", "a/b", "a/b/big", "a/link"):
        assert (tmp_path / name).lstat().st_mtime_ns == old, name
    assert os.readlink(tmp_path / "a/link") == "b/big"
    assert stat.S_ISFIFO((tmp_path / "a/pipe").lstat().st_mode)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "agent.sock", "b", "big", "empty", "link", "pipe"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give files away")
def test_owners(host: Host, tmp_path: Path) -> None:
    writer = Writer(host, tmp_path)
    for name, kind, members in (("d", "directory", {}), ("d/f", "file", {"content": b"x"}), ("d/l", "symlink", {"target": "f"})):
        writer.entry(name, kind, **members, uid=1234, gid=5678)  # type: ignore[arg-type]  # a table's
    writer.end()
    for name in ("d", "d/f", "d/l"):
        status = (tmp_path / name).lstat()
        assert (status.st_uid, status.st_gid) == (1234, 5678), name


def test_what_is_there_is_replaced_and_directories_are_kept(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "inside").touch()
    (tmp_path / "in the way").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    writer = Writer(host, tmp_path)
    writer.entry("kept", "directory", mode=0o700).entry("file", "file", b"new").entry("link", "file", b"no link")
    writer.entry("in the way", "directory").entry("in the way/x", "file", b"x")
    assert writer.end()["entries"] == 5
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "kept" / "inside").exists()
    assert not (tmp_path / "link").is_symlink() and (tmp_path / "link").read_bytes() == b"no link"
    assert (tmp_path / "in the way" / "x").read_bytes() == b"x"


def test_missing_directories_on_the_way_are_made(host: Host, tmp_path: Path) -> None:
    assert Writer(host, tmp_path).entry("x/y/z", "file", b"deep").end() == {"entries": 1, "bytes": 4}
    assert (tmp_path / "x/y/z").read_bytes() == b"deep"


@pytest.mark.parametrize("path", ["../x", "/x", "a/../x", "a//x", "a/./x", "", "..", "x/", "a/" * 600 + "x", "y" * 300])
def test_no_path_leads_out(host: Host, tmp_path: Path, path: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    writer = Writer(host, inside).entry(path, "file", b"")
    assert writer.result()["error"]["code"] == "malformed"
    assert list(inside.iterdir()) == []
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("target", ["..", "{outside}"])
def test_no_link_leads_out(host: Host, tmp_path: Path, target: str) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    writer = Writer(host, inside)
    writer.entry("link", "symlink", target=target.format(outside=outside)).entry("link/x", "file", b"")
    assert writer.result()["error"]["code"] == "failed"
    assert not (tmp_path / "x").exists() and list(outside.iterdir()) == []


def test_a_link_that_stays_inside_is_followed(host: Host, tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir()
    (tmp_path / "lib").symlink_to("usr")
    assert "error" not in Writer(host, tmp_path).entry("lib/x", "file", b"x").end()
    assert (tmp_path / "usr/x").read_bytes() == b"x"


@pytest.mark.parametrize(("path", "code"), [("nosuch", "not_found"), ("file", "not_a_directory")])
def test_where_nothing_can_be_written(host: Host, tmp_path: Path, path: str, code: str) -> None:
    (tmp_path / "file").touch()
    assert Writer(host, tmp_path / path).answer["error"]["code"] == code


def test_a_directory_is_not_replaced_by_a_file(host: Host, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    error = Writer(host, tmp_path).entry("d", "file", b"x").result()["error"]
    assert (error["code"], error["path"]) == ("failed", "d")
    assert (tmp_path / "d").is_dir()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".volant")] == []


@pytest.mark.parametrize(
    "records", [record(3, b"x"), record(CONTENT, b""), record(CONTENT, b"x"), record(ENTRY, b"[]"), record(ENTRY, b"{}")]
)
def test_what_is_no_entry(host: Host, tmp_path: Path, records: bytes) -> None:
    writer = Writer(host, tmp_path)
    host.send(writer.stream, records)
    assert writer.result()["error"]["code"] == "malformed"
    assert host.exec(["echo", "on"])[1] == b"on\n"


def test_more_or_less_content_than_announced(host: Host, tmp_path: Path) -> None:
    more = Writer(host, tmp_path).entry("f", "file", size=2).content(b"abc")
    assert more.result()["error"]["message"] == "more content than was announced"
    less = Writer(host, tmp_path).entry("f", "file", size=2).content(b"a").entry("g", "file", b"")
    assert less.result()["error"]["message"] == "less content than was announced"
    assert [path.name for path in tmp_path.iterdir()] == ["agent.sock"]


def test_a_stream_that_breaks_off_leaves_nothing_half_done(host: Host, tmp_path: Path) -> None:
    writer = Writer(host, tmp_path).entry("f", "file", size=1_000_000).content(b"x" * 50_000)
    while not any(path.name.startswith(".volant-") for path in tmp_path.iterdir()):
        host.request("stats")
    host.connection.sendall(frame(WINDOW, RST, writer.stream, 0))
    while [path.name for path in tmp_path.iterdir()] != ["agent.sock"]:
        host.request("stats")


def test_holes_stay_holes(host: Host, tmp_path: Path) -> None:
    content = bytes(4 * 1048576) + b"end"
    Writer(host, tmp_path).entry("f", "file", content).end()
    assert (tmp_path / "f").read_bytes() == content
    assert (tmp_path / "f").stat().st_blocks * 512 < 1048576


def test_too_many_at_once_are_refused(host: Host, tmp_path: Path) -> None:
    writers = [Writer(host, tmp_path) for _ in range(17)]
    assert ["ok" in writer.answer for writer in writers] == [True] * 16 + [False]
    assert writers[16].answer["error"]["code"] == "busy"
    assert writers[0].end() == {"entries": 0, "bytes": 0}
