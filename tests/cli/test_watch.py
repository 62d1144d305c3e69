"""`holdfast watch` on a real terminal, in a pipe, and as JSON lines."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast
from cli.test_verbs import Out, call

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
WORDS = [sys.executable, "-m", "holdfast.cli", "watch", "--interval", "0.05"]
MOST_SECONDS = 300  # then something is wrong


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[holdfast.ExperimentStore]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOLDFAST_STORE", str(tmp_path / "lab"))
    with holdfast.open(tmp_path / "lab") as store:
        yield store


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *words: str, size: tuple[int, int] = (100, 24), **more: str) -> None:
        self.near, far = pty.openpty()
        self.resize(*size)
        environment = {**os.environ, "TERM": "xterm-256color", **more}
        for name in ("COLUMNS", "LINES", *(["NO_COLOR"] if "NO_COLOR" not in more else [])):
            environment.pop(name, None)
        self.child = subprocess.Popen(
            [*WORDS, *words], stdin=far, stdout=far, stderr=far, env=environment
        )
        os.close(far)
        self.seen = ""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.near, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def until(self, pattern: str) -> str:
        """Read until the frames since the last call match; returns the match."""
        late = time.monotonic() + MOST_SECONDS
        while not (found := re.search(pattern, self.seen, re.DOTALL)):
            ready = select.select([self.near], [], [], MOST_SECONDS)[0]
            assert ready and time.monotonic() < late, f"no {pattern}: {self.seen[-3000:]}"
            try:
                self.seen += os.read(self.near, 65_536).decode("utf-8", "replace")
            except OSError as error:  # the other end is closed
                raise AssertionError(f"it ended before {pattern}: {self.seen}") from error
        self.seen = self.seen[found.end() :]
        return found[0]

    def rest(self) -> tuple[int, str]:
        """(exit code, everything until the end)."""
        while select.select([self.near], [], [], MOST_SECONDS)[0]:
            try:
                self.seen += os.read(self.near, 65_536).decode("utf-8", "replace")
            except OSError:
                break
        os.close(self.near)
        return self.child.wait(MOST_SECONDS), self.seen


def test_it_is_drawn_over_in_place_until_the_run_ends(lab: holdfast.ExperimentStore) -> None:
    run = lab.start_run("exp", name="first", capture=False)
    run.log({"train/loss": 0.5, "acc": 0.25}, step=7)
    terminal = Terminal(run.id)
    first = terminal.until(r".*step 7.*train/loss +0\.5 .*\x1b\[J")
    assert first.count(ENTER) == 1
    assert run.id in first
    assert "\x1b[2J" not in first  # what is cleared first flickers
    assert "\x1b[1;32mRunning\x1b[0m" in first
    run.log({"train/loss": 0.125}, step=8)
    assert ENTER not in terminal.until(r".*step 8.*train/loss +0\.125 +0\.125 +0\.5 .*\x1b\[J")
    run.finish()
    code, rest = terminal.rest()
    assert code == 0
    after = rest.split(LEAVE)[1]  # the last frame stays to be read
    assert "Success" in after
    assert "train/loss" in after
    assert "\x1b[?25h" in rest


def test_a_terminal_that_changes_its_size_is_filled_and_no_more(
    lab: holdfast.ExperimentStore,
) -> None:
    with lab.start_run("exp", capture=False) as run:
        run.log({f"layer/{number}": number for number in range(50)}, step=0)
        terminal = Terminal(run.id, size=(100, 20))
        terminal.until("… and 35 more metrics")
        terminal.resize(40, 12)
        terminal.until("… and 44 more metrics")
        (frame,) = re.findall(
            r"\x1b\[H(.*?)\x1b\[J", terminal.until(r"\x1b\[H.*?\x1b\[J"), re.DOTALL
        )
        lines = [re.sub(r"\x1b\[[0-9;]*[mK]", "", line) for line in frame.split("\r\n")]
        assert len(lines) <= 12
        assert max(map(len, lines)) <= 40
        terminal.child.send_signal(signal.SIGINT)
        terminal.rest()


def test_no_colour_where_it_is_not_wanted_and_no_drawing_on_a_dumb_terminal(
    lab: holdfast.ExperimentStore,
) -> None:
    run = lab.start_run("exp", capture=False)
    run.log({"loss": 0.5})
    plain = Terminal(run.id, NO_COLOR="1")
    assert "\x1b[1;" not in plain.until("Running.*loss")
    dumb = Terminal(run.id, TERM="dumb")
    assert "\x1b" not in dumb.until(r"loss 0\.5")
    run.finish()
    assert "\x1b[1;" not in plain.rest()[1]
    code, rest = dumb.rest()
    assert code == 0
    assert "Success after" in rest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_terminal_is_given_back_when_it_is_stopped(
    lab: holdfast.ExperimentStore, number: signal.Signals
) -> None:
    with lab.start_run("exp", capture=False) as run:
        run.log({"loss": 0.5})
        terminal = Terminal(run.id)
        terminal.until("Running.*loss")
        terminal.child.send_signal(number)
        code, rest = terminal.rest()
    assert code == 130
    assert "\x1b[?25h\x1b[?1049l" in rest
    assert "holdfast: stopped" in rest
    assert "Traceback" not in rest


def test_the_newest_running_run_is_watched_by_default(
    lab: holdfast.ExperimentStore, capsys: Out
) -> None:
    code, _, err = call(capsys, "watch")
    assert (code, err) == (
        3,
        "holdfast: no run is running: name one (holdfast runs lists them)\n",
    )
    lab.start_run("exp", run_id="older", capture=False).finish()
    run = lab.start_run("exp", run_id="newer", capture=False)
    run.log({"loss": 0.5})
    code, out, err = call(capsys, "watch", "--once")
    assert (code, err) == (0, "")
    assert out.startswith("newer   exp\nRunning   elapsed")
    run.finish()


def test_lines_where_there_is_no_terminal(lab: holdfast.ExperimentStore) -> None:
    run = lab.start_run("exp", name="first", capture=False)
    run.log({"loss": 0.5, "acc": 1.0}, 3, timestamp=1_736_942_400_000_000_000)
    with subprocess.Popen([*WORDS, run.id], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == f"{run.id}   exp   first\n"
        assert child.stdout.readline() == "2025-01-15T12:00:00Z   step 3   acc 1   loss 0.5\n"
        run.log({"loss": 0.25}, 4, timestamp=1_736_942_401_500_000_000)
        assert child.stdout.readline() == "2025-01-15T12:00:01Z   step 4   acc 1   loss 0.25\n"
        run.finish(holdfast.RunStatus.FAILED)
        assert re.fullmatch(r"Failed after .+s\n", child.stdout.read())
    assert child.returncode == 1


def test_records_as_json_lines(lab: holdfast.ExperimentStore, capsys: Out) -> None:
    with lab.start_run("exp", run_id="one", capture=False) as run:
        for step in range(5):
            value = float("nan") if step == 3 else step
            run.log({"loss": value, "acc": 1}, step, timestamp=step)
    code, out, err = call(capsys, "watch", "one", "--json", "--last", "2")
    assert (code, err) == (0, "")
    records: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert records == [
        {
            "step": 3,
            "timestamp": "1970-01-01T00:00:00.000000003Z",
            "rank": 0,
            "attempt": 1,
            "metrics": {"loss": "NaN", "acc": 1.0},
        },
        {
            "step": 4,
            "timestamp": "1970-01-01T00:00:00.000000004Z",
            "rank": 0,
            "attempt": 1,
            "metrics": {"loss": 4.0, "acc": 1.0},
        },
    ]
    _, out, _ = call(capsys, "watch", "one", "l*", "--json", "--from-start")
    assert [json.loads(line)["metrics"] for line in out.splitlines()][4] == {"loss": 4.0}
    assert len(out.splitlines()) == 5
    _, out, _ = call(capsys, "watch", "one", "--json", "--once")
    assert [json.loads(line)["step"] for line in out.splitlines()] == [4]
    _, out, _ = call(capsys, "watch", "one", "--json")
    assert out == ""


@pytest.mark.parametrize(
    ("status", "code"),
    [("SUCCESS", 0), ("FAILED", 1), ("CANCELLED", 1)],
)
def test_the_exit_code_says_how_it_ended(
    lab: holdfast.ExperimentStore, capsys: Out, status: str, code: int
) -> None:
    run = lab.start_run("exp", run_id="one", capture=False)
    run.log({"loss": 0.5})
    run.finish(holdfast.RunStatus[status])
    assert call(capsys, "watch", "one")[0] == code
    assert call(capsys, "watch", "one", "--once")[0] == code
    assert call(capsys, "watch", "one", "--json")[0] == code


def test_a_writer_that_is_gone_is_told(tmp_path: Path, capsys: Out) -> None:
    script = str(Path(__file__).parents[1] / "crash_writer.py")
    out, into = os.pipe()
    words = [sys.executable, script, str(tmp_path / "lab"), "one", str(into)]
    child = subprocess.Popen(words, pass_fds=[into])
    os.close(into)
    os.read(out, 800)
    terminal = Terminal("one", "--store", str(tmp_path / "lab"))
    terminal.until("Running.*loss")
    child.kill()
    child.wait()
    with os.fdopen(out, "rb") as acknowledged:
        acknowledged.read()
    code, rest = terminal.rest()
    assert code == 1
    assert "Crashed" in rest.split(LEAVE)[1]


def test_ten_thousand_metrics_are_drawn_as_far_as_they_fit(lab: holdfast.ExperimentStore) -> None:
    with lab.start_run("exp", capture=False) as run:
        run.log({f"layer/{number}/norm": number for number in range(10_000)}, step=0)
        run.log({"once": 1.0}, step=1)
        terminal = Terminal(run.id, "-k", "layer/99*", "-k", "once")
        terminal.until("layer/99/norm +99 .*… and 93 more metrics")
        terminal.child.send_signal(signal.SIGINT)
        terminal.rest()


def test_slips_are_told(lab: holdfast.ExperimentStore, capsys: Out) -> None:
    code, _, err = call(capsys, "watch", "nothing-of-that-name")
    assert code == 3
    assert "there is no run 'nothing-of-that-name'" in err
    code, _, err = call(capsys, "watch", "--last", "3")
    assert code == 2
    assert "--from-start and --last belong to --json" in err
    code, _, err = call(capsys, "watch", "--interval", "0")
    assert code == 2
