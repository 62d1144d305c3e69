"""What was running, who is writing, forks, and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast import liveness, process, provenance
from holdfast.errors import InvalidValue, RunBusy
from holdfast.format import salvage, spool

Store = holdfast.ExperimentStore


def git(*words: str, at: Path) -> None:
    quiet = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *quiet, *words], cwd=at, check=True, capture_output=True)


def fresh_git_state() -> dict[str, Any]:
    provenance._git_in.cache_clear()
    return provenance.capture({"git"})


def test_the_git_state_says_commit_branch_and_whether_it_is_dirty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fresh_git_state() == {}
    git("init", "-b", "trunk", at=tmp_path)
    (tmp_path / "train.py").write_text("x = 1\n")
    git("add", ".", at=tmp_path)
    git("commit", "-m", "first", at=tmp_path)
    git("remote", "add", "origin", "https://me:secret@example.org/x.git", at=tmp_path)
    state = fresh_git_state()["git"]
    assert len(state["commit"]) == 40
    assert (state["branch"], state["dirty"], state["changed_files"]) == ("trunk", False, 0)
    assert state["remote"] == "https://example.org/x.git"
    (tmp_path / "train.py").write_text("x = 2\n")
    assert fresh_git_state()["git"]["dirty"] is True


def test_a_run_says_what_was_running_and_each_part_can_be_left_out(store: Store) -> None:
    with store.start_run("x") as run:
        pass
    source = store.run(run.id).source
    assert {"command", "packages", "platform", "python"} <= source.keys()
    assert any(item.startswith("numpy==") for item in source["packages"])
    with store.start_run("x", capture={"python"}) as run:
        pass
    assert list(store.run(run.id).source) == ["python"]
    with store.start_run("x", capture=False) as run:
        pass
    assert store.run(run.id).source == {}
    with pytest.raises(InvalidValue, match="'gti'"):
        store.start_run("x", capture={"gti"})


def test_secrets_on_the_command_line_are_masked() -> None:
    words = ["train.py", "--api-key", "abc", "--lr=1", "--hf-token=xyz", "s3://u:p@host/b"]
    masked = " ".join(provenance.mask(words))
    assert masked == "train.py --api-key *** --lr=1 --hf-token=*** s3://***@host/b"


def test_a_process_that_ended_is_known_to_be_gone() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "from holdfast import process; print(process.identity()); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout
    assert child.stdin
    who = eval(child.stdout.readline())
    assert process.is_alive(who) is True
    child.kill()
    child.wait()
    child.stdout.close()
    child.stdin.close()
    assert process.is_alive(who) is False
    assert process.is_alive({**process.identity(), "started": "1"}) is False, "the pid was reused"
    assert process.is_alive({**who, "host": "elsewhere"}) is None


def test_silence_of_another_machine_counts_only_after_a_while() -> None:
    import time

    there = {"host": "elsewhere", "pid": 1, "started": "1", "space": ""}
    second = 1_000_000_000
    assert not liveness.is_dead(there, lambda: time.time_ns() - 60 * second)
    assert liveness.is_dead(there, lambda: time.time_ns() - 200 * second)
    assert liveness.is_dead(there, lambda: None)


def test_a_second_process_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    code = f"""
        import holdfast, sys
        run = holdfast.open({str(tmp_path / "lab")!r}).start_run("x", run_id="shared", capture=False)
        run.log({{"loss": 1.0}})
        print("open", flush=True)
        input()
        run.finish()
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout
    assert child.stdout.readline() == "open\n"
    with holdfast.open(tmp_path / "lab") as store:
        with pytest.raises(RunBusy, match=f"process {child.pid} on host") as caught:
            store.resume("shared")
        assert caught.value.writer["pid"] == child.pid
        child.communicate("\n")
        with store.resume("shared") as run:
            run.log({"loss": 0.5})
        assert store.metrics("shared", "loss").values.tolist() == [1.0, 0.5]


