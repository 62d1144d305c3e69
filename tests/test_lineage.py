"""Inputs of runs, and what made what: up and down, as lines, DOT and JSON."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

import holdfast
from holdfast import ExperimentStore
from holdfast.errors import ArtifactNotFound, HoldfastError, InvalidState, InvalidValue
from holdfast.format import inputs
from holdfast.format.alias import Target


def run_of(
    store: ExperimentStore, run_id: str, *, reads: tuple[Any, ...] = (), makes: tuple[str, ...] = ()
) -> None:
    """A run that reads some addresses and makes artifacts whose bytes are `RUN KEY`."""
    with store.start_run(run_id.partition("-")[0], run_id=run_id, capture=False) as run:
        for address in reads:
            run.use_artifact(address)
        for key in makes:
            run.log_artifact(f"{run_id} {key}".encode(), key=key)


@pytest.fixture
def lab(store: ExperimentStore, tmp_path: Path) -> ExperimentStore:
    """data → train-1, train-2 → eval of both; a folder, of which one file is read."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/x.csv").write_bytes(b"x")
    with store.start_run("prep", run_id="prep-1", capture=False) as run:
        run.log_artifact(b"rows", key="data.csv")
        run.log_artifact(tmp_path / "raw", key="raw")
    run_of(store, "train-1", reads=("prep-1:data.csv",), makes=("model.pt",))
    run_of(store, "train-2", reads=("prep:data.csv@v0", "prep-1:raw/x.csv"), makes=("model.pt",))
    store.alias("prod", "train-2:model.pt")
    run_of(store, "eval-1", reads=("train-1:model.pt", "prod"), makes=("report.txt",))
    return store


def test_using_an_artifact_gives_it_and_notes_it(lab: ExperimentStore, tmp_path: Path) -> None:
    with lab.start_run("use", run_id="use-1", capture=False) as run:
        used = run.use_artifact("prod")
        assert used.read() == used.open().read() == b"train-2 model.pt"
        assert used.get(tmp_path / "out.pt").read_bytes() == b"train-2 model.pt"
        assert (used.run_id, used.key, used.address) == ("train-2", "model.pt", "train-2:model.pt")
        run.use_artifact("train-1", "model.pt")
        run.use_artifact(str(used.digest))
        run.use_artifact(lab.artifact("prep-1:data.csv"))
        run.use_artifact("prep-1:raw/x.csv")
        run.use_artifact(lab.versions("prep", "data.csv")[0])
        with pytest.raises(ArtifactNotFound):
            run.use_artifact("train-1:nothing")
        with pytest.raises(InvalidValue, match="which artifact"):
            run.use_artifact("train-1")
    for about in (lab.run("use-1"), *lab.runs("run_id == 'use-1'")):
        assert [(one.run_id, one.key, one.address) for one in about.inputs] == [
            ("train-2", "model.pt", "prod"),
            ("train-1", "model.pt", "train-1:model.pt"),
            (None, None, str(used.digest)),
            ("prep-1", "data.csv", "prep-1:data.csv"),
            ("prep-1", "raw/x.csv", "prep-1:raw/x.csv"),
        ]
        assert about.inputs[0].digest == used.digest
    with pytest.raises(InvalidState, match="is finished"):
        run.use_artifact("prod")


def test_what_was_read_stays_noted_when_the_key_gets_other_bytes(lab: ExperimentStore) -> None:
    with lab.start_run("use", run_id="use-1", capture=False) as run:
        first = run.use_artifact("train-1:model.pt")
        lab.add_artifact_file("train-1", b"other", "model.pt")
        second = run.use_artifact("train-1:model.pt")
        run.use_artifact("train-1:model.pt")
    assert first.read() == b"train-1 model.pt" and second.read() == b"other"
    found = [(one.run_id, one.digest) for one in lab.run("use-1").inputs]
    assert found == [("train-1", first.digest), (None, second.digest)]


def test_a_rank_notes_what_it_reads_in_the_run(lab: ExperimentStore) -> None:
    run = lab.start_run("use", run_id="use-1", capture=False)
    with lab.join_run("use-1", rank=1) as rank:
        rank.use_artifact("prod")
    run.use_artifact("train-1:model.pt")
    run.finish()
    assert [one.run_id for one in lab.run("use-1").inputs] == ["train-2", "train-1"]


