"""Checkpoints of a run: what goes in comes back, and the right names are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import holdfast
from holdfast.codecs.family import FEW
from holdfast.errors import ArtifactNotFound, InvalidValue, MetricNotFound
from holdfast.ops.checkpoints import Best, superfluous


def state(step: int) -> dict[str, Any]:
    return {"w": np.full((40, 50), step, "f4"), "b": np.arange(3) + step}


def keys(store: holdfast.ExperimentStore) -> list[str]:
    return [about.key for about in store.artifacts("r")]


@pytest.fixture
def run(store: holdfast.ExperimentStore) -> Any:
    with store.start_run("t", run_id="r", capture=False) as opened:
        yield opened


def test_a_map_of_arrays_comes_back(run: Any) -> None:
    run.log({"loss": 1.0}, step=7)
    about = run.log_checkpoint(state(7))
    assert about.key == "checkpoints/7"
    found = run.store.load_checkpoint("r")
    assert_array_equal(found["w"], state(7)["w"])
    assert_array_equal(found["b"], state(7)["b"])


def test_a_path_goes_in_as_it_is(run: Any, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"anything")
    run.log_checkpoint(tmp_path / "model.bin", step=3, key="m/{step}.bin")
    assert run.store.read_artifact("r", "m/3.bin") == b"anything"


def test_last_and_best_keep_their_names(run: Any) -> None:
    for step, loss in enumerate([5, 1, 3, 2, 4, 6]):
        run.log({"loss": loss}, step=step)
        run.log_artifact(b"other", f"notes/{step}")
        run.log_checkpoint(state(step), keep_last=2, keep_best=("loss", "min", 2))
    kept = [key for key in keys(run.store) if key.startswith("checkpoints/")]
    assert kept == ["checkpoints/1", "checkpoints/3", "checkpoints/4", "checkpoints/5"]
    assert len(keys(run.store)) == 10  # nothing else lost its name
    assert run.store.load_checkpoint("r", "best")["w"][0, 0] == 1
    assert run.store.load_checkpoint("r", "last")["w"][0, 0] == 5
    assert run.store.load_checkpoint("r", 3)["w"][0, 0] == 3
    with pytest.raises(ArtifactNotFound, match="no checkpoint of step 2; it has 1, 3, 4, 5"):
        run.store.load_checkpoint("r", 2)


@pytest.mark.parametrize("kept", [1, 2, 3, 4])
def test_few_that_are_kept_take_less_than_plain(store: holdfast.ExperimentStore, kept: int) -> None:
    """A base whose own name is gone stays as long as what was encoded against it."""
    draw = np.random.default_rng(1)
    weights = draw.normal(0, 0.02, 600_000).astype("f4")
    frozen = draw.normal(0, 0.02, 300_000).astype("f4")
    with store.start_run("t", run_id="r", capture=False) as run:
        for step in range(8):
            run.log_checkpoint({"w": weights, "frozen": frozen}, step=step, keep_last=kept)
            weights += draw.normal(0, 1e-3, weights.size).astype("f4")
            if step >= kept:
                [row] = store.du(by="run").rows
                assert row.freed_bytes < row.logical_bytes
    assert_array_equal(store.load_checkpoint("r")["frozen"], frozen)  # which is stored once
    if kept < FEW:
        [row] = store.du(by="run").rows
        assert row.freed_bytes < frozen.nbytes + kept * weights.nbytes


def test_a_resumed_run_counts_the_checkpoints_from_before(store: holdfast.ExperimentStore) -> None:
    with store.start_run("t", run_id="r", capture=False) as run:
        for step in (10, 20, 30):
            run.log_checkpoint(state(step), step=step, keep_last=2)
    with store.resume("r", step=21) as run:
        run.log_checkpoint(state(25), step=25, keep_last=2)
    assert keys(store) == ["checkpoints/25", "checkpoints/30"]
    assert (
        store.load_checkpoint("r")["w"][0, 0] == 25
    )  # of the later attempt, though its step is lower


def test_two_writers_of_a_run_do_not_lose_names(store: holdfast.ExperimentStore) -> None:
    with (
        store.start_run("t", run_id="r", capture=False) as run,
        store.join_run("r", rank=1) as other,
    ):
        run.log_checkpoint(state(1), step=1, keep_last=3)
        other.log_checkpoint(state(2), step=2, keep_last=3)
        run.log_checkpoint(state(3), step=3, keep_last=2)
    assert keys(store) == ["checkpoints/2", "checkpoints/3"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"keep_last": 0}, "keep_last=0: give a whole number from 1 on"),
        ({"keep_best": ("loss", "lowest", 1)}, 'and "min" or "max"'),
        ({"keep_best": "loss"}, 'give ."val/loss", "min", 3'),
        ({"format": "pickle"}, "give safetensors or torch"),
    ],
)
def test_mistakes_are_named_before_anything_is_stored(run: Any, wrong: Any, text: str) -> None:
    run.log({"loss": 1.0})
    with pytest.raises(InvalidValue, match=text):
        run.log_checkpoint(state(1), **wrong)
    assert keys(run.store) == []


def test_what_is_no_checkpoint_is_refused(run: Any) -> None:
    with pytest.raises(InvalidValue, match="there is no last step: give step="):
        run.log_checkpoint(state(1))
    with pytest.raises(InvalidValue, match="a path, not int"):
        run.log_checkpoint(5, step=1)
    with pytest.raises(InvalidValue, match="'epoch' of the checkpoint is no tensor"):
        run.log_checkpoint(state(1) | {"epoch": 3}, step=1, format="safetensors")
    with pytest.raises(InvalidValue, match="'o' of the checkpoint, of type object"):
        run.log_checkpoint({"o": np.array([None])}, step=1)
    with pytest.raises(MetricNotFound):
        run.log_checkpoint(state(1), step=1, keep_best=("loss", "min", 1))
    assert keys(run.store) == []


@given(
    values=st.lists(st.one_of(st.none(), st.floats(-9, 9), st.just(float("nan"))), max_size=9),
    last=st.one_of(st.none(), st.integers(1, 4)),
    count=st.integers(1, 4),
    mode=st.sampled_from(["min", "max"]),
)
def test_the_newest_and_the_best_always_stay(values: Any, last: Any, count: int, mode: str) -> None:
    known = {
        f"k{step}": {"step": step, "attempt": 1, "metrics": {} if v is None else {"m": v}}
        for step, v in enumerate(values)
    }
    kept = [key for key in known if key not in superfluous(known, last, Best("m", mode, count))]
    assert len(kept) <= (last or 1) + count
    assert kept[-1:] == list(known)[-1:]
    real = [value for value in values if value is not None and value == value]
    if real:
        best = (min if mode == "min" else max)(real)
        assert best in [known[key]["metrics"].get("m") for key in kept]
    assert superfluous(known, None, None) == []
