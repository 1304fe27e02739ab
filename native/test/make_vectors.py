"""Turn the shared vectors into a C header, so that the decoders' tests run exactly what the host's side runs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any


def unpack(text: str) -> bytes:
    """Hexadecimal, in which ``(61*65536)`` stands for a byte that many times."""
    return bytes.fromhex(re.sub(r"\(([0-9a-f]{2})\*(\d+)\)", lambda match: match[1] * int(match[2]), text))


class Header:
    def __init__(self) -> None:
        self.lines = ["/* Made by make_vectors.py. */", "#include <stddef.h>", "#include <stdint.h>"]
        self.count = 0

    def blob(self, content: bytes) -> str:
        """A static array with these bytes, as an initialiser of ``struct blob``."""
        name = f"blob_{self.count}"
        self.count += 1
        digits = ",".join(str(byte) for byte in content) or "0"
        self.lines.append(f"static const uint8_t {name}[] = {{{digits}}};")
        return f"{{{name}, {len(content)}}}"

    def text(self, value: str | None) -> str:
        return "NULL" if value is None else json.dumps(value)

    def table(self, kind: str, name: str, rows: list[str]) -> None:
        self.lines.append(f"static const struct {kind} {name}[] = {{{', '.join(rows)}}};")


def flatten(value: Any) -> str:
    """A decoded message as the tests print it: no space, members in order, non-integers as ``n``."""
    if isinstance(value, dict):
        return "{" + ",".join(flatten(name) + ":" + flatten(item) for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(flatten(item) for item in value) + "]"
    if isinstance(value, str):
        return "'" + value.encode().hex() + "'"
    if isinstance(value, float):
        return "n"
    return json.dumps(value)


def main(folder: Path) -> None:
    header = Header()
    header.lines.append(
        "struct blob { const uint8_t *bytes; size_t length; };\n"
        "struct preamble_case { const char *name; struct blob secret; size_t read_count; struct blob reads[64];"
        " size_t session_count; struct blob nonces[4]; struct blob bytes[4]; };\n"
        "struct yamux_case { const char *name; struct blob stream; const char *violation; size_t frame_count;"
        " struct { unsigned type, flags; uint32_t stream, length; } frames[8]; size_t incomplete; };\n"
        "struct session_case { const char *name; struct blob stream; const char *violation; struct blob answers; };\n"
        "struct message_case { const char *name; struct blob stream; const char *message; size_t rest; int bad; };\n"
        "struct exec_case { const char *name; struct blob stream; int tty; int bad; struct blob records; size_t incomplete; };\n"
        "struct request_step { struct blob request; const char *ok; const char *error; const char *about; };\n"
        "struct request_case { const char *name; size_t step_count; struct request_step steps[16]; };\n"
        "struct config_case { const char *name; struct blob document; const char *digest; const char *malformed; };\n"
        "struct farewell_case { const char *name; const char *digest; int ended; int status; const char *reason;"
        " const char *line; };"
    )

    def cases(name: str) -> list[dict[str, Any]]:
        loaded: list[dict[str, Any]] = json.loads((folder / f"{name}.json").read_text())["cases"]
        return loaded

    def blobs(values: list[str]) -> str:
        return "{" + ", ".join(header.blob(unpack(value)) for value in values) + "}" if values else "{{NULL, 0}}"

    header.table("preamble_case", "PREAMBLE_CASES", [
        f"{{{header.text(case['name'])}, {header.blob(unpack(case['secret']))}, {len(case['reads'])}, {blobs(case['reads'])}, "
        f"{len(case['sessions'])}, {blobs([each['nonce'] for each in case['sessions']])}, "
        f"{blobs([each['bytes'] for each in case['sessions']])}}}"
        for case in cases("preamble")
    ])  # fmt: skip

    kinds, bits = ("data", "window", "ping", "go_away"), {"SYN": 1, "ACK": 2, "FIN": 4, "RST": 8}

    def head(frame: dict[str, Any]) -> tuple[int, int, int, int]:
        return kinds.index(frame["type"]), sum(bits[flag] for flag in frame["flags"]), frame["stream"], frame["length"]

    def frames(case: dict[str, Any]) -> str:
        heads = [head(frame) for frame in case.get("frames", [])]
        return "{" + (", ".join("{{{}, {}, {}u, {}u}}".format(*each) for each in heads) or "{0, 0, 0, 0}") + "}"

    header.table("yamux_case", "YAMUX_CASES", [
        f"{{{header.text(case['name'])}, {header.blob(unpack(case['hex']))}, {header.text(case.get('violation'))}, "
        f"{len(case.get('frames', []))}, {frames(case)}, {case.get('incomplete_bytes', 0)}}}"
        for case in cases("yamux")
    ])  # fmt: skip

    def answers(case: dict[str, Any]) -> bytes:
        heads = [head(frame) for frame in case.get("answers", [])]
        return b"".join(
            bytes([0, kind]) + flags.to_bytes(2) + stream.to_bytes(4) + length.to_bytes(4)
            for kind, flags, stream, length in heads
        )

    header.table("session_case", "SESSION_CASES", [
        f"{{{header.text(case['name'])}, {header.blob(unpack(case['hex']))}, {header.text(case.get('violation'))}, "
        f"{header.blob(answers(case))}}}"
        for case in cases("session")
    ])  # fmt: skip
    header.table("message_case", "MESSAGE_CASES", [
        f"{{{header.text(case['name'])}, {header.blob(unpack(case['hex']))}, "
        f"{header.text(flatten(case['message']) if case.get('message') is not None else None)}, "
        f"{len(unpack(case.get('rest', '')))}, {int('violation' in case)}}}"
        for case in cases("message")
    ])  # fmt: skip

    def records(case: dict[str, Any]) -> bytes:
        """As the reader reports them: type, length, bytes, one behind the other."""
        return b"".join(
            bytes([r["type"]]) + len(unpack(r["bytes"])).to_bytes(4) + unpack(r["bytes"]) for r in case.get("records", [])
        )

    header.table("exec_case", "EXEC_CASES", [
        f"{{{header.text(case['name'])}, {header.blob(unpack(case['hex']))}, "
        f"{int(case.get('tty', False))}, {int('violation' in case)}, "
        f"{header.blob(records(case))}, "
        f"{case.get('incomplete_bytes', 0)}}}"
        for case in cases("exec") if case["from"] == "host"
    ])  # fmt: skip

    def step(number: int, told: dict[str, Any]) -> str:
        request = json.dumps({"id": number, **told["request"]}).encode()
        ok = flatten(told["ok"]) if "ok" in told else None
        return (
            f"{{{header.blob(len(request).to_bytes(4) + request)}, {header.text(ok)}, "
            f"{header.text(told.get('error'))}, {header.text(told.get('about', ''))}}}"
        )

    header.table("request_case", "REQUEST_CASES", [
        f"{{{header.text(case['name'])}, {len(case['steps'])}, "
        f"{{{', '.join(step(number, told) for number, told in enumerate(case['steps'], 1))}}}}}"
        for case in cases("request") if case.get("immediate")
    ])  # fmt: skip
    header.table("config_case", "CONFIG_CASES", [
        f"{{{header.text(case['name'])}, {header.blob(case['document'].encode())}, {header.text(case.get('digest'))}, "
        f"{header.text(case.get('malformed'))}}}"
        for case in cases("config")
    ])  # fmt: skip

    def status(ended: dict[str, int] | None) -> int:
        """As wait(2) has it."""
        return 0 if ended is None else ended.get("code", 0) << 8 | ended.get("signal", 0)

    header.table("farewell_case", "FAREWELL_CASES", [
        f"{{{header.text(case['name'])}, {header.text(case['digest'])}, {int(case['exit'] is not None)}, {status(case['exit'])}, "
        f"{header.text(case['reason'])}, {header.text(case['line'])}}}"
        for case in cases("farewell")
    ])  # fmt: skip
    sys.stdout.write("\n".join(header.lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
