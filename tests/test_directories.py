"""Directory artifacts: what goes in comes out, and nothing gets out of the target."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import holdfast
from holdfast.errors import Corrupt, Exists, InvalidValue
from holdfast.format import frame, packing, tree
from holdfast.format.tree import TreeEntry, decode_tree, encode_tree

Store = holdfast.ExperimentStore
DIGEST = bytes(32)


def _make(root: Path) -> Path:
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "weights.bin").write_bytes(b"w" * 1000)
    (root / "run.sh").write_text("#!/bin/sh\n")
    os.chmod(root / "run.sh", 0o755)
    (root / "sub" / "süß 数据.txt").write_text("x", encoding="utf-8")
    os.symlink("../weights.bin", root / "sub" / "latest")
    return root


def _listing(root: Path) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found.append((name, ("link", os.readlink(path))))
        elif path.is_dir():
            found.append((name, "directory"))
        else:
            found.append((name, (path.read_bytes(), oct(path.stat().st_mode & 0o777))))
    return found


def test_a_directory_comes_back_as_it_was(store: Store, tmp_path: Path) -> None:
    source = _make(tmp_path / "source")
    with store.start_run("d") as run:
        info = run.log_artifact(source, key="data/train")
    assert info.kind == "directory"
    assert info.size_bytes == 1000 + 10 + 1
    out = store.get_artifact(run.id, "data/train", to=tmp_path / "out")
    assert _listing(out) == _listing(source)
    store.get_artifact(run.id, "data/train", to=tmp_path / "out")  # again: nothing to do
    assert store.verify() == []


def test_the_same_directory_has_the_same_digest(store: Store, tmp_path: Path) -> None:
    with store.start_run("d") as run:
        one = run.log_artifact(_make(tmp_path / "one"), key="one")
        two = run.log_artifact(_make(tmp_path / "two"), key="two")
    assert one.digest == two.digest


def test_a_different_file_is_overwritten_only_on_request(store: Store, tmp_path: Path) -> None:
    with store.start_run("d") as run:
        run.log_artifact(_make(tmp_path / "source"), key="d")
    out = tmp_path / "out"
    out.mkdir()
    (out / "weights.bin").write_text("mine")
    with pytest.raises(Exists, match=r"weights\.bin"):
        store.get_artifact(run.id, "d", to=out)
    assert _listing(out) == [("weights.bin", (b"mine", "0o644"))]
    store.get_artifact(run.id, "d", to=out, overwrite=True)
    assert (out / "weights.bin").read_bytes() == b"w" * 1000


def test_links_in_the_target_are_never_followed(store: Store, tmp_path: Path) -> None:
    with store.start_run("d") as run:
        run.log_artifact(_make(tmp_path / "source"), key="d")
    outside = tmp_path / "outside"
    outside.mkdir()
    out = tmp_path / "out"
    out.mkdir()
    os.symlink(outside, out / "sub")
    with pytest.raises(Exists, match="sub"):
        store.get_artifact(run.id, "d", to=out, overwrite=True)
    assert list(outside.iterdir()) == []
    (out / "sub").unlink()
    os.symlink(outside / "planted", out / "weights.bin")
    store.get_artifact(run.id, "d", to=out, overwrite=True)
    assert list(outside.iterdir()) == []
    assert (out / "weights.bin").read_bytes() == b"w" * 1000


@pytest.mark.parametrize("target", ["/etc/passwd", "../../x", "..", "sub/../../x"])
def test_links_that_leave_the_tree_are_refused(store: Store, tmp_path: Path, target: str) -> None:
    (tmp_path / "d").mkdir()
    os.symlink(target, tmp_path / "d" / "link")
    with store.start_run("d") as run, pytest.raises(InvalidValue, match="leads out"):
        run.log_artifact(tmp_path / "d", key="d")


def test_pipes_are_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "d" / "pipe")
    with store.start_run("d") as run, pytest.raises(InvalidValue, match="neither file"):
        run.log_artifact(tmp_path / "d", key="d")


def test_names_that_are_not_utf8_are_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / os.fsdecode(b"\xff")).write_text("x")
    with store.start_run("d") as run, pytest.raises(InvalidValue, match="not UTF-8"):
        run.log_artifact(tmp_path / "d", key="d")


def _file(path: str) -> TreeEntry:
    return TreeEntry(path, "file", 0o644, DIGEST, 0)


HOSTILE = [
    [_file("../x")],
    [_file("/etc/x")],
    [_file("a/../../x")],
    [_file("a//b")],
    [_file("C:/x")],
    [_file("a\\b")],
    [_file("a\0b")],
    [_file("b"), _file("a")],
    [_file("a"), _file("a")],
    [_file("a"), _file("a/b")],
    [TreeEntry("a", "link", 0o777, target="b"), _file("a/b")],
    [TreeEntry("a", "link", 0o777, target="../b")],
    [TreeEntry("a", "link", 0o777, target="/b")],
    [TreeEntry("a", "device", 0o644)],
    [TreeEntry("a", "file", 0o4755, DIGEST, 0)],
    [TreeEntry("a", "file", 0o644, b"short", 0)],
    [TreeEntry("a", "file", 0o644, DIGEST, -1)],
    [TreeEntry("a", "directory", 0o755, DIGEST, 0)],
    [_file("/".join(["d"] * 200))],
]


@pytest.mark.parametrize("entries", HOSTILE, ids=lambda entries: entries[0].path[:12])
def test_hostile_trees_are_refused_when_read(entries: list[TreeEntry]) -> None:
    rows = [[e.path, e.kind, e.mode, e.digest, e.size_bytes, e.target] for e in entries]
    data = frame.wrap(tree.KIND, tree.VERSION, packing.pack(rows))
    with pytest.raises(Corrupt, match="tree-place"):
        decode_tree(data, place="tree-place")


def test_every_truncation_and_flip_of_a_tree_is_refused() -> None:
    data = encode_tree([TreeEntry("a", "directory", 0o755), _file("a/b"), _file("c")])
    assert [entry.path for entry in decode_tree(data, place="t")] == ["a", "a/b", "c"]
    for end in range(len(data)):
        with pytest.raises(holdfast.HoldfastError):
            decode_tree(data[:end], place="t")
    for bit in range(8 * len(data)):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(holdfast.HoldfastError):
            decode_tree(bytes(broken), place="t")
