"""Checkpoints that two processes save together are one checkpoint here, and are loaded by two again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from rank_of_two import model

import holdfast

SCRIPT = Path(__file__).with_name("rank_of_two.py")


def together(meeting: Path, *arguments: Path) -> None:
    """Both ranks, each a process."""
    ranks = [
        subprocess.Popen([sys.executable, SCRIPT, str(rank), meeting, *arguments])
        for rank in range(2)
    ]
    assert [rank.wait() for rank in ranks] == [0, 0]


def test_two_ranks(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    together(tmp_path / "first", saved)
    files = {path.name: path.read_bytes() for path in saved.iterdir()}
    assert {"__0_0.distcp", "__1_0.distcp", ".metadata"} <= files.keys()
    with holdfast.open(tmp_path / "lab") as store:
        with store.start_run("t", run_id="r", capture=False) as run:
            run.log_artifact(saved, "checkpoints/1", layout="packed")
        tensors = store.open_tensors("r", "checkpoints/1")
        assert set(tensors.keys()) == {f"model.{name}" for name in model(1)}
        for name, tensor in model(1).items():
            assert torch.equal(tensors.torch(f"model.{name}"), tensor)
            assert tensors.info(f"model.{name}").shape == tuple(tensor.shape)
        back = store.get_artifact("r", "checkpoints/1", to=tmp_path / "back")
        assert {path.name: path.read_bytes() for path in back.iterdir()} == files
        assert store.verify() == []
    together(tmp_path / "second", tmp_path / "unused", back)
