"""``fledge index``: the plugins of a directory."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from volant.core.errors import InvalidInput, NotFound
from volant.core.plugin_index import find_indexed, read_index
from volant.fledge.kept.index_cli import index
from volant.fledge.kept.index_file import build_index, order_version


def write(directory: Path, name: str, version: str, **changes: Any) -> bytes:
    place = directory / f"{name}-{version}"
    place.mkdir(parents=True)
    digest = "sha256:" + "ab" * 32
    manifest = {
        "schema_version": "v1",
        "name": name,
        "version": version,
        "workload": {"type": "exec", "entrypoint": ["/bin/job"]},
        "boot": {"kernel": {"url": "kernel", "checksum": digest}},
        "initramfs": {"url": "init", "checksum": digest},
        **changes,
    }
    content = json.dumps(manifest).encode()
    (place / "manifest.json").write_bytes(content)
    return content


def test_an_index_holds_every_version_the_newest_first(tmp_path: Path) -> None:
    write(tmp_path, "web", "1.9")
    newest = write(tmp_path, "web", "1.10", labels={"description": "A web server"})
    write(tmp_path, "web", "1.10-rc1")
    write(tmp_path, "job", "2")
    ran = CliRunner().invoke(index, [str(tmp_path)])
    assert (ran.exit_code, ran.output) == (0, f"{tmp_path}/index.json\n")
    plugins = read_index((tmp_path / "index.json").read_bytes(), "https://www.example.org/plugins/index.json")
    assert [(one.name, [each.version for each in one.versions]) for one in plugins] == [
        ("job", ["2"]),
        ("web", ["1.10", "1.10-rc1", "1.9"]),
    ]
    assert plugins[1].description == "A web server"
    found = find_indexed(plugins, "web")
    assert found is not None
    assert found.source == "https://www.example.org/plugins/web-1.10/manifest.json"
    assert found.digest == "sha256:" + hashlib.sha256(newest).hexdigest()


def test_there_has_to_be_something_and_each_version_once(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        build_index(tmp_path, tmp_path)
    write(tmp_path / "a", "web", "1")
    write(tmp_path / "b", "web", "1")
    with pytest.raises(InvalidInput, match="twice"):
        build_index(tmp_path, tmp_path)


def test_what_is_not_final_stands_before_what_is() -> None:
    versions = ["1.0~beta", "1.0-rc1", "1.0", "1.0.1", "1.2", "1.10", "2"]
    assert sorted(versions, key=order_version)[-4:] == ["1.0.1", "1.2", "1.10", "2"]
    assert order_version("1.0-rc1") < order_version("1.0")
    assert order_version("1.0~beta") < order_version("1.0")


@pytest.mark.parametrize("source", ["https://h/index.json", "file:///srv/index.json"])
@pytest.mark.parametrize(
    ("version", "is_good"),
    [
        ({"source": "a/manifest.json"}, True),
        ({"source": "oci://h/x:1"}, True),
        ({"source": "https://other/manifest.json"}, True),
        ({"source": "file:///etc/shadow"}, False),
        ({"source": "http://h/x"}, False),
        ({"source": "//other/x\n"}, False),
    ],
)
def test_an_index_points_only_where_it_may(source: str, version: dict[str, str], is_good: bool) -> None:
    one = {"version": "1", "digest": "sha256:" + "ab" * 32, **version}
    content = json.dumps({"schema_version": "v1", "plugins": [{"name": "web", "versions": [one]}]}).encode()
    if not is_good:
        with pytest.raises(InvalidInput):
            read_index(content, source)
        return
    found = find_indexed(read_index(content, source), "web", "1")
    assert found is not None
    if version["source"].startswith("oci"):
        # Whatever the tag means by then.
        assert found.source == "oci://h/x:1@sha256:" + "ab" * 32
