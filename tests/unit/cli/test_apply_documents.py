"""Files that describe resources, as far as they are read without volantd."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from volant.cli.apply import describe_answer
from volant.cli.diff import compare_resources
from volant.cli.documents import Document, blame, read_documents
from volant.cli.yaml_file import MAX_DEPTH, read_yaml
from volant.core.document_schema import KINDS
from volant.core.errors import InvalidInput, WrongState

VM = "kind: VM\nname: web\nplugin: nginx\n"


def read(text: str) -> list[Any]:
    return [document.content for document in read_yaml(text, "x.yaml")]


# YAML


def test_documents_have_their_lines() -> None:
    first, second = read_yaml("a: 1\nb:\n  - c: 2\n---\n# nothing\n---\nd: 3\n", "x.yaml")
    assert (first.content, second.content) == ({"a": 1, "b": [{"c": 2}]}, {"d": 3})
    assert first.lines["b", 0, "c"] == 3
    assert second.lines["d",] == 7


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("1e3", "1e3"),
        ("2026-01-31", "2026-01-31"),
        ("25%", "25%"),
        ("0:0", "0:0"),
        ("1.5e3", "1.5e3"),
        ("1.5e+3", 1500.0),
        ("=", "="),
        ("y", "y"),
        ("'yes'", "yes"),
        ('"0644"', "0644"),
        ("!!str 12", "12"),
        ("10.20.0.0/24", "10.20.0.0/24"),
        ("sha256:12", "sha256:12"),
    ],
)
def test_a_word_is_read_as_everybody_reads_it(text: str, value: Any) -> None:
    document = read(f"a: {text}")[0]
    assert document["a"] == value
    assert type(document["a"]) is type(value)


@pytest.mark.parametrize("word", ["yes", "No", "ON", "off", "0644", "1_000", "12:30", "0b1", "0x1_F"])
def test_a_word_that_readers_read_differently_is_refused(word: str) -> None:
    for text in (f"a: {word}", f"{word}: 1", f"a: [{word}]"):
        with pytest.raises(InvalidInput, match=r"x.yaml, line 1: .*YAML 1\.1"):
            read(text)
    assert read(f"a: '{word}'") == [{"a": word}]


def test_the_hint_says_what_to_write() -> None:
    with pytest.raises(InvalidInput) as refused:
        read("a: on")
    assert refused.value.hint == 'write true, or for the text "on"'


@pytest.mark.parametrize(
    ("text", "why", "line"),
    [
        ("a: 1\na: 2", "'a' is said twice", 2),
        ("a: [", "no YAML", 2),
        ("a:\n\t- b", "no YAML", 2),
        ("a: b: c", "no YAML", 1),
        ("? [1]\n: b", "a key is text", 1),
        ("a: *b", "no anchor &b", 1),
        ("a: &a [*a]", "lies in what it stands for", 1),
        ("a: !!python/object/apply:os.system [x]", "tag", 1),
        ("a: !secret x", "tag", 1),
        ("a: .inf", "no number that JSON knows", 1),
        ("a: {<<: 1}", "<< takes a map", 1),
        ("a: \x00", "no YAML", 1),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(text: str, why: str, line: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(text)
    assert why in refused.value.message
    assert refused.value.message.startswith(f"x.yaml, line {line}: ")


def test_aliases_and_merges_are_followed() -> None:
    text = "base: &base {a: 1, b: 2}\nmade: {<<: *base, b: 3}\nmore: {<<: [{c: 4}, *base]}\nplain: {'<<': 1}\n"
    assert read(text) == [
        {"base": {"a": 1, "b": 2}, "made": {"a": 1, "b": 3}, "more": {"a": 1, "b": 2, "c": 4}, "plain": {"<<": 1}}
    ]


def test_what_grows_when_it_is_read_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(InvalidInput, match="too large"):
        read("\n".join(lines))
    long = "a: &a " + "x" * 100_000 + "\nb: [" + ", ".join(["*a"] * 1000) + "]"
    with pytest.raises(InvalidInput, match="too large"):
        read(long)


def test_what_is_too_deep_is_refused() -> None:
    assert read("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    with pytest.raises(InvalidInput, match="deep"):
        read("[" * 1_000_000)


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=8) | st.sampled_from(
    ["yes", "0644", "12:30", "1e3", "null", "~", "1_0", ".inf", "<<", "2026-01-31", "0x1", "true", "=", "*a", "1.", "+1", "0o7"]
)
words |= st.from_regex(r"[-+0-9._:eExobn~=]{1,8}", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=300)
@given(st.dictionaries(words, values, min_size=1, max_size=3))
def test_what_volar_prints_is_read_as_it_was(document: dict[str, Any]) -> None:
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False)
    assert read(text) == [document]


@settings(max_examples=200)
@given(st.text(st.sampled_from("ab:- \n[]{}&*!'\"#|>?,~1<%@"), max_size=40))
def test_nothing_that_is_read_ends_in_another_error(text: str) -> None:
    try:
        json.dumps(read(text))
    except InvalidInput as error:
        assert error.message.startswith("x.yaml, line ")


# Files


def make(tmp_path: Path, **files: str) -> Path:
    for name, content in files.items():
        path = tmp_path / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    return tmp_path


def names(documents: list[Document]) -> list[str]:
    return [document.reference for document in documents]


def test_a_directory_is_read_in_the_order_in_which_one_needs_another(tmp_path: Path) -> None:
    make(
        tmp_path,
        a_yaml="kind: Deployment\nname: shop\n---\nkind: Network\nname: back\n",
        b_json='{"kind": "VM", "name": "one"}',
        c_yml="kind: Quota\nname: all\n",
        d_txt="nothing",
        e_yaml="",
        below__f_yaml="kind: Node\nname: here\n",
    )
    documents, errors = read_documents([str(tmp_path)])
    assert not errors
    assert names(documents) == ["quota/all", "network/back", "vm/one", "deployment/shop"]
    documents, _ = read_documents([str(tmp_path)], recursive=True)
    assert names(documents)[0] == "node/here"
    assert [list(KINDS).index(document.kind) for document in documents] == sorted(
        list(KINDS).index(document.kind) for document in documents
    )


def test_a_list_is_its_items(tmp_path: Path) -> None:
    make(tmp_path, a_yaml="kind: List\nitems:\n- kind: VM\n  name: a\n- kind: VM\n  name: b\n  plugin: 1\n")
    documents, errors = read_documents([str(tmp_path / "a.yaml")])
    assert (names(documents), errors) == (["vm/a", "vm/b"], [])
    assert documents[1].describe_place("plugin") == f"{tmp_path}/a.yaml, line 7, document 1 (VM b)"
    (tmp_path / "l.json").write_text('{"items": [{"kind": "VM", "name": "c"}]}')
    assert names(read_documents([str(tmp_path / "l.json")])[0]) == ["vm/c"]


def test_stdin_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(VM.encode())

    monkeypatch.setattr("sys.stdin", Stdin())
    documents, _ = read_documents(["-"])
    assert (documents[0].source, names(documents)) == ("stdin", ["vm/web"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("- a\n", "a document is one object"),
        ("just text\n", "a document is one object"),
        ("name: web\n", "says of which kind"),
        ("kind: Vm\nname: web\n", "no file holds a 'Vm'"),
        ("kind: Snapshot\nname: web\n", "no file holds a 'Snapshot'"),
        ("kind: VM\n", "needs a name"),
        ("kind: VM\nname: 12\n", "needs a name"),
        ("kind: VM\nname: Web\n", "name"),
        ("kind: VM\nname: web\nmemory: 1\n", "no field 'memory'"),
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n", "Kubernetes"),
        ("kind: Plugin\nname: x\nmanifest: gone.json\n", "there is no"),
    ],
)
def test_what_cannot_be_is_said_with_its_place(tmp_path: Path, text: str, why: str) -> None:
    make(tmp_path, a_yaml=VM + "---\n" + text)
    documents, errors = read_documents([str(tmp_path)])
    assert len(errors) == 1
    assert why in errors[0].message
    assert errors[0].message.startswith(f"{tmp_path}/a.yaml, line ")
    assert ", document 2" in errors[0].message
    assert names(documents) == ["vm/web"]


def test_everything_that_is_wrong_is_said(tmp_path: Path) -> None:
    make(tmp_path, a_yaml="kind: Vm\nname: a\n---\nkind: VM\nname: b\nx: 1\n---\n" + VM, b_yaml=VM)
    _, errors = read_documents([str(tmp_path)])
    assert len(errors) == 3
    assert f"described twice, first in {tmp_path}/a.yaml, line 8, document 3 (VM web)" in errors[2].message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        read_documents([str(tmp_path / "gone.yaml")])
    with pytest.raises(InvalidInput, match="no document in"):
        read_documents([str(tmp_path)])
    with pytest.raises(InvalidInput, match="no file") as refused:
        read_documents(["https://www.example.org/web.yaml"])
    assert refused.value.hint == "curl -fsS https://www.example.org/web.yaml | volar apply -f -"
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    with pytest.raises(InvalidInput, match="UTF-8"):
        read_documents([str(tmp_path / "latin.yaml")])
    (tmp_path / "large.yaml").write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    with pytest.raises(InvalidInput, match="larger"):
        read_documents([str(tmp_path / "large.yaml")])


def test_a_manifest_is_a_plugin_with_the_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(b"a kernel")
    manifest = {
        "schema_version": "v1",
        "name": "nginx",
        "version": "1.0",
        "workload": {"type": "http", "base_url": "http://127.0.0.1:80", "entrypoint": ["/usr/sbin/nginx"]},
        "boot": {"kernel": {"url": "kernel"}, "initramfs": {"url": "kernel"}},
        "rootfs": {"url": "kernel"},
    }
    make(tmp_path, manifest_json=json.dumps(manifest), byname_yaml="kind: Plugin\nmanifest: manifest.json\npool: 2\n")
    (tmp_path / "build.json").write_text("{}")
    (tmp_path / "only").mkdir()
    for name in ("kernel", "manifest.json", "build.json"):
        (tmp_path / "only" / name).write_bytes((tmp_path / name).read_bytes())
    for name in ("manifest.json", "byname.yaml", "only"):
        documents, errors = read_documents([str(tmp_path / name)])
        assert not errors
        assert names(documents) == ["plugin/nginx"]
        assert [file.role for file in documents[0].files] == ["boot.kernel", "boot.initramfs", "rootfs"]
        kernel = documents[0].content["manifest"]["boot"]["kernel"]
        assert kernel["url"] == f"artifact:{kernel['checksum']}"


def test_an_error_is_told_with_the_nearest_line(tmp_path: Path) -> None:
    make(tmp_path, a_yaml="kind: Deployment\nname: shop\nvm:\n  plugin: nginx\n  disks:\n  - name: a\n    size_mb: 0\n")
    document = read_documents([str(tmp_path)])[0][0]
    place = f"{tmp_path}/a.yaml"
    for field, line in (("vm.disks[0].size_mb", 7), ("vm.disks[0].artifact", 6), ("vm.memory_mb", 4), ("replicas", 1), ("", 1)):
        error = blame(document, InvalidInput("that cannot be", field=field))
        told = f"{field}: that cannot be" if field else "that cannot be"
        assert error.message == f"{place}, line {line}, document 1 (Deployment shop): {told}"
    assert blame(document, WrongState("it goes", hint="wait")).hint == "wait"


# What is printed


def test_an_answer_is_told_in_a_line() -> None:
    assert describe_answer({"action": "created", "changes": []}) == "created"
    changes = [
        {"path": "replicas", "before": 2, "after": 3, "effect": "live"},
        {"path": "vm.env.MODE", "before": None, "after": "fast", "effect": "rollout"},
        {"path": "ports", "before": [], "after": [{"port": 80}], "effect": "live"},
        {"path": "paused", "before": False, "after": True, "effect": "live"},
    ]
    told = describe_answer({"action": "changed", "changes": changes})
    assert told == "changed (replicas 2 -> 3, vm.env.MODE null -> fast, rollout, ports [] -> […], and 1 more)"


def test_a_diff_has_what_somebody_decides() -> None:
    before = {"kind": "VM", "name": "web", "memory_mb": 128, "uid": "x", "status": {"a": 1}, "managers": {}}
    after = {**before, "memory_mb": 256, "uid": "y", "status": {}}
    assert list(compare_resources("vm/web", before, after)) == [
        "--- vm/web (is)",
        "+++ vm/web (would be)",
        "@@ -1,3 +1,3 @@",
        " kind: VM",
        " name: web",
        "-memory_mb: 128",
        "+memory_mb: 256",
    ]
    assert list(compare_resources("vm/web", before, dict(before))) == []
    assert next(compare_resources("vm/web", None, after)) == "--- vm/web (is not there)"
