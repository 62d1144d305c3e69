"""`holdfast://`: what fsspec's own suite asks of a filesystem that reads, and what pandas, xarray and torch
make of addresses."""

from __future__ import annotations

import io
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests

import holdfast
from holdfast.errors import Ambiguous, DigestMismatch, InvalidValue
from holdfast.format import layout
from holdfast.integrations.filesystem import HoldfastFileSystem

TABLE = "x,y\n1,2\n3,4\n"


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "deep/er").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "a.csv").write_text(TABLE)
    (folder / "deep/b.bin").write_bytes(b"b" * 100)
    (folder / "deep/er/c.bin").write_bytes(b"c")
    (folder / "link").symlink_to("a.csv")
    with holdfast.open(tmp_path / "lab") as store:
        with store.start_run("e", run_id="run", capture=False) as run:
            run.log_artifact(TABLE.encode(), key="data.csv")
            run.log_artifact(b"1", key="checkpoints/1.pt")
            run.log_artifact(b"22", key="checkpoints/2.pt")
            run.log_artifact(os.urandom(3 << 20), key="large.bin")
            run.log_artifact(folder, key="sets/folder")
        with store.start_run("e", run_id="other", capture=False):
            pass
        store.alias("prod/model", "run:checkpoints/2.pt")
        store.alias("data", "run:sets/folder")
        store.alias("best", "run")
    return tmp_path / "lab"


@pytest.fixture
def fs(lab: Path) -> HoldfastFileSystem:
    found = fsspec.filesystem("holdfast", store=str(lab))
    assert isinstance(found, HoldfastFileSystem)
    return found


class _Touching(HoldfastFileSystem):
    """For the one test of the suite that makes its source by itself: a touch logs an artifact."""

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        pass

    def touch(self, path: str, truncate: bool = True, **_: Any) -> None:
        run_id, _, key = path.partition(":")
        with holdfast.open(self._url) as store:
            store.add_artifact_file(run_id, b"", key)


class TestWhatFsspecAsksOfReading(AbstractGetTests, AbstractFixtures):
    """The public suite, over directories that were logged as artifacts."""

    @pytest.fixture
    def fs(self, tmp_path: Path) -> HoldfastFileSystem:
        with holdfast.open(tmp_path / "lab") as store:
            store.start_run("suite", run_id="touched", capture=False).finish()
        return _Touching(store=str(tmp_path / "lab"), skip_instance_cache=True)

    @pytest.fixture
    def fs_path(self) -> str:
        return "touched:by/the/suite"

    @pytest.fixture
    def fs_join(self) -> Any:
        return lambda *parts: "/".join(parts)

    def _logged(self, fs: HoldfastFileSystem, tmp_path: Path, make: Any) -> str:
        """A scenario of the suite, made on disk and logged; the path of its artifact."""
        local = LocalFileSystem(auto_mkdir=True)
        source = make(local, os.path.join, str(tmp_path / "made"))
        with (
            holdfast.open(tmp_path / "lab") as store,
            store.start_run("suite", run_id="suite", capture=False) as run,
        ):
            run.log_artifact(source, key="source")
        return "suite:source"

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self, fs: Any, tmp_path: Path) -> str:
        return self._logged(fs, tmp_path, self._bulk_operations_scenario_0)

    @pytest.fixture
    def fs_glob_edge_cases_files(self, fs: Any, tmp_path: Path) -> str:
        return self._logged(fs, tmp_path, self._glob_edge_cases_files)

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self, fs: Any, tmp_path: Path) -> str:
        return self._logged(fs, tmp_path, self._dir_and_file_with_same_name_prefix)

    @pytest.fixture
    def fs_10_files_with_hashed_names(self, fs: Any, tmp_path: Path) -> str:
        return self._logged(fs, tmp_path, self._10_files_with_hashed_names)


@pytest.mark.parametrize(
    "path",
    [
        "run:data.csv",
        "holdfast://run:data.csv",
        "runs/run:data.csv",
        "best:data.csv",
        "e:data.csv@v0",
        "experiments/e:data.csv@latest",
        "data:a.csv",
        "run:sets/folder/a.csv",
        "e:sets/folder@v0/a.csv",
    ],
)
def test_every_address_is_a_path(fs: HoldfastFileSystem, path: str) -> None:
    assert fs.cat_file(path) == TABLE.encode()
    assert fs.open(path, "r").read() == TABLE
    assert fs.cat_file(path, 4, 7) == b"1,2"
    assert fs.isfile(path) and fs.exists(path) and not fs.isdir(path)
    about = fs.info(path)
    assert about["name"] == path.removeprefix("holdfast://")
    assert (about["size"], about["type"]) == (len(TABLE), "file")
    assert fs.cat_file(f"sha256:{about['sha256']}") == TABLE.encode()
    assert fs.ukey(path) == about["sha256"]


def test_an_alias_of_a_file_is_a_file_and_one_of_a_directory_a_folder(
    fs: HoldfastFileSystem,
) -> None:
    assert fs.cat_file("prod/model") == b"22"
    assert fs.ls("data", detail=False) == ["data:a.csv", "data:deep", "data:empty"]
    assert fs.cat_file("data:deep/er/c.bin") == b"c"


