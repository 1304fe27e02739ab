"""Whose keys are trusted, and for what."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import minisign
import pytest

from volant.artifact.signature import Statement, format_key_id, sign_content
from volant.artifact.trust import KeyRing, Trust, judge_manifest, read_keys
from volant.core.manifest import read_manifest
from volant.core.plugin import name_by_content
from volant.core.trust import SignedManifest, Verdict

DIGEST = "sha256:" + "ab" * 32


@pytest.fixture(scope="module")
def acme() -> minisign.KeyPair:
    return minisign.KeyPair.generate()


@pytest.fixture(scope="module")
def other() -> minisign.KeyPair:
    return minisign.KeyPair.generate()


def put_key(path: Path, pair: minisign.KeyPair) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(pair.public_key) + b"\n")


def build_manifest(**changes: Any) -> dict[str, Any]:
    medium = {"url": "rootfs.erofs", "checksum": DIGEST}
    return {
        "schema_version": "v1",
        "name": "nginx",
        "version": "1.25",
        "workload": {"type": "exec", "entrypoint": ["nginx"]},
        "boot": {"kernel": medium, "initramfs": medium},
        "rootfs": medium,
        **changes,
    }


def sign(pair: minisign.KeyPair, content: str, **changes: Any) -> SignedManifest:
    digest = hashlib.sha256(content.encode()).hexdigest()
    statement = {"name": "nginx", "version": "1.25", "file": "manifest.json", "sha256": digest, **changes}
    return SignedManifest(
        manifest=content, signature=sign_content(content.encode(), pair.secret_key, Statement(**statement)).decode()
    )


def installed(content: str) -> dict[str, Any]:
    return name_by_content(read_manifest(content.encode()))


CONTENT = json.dumps(build_manifest(), indent=2)


def judge(signed: SignedManifest | None, ring: KeyRing, content: str = CONTENT) -> Verdict:
    return judge_manifest(installed(content), signed, ring, "enforce")


def test_keys_are_read_by_publisher(tmp_path: Path, acme: minisign.KeyPair, other: minisign.KeyPair) -> None:
    put_key(tmp_path / "acme.pub", acme)
    put_key(tmp_path / "example.org" / "2025.pub", other)
    put_key(tmp_path / "example.org" / "2026.pub", acme)
    put_key(tmp_path / ".hidden.pub", other)
    (tmp_path / "README").write_text("what lies here")
    ring = read_keys(tmp_path)
    assert [(key.publisher, format_key_id(key.key)) for key in ring.keys] == [
        ("acme", format_key_id(acme.public_key)),
        ("example.org", format_key_id(other.public_key)),
        ("example.org", format_key_id(acme.public_key)),
    ]
    assert ring.problems == ()


def test_a_file_that_is_no_key_is_named_and_the_others_count(tmp_path: Path, acme: minisign.KeyPair) -> None:
    put_key(tmp_path / "acme.pub", acme)
    (tmp_path / "broken.pub").write_text("not a key\nat all\n")
    (tmp_path / "huge.pub").write_bytes(b"x" * 100_000)
    os.mkfifo(tmp_path / "pipe.pub")
    (tmp_path / "lost.pub").symlink_to("nowhere")
    ring = read_keys(tmp_path)
    assert [key.publisher for key in ring.keys] == ["acme"]
    assert [problem.split(" ")[0] for problem in ring.problems] == [
        str(tmp_path / name) for name in ("broken.pub", "huge.pub", "lost.pub", "pipe.pub")
    ]


def test_no_directory_is_no_keys(tmp_path: Path, acme: minisign.KeyPair) -> None:
    ring = read_keys(tmp_path / "absent")
    assert ring.problems == (f"{tmp_path}/absent: No such file or directory",)
    verdict = judge(sign(acme, CONTENT), ring)
    assert (verdict.reason, verdict.refused) == ("UnknownKey", True)
    assert "No such file" in verdict.message and f"{tmp_path}/absent/PUBLISHER.pub" in verdict.hint


def test_a_trusted_key_vouches_for_what_it_signed(tmp_path: Path, acme: minisign.KeyPair) -> None:
    put_key(tmp_path / "acme.pub", acme)
    verdict = judge(sign(acme, CONTENT), read_keys(tmp_path))
    assert (verdict.reason, verdict.publisher, verdict.key_id) == ("Trusted", "acme", format_key_id(acme.public_key))
    assert not verdict.refused and not verdict.told


def test_a_signature_of_minisigns_own_vouches_as_well(tmp_path: Path, acme: minisign.KeyPair) -> None:
    put_key(tmp_path / "acme.pub", acme)
    for prehash in (True, False):
        signature = bytes(acme.secret_key.sign(CONTENT.encode(), prehash=prehash)).decode()
        assert judge(SignedManifest(manifest=CONTENT, signature=signature), read_keys(tmp_path)).trusted


def test_what_is_not_signed_is_not_trusted(tmp_path: Path, acme: minisign.KeyPair) -> None:
    put_key(tmp_path / "acme.pub", acme)
    verdict = judge(None, read_keys(tmp_path))
    assert (verdict.reason, verdict.refused) == ("NotSigned", True)
    assert "fledge sign" in verdict.hint


def test_a_changed_manifest_is_found(tmp_path: Path, acme: minisign.KeyPair) -> None:
    put_key(tmp_path / "acme.pub", acme)
    changed = CONTENT.replace("nginx", "nginy")
    signed = SignedManifest(manifest=changed, signature=sign(acme, CONTENT).signature)
    assert judge(signed, read_keys(tmp_path), changed).reason == "BadSignature"
    spaced = SignedManifest(manifest=CONTENT + "\n", signature=sign(acme, CONTENT).signature)
    assert judge(spaced, read_keys(tmp_path)).reason == "BadSignature", "a byte that means nothing is a byte"


def test_a_changed_signature_is_found(tmp_path: Path, acme: minisign.KeyPair) -> None:
    put_key(tmp_path / "acme.pub", acme)
    good = sign(acme, CONTENT).signature
    other_comment = good.replace("name=nginx", "name=mysql")
    assert judge(SignedManifest(manifest=CONTENT, signature=other_comment), read_keys(tmp_path)).reason == "BadSignature"
    for broken in ("", "nonsense", good[:-30], "é" * 40, "\ud7ff"):
        verdict = judge(SignedManifest(manifest=CONTENT, signature=broken), read_keys(tmp_path))
        assert (verdict.reason, verdict.refused) == ("Unreadable", True)


def test_another_key_of_the_same_id_does_not_pass(tmp_path: Path, acme: minisign.KeyPair, other: minisign.KeyPair) -> None:
    forged = minisign.KeyPair.generate()
    line = bytearray(base64.b64decode(forged.public_key.to_base64()))
    line[2:10] = base64.b64decode(acme.public_key.to_base64())[2:10]
    (tmp_path / "acme.pub").write_bytes(base64.b64encode(bytes(line)))
    assert judge(sign(acme, CONTENT), read_keys(tmp_path)).reason == "BadSignature"
    put_key(tmp_path / "acme2.pub", acme)
    assert judge(sign(acme, CONTENT), read_keys(tmp_path)).publisher == "acme2"


def test_an_unknown_key_does_not_pass(tmp_path: Path, acme: minisign.KeyPair, other: minisign.KeyPair) -> None:
    put_key(tmp_path / "acme.pub", acme)
    verdict = judge(sign(other, CONTENT), read_keys(tmp_path))
    assert (verdict.reason, verdict.publisher, verdict.key_id) == ("UnknownKey", "", format_key_id(other.public_key))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "mysql"}, "for 'mysql 1.25', not for nginx 1.25"),
        ({"version": "2"}, "for 'nginx 2', not for nginx 1.25"),
        ({"name": "", "version": ""}, "for 'manifest.json', not for nginx 1.25"),
        ({"sha256": "0" * 64}, "for another file"),
    ],
)
def test_a_good_signature_for_something_else_does_not_pass(
    tmp_path: Path, acme: minisign.KeyPair, changes: dict[str, str], said: str
) -> None:
    put_key(tmp_path / "acme.pub", acme)
    verdict = judge(sign(acme, CONTENT, **changes), read_keys(tmp_path))
    assert verdict.reason == "OtherStatement" and said in verdict.message


def test_a_good_signature_of_another_manifest_does_not_pass(tmp_path: Path, acme: minisign.KeyPair) -> None:
    put_key(tmp_path / "acme.pub", acme)
    another = json.dumps(build_manifest(workload={"type": "exec", "entrypoint": ["/bin/sh"]}))
    assert judge(sign(acme, another), read_keys(tmp_path)).reason == "OtherManifest"
    assert judge(sign(acme, "no manifest"), read_keys(tmp_path)).reason == "OtherManifest"
    elsewhere = CONTENT.replace("rootfs.erofs", "https://files.example.org/rootfs")
    assert judge(sign(acme, CONTENT), read_keys(tmp_path), elsewhere).trusted, "where files lie is nobody's claim"


def test_a_key_vouches_for_its_publisher_only(tmp_path: Path, acme: minisign.KeyPair, other: minisign.KeyPair) -> None:
    put_key(tmp_path / "acme.pub", acme)
    put_key(tmp_path / "example.org.pub", other)
    labelled = json.dumps(build_manifest(labels={"volant.publisher": "example.org"}))
    verdict = judge(sign(acme, labelled), read_keys(tmp_path), labelled)
    assert (verdict.reason, verdict.publisher) == ("OtherPublisher", "acme")
    assert "it says that it is by 'example.org', and is signed by acme" in verdict.message
    assert judge(sign(other, labelled), read_keys(tmp_path), labelled).publisher == "example.org"
    put_key(tmp_path / "example.org" / "too.pub", acme)
    assert judge(sign(acme, labelled), read_keys(tmp_path), labelled).publisher == "example.org", "its key as well"


async def test_a_key_counts_while_it_lies_there(tmp_path: Path, acme: minisign.KeyPair) -> None:
    trust = Trust("enforce", tmp_path)
    signed = sign(acme, CONTENT)
    reasons = []
    for _ in range(2):
        reasons.append((await trust.judge(installed(CONTENT), signed)).reason)
        put_key(tmp_path / "acme.pub", acme)
        reasons.append((await trust.judge(installed(CONTENT), signed)).reason)
        (tmp_path / "acme.pub").unlink()
    assert reasons == ["UnknownKey", "Trusted", "UnknownKey", "Trusted"]


def test_the_policy_says_what_becomes_of_it() -> None:
    said = {
        policy: (verdict.refused, verdict.told)
        for policy in ("off", "warn", "enforce")
        for verdict in [Verdict(policy=policy, reason="NotSigned", message="it is not signed")]  # type: ignore[arg-type]
    }
    assert said == {"off": (False, False), "warn": (False, True), "enforce": (True, True)}
