"""The page on pandas, polars and DuckDB does what it says: every block runs, in order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "read-into-pandas-polars-duckdb.md"


def test_every_block_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == text.count("```") // 2 >= 8, "a block of another kind is not run"
    names: dict[str, object] = {}
    for block in blocks:
        line = text[: text.index(block)].count("\n")
        exec(compile("\n" * line + block, str(PAGE), "exec"), names)
    names["store"].close()  # type: ignore[attr-defined]
    said = capsys.readouterr().out
    assert "train/acc" in said
    assert {path.name for path in (tmp_path / "parquet").iterdir()} == {
        "runs.parquet", "config.parquet", "tags.parquet", "metrics.parquet", "artifacts.parquet",
    }  # fmt: skip


def test_the_table_page_names_every_column(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    import holdfast

    page = (PAGE.parents[1] / "reference" / "parquet.md").read_text()
    with holdfast.open() as store:
        written = store.export_parquet(tmp_path / "out")
    for path in written:
        section = page[page.index(f"{path.stem}.parquet") :].split("\n## ", 1)[0]
        section = page if path.stem == "tags" else section
        for name in pq.read_schema(path).names:
            assert f"`{name}`" in section, f"{path.name}: {name}"
