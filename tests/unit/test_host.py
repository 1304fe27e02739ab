"""What can be found out about a host without touching it."""

from __future__ import annotations

from pathlib import Path

import minisign
import pytest

from volant.config import Config, load_config
from volant.core.errors import InvalidInput
from volant.host import check_trust


def check(directory: Path, policy: str = "enforce") -> list[tuple[str, str]]:
    config = Config(trust_policy=policy, trust_keys=str(directory))  # type: ignore[arg-type]  # from a parameter
    return [(one.state, f"{one.message}|{one.fix}") for one in check_trust(config)]


def test_trust_is_checked_when_it_is_asked_for(tmp_path: Path) -> None:
    assert check(tmp_path, "off") == []
    (tmp_path / "acme.pub").write_bytes(bytes(minisign.KeyPair.generate().public_key))
    tmp_path.chmod(0o755)
    (tmp_path / "acme.pub").chmod(0o644)
    assert check(tmp_path) == [("ok", f"policy enforce, 1 keys of 1 publishers in {tmp_path}|")]


def test_keys_that_do_not_count_are_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    ((state, words),) = check(tmp_path)
    assert state == "warning" and words.endswith(f"put public keys there: {tmp_path}/PUBLISHER.pub")
    (tmp_path / "acme.pub").write_text("nonsense")
    ((state, words),) = check(tmp_path)
    assert state == "warning" and f"not used: {tmp_path}/acme.pub is no minisign public key" in words
    ((state, words),) = check(tmp_path / "absent")
    assert state == "warning" and "No such file" in words


@pytest.mark.parametrize("loose", ["", "acme.pub"])
def test_keys_that_others_may_write_are_a_warning(tmp_path: Path, loose: str) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "acme.pub").write_bytes(bytes(minisign.KeyPair.generate().public_key))
    (tmp_path / loose).chmod(0o777)
    ((state, words),) = check(tmp_path)
    assert state == "warning" and words.endswith(f"others may write {tmp_path / loose}|chmod go-w {tmp_path / loose}")


def test_a_policy_is_one_of_three_and_its_directory_absolute(tmp_path: Path) -> None:
    (tmp_path / "v.toml").write_text('trust_policy = "enforce"\ntrust_keys = "keys"\n')
    config = load_config({}, {}, tmp_path / "v.toml")
    assert (config.trust_policy, config.trust_keys) == ("enforce", str(Path("keys").absolute()))
    with pytest.raises(InvalidInput, match="trust_policy"):
        load_config({}, {"VOLANT_TRUST_POLICY": "maybe"}, tmp_path / "v.toml")
