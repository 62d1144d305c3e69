"""`store.sql`: the views say what the runs say, the page says what the views have, and nothing is written."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.catalog_file import place
from holdfast.catalog_views import VIEWS
from holdfast.errors import QueryError

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "sql.md"
Store = holdfast.ExperimentStore


@pytest.fixture(params=["local", "memory"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Three runs and one that is deleted."""
    url = tmp_path / "lab" if request.param == "local" else None
    with holdfast.ExperimentStore(url) as store:
        for n, run_id in enumerate(("a", "b", "c", "gone")):
            config = {"lr": n / 10, "optim": {"betas": [0.9, n]}, "none": None, "name": "é'x"}
            with store.start_run("one", run_id=run_id, config=config, tags={"n": n}) as run:
                for step in range(n + 1):
                    run.log({"train/loss": n - step, "nan": math.nan}, step=step)
                run.log_artifact(b"x" * n, key="model.bin")
        store.delete_run("gone")
        yield store


def documented() -> dict[str, list[str]]:
    """view -> columns, as the page has them."""
    text = PAGE.read_text().split("## Views")[1].split("## Parameters")[0]
    sections = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    rows = r"^\| `(\w+)` \|"
    return {s.split("\n", 1)[0]: re.findall(rows, s, re.MULTILINE) for s in sections}


def test_the_page_has_every_view_and_every_column(lab: Store) -> None:
    found = {view: lab.sql(f"SELECT * FROM {view} LIMIT 0").columns for view in VIEWS}
    assert documented() == found


def test_the_help_of_the_command_names_the_views() -> None:
    from holdfast.cli.verbs.sql import command

    for view, columns in documented().items():
        said = re.search(rf"^ *{view} +(.*)", command.help or "", re.MULTILINE)
        assert said
        assert set(said[1].replace("…", "").split()) <= set(columns)


def test_the_types_on_the_page_are_those_of_the_values(lab: Store) -> None:
    kinds = {"text": str, "number": (int, float), "number or text": (int, float, str)}
    for view in VIEWS:
        found = lab.sql(f"SELECT * FROM {view}")
        section = PAGE.read_text().split(f"### {view}\n")[1].split("\n### ")[0]
        for column, kind in re.findall(r"^\| `(\w+)` \| ([\w ]+) \|", section, re.MULTILINE):
            values = [row[found.columns.index(column)] for row in found]
            assert all(isinstance(value, (*_tuple(kinds[kind]), type(None))) for value in values)


def _tuple(kind: Any) -> tuple[Any, ...]:
    return kind if isinstance(kind, tuple) else (kind,)


def test_the_views_say_what_the_runs_say(lab: Store) -> None:
    runs = {run.run_id: run for run in lab.runs()}
    assert set(runs) == {"a", "b", "c"}
    rows = lab.sql("SELECT * FROM runs").to_dicts()
    assert {row["run_id"] for row in rows} == set(runs)
    for row in rows:
        run = runs[row["run_id"]]
        assert (row["experiment"], row["status"], row["state"]) == ("one", "Success", run.state)
        assert row["generation"] == run.generation
        for name in ("created_at", "started_at", "ended_at"):
            assert row[name][:23] == _to_ms(getattr(run, name))
        assert row["duration"] == pytest.approx(run.duration_seconds)
    for run_id, key, *told in lab.sql("SELECT * FROM metrics"):
        stats = runs[run_id].metrics[key]
        names = lab.sql("SELECT * FROM metrics LIMIT 0").columns[2:]
        wanted = [getattr(stats, name) for name in names]
        assert told == [None if value is None or value != value else value for value in wanted]
    assert len(lab.sql("SELECT * FROM metrics")) == 6
    artifacts = {(row[0], row[1]): row[2:] for row in lab.sql("SELECT * FROM artifacts")}
    for run_id, run in runs.items():
        about = run.artifacts["model.bin"]
        assert artifacts[run_id, "model.bin"] == (about.size_bytes, str(about.digest))
    [(experiment_id, name, _)] = lab.sql("SELECT * FROM experiments")
    assert (experiment_id, name) == ("one", "one")


