"""Each verb as a person and as a program uses it: output, exit codes, one sentence for a mistake."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

import holdfast
from holdfast.cli import main
from holdfast.cli.app import VERBS, load

Out = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOLDFAST_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def run_id(tmp_path: Path) -> str:
    """A finished run in ./holdfast."""
    with holdfast.open(tmp_path / "holdfast") as store:
        config = {"lr": 0.1, "optim": {"name": "adam"}}
        with store.start_run("exp", name="first", config=config, tags=["good"], note="hi") as run:
            for step in range(30):
                run.log({"train/loss": 1 / (step + 1), "acc": step}, step=step)
            run.log({"acc": float("nan")}, step=30)
            run.log_artifact(b"weights", key="model.bin")
        with store.start_run("other", config={"lr": 0.5}) as second:
            second.log({"acc": 5.0})
    return run.id


def call(capsys: Out, *words: str, stdin: bytes | None = None) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of one command."""
    if stdin is not None:
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
    try:
        code = main(words)
    finally:
        sys.stdin = sys.__stdin__
    out, err = capsys.readouterr()
    return code, out, err


def ok(capsys: Out, *words: str, stdin: bytes | None = None) -> str:
    code, out, err = call(capsys, *words, stdin=stdin)
    assert (code, err) == (0, "")
    return out


def ok_json(capsys: Out, *words: str, stdin: bytes | None = None) -> Any:
    return json.loads(ok(capsys, *words, "--json", stdin=stdin))


def test_help_names_every_verb_and_every_verb_explains_itself(capsys: Out) -> None:
    text = ok(capsys, "--help")
    for verb in VERBS:
        assert f"\n  {verb}" in text
        said = ok(capsys, verb, "--help")
        assert "Usage: holdfast" in said
        below = getattr(load(verb), "commands", {})
        for part in below:
            assert "--json" in ok(capsys, verb, part, "--help")
        assert verb == "completion" or below or "--json" in said
    assert call(capsys)[0] == 2


def test_init_makes_a_store_and_leaves_one_alone(capsys: Out, tmp_path: Path) -> None:
    first = ok_json(capsys, "init", "lab")
    assert first["url"] == str(tmp_path / "lab")
    assert ok_json(capsys, "init", "lab") == first
    assert "is ready" in ok(capsys, "init")
    assert (tmp_path / "holdfast" / "store.json").exists()


def test_ls_and_runs(capsys: Out, run_id: str) -> None:
    assert [e["name"] for e in ok_json(capsys, "ls")] == ["exp", "other"]
    assert "1 Success" in ok(capsys, "ls")
    table = ok(capsys, "runs")
    assert run_id in table
    assert table.splitlines()[0].split()[:4] == ["run", "experiment", "name", "state"]
    assert [r["run_id"] for r in ok_json(capsys, "runs", "exp")] == [run_id]
    assert len(ok_json(capsys, "runs", "-w", "config.lr > 0.05", "--sort", "config.lr")) == 2
    assert ok_json(capsys, "runs", "exp", "-w", "config.lr > 0.3 or config.lr < 0.05") == []
    assert ok(capsys, "runs", "-w", "config.lr > 7") == "no runs match\n"


def test_columns_are_fields_of_queries(capsys: Out, run_id: str) -> None:
    columns = 'run_id, config.optim.name, metrics["train/loss"].min, duration, tags.good'
    rows = ok_json(capsys, "runs", "-c", columns, "-w", "tags.good")
    assert [list(row) for row in rows] == [columns.split(", ")]
    assert rows[0]["config.optim.name"] == "adam"
    assert rows[0]['metrics["train/loss"].min'] == pytest.approx(1 / 30)
    head = ok(capsys, "runs", "-c", columns).splitlines()[0].split()
    assert head == ["run", "optim.name", "train/loss.min", "duration", "good"]


def test_a_limit_says_that_there_is_more(capsys: Out, run_id: str) -> None:
    code, out, err = call(capsys, "runs", "-n", "1")
    assert (code, len(out.splitlines())) == (0, 3)
    assert "more" in err


def test_a_mistake_in_a_query_is_pointed_at(capsys: Out, run_id: str) -> None:
    code, out, err = call(capsys, "runs", "exp", "-w", "config.lrr < 1")
    assert (code, out) == (2, "")
    assert err == (
        "holdfast: no run has config.lrr: did you mean config.lr?\n  config.lrr < 1\n  ^^^^^^^^^^\n"
    )
    assert call(capsys, "runs", "-c", "config.lrr")[0] == 2