def test_a_forked_child_logs_to_the_same_run_beside_its_parent(tmp_path: Path) -> None:
    code = f"""
        import os, holdfast
        store = holdfast.open({str(tmp_path / "lab")!r})
        run = store.start_run("x", run_id="forked", capture=False)
        for step in range(100):
            run.log({{"parent": step}}, step=step)
        child = os.fork()
        name = "parent" if child else "child"
        for step in range(100, 200):
            run.log({{name: step}}, step=step)
        if not child:
            store.close()
            os._exit(0)
        os.waitpid(child, 0)
        run.finish()
    """
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        check=True, timeout=300,
    )  # fmt: skip
    with holdfast.open(tmp_path / "lab") as store:
        assert store.metrics("forked", "parent").steps.tolist() == list(range(200))
        assert store.metrics("forked", "child").steps.tolist() == list(range(100, 200))
        assert store.run("forked").status is holdfast.RunStatus.SUCCESS
        assert not list((tmp_path / "lab" / "runs" / "forked" / "spool").glob("*"))


def test_a_run_that_nobody_finished_is_named_when_python_ends(tmp_path: Path) -> None:
    code = f"""
        import holdfast
        run = holdfast.open({str(tmp_path / "lab")!r}).start_run("x", run_id="left", capture=False)
        run.log({{"loss": 1.0}})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert "run left was never finished" in done.stderr
    with holdfast.open(tmp_path / "lab") as store:
        assert store.run("left").state == "Crashed"
        assert store.metrics("left", "loss").values.tolist() == [1.0]


def test_salvage_quarantines_the_damaged_spool_and_keeps_the_rest(tmp_path: Path) -> None:
    code = f"""
        import os, holdfast
        store = holdfast.open({str(tmp_path / "lab")!r})
        run = store.start_run("x", run_id="hurt", capture=False)
        for step in range(100):
            run.log({{"loss": step}}, step=step)
        run.flush()
        os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    [file] = (tmp_path / "lab" / "runs" / "hurt" / "spool").iterdir()
    data = bytearray(file.read_bytes())
    data[len(data.rstrip(b"\0")) // 2] ^= 1  # zeros are room that was not used yet
    file.write_bytes(data)
    with holdfast.open(tmp_path / "lab") as store:
        with store.start_run("x", run_id="well", capture=False) as run:
            run.log({"loss": 1})
        [found] = store.recover()
        assert found.problem
        assert "--salvage" in found.problem
        assert file.name in found.problem
        [found] = store.recover(salvage=True)
        assert (found.run_id, found.problem, found.marked_crashed) == ("hurt", None, True)
        assert 0 < found.lost_bytes < 100
        steps = store.metrics("hurt", "loss").steps.tolist()
        assert len(steps) in (98, 99)
        assert set(steps) < set(range(100))
        kept = tmp_path / "lab" / "quarantine" / "runs" / "hurt" / "spool" / file.name
        assert kept.read_bytes() == bytes(data)
        assert not file.exists()
        assert store.recover() == []
        assert store.verify() == []


def test_salvage_of_a_whole_spool_is_the_scan() -> None:
    import golden

    data = golden.read("spool")
    whole, saved = spool.scan(data, place="w"), salvage.scan(data, place="w")
    assert (saved.row_count, saved.good_bytes, saved.lost_bytes) == (
        whole.row_count, whole.good_bytes, 0,
    )  # fmt: skip


MEMORY = """
import sys, holdfast
from pathlib import Path
store = holdfast.open(sys.argv[1])
megabytes, key = int(sys.argv[2]), "big.bin"
class Stream:
    left = megabytes
    def read(self, size=-1):
        self.left -= 1
        return self.left.to_bytes(8, "big") * 131072 if self.left >= 0 else b""
with store.start_run("x", run_id="big", capture=False) as run:
    run.log_artifact(Stream(), key=key)
target = store.get_artifact("big", key, to=Path(sys.argv[1]).parent / "out.bin")
assert target.stat().st_size == megabytes << 20
store.add_artifact_file("big", target, "again.bin")
with store.open_artifact("big", key) as file:
    file.seek((megabytes - 1) << 20)
    assert file.read(8) == bytes(8)
assert store.verify() == []
# Of this program alone: ru_maxrss would count what the process was before exec.
[peak] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak.split()[1]) // 1024)
"""


def peak_mebibytes(folder: Path, megabytes: int) -> int:
    command = [sys.executable, "-c", MEMORY, str(folder / "lab"), str(megabytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_memory_does_not_grow_with_the_artifact(tmp_path: Path) -> None:
    assert peak_mebibytes(tmp_path, 300) < 200


@pytest.mark.slow
def test_two_gibibytes_in_less_than_200_mebibytes(tmp_path: Path) -> None:
    assert peak_mebibytes(tmp_path, 2048) < 200
    assert os.path.getsize(tmp_path / "out.bin") == 2 << 30
