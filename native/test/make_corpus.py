"""Seeds for the fuzzers, from the shared vectors: a folder for each fuzzer, a file for each case."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from make_vectors import unpack


def make_seeds(vectors: Path) -> dict[str, list[bytes]]:
    def cases(name: str) -> list[dict[str, Any]]:
        loaded: list[dict[str, Any]] = json.loads((vectors / f"{name}.json").read_text())["cases"]
        return loaded

    def message(value: object) -> bytes:
        text = json.dumps(value).encode()
        return len(text).to_bytes(4) + text

    def piece(beside: bool, content: bytes) -> bytes:
        """A length byte of fuzz/control.c and as much as it covers."""
        return b"".join(
            bytes([min(127, (len(part) + 2) // 4) << 1 | beside]) + part
            for part in (content[at : at + 505] for at in range(0, len(content), 505))
        )

    streams = [unpack(case["hex"]) for name in ("session", "yamux") for case in cases(name)]
    openings = [
        {"open": kind, "workload": "main", "path": "/", "port": 80}
        for kind in ("exec", "attach", "connect", "read_files", "logs")
    ]
    requests = [step["request"] for case in cases("request") for step in case["steps"] if "request" in step]
    entry = {"path": "a/b", "mode": 0o644, "uid": 0, "gid": 0, "mtime_ns": 1_700_000_000_000_000_000}

    def answer(kind: int, options: str) -> bytes:
        head = bytearray(240)
        head[0:3], head[4:8] = b"\x02\x01\x06", b"\x12\x34\x56\x78"
        head[16:20], head[28:34] = b"\x0a\0\0\x09", b"\x02\0\0\0\0\x01"
        head[236:240] = b"\x63\x82\x53\x63"
        return bytes(head) + bytes([53, 1, kind, 54, 4, 10, 0, 0, 1, 51, 4, 0, 0, 14, 16]) + bytes.fromhex(options) + b"\xff"

    return {
        "dhcp": [
            answer(kind, options)
            for kind in (2, 5, 6)
            for options in ("0104ffffff0003040a000001", "790d18c0a8050a0000fe000a0000fd060808080808080404", "340103")
        ],
        "status": [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 503\n", b"HTTP/2 200\r\n", b"220 mail\r\n"],
        "session": [
            bytes(pieces) + stream for stream in streams for pieces in ((255, 1, 16, 3), (0, 0, 0, 0)) if len(stream) < 4096
        ],
        "control": [
            *(piece(False, message({"id": number, **request})) for number, request in enumerate(requests, 1)),
            *(piece(True, message(opening)) for opening in openings),
        ],
        "message": [unpack(case["hex"]) for case in cases("message") if len(case["hex"]) < 4096],
        "config": [case["document"].encode() for case in cases("config")],
        "records": [bytes([kind]) + unpack(case["hex"]) for case in cases("exec") for kind in (0, 3) if len(case["hex"]) < 4096],
        "entry": [
            json.dumps(value).encode()
            for value in (
                {**entry, "type": "file", "size": 3},
                {**entry, "type": "directory", "path": "."},
                {**entry, "type": "symlink", "target": "../é\n"},
                {**entry, "type": "fifo"},
                {**entry, "type": "file", "path": "../out"},
                {"tty": {"rows": 24, "cols": 80, "term": "xterm-256color"}},
            )
        ],
        "preamble": [
            b"".join(
                [
                    b"\x01" if case["secret"] == "ab" * 32 else b"\x00",
                    *(bytes([len(unpack(read)) % 256]) + unpack(read) for read in case["reads"]),
                ]
            )
            for case in cases("preamble")
        ],
    }


def main(vectors: Path, out: Path) -> None:
    for name, seeds in make_seeds(vectors).items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds):
            (folder / f"{number:03}").write_bytes(seed)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