def test_show_tells_everything(capsys: Out, run_id: str) -> None:
    text = ok(capsys, "show", run_id[-6:])
    for part in (
        run_id,
        "exp",
        "first",
        "Success",
        "hi",
        "optim.name",
        "adam",
        "train/loss",
        "7 B",
    ):
        assert part in text
    about = ok_json(capsys, "show", run_id)
    assert about["config"] == {"lr": 0.1, "optim": {"name": "adam"}}
    assert about["metrics"]["acc"]["last"] == "NaN"
    assert about["artifacts"][0]["digest"].startswith("sha256:")


def test_metrics_as_table_curve_csv_and_json(capsys: Out, run_id: str) -> None:
    glance = ok(capsys, "metrics", run_id)
    assert "█" in glance
    assert "train/loss" in glance
    points = ok(capsys, "metrics", run_id, "acc", "train/loss", "-n", "3").splitlines()
    assert points[2].split()[:3] == ["28", "28", "0.0344828"]
    assert points[4].split()[:3] == ["30", "nan", "-"]
    assert "28 earlier steps" in points[5]
    lines = ok(capsys, "metrics", run_id, "acc", "--csv").splitlines()
    assert lines[0] == "key,step,timestamp,value"
    assert lines[1].startswith("acc,0,20")
    assert lines[31].endswith("Z,nan")
    assert len(lines) == 32
    assert ok_json(capsys, "metrics", run_id, "acc")["acc"]["values"][-1] == "NaN"
    assert "└" in ok(capsys, "metrics", run_id, "train/loss", "--plot", "--log")


def test_put_get_and_cat(capsys: Out, run_id: str, tmp_path: Path) -> None:
    (tmp_path / "plot.png").write_bytes(b"a plot")
    about = ok_json(capsys, "put", run_id, "plot.png")
    assert about["key"] == "plot.png"
    assert "piped" in ok(capsys, "put", run_id, "-", "piped", stdin=b"from a pipe")
    assert [a["key"] for a in ok_json(capsys, "artifacts", run_id)] == [
        "model.bin", "piped", "plot.png",
    ]  # fmt: skip
    assert "plot.png" in ok(capsys, "artifacts", run_id)
    assert ok(capsys, "get", run_id, "plot.png", "-o", "out/") == "out/plot.png\n"
    assert (tmp_path / "out" / "plot.png").read_bytes() == b"a plot"
    assert ok_json(capsys, "get", about["digest"], "-o", "named")["path"] == "named"
    (tmp_path / "named").write_bytes(b"other")
    code, _, err = call(capsys, "get", about["digest"], "-o", "named")
    assert code == 6
    assert "--overwrite" in err
    ok(capsys, "get", about["digest"], "-o", "named", "--overwrite")
    assert (tmp_path / "named").read_bytes() == b"a plot"
    assert ok_json(capsys, "cat", run_id, "piped")["base64"] == "ZnJvbSBhIHBpcGU="


def test_cat_writes_bytes(run_id: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "holdfast.cli", "cat", run_id, "model.bin"],
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"weights"


def test_verify_finds_damage_and_reading_refuses_it(
    capsys: Out, run_id: str, tmp_path: Path
) -> None:
    assert "every byte" in ok(capsys, "verify")
    assert ok_json(capsys, "verify", run_id) == []
    [blob] = [p for p in (tmp_path / "holdfast" / "blobs").rglob("*") if p.is_file()]
    blob.chmod(0o644)
    blob.write_bytes(b"weightz")
    code, out, err = call(capsys, "verify")
    assert code == 1
    assert blob.name in out
    assert "artifact model.bin" in out
    assert err == "1 finding\n"
    code, out, _ = call(capsys, "verify", "--json")
    assert (code, json.loads(out)[0]["code"]) == (1, "digest_mismatch")
    code, out, err = call(capsys, "get", run_id, "model.bin", "-o", "x")
    assert (code, out) == (4, "")
    assert blob.name in err
    assert not (tmp_path / "x").exists()


