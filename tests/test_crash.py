"""kill -9 at a random moment loses nothing that was acknowledged."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import holdfast
from holdfast.errors import RunBusy

ROUNDS = 50


def _log_until_killed(url: Path, run_id: str, acknowledged: int) -> int:
    """Start a logger, kill -9 it after about that many steps; returns the last acknowledged one."""
    reading, writing = os.pipe()
    script = Path(__file__).with_name("crash_writer.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(url), run_id, str(writing)], pass_fds=[writing]
    )
    os.close(writing)
    taken = b""
    while len(taken) < 8 * acknowledged:
        piece = os.read(reading, 8 * acknowledged - len(taken))
        assert piece, "the logger ended by itself"
        taken += piece
    process.send_signal(signal.SIGKILL)
    process.wait()
    while piece := os.read(reading, 65536):
        taken += piece
    os.close(reading)
    whole = len(taken) // 8 * 8
    return int.from_bytes(taken[whole - 8 : whole], "little")


def _check(store: holdfast.ExperimentStore, run_id: str, last: int) -> None:
    series = store.metrics(run_id, "loss")
    # The call in flight when the kill came may or may not be there; nothing else is open.
    assert len(series) in (last + 1, last + 2)
    assert series.steps.tolist() == list(range(len(series)))
    assert series.values.tolist() == [step / 7 for step in range(len(series))]


def test_every_acknowledged_point_survives_kill_9(tmp_path: Path) -> None:
    chance = random.Random(7)
    url = tmp_path / "lab"
    with holdfast.open(url) as store:
        last = {}
        for turn in range(ROUNDS):
            run_id = f"killed-{turn}"
            last[run_id] = _log_until_killed(url, run_id, chance.randrange(1, 4000))
            _check(store, run_id, last[run_id])
        assert {run.state for run in store.runs()} == {"Crashed"}
        recovered = store.recover()
        assert sorted(item.run_id for item in recovered) == sorted(last)
        assert store.recover() == []
        for run_id, step in last.items():
            _check(store, run_id, step)
            assert store.run(run_id).status.value == "Failed"
            assert store.run(run_id).state == "Crashed"
        assert not list(url.glob("runs/*/spool/*"))
        assert store.verify() == []


def test_resuming_a_crashed_run_seals_it_and_goes_on(tmp_path: Path) -> None:
    url = tmp_path / "lab"
    last = _log_until_killed(url, "killed", 100)
    with holdfast.open(url) as store:
        with store.resume("killed", step=50) as run:
            run.log({"loss": -1.0})
        series = store.metrics("killed", "loss")
        assert series.steps.tolist() == list(range(51))
        assert series.values[-1] == -1.0
        assert last >= 99


def test_a_live_writer_in_another_process_is_named(tmp_path: Path) -> None:
    url = tmp_path / "lab"
    reading, writing = os.pipe()
    script = Path(__file__).with_name("crash_writer.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(url), "busy", str(writing)], pass_fds=[writing]
    )
    try:
        os.close(writing)
        os.read(reading, 8)
        with holdfast.open(url) as store:
            with pytest.raises(RunBusy, match=str(process.pid)):
                store.resume("busy")
            assert store.recover() == []
            assert store.run("busy").state == "Running"
            assert len(store.metrics("busy", "loss")) > 0
    finally:
        os.close(reading)
        process.kill()
        process.wait()
