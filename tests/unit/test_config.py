from __future__ import annotations

from pathlib import Path

import pytest

from volant.config import Config, load_config
from volant.core.errors import InvalidInput


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "volant.toml"
    path.write_text('data_dir = "/from/file"\nsubnet = "10.0.0.0/24"\n')
    return path


def test_flags_beat_the_environment_which_beats_the_file(file: Path) -> None:
    config = load_config({"bridge": "vbr1"}, {"VOLANT_DATA_DIR": "/from/env", "VOLANT_BRIDGE": "vbr2"}, file)
    assert (config.subnet, config.data_dir, config.bridge) == ("10.0.0.0/24", "/from/env", "vbr1")


def test_the_defaults_are_the_documented_ones(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").touch()
    config = load_config({}, {}, tmp_path / "empty.toml")
    assert config == Config()
    assert (config.data_dir, config.subnet, config.bridge) == ("/var/lib/volant", "192.168.127.0/24", "vbr0")
    assert str(config.socket_path) == "/run/volant/volantd.sock"
    assert config.namespace is None


def test_switches_are_read_from_the_environment(file: Path) -> None:
    assert load_config({}, {"VOLANT_STOP_VMS_ON_EXIT": "yes"}, file).stop_vms_on_exit
    assert not load_config({}, {"VOLANT_STOP_VMS_ON_EXIT": "0"}, file).stop_vms_on_exit


@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        ({"listen": "tcp:1.2.3.4"}, {}),
        ({"listen": "unix:"}, {}),
        ({"hypervisor": "other"}, {}),
        ({"node": "Bad Name"}, {}),
        ({}, {"VOLANT_STOP_VMS_ON_EXIT": "maybe"}),
        ({}, {"VOLANT_LOG_LEVEL": "loud"}),
    ],
)
def test_what_cannot_be_right_is_refused(file: Path, flags: dict[str, str], environment: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        load_config(flags, environment, file)


def test_a_file_that_is_named_must_be_there_and_be_toml(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no"):
        load_config({}, {}, tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("no = = toml")
    with pytest.raises(InvalidInput):
        load_config({}, {}, tmp_path / "bad.toml")
    (tmp_path / "unknown.toml").write_text("colour = 'blue'")
    with pytest.raises(InvalidInput, match="colour"):
        load_config({}, {}, tmp_path / "unknown.toml")


def test_listen_takes_both_spellings(file: Path) -> None:
    for text in ("unix:/a/b.sock", "unix:///a/b.sock"):
        assert str(load_config({"listen": text}, {}, file).socket_path) == "/a/b.sock"


def test_paths_are_seen_from_where_volantd_was_started(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config({"data_dir": "data", "runtime_dir": "run", "listen": "unix:run/x.sock"}, {}, file)
    assert config.data_dir == str(tmp_path / "data")
    assert config.runtime_dir == str(tmp_path / "run")
    assert config.registries == ""
    assert load_config({"registries": "registries.toml"}, {}, file).registries == str(tmp_path / "registries.toml")
    assert config.socket_path == tmp_path / "run/x.sock"