def test_runs_and_directories_are_folders(fs: HoldfastFileSystem) -> None:
    assert sorted(fs.ls("", detail=False)) == ["other:", "run:"]
    names = ["run:checkpoints", "run:data.csv", "run:large.bin", "run:sets"]
    assert fs.ls("run:", detail=False) == fs.ls("run", detail=False) == names
    assert fs.ls("run:checkpoints", detail=False) == [
        "run:checkpoints/1.pt",
        "run:checkpoints/2.pt",
    ]
    assert fs.ls("run:sets", detail=False) == ["run:sets/folder"]
    inner = ["run:sets/folder/a.csv", "run:sets/folder/deep", "run:sets/folder/empty"]
    assert fs.ls("run:sets/folder", detail=False) == inner
    assert fs.ls("run:sets/folder/deep", detail=False) == [
        *("run:sets/folder/deep/b.bin", "run:sets/folder/deep/er")
    ]
    assert fs.ls("run:sets/folder/empty") == []
    assert fs.ls("e:sets/folder@v0/deep/er", detail=False) == ["e:sets/folder@v0/deep/er/c.bin"]
    assert fs.ls("other:") == []
    assert [about["type"] for about in fs.ls("run:")] == ["directory", "file", "file", "directory"]
    for path in ("", "run", "run:", "run:sets", "run:sets/folder", "run:sets/folder/deep"):
        assert fs.isdir(path) and not fs.isfile(path)
    assert fs.ls("run:data.csv", detail=False) == ["run:data.csv"]


def test_walking_finding_and_patterns(fs: HoldfastFileSystem) -> None:
    found = fs.find("run:")
    assert found == [
        "run:checkpoints/1.pt",
        "run:checkpoints/2.pt",
        "run:data.csv",
        "run:large.bin",
        "run:sets/folder/a.csv",
        "run:sets/folder/deep/b.bin",
        "run:sets/folder/deep/er/c.bin",
    ]
    assert fs.find("") == found
    assert fs.glob("run:*.csv") == ["run:data.csv"]
    assert fs.glob("run:checkpoints/*.pt") == ["run:checkpoints/1.pt", "run:checkpoints/2.pt"]
    assert fs.glob("run:**/*.bin") == [path for path in found if path.endswith("bin")]
    assert fs.glob("run:*/[12].pt") == ["run:checkpoints/1.pt", "run:checkpoints/2.pt"]
    assert set(fs.glob("run:*.csv", detail=True)) == {"run:data.csv"}
    assert fs.glob("run:nothing*") == []
    assert fs.du("run:checkpoints") == 3
    assert [fs._parent(p) for p in ("run:a/b", "run:a", "prod/model", "run:")] == [
        *("run:a", "run:", "", "")
    ]


@pytest.mark.parametrize(
    "path",
    ["run:nothing", "nobody:x", "no/body", "run:sets/nothing", "run:sets/folder/deep/nothing",
     "run:data.csv/x", "run:../x", "sha256:12", "sha256:" + "0" * 64, "e:data.csv", "e:x@v0/y",
     "prod/model:x"],
)  # fmt: skip
def test_what_is_not_there(fs: HoldfastFileSystem, path: str) -> None:
    assert not fs.exists(path) and not fs.isdir(path)
    for ask in (fs.info, fs.ls, fs.cat_file, fs.open):
        with pytest.raises(FileNotFoundError):
            ask(path)


def test_a_folder_is_no_file(fs: HoldfastFileSystem) -> None:
    for ask in (fs.cat_file, fs.open):
        with pytest.raises(IsADirectoryError):
            ask("run:sets")


def test_what_could_be_two_things_is_said(fs: HoldfastFileSystem, lab: Path) -> None:
    with holdfast.open(lab) as store, store.start_run("e", run_id="best", capture=False):
        pass
    with pytest.raises(Ambiguous, match="runs/best"):
        fs.open("best:data.csv")


def test_it_only_reads(fs: HoldfastFileSystem, lab: Path) -> None:
    before = sorted(lab.rglob("*"))
    for act in (
        lambda: fs.open("run:new", "wb"),
        lambda: fs.pipe_file("run:new", b"1"),
        lambda: fs.touch("run:new"),
        lambda: fs.mkdir("run:new"),
        lambda: fs.makedirs("run:new"),
        lambda: fs.rm("run:data.csv"),
        lambda: fs.rm_file("run:data.csv"),
        lambda: fs.cp_file("run:data.csv", "run:new"),
        lambda: fs.put_file(__file__, "run:new"),
        lambda: fs.mv("run:data.csv", "run:new"),
    ):
        with pytest.raises(OSError, match="only reads"):
            act()
    assert sorted(lab.rglob("*")) == before


