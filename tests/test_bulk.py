"""Many artifacts at once: one step for all of them, on every backend."""

from __future__ import annotations

from pathlib import Path

import pytest

import holdfast
from holdfast.errors import ArtifactNotFound, Exists, InvalidValue, NotFound


def test_many_are_stored_in_one_step_and_come_back(
    store: holdfast.ExperimentStore, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    sources = {f"layers/{number}": bytes([number]) * 100 for number in range(50)}
    with store.start_run("many", run_id="many", capture=False) as run:
        before = store.repository.manifest("many").load().number
        found = run.log_artifacts({**sources, "file": tmp_path / "file"})
        assert store.repository.manifest("many").load().number == before + 1
    assert list(found) == [*sources, "file"]
    assert store.read_artifacts("many") == {**sources, "file": b"from a file"}
    assert store.read_artifacts("many", ["layers/3"]) == {"layers/3": sources["layers/3"]}
    written = store.get_artifacts("many", to=tmp_path / "out")
    assert written["layers/7"] == tmp_path / "out" / "layers" / "7"
    assert {key: path.read_bytes() for key, path in written.items()} == store.read_artifacts("many")
    assert store.add_artifacts("many", {"later": b"x"})["later"].size_bytes == 1
    assert store.add_artifacts("many", {}) == {}


def test_one_that_fails_leaves_the_run_as_it_was(
    store: holdfast.ExperimentStore, tmp_path: Path
) -> None:
    with store.start_run("many", run_id="many", capture=False) as run:
        with pytest.raises(NotFound, match="no file or directory"):
            run.log_artifacts({"good": b"x", "bad": tmp_path / "nowhere"})
        with pytest.raises(InvalidValue, match="drive letter|begins with"):
            run.log_artifacts({"good": b"x", "/bad": b"y"})
        assert store.artifacts("many") == []
        run.log_artifacts({"a": b"x"})
    with pytest.raises(ArtifactNotFound, match="no artifact 'b'; it has a"):
        store.read_artifacts("many", ["a", "b"])
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(Exists, match="overwrite"):
        store.get_artifacts("many", to=tmp_path)
    assert (tmp_path / "a").read_bytes() == b"mine"
