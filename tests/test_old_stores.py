"""A store that an older Holdfast wrote is read by this one, and says what it said then."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import holdfast
import old_stores

FORMATS = sorted(path.name for path in old_stores.STORES.iterdir() if path.is_dir())


def expected(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((old_stores.STORES / f"{name}.expected.json").read_text())
    return found


@pytest.fixture(params=FORMATS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """(name, a copy of that store whose writers were last heard of long ago)."""
    copy = tmp_path / "lab"
    shutil.copytree(old_stores.STORES / request.param, copy)
    for head in (copy / "heads").rglob("*@*"):
        os.utime(head, (0, 0))
    return request.param, copy


@pytest.mark.parametrize("read_only", [True, False])
def test_it_is_read_as_it_was_written(old: tuple[str, Path], read_only: bool) -> None:
    name, root = old
    with holdfast.open(root, create=False, read_only=read_only, cache=False) as store:
        found = json.loads(json.dumps(old_stores.describe(store)))
        assert found == expected(name)
        assert store.verify() == []


def test_it_is_written_on(old: tuple[str, Path]) -> None:
    name, root = old
    before = expected(name)["runs"][old_stores.LEFT]["series"]
    with holdfast.open(root, create=False, cache=False) as store:
        assert [item.run_id for item in store.recover()] == [old_stores.LEFT]
        after = {key: old_stores.points(store, old_stores.LEFT, key) for key in before}
        assert after == before
        with store.resume(old_stores.LEFT) as run:
            run.log({"loss": 0.01})
        assert len(store.metrics(old_stores.LEFT, "loss")) == len(before["loss"]) + 1
        assert store.verify() == []


def test_it_is_read_without_its_hints(old: tuple[str, Path]) -> None:
    name, root = old
    shutil.rmtree(root / "heads")
    with holdfast.open(root, create=False, cache=False) as store:
        assert json.loads(json.dumps(old_stores.describe(store))) == expected(name)
