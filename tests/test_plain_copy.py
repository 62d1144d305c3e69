"""A plain tool copies a store while it is written: in the documented order the copy is whole."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import holdfast

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "copy-with-plain-tools.md"
ORDER = [
    ["runs/*/spool"],
    ["aliases", "snapshots"],
    ["runs/*/manifest", "runs/*/ranks"],
    ["experiments", "absent", "gc", "runs/*/segments", "recipes"],
    ["packs", "blobs"],
    ["store.json"],
]


class Training:
    """Logs a bit more of everything each time it is asked to."""

    def __init__(self, root: Path) -> None:
        self.store = holdfast.open(root)
        self.run = self.store.start_run("live", run_id="live", capture=False)
        self.weights = np.random.default_rng(1).normal(size=1 << 19).astype(np.float32)
        self.step = 0

    def go_on(self) -> None:
        self.step += 1
        self.run.log({"x": self.step}, step=self.step)
        self.weights[: 1 << 12] += 1
        self.run.log_checkpoint({"w": self.weights}, step=self.step, layout="packed")
        self.run.log_artifact(random.Random(self.step).randbytes(5_000), key=f"a/{self.step}")
        self.run._writer.seal(go_on=True)
        with self.store.start_run(f"e{self.step}", run_id=f"r{self.step}", capture=False) as other:
            other.log({"y": 1.0})
        self.store.alias("newest", f"live:a/{self.step}")

    def end(self) -> None:
        self.run.finish()
        self.store.close()


def copy_pass(source: Path, target: Path, names: list[str]) -> None:
    """Copy what there is of these names, as a tool that has listed them once."""
    for name in names:
        for path in source.glob(name):
            files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
            for file in files:
                place = target / file.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)


def copied(tmp_path: Path, order: list[list[str]], between: Callable[[Training], None]) -> Path:
    training = Training(tmp_path / "lab")
    training.go_on()
    target = tmp_path / "copy"
    for names in order:
        copy_pass(tmp_path / "lab", target, names)
        between(training)
    training.end()
    return target


def test_the_order_of_the_page_is_that_of_the_tests() -> None:
    section = PAGE.read_text().partition("let each pass end")[2].partition("This is the order")[0]
    passes = re.findall(r"^\d\. (.*)$", section, re.MULTILINE)
    found = [[name.rstrip("/") for name in re.findall(r"`([^`]+)`", line)] for line in passes]
    assert found == ORDER


def test_writes_between_the_passes_leave_the_copy_whole(tmp_path: Path) -> None:
    target = copied(tmp_path, ORDER, Training.go_on)
    with holdfast.open(target, read_only=True) as store:
        assert store.verify() == []
        assert store.run("live").artifacts
        assert store.read_artifact("newest")


def test_the_order_of_writing_would_not(tmp_path: Path) -> None:
    """That the order matters: bytes first, names last."""
    target = copied(tmp_path, ORDER[::-1], Training.go_on)
    with holdfast.open(target, read_only=True) as store:
        assert any(one.code == "missing" for one in store.verify())


@pytest.mark.server
def test_rsync_copies_a_store_in_the_middle_of_a_run(tmp_path: Path) -> None:
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed: `python3 do.py servers` installs it")
    script = tmp_path / "copy-store"
    script.write_text(re.findall(r"```sh\n(#!/bin/sh.*?)```", PAGE.read_text(), re.DOTALL)[0])
    training, stop = Training(tmp_path / "lab"), threading.Event()
    training.go_on()

    def train() -> None:
        while not stop.is_set() and training.step < 200:
            training.go_on()

    thread = threading.Thread(target=train)
    thread.start()
    try:
        for round_ in range(3):
            copy = ["sh", str(script), str(tmp_path / "lab"), str(tmp_path / "copy")]
            subprocess.run(copy, check=True)
            with holdfast.open(tmp_path / "copy", read_only=True) as store:
                assert store.verify() == [], round_
                assert store.run("live").artifacts
    finally:
        stop.set()
        thread.join()
        training.end()
    with holdfast.open(tmp_path / "lab", read_only=True) as store:
        assert store.verify() == []