def _to_ms(at: Any) -> str:
    return f"{str(at)[:19]}.{at.ns // 1_000_000 % 1000:03d}"


def test_config_and_tags_are_rows(lab: Store) -> None:
    rows = lab.sql("SELECT key, value FROM config WHERE run_id = 'b' ORDER BY key").rows
    assert rows == [
        ("lr", 0.1), ("name", "é'x"), ("none", None), ("optim.betas.0", 0.9), ("optim.betas.1", 1),
    ]  # fmt: skip
    assert lab.sql("SELECT run_id, value FROM tags ORDER BY 1").rows == [
        ("a", 0),
        ("b", 1),
        ("c", 2),
    ]


def test_joins_groups_and_windows(lab: Store) -> None:
    found = lab.sql(
        """WITH best AS (SELECT run_id, min FROM metrics WHERE key = 'train/loss')
        SELECT count(*), sum(c.value), max(rank) FROM config c JOIN
        (SELECT run_id, rank() OVER (ORDER BY min) AS rank FROM best) USING (run_id)
        WHERE c.key = 'lr'"""
    )
    assert found.rows == [(3, pytest.approx(0.3), 1)]


def test_what_changed_shows_at_once(lab: Store) -> None:
    with lab.start_run("two", run_id="new"):
        query = "SELECT experiment, state FROM runs WHERE run_id = 'new'"
        assert lab.sql(query).rows == [("two", "Running")]
    assert lab.sql(query).rows == [("two", "Success")]
    lab.undelete_run("gone")
    assert lab.sql("SELECT count(*) FROM runs").rows == [(5,)]


def test_parameters_are_values(lab: Store) -> None:
    assert lab.sql("SELECT run_id FROM tags WHERE value = ?", [1]).rows == [("b",)]
    assert lab.sql("SELECT :x", {"x": "'; DROP TABLE run"}).rows == [("'; DROP TABLE run",)]
    for wrong in ([], [1, 2], 5, [object()], [2**70], ["\ud800"]):
        with pytest.raises(QueryError):
            lab.sql("SELECT ?", wrong)  # type: ignore[arg-type]


def test_rows_have_names(lab: Store) -> None:
    found = lab.sql("SELECT run_id, value AS n FROM tags ORDER BY 2")
    assert (found.columns, len(found), found[1]) == (["run_id", "n"], 3, ("b", 1))
    assert list(found) == found.rows
    assert found.to_dicts()[0] == {"run_id": "a", "n": 0}
    assert repr(found) == "<SqlRows: 3 × (run_id, n)>"


def test_rows_become_a_data_frame(lab: Store) -> None:
    pandas = pytest.importorskip("pandas")
    frame = lab.sql("SELECT run_id, value FROM tags ORDER BY 2").to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["value"].tolist() == [0, 1, 2]


# What is refused.

WRITING = [
    "DELETE FROM run", "INSERT INTO run SELECT * FROM run", "UPDATE run SET status = 'x'",
    "DELETE FROM runs", "INSERT INTO runs VALUES (1)", "REPLACE INTO listing VALUES ('a', 'b')",
    "DROP TABLE run", "DROP VIEW runs", "ALTER TABLE run ADD COLUMN x", "CREATE TABLE x (y)",
    "CREATE TEMP TABLE x (y)", "CREATE TEMP VIEW x AS SELECT 1", "CREATE INDEX x ON run (name)",
    "CREATE TRIGGER x AFTER INSERT ON run BEGIN SELECT 1; END", "ATTACH 'other.sqlite' AS other",
    "ATTACH ':memory:' AS other", "DETACH main", "PRAGMA query_only = OFF", "PRAGMA user_version",
    "PRAGMA journal_mode = DELETE", "VACUUM", "VACUUM INTO 'x.sqlite'", "REINDEX", "ANALYZE",
    "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT x", "SELECT load_extension('x')",
    "SELECT * FROM pragma_table_info('run')", "CREATE VIRTUAL TABLE x USING fts5(y)",
    "WITH x AS (SELECT 1) DELETE FROM run", "EXPLAIN DELETE FROM run",
]  # fmt: skip


