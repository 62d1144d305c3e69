"""What several test modules share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast


@pytest.fixture(autouse=True)
def _private_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test touches the user's own cache; none has more metrics because it took long."""
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HOLDFAST_SYSTEM", "off")


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[holdfast.ExperimentStore]:
    """An empty store on each backend."""
    url = tmp_path / "lab" if request.param == "local" else None
    with holdfast.ExperimentStore(url) as opened:
        yield opened
