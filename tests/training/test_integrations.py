"""The callbacks inside the real Trainers: what they log and save is in the store, exactly, and trains on."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.testing import assert_array_equal

import holdfast

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs, not ours


@pytest.fixture
def lab(tmp_path: Path) -> Any:
    with holdfast.open(tmp_path / "lab") as store:
        yield store


def test_lightning(lab: Any, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightning.pytorch as lightning

        from holdfast.integrations.lightning import HoldfastCallback

    class Model(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(64, 64)

        def training_step(self, batch: Any, index: int) -> Any:
            loss = self.layer(batch[0]).square().mean()
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters())

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(8, 64)), 4)

    def trainer(epochs: int, *callbacks: Any) -> Any:
        return lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks),
            default_root_dir=tmp_path,
        )  # fmt: skip

    model = Model()
    with lab.start_run("l", run_id="r", capture=False) as run:
        fit = trainer(3, HoldfastCallback(run, keep_last=2, keep_best=("loss", "min", 1)))
        fit.fit(model, data)
    assert lab.metrics("r", "loss").steps.tolist() == [2, 4, 6]
    assert [about.key for about in lab.artifacts("r")] == [
        "checkpoints/4.ckpt",
        "checkpoints/6.ckpt",
    ]
    whole = lab.load_checkpoint("r", framework="torch")
    assert torch.equal(whole["state_dict"]["layer.weight"], model.layer.weight.detach())
    flat = lab.load_checkpoint("r")
    assert_array_equal(flat["state_dict.layer.weight"], model.layer.weight.detach().numpy())
    assert "optimizer_states.0.state.0.exp_avg" in flat
    path = lab.get_artifact("r", "checkpoints/6.ckpt", to=tmp_path / "six.ckpt")
    again = trainer(4)
    again.fit(Model(), data, ckpt_path=path, weights_only=False)
    assert again.global_step == 8


def test_transformers(lab: Any, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        from holdfast.integrations.transformers import HoldfastCallback

    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=32, vocab_size=64, n_positions=16)
    tokens = [{"input_ids": torch.arange(16), "labels": torch.arange(16)} for _ in range(8)]

    def trainer(steps: int, *callbacks: Any) -> Any:
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / "out"), max_steps=steps, save_steps=2, logging_steps=2,
            per_device_train_batch_size=4, report_to=[], use_cpu=True, disable_tqdm=True,
            save_total_limit=1,
        )  # fmt: skip
        return transformers.Trainer(
            transformers.GPT2LMHeadModel(config), arguments, train_dataset=tokens,
            callbacks=list(callbacks),
        )  # fmt: skip

    with lab.start_run("t", run_id="r", capture=False) as run:
        first = trainer(6, HoldfastCallback(run, keep_last=2))
        first.train()
    assert lab.metrics("r", "loss").steps.tolist() == [2, 4, 6]
    assert [about.key for about in lab.artifacts("r")] == ["checkpoints/4", "checkpoints/6"]
    flat = lab.load_checkpoint("r")
    name = "transformer.h.0.attn.c_attn.weight"
    weights = first.model.state_dict()[name].numpy()
    assert_array_equal(flat[name], weights)
    folder = lab.get_artifact("r", "checkpoints/4", to=tmp_path / "checkpoint-4")
    again = trainer(8)
    again.train(resume_from_checkpoint=str(folder))
    assert again.state.global_step == 8
