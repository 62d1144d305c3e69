"""Lock files: the text is changed in place, and what is locked is brought byte for byte or not at all."""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import holdfast
from holdfast import Digest, ExperimentStore, Locked, LockFile
from holdfast.errors import (
    AliasNotFound,
    ArtifactNotFound,
    Corrupt,
    DigestMismatch,
    Exists,
    HoldfastError,
    InvalidValue,
    NotAStore,
    NotFound,
)
from holdfast.format import layout
from holdfast.format import lockfile as text

MODEL = b"the weights of the model" * 100


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A store with a model, a large file, a directory, and the alias `prod`."""
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/x").write_bytes(b"x" * 1000)
    (folder / "y").write_bytes(b"y")
    with holdfast.open(tmp_path / "lab") as store:
        with store.start_run("resnet", run_id="run-1", capture=False) as run:
            run.log_artifact(MODEL, key="model.pt")
            run.log_artifact(os.urandom(3 << 20), key="large.bin", layout="plain")
            run.log_artifact(folder, key="folder")
        store.alias("prod", "run-1:model.pt")
    return tmp_path / "lab"


@pytest.fixture
def project(tmp_path: Path, lab: Path) -> LockFile:
    """A project beside the store that has locked all three."""
    (tmp_path / "project").mkdir()
    lock = LockFile(tmp_path / "project" / "holdfast.lock")
    with holdfast.open(lab) as store:
        lock.add(store, "models/resnet.pt", "prod")
        lock.add(store, "large.bin", "run-1:large.bin")
        lock.add(store, "data", "resnet:folder@latest")
    return lock


def damage(lab: Path, digest: Digest, at: int = 5) -> bytes:
    """Replace a blob by others bytes of the same size; returns what they hash to."""
    path = lab / layout.blob(digest)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    return bytes(data)


def test_what_is_written(project: LockFile, lab: Path) -> None:
    found = tomllib.loads(project.path.read_text())
    assert found["version"] == 1
    assert [about["name"] for about in found["artifact"]] == [
        *("data", "large.bin", "models/resnet.pt")
    ]
    digest = Digest.of(MODEL)
    assert found["artifact"][2] == {
        "name": "models/resnet.pt",
        "address": "prod",
        "store": "../lab",
        "run": "run-1",
        "key": "model.pt",
        "kind": "bytes",
        "sha256": digest.hex,
        "size": len(MODEL),
    }
    assert found["artifact"][0]["kind"] == "directory"
    again = LockFile(project.path)
    assert list(again) == ["data", "large.bin", "models/resnet.pt"] and len(again) == 3
    assert again["models/resnet.pt"].digest == digest and "data" in again
    with pytest.raises(NotFound, match="has no 'x'; it has data, large.bin"):
        again["x"]


def test_the_text_is_the_same_whatever_the_order_of_adding(project: LockFile, lab: Path) -> None:
    wanted = project.path.read_text()
    other = LockFile(project.path.with_name("other.lock"))
    with holdfast.open(lab) as store:
        for name in ("data", "models/resnet.pt", "large.bin", "data"):
            other.add(store, name, project[name].address)
    assert other.path.read_text() == wanted


def test_a_job_gets_exactly_those_bytes(project: LockFile, tmp_path: Path) -> None:
    path = project.get("models/resnet.pt")
    assert path == project.path.parent / "models/resnet.pt" and path.read_bytes() == MODEL
    assert project.read("models/resnet.pt") == MODEL
    with project.open("large.bin") as file:
        file.seek(1 << 20)
        assert len(file.read(10)) == 10
    folder = project.get("data", tmp_path / "out")
    assert (folder / "deep/x").read_bytes() == b"x" * 1000
    assert [one.problem for one in project.check()] == [None] * 3


def test_the_lock_stays_where_it_is_when_the_alias_moves(project: LockFile, lab: Path) -> None:
    with holdfast.open(lab) as store:
        store.add_artifact_file("run-1", b"!" * len(MODEL), "model.pt")
        store.alias("prod", "run-1:model.pt")
        assert store.read_artifact("prod") != MODEL
        assert project.read("models/resnet.pt") == MODEL
        project.add(store, "models/resnet.pt", "prod")
    assert project.read("models/resnet.pt") == b"!" * len(MODEL)


def test_what_is_there_and_right_needs_no_store(project: LockFile, lab: Path) -> None:
    path = project.get("models/resnet.pt")
    shutil.rmtree(lab)
    assert project.get("models/resnet.pt") == path
    path.write_bytes(b"other")
    with pytest.raises(NotAStore, match="models/resnet.pt: expected sha256:"):
        project.get("models/resnet.pt")


def test_what_is_there_and_different_is_not_replaced_unasked(project: LockFile) -> None:
    path = project.path.parent / "large.bin"
    path.write_bytes(b"mine")
    with pytest.raises(Exists):
        project.get("large.bin")
    assert path.read_bytes() == b"mine"
    assert project.get("large.bin", overwrite=True).stat().st_size == 3 << 20
    (project.path.parent / "models/resnet.pt").mkdir(parents=True)
    with pytest.raises(Exists):
        project.get("models/resnet.pt")


@pytest.mark.parametrize("name", ["models/resnet.pt", "large.bin"])
def test_bytes_that_were_replaced_by_others_of_the_same_size_fail(
    project: LockFile, lab: Path, tmp_path: Path, name: str
) -> None:
    expected = project[name].digest
    found = Digest.of(damage(lab, expected))
    acts: list[Callable[[], Any]] = [
        lambda: project.get(name, tmp_path / "out"),
        lambda: project.read(name),
        lambda: holdfast.LockFile(project.path).get(name),
    ]
    for act in acts:
        with pytest.raises(DigestMismatch) as caught:
            act()
        for part in (name, str(expected), str(found)):
            assert part in caught.value.message
        assert (caught.value.expected, caught.value.found) == (str(expected), str(found))
    assert not (tmp_path / "out").exists()
    problems = {one.locked.name: one.problem for one in project.check()}
    assert isinstance(problems.pop(name), DigestMismatch)
    assert set(problems.values()) == {None}


def test_a_file_of_a_directory_that_was_replaced_fails(project: LockFile, lab: Path) -> None:
    with holdfast.open(lab) as store:
        digest = store.artifact("run-1:folder/deep/x").digest
        store.materialize("run-1", "folder")
    damage(lab, digest)
    with pytest.raises(Corrupt, match="data: expected"):
        project.get("data")
    assert isinstance(project.check(["data"])[0].problem, Corrupt)


def test_the_first_store_that_has_them_whole_gives_them(
    project: LockFile, lab: Path, tmp_path: Path
) -> None:
    shutil.copytree(lab, tmp_path / "copy")
    holdfast.open(tmp_path / "empty").close()
    order = [tmp_path / "nowhere", tmp_path / "empty", lab, tmp_path / "copy"]
    lock = LockFile(project.path, stores=order)
    assert lock.read("models/resnet.pt") == MODEL
    damage(lab, Digest.of(MODEL))
    with pytest.warns(UserWarning, match="models/resnet.pt: .*lab has other bytes"):
        assert lock.read("models/resnet.pt") == MODEL
    damage(tmp_path / "copy", Digest.of(MODEL))
    with pytest.raises(DigestMismatch) as caught:
        lock.read("models/resnet.pt")
    for part in ("nowhere", "empty has it not", "lab has other bytes", "copy has other bytes"):
        assert part in caught.value.message
    with holdfast.open(tmp_path / "empty") as store:
        with pytest.raises(ArtifactNotFound, match="large.bin: expected .* has it not"):
            LockFile(project.path, stores=[store]).read("large.bin")
        assert store.runs() == [], "a store that was open stays open"


def test_an_entry_is_used_like_an_artifact(project: LockFile, lab: Path) -> None:
    with holdfast.open(lab) as store:
        with store.start_run("use", run_id="use-1", capture=False) as run:
            assert run.use_artifact(project["models/resnet.pt"]).read() == MODEL
        assert [one.run_id for one in store.run("use-1").inputs] == ["run-1"]


def test_what_cannot_be_locked(project: LockFile, lab: Path) -> None:
    before = project.path.read_text()
    with holdfast.open(lab) as store:
        for name, address, error in [
            ("../up", "prod", InvalidValue),
            ("/abs", "prod", InvalidValue),
            ("", "prod", InvalidValue),
            ("x", "run-1", InvalidValue),
            ("x", "no/body", AliasNotFound),
            ("x", "sha256:" + "0" * 64, ArtifactNotFound),
        ]:
            with pytest.raises(error):
                project.add(store, name, address)
        digest = str(store.artifact("run-1:folder").digest)
        assert project.add(store, "tree", digest).kind == "directory"
        project.remove("tree")
    assert project.path.read_text() == before
    with pytest.raises(NotFound):
        project.remove("nothing")


def test_a_lock_from_a_snapshot_names_the_store(project: LockFile, lab: Path) -> None:
    with holdfast.open(lab) as store:
        store.snapshot("paper")
        store.add_artifact_file("run-1", b"newer", "model.pt")
    with holdfast.open(lab, at="paper") as then:
        locked = project.add(then, "then", "run-1:model.pt")
    assert (locked.store, locked.digest) == ("../lab", Digest.of(MODEL))
    assert project.read("then") == MODEL


# The text.

HAND_WRITTEN = """\
# What this job needs.
version = 1   # of the format