@pytest.mark.parametrize("query", WRITING)
def test_nothing_but_reading_is_allowed(lab: Store, query: str, tmp_path: Path) -> None:
    before = repr(lab.runs(deleted=True))
    with pytest.raises(QueryError) as caught:
        lab.sql(query)
    assert query[:60] in caught.value.message
    assert caught.value.expression == query
    assert repr(lab.runs(deleted=True)) == before
    assert lab._index is not None
    assert lab._index._starts == 1  # nothing was done that a new catalog had to make good
    assert lab.sql("SELECT count(*) FROM runs").rows == [(3,)]
    assert not list(tmp_path.rglob("*x.sqlite"))
    assert not list(Path.cwd().glob("other.sqlite"))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT packed FROM state", "state is not for reading"),
        ("SELECT sql FROM sqlite_master", "sqlite_master is not for reading"),
        ("SELECT * FROM rusn", "no such table: rusn: the views are runs"),
        ("SELECT rnu FROM runs", "no such column: rnu"),
        ("SELEC 1", "syntax error"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("", "no statement"),
        ("-- nothing", "no statement"),
        ("SELECT '\ud800'", "surrogates"),
        ("SELECT 'a\0b'", "null character|unrecognized|embedded null"),
        ("SELECT CAST(x'ff' AS TEXT)", "UTF-8"),
        ("SELECT zeroblob(100000000)", "too big"),
        ("SELECT abs(-9223372036854775808)", "overflow"),
        (5, "a statement is text, not int"),
    ],
)
def test_a_mistake_is_one_clear_sentence(lab: Store, query: Any, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        lab.sql(query)
    assert len(lab.runs()) == 3


ENDLESS = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT x FROM t"


def test_a_statement_that_takes_too_long_is_stopped(lab: Store) -> None:
    with pytest.raises(QueryError, match=r"more than 0\.05 s"):
        lab.sql(f"SELECT max(x) FROM ({ENDLESS})", timeout_seconds=0.05)
    assert len(lab.sql("SELECT * FROM runs")) == 3


def test_an_answer_of_too_many_rows_is_refused(lab: Store) -> None:
    assert len(lab.sql(f"{ENDLESS} LIMIT 10", max_rows=10)) == 10
    with pytest.raises(QueryError, match="more than 10 rows: add LIMIT"):
        lab.sql(ENDLESS, max_rows=10)


def test_ctrl_c_stops_a_statement(tmp_path: Path) -> None:
    code = f"""
        import holdfast
        from holdfast import catalog_views
        look, looks = catalog_views._Guard._late, []
        def late(guard):
            looks.append(guard)
            if len(looks) == 1:
                print("running", flush=True)
            return look(guard)
        catalog_views._Guard._late = late
        with holdfast.open({str(tmp_path / "lab")!r}) as store:
            try:
                store.sql("SELECT max(x) FROM ({ENDLESS})", timeout_seconds=300)
            except KeyboardInterrupt:
                print(len(store.sql("SELECT 1")), flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "running\n"
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=300)
    assert (out, child.returncode) == ("1\n", 0)


def test_a_damaged_catalog_is_built_again_for_sql(tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "lab") as store:
        store.start_run("e", run_id="r").finish()
        assert store.sql("SELECT run_id FROM runs").rows == [("r",)]
        file = Path(place(store.store_id, store.url))
    file.write_bytes(file.read_bytes()[:20_000])
    with holdfast.open(tmp_path / "lab") as store:
        assert store.sql("SELECT run_id FROM runs").rows == [("r",)]