def test_noting_the_same_twice_changes_nothing() -> None:
    found = Target("r", "k", "sha256:" + "1" * 64, 3, "bytes")
    change = inputs.used({}, found, "alias", 7)
    assert change == {
        "inputs": {
            "r:k": {"digest": found.digest, "size_bytes": 3, "kind": "bytes", "address": "alias",
                    "used_at": 7}
        }
    }  # fmt: skip
    assert inputs.used(change, found, "r:k", 8) == {}
    assert inputs.origin("r:k:l") == ("r", "k:l")
    assert inputs.origin(str(found.digest)) is None


def test_up_and_down_from_an_artifact(lab: ExperimentStore) -> None:
    found = lab.lineage("train-2:model.pt")
    assert set(found.runs) == {"prep-1", "train-2", "eval-1"}
    digest = str(lab.artifact("train-2:model.pt").digest)
    assert found.start == digest
    assert found.artifacts[digest].keys == ("model.pt",)
    assert ("train-2", "model.pt", digest) in found.made
    assert ("eval-1", digest) in found.used
    assert ("prep-1", "raw/x.csv", str(lab.artifact("prep-1:raw/x.csv").digest)) in found.made
    keys = {key for node in found.artifacts.values() for key in node.keys}
    assert keys == {"model.pt", "data.csv", "raw/x.csv", "report.txt"}


def test_down_from_a_run_finds_who_read_a_file_of_a_directory(lab: ExperimentStore) -> None:
    found = lab.lineage("prep-1", up=0)
    assert set(found.runs) == {"prep-1", "train-1", "train-2", "eval-1"}
    assert {key for _, key, _ in found.made} >= {"raw", "raw/x.csv", "report.txt"}
    below = lab.lineage("prep-1:raw", up=0)
    assert set(below.runs) == {"prep-1", "train-2", "eval-1"}


@pytest.mark.parametrize(
    ("up", "down", "runs"),
    [
        (0, 0, set()),
        (1, 0, {"train-1"}),
        (2, 0, {"train-1", "prep-1"}),
        (None, 0, {"train-1", "prep-1"}),
        (0, 1, {"eval-1"}),
        (1, 1, {"train-1", "eval-1"}),
    ],
)
def test_only_so_far(
    lab: ExperimentStore, up: int | None, down: int | None, runs: set[str]
) -> None:
    found = lab.lineage("train-1:model.pt", up=up, down=down)
    assert set(found.runs) == runs
    assert str(lab.artifact("train-1:model.pt").digest) in found.artifacts


def test_bytes_named_by_their_digest_were_made_by_whoever_has_them(lab: ExperimentStore) -> None:
    run_of(lab, "copy-1")
    lab.add_artifact_file("copy-1", b"rows", "the same")
    digest = str(lab.artifact("prep-1:data.csv").digest)
    assert set(lab.lineage(digest, down=0).runs) == {"prep-1", "copy-1"}
    run_of(lab, "use-1", reads=(digest,))
    found = lab.lineage("use-1", down=0)
    assert set(found.runs) == {"use-1", "prep-1", "copy-1"}
    assert found.artifacts[digest].keys == ("data.csv", "the same")


def test_runs_that_are_deleted_or_elsewhere_are_said_to_be(lab: ExperimentStore) -> None:
    lab.delete_run("train-2")
    with lab.start_run("use", run_id="use-1", capture=False) as run:
        elsewhere = Target("far-1", "w.pt", "sha256:" + "7" * 64, 5, "file")
        run.use_artifact(holdfast.StoredArtifact.of(lab.repository, elsewhere))
        run.use_artifact("prod")
    text = str(lab.lineage("use-1"))
    assert "made by run far-1, which is not in this store" in text
    assert "made by run train-2 of train, Success, deleted" in text


def test_the_tree_of_lines(lab: ExperimentStore) -> None:
    digests = {
        key: str(lab.artifact(address).digest)
        for key, address in {
            "D": "prep-1:data.csv",
            "M": "train-1:model.pt",
            "N": "train-2:model.pt",
            "X": "prep-1:raw/x.csv",
            "R": "eval-1:report.txt",
        }.items()
    }
    text = str(lab.lineage("eval-1"))
    for name, digest in digests.items():
        text = text.replace(digest, name)
    lines = text.splitlines()
    assert lines[0] == "run eval-1 of eval, Success"
    assert lines[-1] == "├ made report.txt (R)"
    assert "├ read model.pt (M)" in lines
    assert "│ ├ made by run train-1 of train, Success" in lines
    assert "│ │ ├ read data.csv (D)" in lines or "│ │ ├ read data.csv (D) (see above)" in lines
    assert text.count("(see above)") == text.count("prep-1") - 1 + text.count("(D) (see above)")


