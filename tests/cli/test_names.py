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
    assert ok(capsys, "alias", "show", "prod/resnet", "--at", "1") == "one:model.pt\n"
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
    (("alias", "show", "nobody", "--at", "yesterday"), 2, "is no time"),
]


@pytest.mark.parametrize(("words", "code", "part"), MISTAKES)
def test_a_mistake_gets_one_sentence_and_its_code(
    capsys: Out, words: tuple[str, ...], code: int, part: str
) -> None:
    found, out, err = call(capsys, *words)
    assert (found, out) == (code, "")
    assert part in err and err.count("\n") == 1
