from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import InvalidInput
from volant.fledge.recipe.mapping import apply_mappings, digest_mappings, file_mode, read_mappings, resolve_in_root


@pytest.mark.parametrize(
    ("source_mode", "target", "mode"),
    [
        (0o600, "/etc/web.conf", 0o644),
        (0o640, "/usr/local/bin/web", 0o755),
        (0o644, "/opt/bin/web", 0o755),
        (0o644, "/opt/web/bin/web", 0o644),
        (0o755, "/srv/run.sh", 0o755),
        (0o744, "/srv/run.sh", 0o755),
        (0o700, "/srv/run.sh", 0o700),
        (0o644, "/usr/lib/x86_64-linux-gnu/libweb.so.1.2", 0o755),
        (0o644, "/usr/lib/web/settings", 0o644),
        (0o644, "/srv/libweb.so", 0o644),
        (0o4755, "/usr/bin/web", 0o755),
    ],
)
def test_the_modes_that_fledge_toml_promises(source_mode: int, target: str, mode: int) -> None:
    assert file_mode(source_mode, target) == mode


def make_tree(base: Path) -> tuple[Path, Path]:
    root, site = base / "root", base / "site"
    (root / "usr/bin").mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "etc").mkdir()
    (root / "etc/old").write_text("old")
    (root / "etc/other-name").hardlink_to(root / "etc/old")
    (site / "deep").mkdir(parents=True)
    (site / "deep/page").write_text("page")
    (site / "link").symlink_to("deep/page")
    return root, site


def test_files_and_directories_arrive_through_the_guests_own_links(tmp_path: Path) -> None:
    root, _ = make_tree(tmp_path)
    (tmp_path / "tool").write_text("tool")
    mappings = read_mappings({"site": "/srv/new/site", "tool": "/bin/tool", "site/link": "/etc/old"}, tmp_path)

    apply_mappings(mappings, root)

    assert (root / "srv/new/site/deep/page").read_text() == "page"
    assert not (root / "srv/new/site/link").is_symlink()
    assert (root / "srv/new/site/link").read_text() == "page"
    assert (root / "usr/bin/tool").stat().st_mode & 0o777 == 0o755
    assert (root / "srv/new").stat().st_mode & 0o777 == 0o755
    assert (root / "etc/old").read_text() == "page"
    assert (root / "etc/other-name").read_text() == "old"


def test_a_link_with_two_slashes_stays_inside(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("//b")

    assert resolve_in_root(tmp_path, "//a") == tmp_path / "b"


@pytest.mark.parametrize("target", ["relative", "/a/../b", "/", "//", ""])
def test_a_target_that_is_no_place_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "a").touch()

    with pytest.raises(InvalidInput, match="is no place in the guest"):
        read_mappings({"a": target}, tmp_path)


def test_a_source_that_is_missing_or_circular_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no file or directory"):
        read_mappings({"lost": "/a"}, tmp_path)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/again").symlink_to(".")
    with pytest.raises(InvalidInput, match="cannot be read"):
        digest_mappings(read_mappings({"site": "/srv"}, tmp_path))


def test_a_file_in_the_way_of_a_directory_is_refused(tmp_path: Path) -> None:
    root, _ = make_tree(tmp_path)

    with pytest.raises(InvalidInput, match="cannot be written"):
        apply_mappings(read_mappings({"site": "/etc/old/site"}, tmp_path), root)


def test_the_digest_changes_with_what_would_change_the_guest(tmp_path: Path) -> None:
    _, site = make_tree(tmp_path)
    mappings = read_mappings({"site": "/srv"}, tmp_path)
    seen = [digest_mappings(mappings)]
    for change in (
        lambda: (site / "deep/page").write_text("other"),
        lambda: (site / "deep/page").chmod(0o755),
        lambda: (site / "deep/page").rename(site / "deep/leaf"),
    ):
        (site / "link").unlink(missing_ok=True)
        change()
        seen.append(digest_mappings(mappings))

    assert len({str(digest) for digest in seen}) == len(seen)
    assert digest_mappings(mappings) == seen[-1]


@given(
    links=st.dictionaries(
        st.from_regex(r"[a-d](/[a-d]){0,2}", fullmatch=True),
        st.lists(st.sampled_from(["a", "b", "..", "/", "c"]), min_size=1, max_size=4).map("/".join),
        max_size=5,
    ),
    path=st.lists(st.sampled_from(["a", "b", "c", "d", "..", "e"]), min_size=1, max_size=5),
)
def test_no_link_of_the_guest_leads_out_of_its_root(links: dict[str, str], path: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "root"
        root.mkdir()
        for name, target in links.items():
            place = root / name
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(target)
            except OSError:
                continue
        try:
            resolved = resolve_in_root(root, "/" + "/".join(path))
        except OSError:
            return
        assert resolved == root or root in resolved.parents
        assert ".." not in resolved.relative_to(root).parts
        assert resolved.resolve() == resolved
