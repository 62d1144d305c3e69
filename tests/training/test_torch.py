"""What torch, safetensors and ml_dtypes make is stored exactly, and read as they read it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy as safetensors_numpy
import torch
import torch.distributed.checkpoint as dcp
from numpy.testing import assert_array_equal

import holdfast
from holdfast import arrays
from test_tensors import SMALL, model, safetensors


@pytest.fixture
def run(store: holdfast.ExperimentStore) -> Any:
    with store.start_run("t", run_id="r", capture=False) as opened:
        yield opened


def trained() -> tuple[Any, Any]:
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(300, 400), torch.nn.Linear(400, 300))
    module[1].weight = torch.nn.Parameter(module[0].weight.detach().t().contiguous())
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(2, 300)).sum().backward()
    optimizer.step()
    return module, optimizer


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def test_a_module_is_stored_by_its_tensors(run: Any) -> None:
    module, _ = trained()
    module = module.to(torch.bfloat16)
    run.log_checkpoint(module, step=1)
    found = run.store.load_checkpoint("r", framework="torch")
    assert same(dict(module.state_dict()), found)


@pytest.mark.parametrize("layout", ["plain", "packed"])
def test_module_and_optimizer_come_back_as_torch_saved_them(run: Any, layout: str) -> None:
    module, optimizer = trained()
    whole = {"model": module.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    run.log_checkpoint(whole, step=1, layout=layout)
    assert same(whole, run.store.load_checkpoint("r", framework="torch"))
    flat = run.store.load_checkpoint("r")
    moment = optimizer.state_dict()["state"][0]["exp_avg"]
    assert_array_equal(flat["optimizer.state.0.exp_avg"], moment.numpy())
    assert_array_equal(flat["model.0.weight"], module[0].weight.detach().numpy())


def test_views_and_odd_types_of_torch(run: Any, tmp_path: Path) -> None:
    base = torch.arange(60_000, dtype=torch.float32).reshape(200, 300)
    made = {
        "turned": base.t(), "part": base[10:20, 5:50], "half": base.to(torch.float16),
        "brain": base.to(torch.bfloat16), "small": base.to(torch.float8_e5m2), "one": base[3, 4],
        "truth": base > 5, "complex": torch.complex(base, base),
    }  # fmt: skip
    torch.save(made, tmp_path / "m.pt")
    run.log_artifact(tmp_path / "m.pt", "m.pt")
    with run.store.open_tensors("r", "m.pt") as tensors:
        for name, tensor in made.items():
            found = tensors.torch(name)
            assert found.shape == tensor.shape and found.dtype == tensor.dtype
            bits = tensor.contiguous().reshape(-1).view(torch.uint8)
            assert torch.equal(found.reshape(-1).view(torch.uint8), bits)
            assert tensors.info(name).shape == tuple(tensor.shape)
        rows = tensors.get_slice("turned")[5:7]
        assert_array_equal(rows, made["turned"][5:7].numpy())


def test_a_distributed_checkpoint_has_the_names_of_the_model(run: Any, tmp_path: Path) -> None:
    model = {
        "layer.w": torch.randn(300, 200), "b": torch.ones(7, dtype=torch.bfloat16), "step": 3,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        dcp.save({"model": model}, checkpoint_id=str(tmp_path / "dcp"), no_dist=True)
    run.log_artifact(tmp_path / "dcp", "dcp")
    tensors = run.store.open_tensors("r", "dcp")
    assert set(tensors.keys()) == {"model.layer.w", "model.b"}
    assert torch.equal(tensors.torch("model.layer.w"), model["layer.w"])
    assert torch.equal(tensors.torch("model.b"), model["b"])
    back = run.store.get_artifact("r", "dcp", to=tmp_path / "back")
    for path in (tmp_path / "dcp").iterdir():
        assert (back / path.name).read_bytes() == path.read_bytes()


def test_our_safetensors_are_those_of_the_package(run: Any) -> None:
    state = model()
    found = safetensors_numpy.load(safetensors(state))
    assert found.keys() == state.keys()
    assert all(np.array_equal(found[name], state[name]) for name in state)
    run.log_artifact(safetensors_numpy.save(state), "m")
    assert_array_equal(run.store.open_tensors("r", "m")["phase"], state["phase"])


@pytest.mark.parametrize("dtype", SMALL)
def test_floats_that_numpy_lacks_have_the_values_of_ml_dtypes(dtype: str) -> None:
    codes = np.arange(65536, dtype="u2") if dtype == "BF16" else np.arange(256, dtype="u1")
    theirs = codes.view(getattr(ml_dtypes, SMALL[dtype]))
    assert_array_equal(arrays.floats(codes, dtype), theirs.astype(np.float32))
    assert arrays.native(codes, dtype).dtype == theirs.dtype
    assert arrays.from_numpy(theirs)[0] == dtype
