"""What was running: command line, git state, Python, platform, packages. Never the cause of a failure."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from holdfast.errors import InvalidValue

GIT_SECONDS = 2.0
_HIDDEN = r"[\w.-]*(?:secret|token|passw(?:or)?d|api[_-]?key|access[_-]?key|credential)[\w.-]*"
_SECRET_FLAG = re.compile(rf"--?{_HIDDEN}\Z", re.IGNORECASE)
_SECRET_PAIR = re.compile(rf"(-*{_HIDDEN}=).*", re.IGNORECASE | re.DOTALL)
_USER_IN_URL = re.compile(r"(\w+://)[^/@\s]+@")
MASK = "***"


def capture(what: bool | set[str] | frozenset[str]) -> dict[str, Any]:
    """The parts named in `what` (command, git, python, platform, packages); True is all of them.

    A part that cannot be had is left out. Raises InvalidValue for a part that does not exist.
    """
    if what is False:
        return {}
    names = set(_PARTS) if what is True else set(what)
    unknown = sorted(names - set(_PARTS))
    if unknown:
        raise InvalidValue(
            f"capture has no part {unknown[0]!r}: it has {', '.join(_PARTS)}", value=unknown[0]
        )
    found = {}
    for name in sorted(names):
        with suppress(Exception):  # a strange machine must not stop a training
            found[name] = _PARTS[name]()
    return {name: value for name, value in found.items() if value}


def _command() -> dict[str, Any]:
    return {"argv": mask(sys.orig_argv), "directory": Path.cwd().name}


def mask(argv: list[str]) -> list[str]:
    """The command line without what looks like a secret, nor the user's home directory."""
    masked, hide_next = [], False
    home = os.path.expanduser("~").rstrip("/")
    for word in argv:
        if hide_next:
            masked.append(MASK)
            hide_next = False
            continue
        hide_next = bool(_SECRET_FLAG.match(word))
        word = _SECRET_PAIR.sub(rf"\1{MASK}", word)
        word = _USER_IN_URL.sub(rf"\1{MASK}@", word)
        masked.append("~" + word[len(home) :] if home and word.startswith(home + "/") else word)
    return masked


def _git() -> dict[str, Any]:
    return dict(_git_in(os.getpid(), os.getcwd()))


@lru_cache(maxsize=8)
def _git_in(pid: int, directory: str) -> dict[str, Any]:
    """The state of the work tree when this process first asked."""
    commit = _ask_git("rev-parse", "HEAD")
    if not commit:
        return {}
    changed = _ask_git("status", "--porcelain", "--untracked-files=no").splitlines()
    remote = _ask_git("config", "--get", "remote.origin.url")
    return {
        "commit": commit,
        "branch": _ask_git("rev-parse", "--abbrev-ref", "HEAD"),
        "dirty": bool(changed),
        "changed_files": len(changed),
        **({"remote": _USER_IN_URL.sub(r"\1", remote)} if remote else {}),
    }


def _ask_git(*arguments: str) -> str:
    import subprocess  # late, as platform below: whoever only reads needs neither

    answer = subprocess.run(
        ["git", *arguments],
        capture_output=True,
        text=True,
        timeout=GIT_SECONDS,
        stdin=subprocess.DEVNULL,
        check=False,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
    )
    return answer.stdout.strip() if answer.returncode == 0 else ""


@lru_cache(maxsize=1)
def _python() -> dict[str, Any]:
    import platform

    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
    }


@lru_cache(maxsize=1)
def _platform() -> dict[str, Any]:
    import platform

    return {
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count() or 0,
    }


@lru_cache(maxsize=1)
def _packages() -> list[str]:
    from importlib.metadata import distributions

    found = {f"{item.metadata['Name']}=={item.version}" for item in distributions()}
    return sorted(found, key=str.lower)


_PARTS: dict[str, Callable[[], Any]] = {
    "command": _command,
    "git": _git,
    "packages": _packages,
    "platform": _platform,
    "python": _python,
}
