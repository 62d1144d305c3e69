"""The verbs for aliases and addresses, as a person and as a program uses them."""

from __future__ import annotations

import json
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