[owner]
team = "vision"

# The model in production.
# Ask Ada before you move it.
[[artifact]]
name = "resnet"       # called so everywhere
kind = 'bytes'
size = 4
sha256 = "{old}"  # of June
store = "s3://bucket/lab"
run = "run-1"
key = "model.pt"
note = "mine"

# The other one.
[[artifact]]
name = "zeta"
store = "lab"
sha256 = "{old}"
size = 4
"""
OLD, NEW = Digest.of(b"old!"), Digest.of(b"new bytes")


def test_comments_order_and_foreign_keys_stay() -> None:
    before = HAND_WRITTEN.format(old=OLD.hex)
    known = text.parse(before, place="p")
    assert known["zeta"].kind == "file" and known["zeta"].address == str(OLD)
    moved = replace(known["resnet"], digest=NEW, size_bytes=9, run_id=None, key=None, address="a")
    after = text.put(before, moved, place="p")
    wanted = before.replace(OLD.hex, NEW.hex, 1).replace("size = 4", "size = 9", 1)
    wanted = wanted.replace('run = "run-1"\nkey = "model.pt"\n', "")
    wanted = wanted.replace('note = "mine"\n', 'note = "mine"\naddress = "a"\n')
    assert after == wanted
    third = Locked("middle", "x", "lab", NEW, 9, "file")
    added = text.put(after, third, place="p")
    assert list(text.parse(added, place="p")) == ["resnet", "zeta", "middle"] or (
        added.index('"middle"') < added.index('"resnet"')
    )
    assert text.remove(added, "middle", place="p") == after
    assert "# The other one.\n[[artifact]]" in added
    gone = text.remove(after, "resnet", place="p")
    assert "Ask Ada" not in gone and "# The other one." in gone and 'team = "vision"' in gone


def test_what_cannot_be_changed_in_place_is_left_alone() -> None:
    for before in (
        f'version = 1\nartifact = [{{name = "a", store = "s", sha256 = "{OLD.hex}", size = 4}}]\n',
        f'version = 1\n[[artifact]]\nname = """a"""\nstore = "s"\nsha256 = "{OLD.hex}"\nsize = 4\n',
        f'version = 1\n[[artifact]]\n"name" = "a"\nstore = "s"\nsha256 = "{OLD.hex}"\nsize = 4\n',
        f'version = 1\n[[artifact]]\nname = "a"\nstore = "s"\nsha256 = "{OLD.hex}"\nsize = 0x4\n',
    ):
        (locked,) = text.parse(before, place="p").values()
        for act in (
            lambda b=before, one=locked: text.put(
                b, replace(one, digest=NEW, size_bytes=9), place="p"
            ),
            lambda b=before: text.remove(b, "a", place="p"),
        ):
            with suppress(InvalidValue):
                found = text.parse(act(), place="p")
                assert found in ({}, {"a": replace(locked, digest=NEW, size_bytes=9)})
    with pytest.raises(InvalidValue, match="cannot be changed safely"):
        text.put(before, replace(locked, digest=NEW, size_bytes=9), place="p")


ENTRY = f'[[artifact]]\nname = "a"\nstore = "s"\nsha256 = "{OLD.hex}"\nsize = 4\n'


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("version = ", "is not TOML"),
        ("", "has version None"),
        ("version = 2\n", "has version 2"),
        ("version = 1\nartifact = 7\n", "are tables"),
        ("version = 1\nartifact = [7]\n", "are tables"),
        ("version = 1\n" + ENTRY + ENTRY, "has 'a' twice"),
        ("version = 1\n" + ENTRY.replace('"a"', "7"), "without a name"),
        ("version = 1\n" + ENTRY.replace('"a"', '"../a"'), "the part '..'"),
        ("version = 1\n" + ENTRY.replace("size = 4", "size = -4"), "size of 'a' is -4"),
        ("version = 1\n" + ENTRY.replace("size = 4", "size = true"), "size of 'a' is True"),
        ("version = 1\n" + ENTRY.replace(OLD.hex, "12"), "not a sha256"),
        ("version = 1\n" + ENTRY.replace(f'"{OLD.hex}"', "7"), "not a sha256"),
        ("version = 1\n" + ENTRY.replace('store = "s"\n', ""), "store of 'a' is None"),
        ("version = 1\n" + ENTRY.replace('"s"', "7"), "store of 'a' is 7"),
        ("version = 1\n" + ENTRY + "kind = 'link'\n", "kind of 'a'"),
        ("version = 1\n" + ENTRY + "run = 7\n", "run of 'a' is 7"),
    ],
)  # fmt: skip
def test_what_is_no_lock_file_is_told(tmp_path: Path, bad: str, reason: str) -> None:
    path = tmp_path / "holdfast.lock"
    path.write_text(bad + " " if bad else " ")
    with pytest.raises(InvalidValue, match="holdfast.lock") as caught:
        LockFile(path)
    assert reason in caught.value.message


def test_a_file_that_is_not_there_locks_nothing(tmp_path: Path) -> None:
    lock = LockFile(tmp_path / "holdfast.lock")
    assert list(lock) == [] and lock.check() == []
    assert not lock.path.exists()


def test_a_failure_while_it_is_written_leaves_the_old_file(
    project: LockFile, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = project.path.read_text()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with holdfast.open(lab) as store, pytest.raises(OSError, match="No space"):
        project.add(store, "another", "prod")
    assert project.path.read_text() == before
    assert [path.name for path in project.path.parent.iterdir()] == ["holdfast.lock"]
    assert "another" not in project


plain = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
names = st.text("ab/c.é-", min_size=1, max_size=8).filter(
    lambda name: all(part not in ("", ".", "..") for part in name.split("/"))
)
entries = st.builds(
    Locked,
    names,
    plain.filter(bool),
    plain.filter(bool),
    st.binary(max_size=4).map(Digest.of),
    st.integers(0, 1 << 62),
    st.sampled_from(["file", "bytes", "directory"]),
    st.none() | plain,
    st.none() | plain,
)


@given(st.lists(st.tuples(st.booleans(), entries), max_size=8))
def test_any_changes_say_what_they_should(todo: list[tuple[bool, Locked]]) -> None:
    content, wanted = "", dict[str, Locked]()
    for is_put, locked in todo:
        if is_put or locked.name not in wanted:
            content = text.put(content, locked, place="p")
            wanted[locked.name] = locked
        else:
            content = text.remove(content, locked.name, place="p")
            del wanted[locked.name]
        assert text.parse(content, place="p") == wanted
    if content:
        found = [about["name"] for about in tomllib.loads(content).get("artifact", [])]
        assert found == sorted(wanted)
        assert "\n\n\n" not in content and content.endswith("\n")


def test_errors_that_are_not_of_a_store_are_not_hidden(project: LockFile) -> None:
    with ExperimentStore() as store, pytest.raises(HoldfastError):
        LockFile(project.path, stores=[store]).read("data")