def test_rm_can_be_undone(capsys: Out, run_id: str) -> None:
    assert "undelete" in ok(capsys, "rm", run_id)
    assert ok_json(capsys, "runs", "exp") == []
    assert [r["run_id"] for r in ok_json(capsys, "runs", "exp", "--all")] == [run_id]
    assert "deleted" in ok(capsys, "show", run_id)
    assert ok_json(capsys, "undelete", run_id) == {"undeleted": [run_id]}
    assert len(ok_json(capsys, "runs", "exp")) == 1
    assert call(capsys, "rm", run_id, "nothing-such")[0] == 3
    assert len(ok_json(capsys, "runs", "exp")) == 1, "all of them or none"


def test_metrics_are_selected_and_thinned_out(capsys: Out, run_id: str) -> None:
    def steps(*words: str) -> list[int]:
        found: list[int] = ok_json(capsys, "metrics", run_id, "acc", *words)["acc"]["steps"]
        return found

    assert steps("--steps", "3:6") == [3, 4, 5]
    assert steps("--steps", "28:") == [28, 29, 30]
    assert steps("--steps", ":2") == [0, 1]
    assert steps("--last", "2") == [29, 30]
    assert len(steps("--max-points", "8")) <= 8
    assert steps("--rank", "0", "--reduce", "mean") == list(range(31))
    assert set(ok_json(capsys, "metrics", run_id, "train/*")) == {"train/loss"}
    code, _, err = call(capsys, "metrics", run_id, "--steps", "5")
    assert (code, "'5' is not such as 100:200" in err) == (2, True)


def test_runs_are_compared(capsys: Out, run_id: str) -> None:
    with holdfast.open("holdfast") as store:
        other = store.runs("experiment == 'other'")[0].run_id
    words = ("metrics", run_id, "acc", "--compare", other)
    assert "earlier rows" in ok(capsys, *words)
    lines = ok(capsys, *words, "--csv").splitlines()
    assert lines[0] == f"step,{run_id},{other}"
    assert lines[1:3] == ["0,0.0,5.0", "1,1.0,"]
    found = ok_json(capsys, *words, "--on", "relative")
    assert found["on"] == "relative"
    assert len(found["x"]) == 32
    assert [value for value in found["columns"][other] if value is not None] == [5.0]
    assert f"▲ {other}" in ok(capsys, *words, "--plot")
    assert "seconds since 1970" in ok(capsys, *words, "--plot", "--on", "time")
    every = ok(capsys, "metrics", run_id, "--compare", other, "--csv").splitlines()[0]
    assert every == f"step,{run_id}:acc,{run_id}:train/loss,{other}:acc"


def test_export_writes_parquet(capsys: Out, run_id: str, tmp_path: Path) -> None:
    names = ["runs", "config", "tags", "metrics", "artifacts"]
    paths = [str(Path("out") / f"{name}.parquet") for name in names]
    assert ok(capsys, "export", "--parquet", "out", "--where", "config.lr < 0.2").split() == paths
    assert duckdb.sql("select distinct run_id from 'out/metrics.parquet'").fetchall() == [(run_id,)]
    code, _, err = call(capsys, "export", "--parquet", "out")
    assert (code, "is there already" in err) == (6, True)
    assert [Path(name).name for name in ok_json(capsys, "export", "--parquet", "all")] == [
        f"{name}.parquet" for name in names
    ]
    for words in (("--where", "name == 'x'"), ("--parquet", "new", "-o", "file")):
        assert call(capsys, "export", *words)[0] == 2


