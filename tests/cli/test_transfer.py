"""`push`, `pull`, `sync` and `clone` as a person and as a program use them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import holdfast
from holdfast.backend.local import LocalBackend
from holdfast.cli import main

Out = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOLDFAST_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    with holdfast.open("holdfast") as store:
        for number in range(2):
            with store.start_run("e", run_id=f"run-{number}", config={"n": number}) as run:
                run.log({"x": 1.0})
                run.log_artifact(b"weights %d" % number, key="model.bin")


def call(capsys: Out, *words: str) -> tuple[int, str, str]:
    code = main(words)
    return code, *capsys.readouterr()


def test_clone_push_pull(capsys: Out) -> None:
    code, out, err = call(capsys, "push", "copy")
    assert code == 5 and "holdfast clone SOURCE copy" in err
    code, out, _ = call(capsys, "clone", "holdfast", "copy", "--dry-run")
    assert code == 0 and "2 runs to send" in out and "nothing was sent" in out
    assert not Path("copy").exists()
    code, out, _ = call(capsys, "clone", "holdfast", "copy")
    assert code == 0 and "2 runs sent" in out
    code, _, err = call(capsys, "clone", "holdfast", "copy")
    assert code == 6 and "holdfast push holdfast copy" in err
    with holdfast.open("copy") as copy, holdfast.open("holdfast") as store:
        assert copy.store_id != store.store_id
        with copy.start_run("e", run_id="of-copy", capture=False) as run:
            run.log({"x": 1.0})
    code, out, _ = call(capsys, "pull", "copy")
    assert code == 0 and "1 run sent" in out and "2 equal already" in out
    code, out, _ = call(capsys, "push", "copy")
    assert code == 0 and "0 runs sent" in out and "3 equal already" in out


def test_the_target_is_remembered(capsys: Out) -> None:
    code, _, err = call(capsys, "push")
    assert code == 2 and "give TARGET" in err
    assert call(capsys, "clone", "holdfast", "copy")[0] == 0
    assert call(capsys, "push", "copy")[0] == 0
    code, out, _ = call(capsys, "push")
    assert code == 0 and "/copy:" in out
    code, out, _ = call(capsys, "pull")
    assert code == 0 and "/copy → " in out
    code, _, err = call(capsys, "push", "a", "b", "c")
    assert code == 2 and "at most" in err


def test_some_runs_and_some_files(capsys: Out) -> None:
    holdfast.open("copy").close()
    code, out, _ = call(capsys, "push", "copy", "--where", "config.n == 1", "--artifacts", "none")
    assert code == 0 and "1 run sent" in out and "without some of their files: run-1" in out
    code, _, err = call(capsys, "cat", "run-1", "model.bin", "--store", "copy")
    assert code == 3 and "was not synced" in err
    assert call(capsys, "verify", "--store", "copy")[0] == 0
    code, _, err = call(capsys, "push", "copy", "--where", "config.n ==")
    assert code == 2
    code, _, err = call(capsys, "push", "copy", "--limit", "much")
    assert code == 2 and "--limit is 'much'" in err


def test_json_says_it_all(capsys: Out) -> None:
    holdfast.open("copy").close()
    code, out, _ = call(capsys, "push", "copy", "--json", "--dry-run")
    (plan,) = json.loads(out)
    assert code == 0 and plan["runs"] == ["run-0", "run-1"] and plan["bytes"] > 0
    code, out, _ = call(capsys, "sync", "copy", "--json", "--limit", "100MB")
    there, back = json.loads(out)
    assert code == 0 and there["ok"] and there["runs"] == ["run-0", "run-1"]
    assert back["runs"] == [] and back["equal"] == 2


def test_damage_and_divergence_have_exit_codes(capsys: Out) -> None:
    assert call(capsys, "clone", "holdfast", "copy")[0] == 0
    for place, value in (("holdfast", 1), ("copy", 2)):
        with holdfast.open(place) as store:
            chain = store.repository.manifest("run-0")
            chain.commit(chain.load(), lambda _, value=value: {"tags": {"n": value}})
    code, out, err = call(capsys, "push", "copy")
    assert code == 6 and "was changed on both sides after entry" in err and "--fork" in err
    assert err.count("  source ") == err.count("  target ") == 1
    code, out, _ = call(capsys, "push", "copy", "--fork")
    assert code == 0 and "brought in as new runs: run-0-fork-" in out
    assert call(capsys, "push", "copy")[0] == 0
    with holdfast.open("holdfast") as store, store.start_run("e", run_id="bad") as run:
        run.log_artifact(b"0123456789", key="a")
    blob = next(LocalBackend("holdfast").walk("blobs/")).name
    for path in Path("holdfast/blobs").rglob("*"):
        if path.is_file() and path.read_bytes() == b"0123456789":
            path.write_bytes(b"0123456780")
            blob = path.name
    code, _, err = call(capsys, "push", "copy")
    assert code == 1 and blob in err and "run bad, which was left out" in err


def test_follow_ends_with_the_runs(capsys: Out) -> None:
    holdfast.open("copy").close()
    code, out, _ = call(capsys, "push", "copy", "--follow", "--every", "0.1")
    assert code == 0 and "2 runs sent" in out
