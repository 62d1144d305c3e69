"""What a run needs is all that it needs: in a store of these files alone, all of it is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import holdfast
from holdfast.format import layout
from holdfast.ops import reach


def filled(path: Path) -> holdfast.ExperimentStore:
    store = holdfast.open(path)
    weights = np.random.default_rng(0).standard_normal(400_000).astype("f4")
    tree = path.parent / "tree"
    tree.mkdir()
    (tree / "a.txt").write_text("a")
    (tree / "b.txt").write_text("b" * 10_000)
    for run_id in ("one", "two"):
        with store.start_run("exp", run_id=run_id, capture=False) as run:
            for step in range(100):
                run.log({"loss": 1 / (step + 1)}, step=step)
            np.save(path.parent / "w.npy", weights)
            run.log_artifact(path.parent / "w.npy", key="w")
            weights[::7] += 1e-3
            np.save(path.parent / "w.npy", weights)
            run.log_artifact(path.parent / "w.npy", key="w2", layout="packed")
            run.log_artifact(tree, key="tree")
    return store


def test_the_files_a_run_needs_are_all_it_needs(tmp_path: Path) -> None:
    store = filled(tmp_path / "lab")
    repository = store.repository
    found = reach.of_run(repository, "one")
    homes = reach.Homes(repository.backend)
    names = {layout.STORE, *found.segments}
    for digest in found.artifacts:
        names |= homes.files(digest)
    for prefix, snapshot in found.chains.items():
        names |= {layout.entry(prefix, number) for number in range(snapshot.number + 1)}
    names |= {s.name for s in repository.backend.walk(layout.experiment(found.experiment_id))}
    names |= {layout.head(layout.experiment(found.experiment_id), 0)}
    other = tmp_path / "other"
    for name in names:
        target = other / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(repository.backend.get(name) if "heads" not in name else b"x")
    with holdfast.open(other) as copy:
        assert copy.verify() == []
        assert copy.metrics("one", "loss").steps.tolist() == list(range(100))
        for key in ("w", "w2"):
            assert copy.read_artifact("one", key) == store.read_artifact("one", key)
        assert (Path(copy.get_artifact("one", "tree", to=tmp_path / "got")) / "b.txt").exists()
    store.close()


def test_sizes_are_those_of_the_files(tmp_path: Path) -> None:
    with filled(tmp_path / "lab") as store:
        found = reach.of_run(store.repository, "two")
        for name, size in found.segments.items():
            assert store.repository.backend.stat(name).size_bytes == size
        assert len(found.artifacts) == 5  # two files, a listing, and its two members
