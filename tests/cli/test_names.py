"""The verbs for aliases and addresses, as a person and as a program uses them."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.cli import main

Out = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs, `one` and `two`, each with a model, in ./holdfast."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOLDFAST_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    with holdfast.open(tmp_path / "holdfast") as store:
        for run_id in ("one", "two"):
            with store.start_run("resnet", run_id=run_id, capture=False) as run:
                run.log_artifact(f"the model of {run_id}".encode(), key="model.pt")


def call(capsys: Out, *words: str) -> tuple[int, str, str]:
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err


def ok(capsys: Out, *words: str) -> str:
    code, out, err = call(capsys, *words)
    assert (code, err) == (0, "")
    return out


def ok_json(capsys: Out, *words: str) -> Any:
    return json.loads(ok(capsys, *words, "--json"))


def test_an_alias_is_set_listed_shown_deleted_and_undone(capsys: Out) -> None:
    assert ok(capsys, "alias", "ls") == "there are no aliases\n"
    said = ok(capsys, "alias", "set", "prod/resnet", "one:model.pt")
    assert said == "prod/resnet names one:model.pt (generation 1)\n"
    ok(capsys, "alias", "set", "prod/resnet", "resnet:model.pt@latest")
    assert ok(capsys, "cat", "prod/resnet") == "the model of two"
    ok(capsys, "alias", "set", "dev", "one")
    assert [one["alias"] for one in ok_json(capsys, "alias", "ls")] == ["dev", "prod/resnet"]
    assert "two:model.pt" in ok(capsys, "alias", "ls", "prod/")
    assert ok(capsys, "alias", "show", "prod/resnet", "--then", "1") == "one:model.pt\n"
    assert "names nothing" in ok(capsys, "alias", "rm", "prod/resnet")
    assert call(capsys, "cat", "prod/resnet")[0] == 3
    assert ok_json(capsys, "alias", "undo", "prod/resnet")["address"] == "two:model.pt"
    shown = ok_json(capsys, "alias", "show", "prod/resnet")
    assert [one["address"] for one in shown] == [
        *(None, "one:model.pt", "two:model.pt", None, "two:model.pt")
    ]
    assert len(ok(capsys, "alias", "show", "prod/resnet").splitlines()) == 2 + len(shown)


def test_an_alias_that_moved_meanwhile_is_exit_code_6(capsys: Out) -> None:
    ok(capsys, "alias", "set", "prod", "one", "--new")
    for wrong in (["--new"], ["--expect", "two"], ["--expect-generation", "7"]):
        code, out, err = call(capsys, "alias", "set", "prod", "two", *wrong)
        assert (code, out) == (6, "") and "names one" in err
    ok(capsys, "alias", "set", "prod", "two", "--expect", "one")
    ok(capsys, "alias", "set", "prod", "one", "--expect-generation", "2")
    assert call(capsys, "alias", "set", "prod", "two", "--new", "--expect", "one")[0] == 2
    assert call(capsys, "alias", "rm", "prod", "--expect", "two")[0] == 6
    ok(capsys, "alias", "rm", "prod", "--expect", "one")


def test_every_verb_that_names_an_artifact_takes_addresses(capsys: Out, tmp_path: Path) -> None:
    ok(capsys, "alias", "set", "best", "two")
    for address in ("two:model.pt", "best:model.pt", "resnet:model.pt@v1"):
        assert ok(capsys, "cat", address) == "the model of two"
        ok(capsys, "get", address, "--to", "out.pt")
        assert Path("out.pt").read_text() == "the model of two"
    assert ok(capsys, "cat", "best", "model.pt") == "the model of two"
    assert ok(capsys, "show", "best").startswith("run         two")
    Path("text").write_bytes(b"a text that repeats itself, " * 100_000)
    ok(capsys, "put", "best", "text", "text", "--layout", "plain")
    (packed,) = ok_json(capsys, "pack", "best:text")
    (plain,) = ok_json(capsys, "materialize", "aliases/best:text")
    assert packed["key"] == plain["key"] == "text"
    assert [one["key"] for one in ok_json(capsys, "artifacts", "best")] == ["model.pt", "text"]


MISTAKES = [
    (("cat", "one"), 2, "which artifact of one? It has model.pt"),
    (("cat", "no/body"), 3, "there is no alias 'no/body'"),
    (("cat", "resnet:model.pt"), 3, "write resnet:model.pt@latest"),
    (("cat", "one:x:y"), 3, "has no artifact 'x:y'"),
    (("cat", "a@b/c"), 2, "holds '@'"),
    (("alias", "set", "one", "two"), 2, "would have the id of a run"),
    (("alias", "set", "x", "nobody"), 3, "there is no run 'nobody'"),
    (("alias", "undo", "nobody"), 3, "was never moved"),
    (("alias", "show", "nobody", "--then", "yesterday"), 2, "is no time"),
]


@pytest.mark.parametrize(("words", "code", "part"), MISTAKES)
def test_a_mistake_gets_one_sentence_and_its_code(
    capsys: Out, words: tuple[str, ...], code: int, part: str
) -> None:
    found, out, err = call(capsys, *words)
    assert (found, out) == (code, "")
    assert part in err and err.count("\n") == 1


def test_a_snapshot_is_printed_kept_listed_and_read(capsys: Out) -> None:
    assert "no snapshots" in ok(capsys, "snapshot", "--list")
    digest = ok(capsys, "snapshot").strip()
    assert digest.startswith("sha256:")
    assert ok(capsys, "snapshot", "paper").strip() == digest
    assert ok_json(capsys, "snapshot", "paper")["snapshot"] == digest
    assert "paper" in ok(capsys, "snapshot", "--list")
    assert [one["snapshot"] for one in ok_json(capsys, "snapshot", "--list")] == [digest]
    Path("other").write_bytes(b"another")
    ok(capsys, "put", "one", "other", "model.pt")
    assert ok(capsys, "snapshot").strip() != digest
    assert ok(capsys, "cat", "one:model.pt") == "another"
    for at in ("paper", digest):
        assert ok(capsys, "cat", "one:model.pt", "--at", at) == "the model of one"
        assert len(ok_json(capsys, "runs", "--at", at)) == 2
    code, _, err = call(capsys, "runs", "--at", "nothing")
    assert code == 3 and "there is no snapshot 'nothing'" in err


def test_a_proof_is_made_and_checked(capsys: Out) -> None:
    digest = ok(capsys, "snapshot", "paper").strip()
    text = ok(capsys, "proof", "make", "one:model.pt", "--at", "paper")
    Path("proof.json").write_text(text)
    ok(capsys, "get", "one:model.pt", "--to", "model.pt")
    Path("bent.pt").write_bytes(b"the model of 0ne")
    said = ok(capsys, "proof", "check", "proof.json", "model.pt", "--snapshot", digest)
    assert "model.pt of run one" in said and digest in said
    found = ok_json(capsys, "proof", "check", "proof.json", "model.pt")
    assert (found["holds"], found["run_id"], found["key"]) == (True, "one", "model.pt")
    for wrong in (["bent.pt"], ["model.pt", "--snapshot", "sha256:" + "0" * 64]):
        code, out, err = call(capsys, "proof", "check", "proof.json", *wrong)
        assert ((code, out) == (4, "") and "and should have" in err) or "and not from" in err
    Path("proof.json").write_text(text.replace('"one"', '"two"').replace("runs/one", "runs/two"))
    code, _, err = call(capsys, "proof", "check", "proof.json")
    assert code == 4 and "does not hold" in err
    assert call(capsys, "proof", "make", "one:model.pt")[0] == 2
    assert call(capsys, "proof", "check", "nothing.json")[0] == 3


def test_lineage_as_lines_dot_and_json(capsys: Out) -> None:
    with (
        holdfast.open("holdfast") as store,
        store.start_run("eval", run_id="three", capture=False) as run,
    ):
        run.use_artifact("one:model.pt")
    assert "├ read by run three of eval, Success" in ok(capsys, "lineage", "one:model.pt")
    assert "three" not in ok(capsys, "lineage", "one:model.pt", "--down", "0")
    assert ok(capsys, "lineage", "three", "--dot").startswith("digraph lineage {")
    assert [r["run_id"] for r in ok_json(capsys, "lineage", "three")["runs"]] == ["one", "three"]
    assert "made by" in ok(capsys, "show", "three")
    assert ok_json(capsys, "show", "three")["inputs"][0]["address"] == "one:model.pt"


def test_a_project_locks_and_a_job_gets(capsys: Out, tmp_path: Path) -> None:
    assert "locks nothing" in ok(capsys, "lock", "ls")
    assert call(capsys, "lock", "get")[0] == 2
    ok(capsys, "alias", "set", "prod", "one:model.pt")
    assert "sha256:" in ok(capsys, "lock", "add", "models/a.pt", "prod")
    added = ok_json(capsys, "lock", "add", "b.pt", "two:model.pt")
    assert (added["name"], added["store"], added["run"]) == ("b.pt", "holdfast", "two")
    assert [one["name"] for one in ok_json(capsys, "lock", "ls")] == ["b.pt", "models/a.pt"]
    assert "prod" in ok(capsys, "lock", "ls")
    assert ok(capsys, "lock", "get").split() == ["b.pt", "models/a.pt"]
    assert Path("models/a.pt").read_text() == "the model of one"
    got = ok_json(capsys, "lock", "get", "b.pt", "--to", "out", "--store", "holdfast")
    assert got == {"b.pt": "out/b.pt"} and Path("out/b.pt").read_text() == "the model of two"
    assert "2 of 2 artifacts are there" in ok(capsys, "lock", "check")
    ok(capsys, "lock", "rm", "b.pt")
    assert call(capsys, "lock", "rm", "b.pt")[0] == 3


def test_a_locked_artifact_that_was_replaced_is_told(capsys: Out, tmp_path: Path) -> None:
    ok(capsys, "lock", "add", "model", "one:model.pt")
    (locked,) = ok_json(capsys, "lock", "ls")
    blob = tmp_path / "holdfast/blobs/sha256" / locked["sha256"][:2] / locked["sha256"]
    blob.write_bytes(b"the model of 0ne")
    found = hashlib.sha256(b"the model of 0ne").hexdigest()
    code, out, err = call(capsys, "lock", "get")
    assert (code, out) == (4, "")
    assert all(part in err for part in ("model", locked["sha256"], found))
    code, out, err = call(capsys, "lock", "check")
    assert code == 1 and "0 of 1" in out and found in err
    (told,) = json.loads(call(capsys, "lock", "check", "--json")[1])
    assert found in told["problem"]
    shutil.rmtree(tmp_path / "holdfast")
    assert call(capsys, "lock", "get")[0] == 5
    (tmp_path / "holdfast.lock").write_text("no")
    assert call(capsys, "lock", "get")[0] == 2
