"""A server as a child process: started on a free port, waited for, and stopped by its pid."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".servers"  # where install.py puts what comes from PyPI and npm
PATIENCE_SECONDS = 300  # a machine may be busy


def free_port() -> int:
    """A port of this machine that nobody listens on, and that is ours until this process ends."""
    while True:
        # Below those that the kernel gives to whoever connects somewhere or asks for any.
        port = random.SystemRandom().randrange(10_000, 30_000)
        if not _is_reserved(port):
            continue
        with suppress(OSError), socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
            return port


def _is_reserved(port: int) -> bool:
    """Keep the port from the other processes that run tests: they ask before their servers listen."""
    if sys.platform != "linux":
        return True
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0holdfast-test-port-{port}")  # no file: it goes when we do
    except OSError:
        name.close()
        return False
    _reserved.append(name)
    return True


_reserved: list[socket.socket] = []


def program(name: str) -> str | None:
    """The path of a program that the tests installed or the system has."""
    places = [TOOLS / "bin", TOOLS / "swift" / "bin", TOOLS / "node_modules" / ".bin"]
    return shutil.which(name, path=os.pathsep.join([*map(str, places), os.environ["PATH"]]))


class Server:
    """Subclasses say which programs they need and how to `launch`; `url` is where clients connect."""

    needs: tuple[str, ...] = ()
    url = ""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._processes: list[subprocess.Popen[bytes]] = []

    @classmethod
    def missing(cls) -> str | None:
        """A sentence if a program is not there."""
        absent = [name for name in cls.needs if program(name) is None]
        if not absent:
            return None
        return f"{cls.__name__} needs {', '.join(absent)}: `python3 do.py servers` installs it"

    def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        try:
            self.launch()
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        raise NotImplementedError

    def spawn(self, *command: str, **environment: str) -> None:
        """Start a process that inherits no descriptor but its log."""
        path = program(command[0])
        if path is None:
            raise RuntimeError(self.missing())
        with open(self.home / f"{command[0]}.log", "ab") as log:
            started = subprocess.Popen(
                [path, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self._processes.append(started)

    def call(self, *command: str) -> str:
        """Run a program to its end; what it prints."""
        path = program(command[0])
        if path is None:
            raise RuntimeError(self.missing())
        done = subprocess.run(
            [path, *command[1:]],
            capture_output=True,
            text=True,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stderr or done.stdout}")
        return done.stdout

    def wait(self, url: str) -> None:
        """Return when something answers HTTP at `url`, whatever it says."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(url, timeout=5):
                    return
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"{type(self).__name__} did not answer at {url}: see {self.home}")

    def stop(self) -> None:
        """End the processes that `start` began, and wait until they are gone."""
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(PATIENCE_SECONDS / 30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
