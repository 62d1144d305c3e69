"""Which process is writing, so that another one can tell whether it is still there.

A pid alone is reused, and means something else on another machine or in another container; so an
identity also holds when the process began and which process table it belongs to.
"""

from __future__ import annotations

import os
import socket
import weakref
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol


def identity() -> dict[str, Any]:
    """{host, pid, started, space} of this process. `started` is '' where it cannot be had."""
    return dict(_identity_of(os.getpid()))


@lru_cache(maxsize=4)  # keyed by pid: a forked child asks anew
def _identity_of(pid: int) -> dict[str, Any]:
    return {"host": _host(), "pid": pid, "started": _started(pid), "space": _space()}


def is_alive(who: dict[str, Any]) -> bool | None:
    """True or False for a process of this machine's table, None when that cannot be known."""
    if who.get("host") != _host() or who.get("space") != _space():
        return None
    pid = who.get("pid")
    if type(pid) is not int or pid <= 0:
        return None
    if os.name == "nt":
        return None  # os.kill(pid, 0) would end the process there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is there, and somebody else's
    started = _started(pid)
    return not (started and who.get("started") and started != who["started"])


def describe(who: dict[str, Any]) -> str:
    """For a person: `process 4711 on host gpu3`."""
    return f"process {who.get('pid', '?')} on host {who.get('host', '?')}"


class Forked(Protocol):
    """What a child process has to begin anew."""

    def after_fork(self) -> None:
        """In the child: no thread but this one runs here, and locks may be held by nobody."""


_forked: weakref.WeakSet[Forked] = weakref.WeakSet()


def tell_of_forks(one: Forked) -> None:
    """Have `one.after_fork` called in every child process, while `one` is in use."""
    _forked.add(one)


def _after_fork() -> None:
    for one in list(_forked):
        one.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _host() -> str:
    return socket.gethostname()


def _space() -> str:
    """The boot and the pid namespace that a pid belongs to; '' outside Linux."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When the process began, in clock ticks since boot; a zombie counts as gone: '-'."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "-" if fields[0] in "ZX" else fields[19]
