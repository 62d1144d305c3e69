"""Puts the simulated machine under Holdfast: its threads, clock, chance, processes and storage."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import secrets
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import holdfast
from holdfast.backend.base import Backend
from holdfast.backend.probe import weakness

from .history import current
from .kernel import Pool, Secrets, Threading, Time, kernel

_LEFT_OUT = ("cli", "demo", "integrations", "testing", "backend.remote", "storage")
# Small enough that spools are ended, compacted and carried on within a few calls.
SMALL = {"holdfast.writer.SPOOL_BYTES": 700, "holdfast.ops.compact.FAN_OUT": 3}


def install() -> Callable[[], None]:
    """Returns what takes it all away again. `python -m tests.faults` has a process of its own for it."""
    for found in pkgutil.walk_packages(holdfast.__path__, "holdfast."):
        if not found.name.removeprefix("holdfast.").startswith(_LEFT_OUT):
            importlib.import_module(found.name)
    undo: list[tuple[Any, str, Any]] = []

    def put(place: Any, name: str, value: Any) -> None:
        undo.append((place, name, getattr(place, name)))
        setattr(place, name, value)

    for name, module in list(sys.modules.items()):
        if name.startswith("holdfast.") and not name.removeprefix("holdfast.").startswith(
            _LEFT_OUT
        ):
            _put_machine(module, put)
    put(sys.modules["holdfast.writer"], "_now", Time.time_ns)
    _put_store(put)
    for place, value in SMALL.items():
        module_name, _, attribute = place.rpartition(".")
        put(sys.modules[module_name], attribute, value)
    warnings.simplefilter("ignore")  # of damage, which we do as well
    logging.getLogger("holdfast").disabled = True  # the background says what we do to it

    def uninstall() -> None:
        for place, name, value in reversed(undo):
            setattr(place, name, value)
        logging.getLogger("holdfast").disabled = False

    return uninstall


def _put_machine(module: Any, put: Callable[[Any, str, Any], None]) -> None:
    """Whatever of the real machine the module has imported is ours from now on."""
    ours = {id(threading): Threading(), id(time): Time(), id(secrets): Secrets()}
    for attribute, value in list(vars(module).items()):
        if id(value) in ours:
            put(module, attribute, ours[id(value)])
        elif value is ThreadPoolExecutor:
            put(module, attribute, Pool)
        elif value is weakness:  # its race is one of real threads; ours keeps creators apart
            put(module, attribute, lambda backend: None)


def _put_store(put: Callable[[Any, str, Any], None]) -> None:
    repository, process = sys.modules["holdfast.repository"], sys.modules["holdfast.process"]

    def connect(url: object, options: object = None) -> Backend:
        return current().backend(str(url))

    def lock(fd: int, wait: bool) -> bool:
        """The kernel's lock of a file, which must not stop the one thread that all processes share."""
        if not wait:
            return bool(try_lock(fd, False))
        kernel().pause()
        return kernel().wait(lambda: bool(try_lock(fd, False)))

    outbox = sys.modules["holdfast.outbox"]
    try_lock = outbox._lock
    put(outbox, "_lock", lock)
    put(repository, "connect", connect)
    put(repository, "state_folder", lambda: current().state_folder())
    put(process, "identity", lambda: current().identity())
    put(process, "is_alive", lambda who: current().is_alive(who))