def test_export_is_the_seed_schema(capsys: Out, run_id: str, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in ok(capsys, "export").splitlines()]
    kinds = [next(iter(line)) for line in lines]
    assert sorted(set(kinds)) == ["artifact", "experiment", "metric", "run"]
    assert kinds.count("metric") == 62
    ok(capsys, "export", "-o", "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text().count("\n") == len(lines)
    code, _, err = call(capsys, "export", "-o", "out.jsonl")
    assert (code, err) == (6, "holdfast: out.jsonl: File exists\n")


def test_log_takes_json_lines_from_any_language(capsys: Out) -> None:
    lines = b"""{"step": 1, "loss": 0.5, "eval": {"acc": 1}}
{"loss": "NaN", "timestamp": "2025-01-15T12:00:00Z"}

{"loss": -Infinity, "timestamp": 1736942400000000001}
"""
    words = ("log", "-e", "shell", "--name", "n", "--config", '{"lr": 1}', "-t", "a=1", "-t", "b")
    run_id = ok(capsys, *words, stdin=lines).strip()
    assert call(capsys, "log", "-e", "x", "-s", "slip", stdin=b"")[0] == 5
    found = ok_json(capsys, "metrics", run_id)
    assert found["loss"]["steps"] == [1, 2, 3]
    assert found["loss"]["values"] == [0.5, "NaN", "-Infinity"]
    assert found["loss"]["timestamps"][1:] == [
        "2025-01-15T12:00:00Z",
        "2025-01-15T12:00:00.000000001Z",
    ]
    assert found["eval/acc"]["values"] == [1.0]
    about = ok_json(capsys, "show", run_id)
    assert (about["config"], about["tags"]) == ({"lr": 1}, {"a": 1, "b": True})
    assert (about["state"], about["source"]) == ("Success", {})
    again = ok_json(capsys, "log", "--run", run_id, stdin=b'{"loss": 7}')
    assert again == {"run_id": run_id, "lines": 1, "bad_lines": 0}
    assert ok_json(capsys, "metrics", run_id, "loss")["loss"]["steps"] == [1, 2, 3, 4]


BAD_LINES = {
    b'{"loss": null}': "None is not a number",
    b'{"loss": "high"}': "str 'high' is not a number",
    b'{"loss": true}': "int(value)",
    b"{}": "at least one metric",
    b"[1]": "a line is an object",
    b"xx": "not JSON",
    b"\xff\xfe": "not UTF-8",
    b'{"step": -1, "loss": 1}': "step -1",
    b'{"step": 1.5, "loss": 1}': "step 1.5",
    b'{"timestamp": 1.5, "loss": 1}': "RFC 3339",
    b'{"timestamp": "noon", "loss": 1}': "no time",
    b'{"a\\\\b": 1}': "backslash",
    b"[" * 100_000: "nested too deep",
}


def test_a_bad_line_is_told_and_the_others_are_kept(capsys: Out) -> None:
    for bad, words in BAD_LINES.items():
        code, out, err = call(capsys, "log", "-e", "x", stdin=b'{"a": 1}\n' + bad + b'\n{"a": 2}\n')
        assert code == 1, bad
        assert err.startswith("holdfast: line 2: "), err
        assert words in err
        assert err.endswith("1 of 3 lines were left out\n")
        assert ok_json(capsys, "metrics", out.strip())["a"]["values"] == [1.0, 2.0]


def test_a_flood_of_bad_lines_is_counted(capsys: Out) -> None:
    _, _, err = call(capsys, "log", "-e", "x", stdin=b"bad\n" * 100)
    assert len(err.splitlines()) == 12
    assert "100 of 100" in err


MISTAKES: list[tuple[tuple[str, ...], int, str]] = [
    (("rums",), 2, "there is no verb 'rums': did you mean runs? (see holdfast --help)"),
    (("runs", "--limt", "3"), 2, "--limit"),
    (("runs", "-n", "x"), 2, "'x' is not a valid integer"),
    (("show",), 2, "missing argument 'RUN'"),
    (("--store", "lab", "runs"), 2, "options come behind the verb"),
    (("runs", "exq"), 3, "there is no experiment 'exq': did you mean exp?"),
    (("show", "nope"), 3, "there is no run 'nope'"),
    (("metrics", "RUN", "lss"), 3, "has no metric 'lss'"),
    (("get", "RUN", "nope"), 3, "it has model.bin"),
    (("get", "RUN"), 2, "which artifact of"),
    (("get", "sha256:12"), 2, "64"),
    (("get", "sha256:" + "0" * 64), 3, "is not in the store"),
    (("put", "RUN", "no/such/file"), 3, "there is no file or directory no/such/file"),
    (("put", "RUN", "-"), 2, "give a KEY"),
    (("put", "RUN", "a", "../b"), 2, "cannot be used"),
    (("log",), 2, "--experiment"),
    (("log", "-e", "x", "-r", "y"), 2, "either"),
    (("log", "-r", "RUN", "--name", "x"), 2, "belong to a new run"),
    (("log", "-e", "x", "--config", "{"), 2, "--config is not JSON"),
    (("log", "-e", "x", "--config", "@none.json"), 3, "none.json"),
    (("ls", "--store", "nowhere"), 5, "make one with `holdfast init`"),
    (("ls", "--store", "s3x://b"), 5, "s3x://"),
    (("init", "."), 5, "not empty"),
]


@pytest.mark.parametrize(
    ("words", "code", "part"), MISTAKES, ids=[" ".join(m[0]) for m in MISTAKES]
)
def test_a_mistake_gets_one_sentence_and_its_code(
    capsys: Out, run_id: str, words: tuple[str, ...], code: int, part: str
) -> None:
    found, out, err = call(
        capsys, *(run_id if word == "RUN" else word for word in words), stdin=b""
    )
    assert (found, out) == (code, "")
    assert err.startswith("holdfast: ")
    assert part in err
    assert "Traceback" not in err
    assert err.count("\n") == 1


def test_the_store_is_found_upwards_and_by_the_environment(
    capsys: Out, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep" / "inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "inside")
    assert len(ok_json(capsys, "runs")) == 2
    monkeypatch.chdir(tmp_path / "holdfast" / "runs")
    assert len(ok_json(capsys, "runs")) == 2
    monkeypatch.chdir("/")
    assert call(capsys, "runs")[0] == 5
    monkeypatch.setenv("HOLDFAST_STORE", str(tmp_path / "holdfast"))
    assert len(ok_json(capsys, "runs")) == 2


def test_reading_verbs_never_write(capsys: Out, run_id: str, tmp_path: Path) -> None:
    root = tmp_path / "holdfast"

    def listing() -> list[tuple[str, int]]:
        return sorted((str(p), p.stat().st_mtime_ns) for p in root.rglob("*"))

    before = listing()
    for words in (("ls",), ("runs",), ("show", run_id), ("metrics", run_id), ("verify",)):
        ok(capsys, *words)
    assert listing() == before


def test_a_traceback_only_when_it_is_asked_for(
    capsys: Out, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_TRACEBACK", "1")
    assert "Traceback" in call(capsys, "show", "nope")[2]


def test_a_reader_that_has_seen_enough_is_no_error(run_id: str) -> None:
    command = f"{sys.executable} -m holdfast.cli metrics {run_id} --csv | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "key,step,timestamp,value\n0\n"
    assert done.stderr == ""


def test_ctrl_c_cancels_the_run_and_exits_130(tmp_path: Path) -> None:
    import signal

    with subprocess.Popen(
        [sys.executable, "-m", "holdfast.cli", "log", "-e", "x"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        assert process.stderr
        run_id = process.stdout.readline().decode().strip()
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()  # to its end; standard input stays open meanwhile
        process.wait()
    assert (process.returncode, err) == (130, b"holdfast: stopped\n")
    with holdfast.open("holdfast") as store:
        assert store.run(run_id).status is holdfast.RunStatus.CANCELLED


def test_help_is_quick_because_it_imports_neither_numpy_nor_the_store() -> None:
    code = (
        "import sys\nfrom holdfast.cli import main\nmain(['--help'])\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stderr.split()
    assert not {"numpy", "msgpack", "sqlite3", "holdfast.store", "holdfast.cli.verbs.runs"} & set(
        loaded
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(capsys: Out, shell: str) -> None:
    assert "_HOLDFAST_COMPLETE" in ok(capsys, "completion", shell)


def test_completion_knows_the_verbs() -> None:
    words = {"_HOLDFAST_COMPLETE": "bash_complete", "COMP_WORDS": "holdfast ru", "COMP_CWORD": "1"}
    code = "from holdfast.cli import main; import sys; sys.argv[0] = 'holdfast'; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **words}
    )
    assert "plain,runs" in done.stdout


def test_the_reference_page_is_what_the_commands_say() -> None:
    from holdfast.cli import reference

    page = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
    assert page.read_text() == reference.page(), (
        "python -m holdfast.cli.reference > docs/reference/cli.md"
    )


def test_a_bar_appears_on_a_terminal_once_something_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    from holdfast.cli import progress

    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "at_terminal", lambda: True)
    with progress.Progress("reading") as bar:
        bar(1, 100)
        assert capsys.readouterr().err == ""
        now[0] = 2.0
        bar(50, 100)
        drawn = capsys.readouterr().err
        assert drawn == f"\r\x1b[Kreading {'━' * 15}{'─' * 15} 50/100, 2.0 s left"
    assert capsys.readouterr().err == "\r\x1b[K"


def test_storing_and_reading_say_how_far_they_are(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(3 << 20))
    told: list[tuple[int, int]] = []
    with holdfast.ExperimentStore() as store:
        with store.start_run("x", capture=False) as run:
            pass
        store.add_artifact_file(run.id, tmp_path / "big", "big", lambda *at: told.append(at))
        store.get_artifact(run.id, "big", to=tmp_path / "out", progress=lambda *at: told.append(at))
    assert told == [(n << 20, 3 << 20) for n in (1, 2, 3)] * 2


def test_sql_as_table_json_and_csv(capsys: Out, run_id: str) -> None:
    query = "SELECT experiment, value AS lr FROM runs JOIN config USING (run_id) WHERE key = 'lr'"
    lines = ok(capsys, "sql", f"{query} ORDER BY lr").splitlines()
    assert lines[0].split() == ["experiment", "lr"]
    assert lines[2].split() == ["exp", "0.1"]
    found = ok_json(capsys, "sql", f"{query} ORDER BY lr")
    assert found == [{"experiment": "exp", "lr": 0.1}, {"experiment": "other", "lr": 0.5}]
    text = ok(capsys, "sql", "SELECT 'a,b' AS one, x'00ff', NULL, 1e999", "--csv")
    assert text == "one,x'00ff',NULL,1e999\n\"a,b\",00ff,,inf\n"
    assert ok_json(capsys, "sql", "SELECT x'00ff' AS raw, 1e999 AS far") == [
        {"raw": "00ff", "far": "Infinity"}
    ]
    assert ok(capsys, "sql", "SELECT 1 WHERE 0") == "no rows\n"


def test_a_mistake_in_sql_is_a_sentence_and_code_2(capsys: Out, run_id: str) -> None:
    for query, message in [
        ("DROP TABLE run", "only SELECT is allowed"),
        ("SELECT * FROM rusn", "no such table: rusn"),
    ]:
        code, out, err = call(capsys, "sql", query)
        assert (code, out) == (2, "")
        assert message in err
    code, _, err = call(capsys, "sql", "SELECT * FROM config", "--max-rows", "1")
    assert code == 2
    assert "more than 1 rows" in err


def test_compact_puts_segments_together(capsys: Out, run_id: str) -> None:
    assert ok(capsys, "compact") == "nothing to compact\n"
    with holdfast.open("holdfast") as store, store.resume(run_id) as run:
        for step in range(31, 34):
            run.log({"acc": 1.0}, step=step)
            run._writer.seal(go_on=True)
    before = ok(capsys, "metrics", run_id, "--csv")
    planned = ok(capsys, "compact", run_id, "--dry-run")
    assert "4 → 2" in planned and "nothing was changed" in planned
    (found,) = json.loads(ok(capsys, "compact", "--json"))
    assert (found["run_id"], found["segments_before"], found["segments_after"]) == (run_id, 4, 2)
    assert found["bytes_before"] > 0 and found["bytes_after"] > 0
    assert ok(capsys, "compact", run_id) == "nothing to compact\n"
    assert ok(capsys, "metrics", run_id, "--csv") == before
    code, out, err = call(capsys, "compact", "nothing-like-it")
    assert (code, out) == (3, "") and "nothing-like-it" in err


def test_pack_and_materialize(capsys: Out, run_id: str, tmp_path: Path) -> None:
    data = b"a text that repeats itself, " * 100_000
    (tmp_path / "text").write_bytes(data)
    ok(capsys, "put", run_id, str(tmp_path / "text"), "text", "--layout", "plain")
    assert "text" in ok(capsys, "pack", run_id, "text")
    (found,) = ok_json(capsys, "pack", run_id, "text")
    assert (found["key"], found["new_bytes"]) == ("text", 0)
    assert "was there" in ok(capsys, "materialize", run_id, "text")
    code, out, err = call(capsys, "pack", run_id, "nothing-like-it")
    assert (code, out) == (3, "")
    assert "nothing-like-it" in err


def test_the_cache_is_shown_shrunk_cleared_and_off(
    capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.backend.cachefiles import user_cache

    files = user_cache()
    assert files is not None
    for number in range(10):
        files.put(f"a/{number}", bytes(100_000))
    assert main(["cache"]) == 0
    assert files.root in capsys.readouterr().out
    assert main(["cache", "--shrink", "500kB", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["files"], shown["limit_bytes"]) == (5, 10 << 30)
    assert main(["cache", "--shrink", "much"]) == 2
    assert "much" in capsys.readouterr().err
    assert main(["cache", "--clear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == 0
    monkeypatch.setenv("HOLDFAST_CACHE", "off")
    assert main(["cache"]) == 0
    assert "off" in capsys.readouterr().out