def test_bytes_that_were_replaced_are_never_given(
    fs: HoldfastFileSystem, lab: Path, tmp_path: Path
) -> None:
    digest = holdfast.Digest(fs.info("run:data.csv")["sha256"])
    (lab / layout.blob(digest)).write_bytes(TABLE.replace("1", "7").encode())
    for act in (
        lambda: fs.cat_file("run:data.csv"),
        lambda: fs.open("run:data.csv").read(),
        lambda: fs.get_file("run:data.csv", str(tmp_path / "out")),
        lambda: pd.read_csv("holdfast://run:data.csv", storage_options={"store": str(lab)}),
    ):
        with pytest.raises(DigestMismatch):
            act()
    assert not (tmp_path / "out").exists()


# Where the store comes from.


def test_the_store_is_an_option_or_in_the_url_or_in_the_environment(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_STORE", str(lab.parent / "nowhere"))
    for url, options in [
        ("holdfast://run:data.csv", {"store": str(lab)}),
        (f"holdfast://run:data.csv::{lab}", {}),
        (f"holdfast://run:data.csv::file://{lab}", {}),
    ]:
        with fsspec.open(url, **options) as file:
            assert file.read() == TABLE.encode()
    monkeypatch.setenv("HOLDFAST_STORE", str(lab))
    fsspec.filesystem("holdfast").clear_instance_cache()
    with fsspec.open("holdfast://run:data.csv") as file:
        assert file.read() == TABLE.encode()
    monkeypatch.delenv("HOLDFAST_STORE")
    with pytest.raises(InvalidValue, match="which store"):
        HoldfastFileSystem(skip_instance_cache=True).ls("")


def test_a_store_in_memory_and_one_as_it_was(lab: Path) -> None:
    with holdfast.open("memory://fsspec-test") as store:
        with store.start_run("e", run_id="run", capture=False) as run:
            run.log_artifact(b"here", key="x")
        with fsspec.open("holdfast://run:x::memory://fsspec-test") as file:
            assert file.read() == b"here"
    with holdfast.open(lab) as store:
        store.snapshot("paper")
        store.add_artifact_file("run", b"newer", "data.csv")
    with fsspec.open("holdfast://run:data.csv", store=str(lab), at="paper") as file:
        assert file.read() == TABLE.encode()
    with fsspec.open("holdfast://run:data.csv", store=str(lab)) as file:
        assert file.read() == b"newer"


def test_it_goes_through_pickle(fs: HoldfastFileSystem) -> None:
    again = pickle.loads(pickle.dumps(fs))
    assert again.cat_file("run:data.csv") == TABLE.encode()


def test_it_lies_behind_a_cache_of_fsspec(lab: Path) -> None:
    url = "simplecache::holdfast://run:large.bin"
    with fsspec.open(url, holdfast={"store": str(lab)}) as file:
        assert len(file.read()) == 3 << 20


# What people read with.


def test_pandas(lab: Path) -> None:
    options = {"store": str(lab)}
    frame = pd.read_csv("holdfast://run:data.csv", storage_options=options)
    assert frame.to_dict("list") == {"x": [1, 3], "y": [2, 4]}
    with holdfast.open(lab) as store:
        held = io.BytesIO()
        frame.to_parquet(held)
        store.add_artifact_file("run", held.getvalue(), "data.parquet")
    again = pd.read_parquet("holdfast://best:data.parquet", storage_options=options)
    pd.testing.assert_frame_equal(again, frame)


def test_xarray(lab: Path, fs: HoldfastFileSystem, tmp_path: Path) -> None:
    import xarray

    data = xarray.Dataset({"t": (("x", "y"), np.arange(600_000.0).reshape(600, 1000))})
    data.to_netcdf(tmp_path / "data.nc", engine="h5netcdf")
    with holdfast.open(lab) as store:
        store.add_artifact_file("run", tmp_path / "data.nc", "data.nc")
    with fs.open("run:data.nc") as file, xarray.open_dataset(file, engine="h5netcdf") as found:
        xarray.testing.assert_equal(found.load(), data)
        assert float(found["t"][599, 999]) == 599_999


def test_torch(lab: Path, fs: HoldfastFileSystem) -> None:
    torch = pytest.importorskip("torch", reason="this test needs torch: pip install torch")
    held = io.BytesIO()
    torch.save({"w": torch.arange(1000.0)}, held)
    with holdfast.open(lab) as store:
        store.add_artifact_file("run", held.getvalue(), "model.pt")
    with fsspec.open("holdfast://run:model.pt", store=str(lab)) as file:
        assert torch.load(file, weights_only=True)["w"].tolist() == list(range(1000))


def test_numpy_reads_a_part_of_a_large_file(lab: Path, fs: HoldfastFileSystem) -> None:
    with fs.open("run:large.bin") as file:
        file.seek(2 << 20)
        part = file.read(1000)
    with holdfast.open(lab) as store:
        assert part == store.read_artifact("run:large.bin")[2 << 20 :][:1000]


def test_a_whole_folder_comes_to_disk(fs: HoldfastFileSystem, tmp_path: Path) -> None:
    fs.get("run:sets/folder", str(tmp_path / "out"), recursive=True)
    names = sorted(
        p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*")
    )
    assert names == ["a.csv", "deep", "deep/b.bin", "deep/er", "deep/er/c.bin", "empty"]
    shutil.rmtree(tmp_path / "out")
