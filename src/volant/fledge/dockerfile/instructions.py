"""The little of a Dockerfile that must be known before buildah, which reads the rest, is asked."""

from __future__ import annotations

import re
from pathlib import Path

from volant.core.errors import InvalidInput

_HEREDOC = re.compile(r"""(?:^|\s)\d*<<(?P<dash>-?)(?P<quote>["']?)(?P<word>[A-Za-z_]\w*)(?P=quote)(?=\s|$)""")
_TAKES_HEREDOC = re.compile(r"\s*(?:ONBUILD\s+)?(?:RUN|COPY|ADD)\s", re.IGNORECASE)
_FROM = re.compile(r"\s*FROM\s+(?:--platform=\S+\s+)?(?P<image>\S+)(?:\s+AS\s+(?P<stage>\S+))?\s*$", re.IGNORECASE)
_COPY_FROM = re.compile(r"\s*COPY\s(?:.*\s)?--from=(?P<image>\S+)", re.IGNORECASE)
_ARG = re.compile(r"\s*ARG\s+(?P<name>[A-Za-z_]\w*)(?:=(?P<value>\S*))?", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)(?::-(?P<default>[^}]*))?\}|(?P<bare>\w+))")


def read_bases(text: str, build_args: dict[str, str]) -> tuple[str, ...]:
    """The images that ``FROM`` and ``COPY --from`` name, each once; neither stages nor ``scratch``."""
    arguments: dict[str, str] = {}
    stages: set[str] = {"scratch"}
    bases: dict[str, None] = {}
    seen_from = False

    def expand(match: re.Match[str]) -> str:
        name = match["braced"] or match["bare"]
        return arguments.get(name) or match["default"] or ""

    for line in re.sub(r"\\[ \t]*\n", " ", text).splitlines():
        if (argument := _ARG.match(line)) and not seen_from:
            name = argument["name"]
            arguments[name] = build_args.get(name, (argument["value"] or "").strip("\"'"))
        elif found := _FROM.match(line):
            seen_from = True
            image = _VARIABLE.sub(expand, found["image"])
            if image and image.lower() not in stages:
                bases[image] = None
            if found["stage"]:
                stages.add(found["stage"].lower())
        elif (copied := _COPY_FROM.match(line)) and not copied["image"].isdecimal():
            image = _VARIABLE.sub(expand, copied["image"])
            if image.lower() not in stages:
                bases[image] = None
    return tuple(bases)


def refuse_heredocs(text: str, dockerfile: Path) -> None:
    """Raises InvalidInput for the first here-document, with its line."""
    # buildah 1.28 takes the lines of a heredoc for instructions: at best it does not know them.
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if not _TAKES_HEREDOC.match(line):
            continue
        for heredoc in _HEREDOC.finditer(line):
            ends = (later.lstrip("\t") if heredoc["dash"] else later for later in lines[number:])
            if heredoc["word"] in ends:
                raise InvalidInput(
                    f"{dockerfile}:{number}: the here-document {heredoc['word']} is more than this buildah can do",
                    field="source.dockerfile",
                    hint="put its lines into a file beside it and COPY that, or join them with && and a backslash",
                )
