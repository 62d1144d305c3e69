"""A Dask cluster on this machine: a scheduler and three workers, each a process of its own."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from servers.base import PATIENCE_SECONDS, Server, free_port

WORKERS = 3
_TESTS = Path(__file__).resolve().parents[1]


class DaskCluster(Server):
    """`url` is what `--executor` takes. Workers have one thread each, and nobody to start them again."""

    @classmethod
    def missing(cls) -> str | None:
        if importlib.util.find_spec("distributed"):
            return None
        return "Dask needs distributed: pip install 'holdfast[dask]'"

    def launch(self) -> None:
        port = free_port()
        self.url = f"dask://127.0.0.1:{port}"
        address = f"tcp://127.0.0.1:{port}"
        self._python("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        self._reachable(port)
        for _ in range(WORKERS):
            self.add_worker(address)
        self._joined(address)

    def add_worker(self, address: str) -> None:
        self._python(
            "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
            "--local-directory", str(self.home), "--host", "127.0.0.1", "--death-timeout", "60",
        )  # fmt: skip

    def kill_worker(self) -> None:
        """SIGKILL: it has no time to say a word."""
        worker = self._processes.pop()
        worker.send_signal(signal.SIGKILL)
        worker.wait()

    def _python(self, part: str, *arguments: str) -> None:
        path = os.pathsep.join([str(_TESTS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
        with open(self.home / f"{part}.log", "ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", f"distributed.cli.dask_{part}", *arguments],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.home,
                    env={**os.environ, "PYTHONPATH": path}, start_new_session=True,
                )
            )  # fmt: skip

    def _reachable(self, port: int) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"the scheduler did not listen: see {self.home}")

    def _joined(self, address: str) -> None:
        from distributed import Client

        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(WORKERS, timeout=PATIENCE_SECONDS)
