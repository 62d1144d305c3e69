"""The simulator itself: one seed is one history, and every bug made on purpose is found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .mutants import MUTANTS

ROOT = Path(__file__).parents[2]
MOST = 400  # histories until a mutant must be found; the slowest takes about 50


def simulated(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which has another machine put under Holdfast."""
    command = [sys.executable, "-m", "tests.faults", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=_environment()
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONHASHSEED": "0"}


def test_histories_hold() -> None:
    done = simulated("--histories", "300", "--jobs", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "300 histories, 0 losses" in done.stdout


@pytest.mark.parametrize("seed", ["3", "15", "44"])
def test_a_seed_is_one_history(seed: str) -> None:
    shown = {simulated("--seed", seed, "--verbose").stdout for _ in range(2)}
    assert len(shown) == 1
    assert "holds" in shown.pop()


@pytest.mark.parametrize("name", MUTANTS)
def test_every_bug_made_on_purpose_is_found(name: str) -> None:
    done = simulated("--mutant", name, "--histories", str(MOST))
    assert done.returncode == 0, done.stdout + done.stderr
