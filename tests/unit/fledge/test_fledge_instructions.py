from __future__ import annotations

from pathlib import Path

import pytest

from volant.core.errors import InvalidInput
from volant.fledge.dockerfile.instructions import read_bases, refuse_heredocs

DOCKERFILE = Path("/ctx/Dockerfile")


@pytest.mark.parametrize(
    ("text", "bases"),
    [
        ("FROM debian:12", ("debian:12",)),
        ("from --platform=linux/amd64 debian:12 as build\nFROM scratch\nCOPY --from=build / /", ("debian:12",)),
        ("FROM a AS b\nFROM B\nFROM a", ("a",)),
        ("ARG V=1\nFROM x:$V", ("x:1",)),
        ("ARG V\nFROM x:${V:-3}\nFROM y:${V}", ("x:3", "y:")),
        ('ARG V="2"\nFROM x:${V}\nARG V=5\nFROM y:$V', ("x:2", "y:2")),
        ("FROM \\\n  debian:12 \\\n  AS a", ("debian:12",)),
        ("FROM scratch\nCOPY --from=nginx:1 /a /b\nCOPY --chown=1 --from=0 /a /b\nRUN echo FROM x", ("nginx:1",)),
        ("# FROM x\nRUN true", ()),
    ],
)
def test_base_images_are_found(text: str, bases: tuple[str, ...]) -> None:
    assert read_bases(text, {}) == bases


def test_a_build_argument_wins_over_its_default() -> None:
    assert read_bases("ARG V=1\nFROM x:$V", {"V": "9"}) == ("x:9",)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("FROM x\nRUN <<EOF\necho a\nEOF\n", 2),
        ("RUN cat <<'END' > /file\nEND\n", 1),
        ('FROM x\n\ncopy <<"a.b" <<-EOF /dir/\n\tx\n\tEOF\n', 3),
        ("ONBUILD RUN 3<<EOF\nEOF", 1),
    ],
)
def test_here_documents_are_refused_with_their_line(text: str, number: int) -> None:
    with pytest.raises(InvalidInput, match=f"/ctx/Dockerfile:{number}: the here-document") as caught:
        refuse_heredocs(text, DOCKERFILE)

    assert "COPY" in str(caught.value.hint)


@pytest.mark.parametrize(
    "text",
    ["RUN echo $((1<<EOF))\nEOF", "RUN cat <<< EOF\nEOF", "RUN cat <<EOF \\\n && true", "ENV A=<<EOF\nEOF", "RUN a<<EOF\nEOF"],
)
def test_what_only_looks_like_one_passes(text: str) -> None:
    refuse_heredocs(text, DOCKERFILE)