def test_dot_is_what_graphviz_reads(lab: ExperimentStore) -> None:
    with lab.start_run('odd "name"', run_id="odd-1", capture=False) as run:
        run.use_artifact("prod")
        run.log_artifact(b"1", key='quo"te')
    text = lab.lineage("prod").to_dot()
    assert text == lab.lineage("prod").to_dot()
    assert text.startswith("digraph lineage {\n  rankdir=LR;\n") and text.endswith("}\n")
    digest = lab.artifact("prod").digest
    assert f'  "run train-2" -> "{digest}";' in text
    assert f'  "{digest}" -> "run eval-1";' in text
    assert '\\"name' in text and 'quo\\"te' in text
    if shutil.which("dot"):
        subprocess.run(["dot", "-Tsvg"], input=text.encode(), capture_output=True, check=True)


def test_json_says_everything(lab: ExperimentStore) -> None:
    found = json.loads(json.dumps(lab.lineage("prod").to_dict()))
    assert [run["run_id"] for run in found["runs"]] == ["eval-1", "prep-1", "train-2"]
    assert found["runs"][0] == {
        "run_id": "eval-1", "experiment": "eval", "state": "Success", "deleted": False,
    }  # fmt: skip
    assert {"run_id": "eval-1", "digest": found["start"]} in found["used"]
    assert all(about["size_bytes"] for about in found["artifacts"] if "data.csv" in about["keys"])


def test_inputs_are_a_view_of_sql(lab: ExperimentStore) -> None:
    query = (
        "SELECT i.run_id, a.run_id AS maker FROM inputs i JOIN artifacts a USING (digest)"
        " WHERE a.key = 'model.pt' ORDER BY maker"
    )
    assert lab.sql(query).rows == [("eval-1", "train-1"), ("eval-1", "train-2")]
    assert lab.sql("SELECT key FROM inputs WHERE run_id = 'train-1'").rows == [("prep-1:data.csv",)]
    assert "inputs" not in str(lab._ask(lambda catalog: catalog.field_names()))


def test_a_digest_is_looked_up_in_an_index(lab: ExperimentStore) -> None:
    plan = lab._ask(
        lambda catalog: catalog._db.execute(
            "EXPLAIN QUERY PLAN SELECT 1 FROM field v WHERE v.text GLOB 'sha256:*' AND v.text = ?",
            ("x",),
        ).fetchall()
    )
    assert "field_digest" in str(plan)


# Against a search that looks at everything.


@example_settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 8), max_size=3), max_size=8), st.data())
def test_it_finds_what_a_search_of_everything_finds(
    graph: list[list[int]], data: st.DataObject
) -> None:
    store = ExperimentStore()
    reads: dict[str, set[str]] = {}
    for number, wanted in enumerate(graph):
        reads[f"r-{number}"] = {f"r-{other}" for other in wanted if other < number}
        addresses = tuple(f"{other}:out" for other in sorted(reads[f"r-{number}"]))
        run_of(store, f"r-{number}", reads=addresses, makes=("out",))
    if not reads:
        return
    start = data.draw(st.sampled_from(sorted(reads)))

    def closure(steps: dict[str, set[str]]) -> set[str]:
        found, left = {start}, [start]
        while left:
            for other in steps.get(left.pop(), set()) - found:
                found.add(other)
                left.append(other)
        return found

    readers = {one: {other for other in reads if one in reads[other]} for one in reads}
    assert set(store.lineage(start, down=0).runs) == closure(reads)
    assert set(store.lineage(start, up=0).runs) == closure(readers)
    assert set(store.lineage(start).runs) == closure(reads) | closure(readers)
    text = str(store.lineage(start))
    assert all(f"run {one} " in text for one in closure(reads) | closure(readers))


def test_what_is_not_there_has_no_lineage(lab: ExperimentStore) -> None:
    for address in ("nobody", "sha256:" + "0" * 64, "train-1:x"):
        with pytest.raises(HoldfastError):
            lab.lineage(address)
