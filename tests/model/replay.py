"""The real code, one call of the storage at a time, in the order that a schedule of the model says."""

from __future__ import annotations

import threading
from collections.abc import Callable

from holdfast.backend.base import Backend
from holdfast.backend.wrap import WatchedBackend

Wanted = Callable[[str, str], bool]  # (operation, name) of a call


class Process:
    """`work(backend)` on a thread of its own, which goes on only when it is told to."""

    def __init__(self, backend: Backend, work: Callable[[Backend], None]) -> None:
        self.error: BaseException | None = None
        self.ended = False
        self._call = ("", "")  # the one it waits to make
        self._made: list[tuple[str, str]] = []  # what was stored without being asked for
        self._may_go, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        self._work, self._backend = work, WatchedBackend(backend, self._watch)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._waits.acquire()

    def advance(self, wanted: Wanted) -> None:
        """Go on until such a call was made, or to the end. What was stored already will do, once: the real
        code stores before it reads the log, and looks again after it."""
        for number, made in enumerate(self._made):
            if wanted(*made):
                del self._made[number]
                return
        while not self.ended:
            made = self._call
            self._may_go.release()
            self._waits.acquire()
            if wanted(*made):
                return
            if made[0] == "stage.commit" or made[1].startswith("recipes/"):
                self._made.append(made)

    def advance_before(self, wanted: Wanted) -> None:
        """Go on until such a call is the next, or to the end."""
        while not self.ended and not wanted(*self._call):
            self._may_go.release()
            self._waits.acquire()

    def finish(self) -> None:
        self.advance(lambda operation, name: False)
        self._thread.join()

    def _run(self) -> None:
        self._watch("begin", "")
        try:
            self._work(self._backend)
        except BaseException as error:  # noqa: BLE001 - told by whoever looks
            self.error = error
        self.ended = True
        self._waits.release()

    def _watch(self, operation: str, name: str) -> None:
        if (
            threading.current_thread() is self._thread
        ):  # what is done ahead on other threads goes on
            self._call = (operation, name)
            self._waits.release()
            self._may_go.acquire()


def call_of(what: str) -> Wanted | None:
    """The call that a step of the model stands for; None where the real code makes none of its own."""
    for word, operation, prefix in _CALLS:
        if what.startswith(word):
            return lambda made, name: made == operation and name.startswith(prefix)
    return None


_CALLS = [
    ("opens", "create", "runs/"),
    ("commits", "create", "runs/"),
    ("reads the log", "names", "gc/"),
    ("finds it stored", "stage.commit", "blobs/"),
    ("stores a blob", "stage.commit", "blobs/"),
    ("stores a pack", "stage.commit", "packs/"),
    ("stores a recipe", "create", "recipes/"),
    ("marks", "walk", "probe/"),
    ("condemns", "create", "gc/0"),
    ("lists the syncs", "folders", "syncs/"),
    ("lists the runs", "walk", "runs/"),
    ("fences", "create", "runs/"),
    ("collects", "create", "runs/"),
    ("decides", "create", "gc/0"),
    ("deletes x", "delete", "blobs/"),
    ("is done", "create", "gc/0"),
]
