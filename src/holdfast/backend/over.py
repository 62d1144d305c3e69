"""A backend in front of another one: what is written goes to the near one, and both are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, TypeVar

from holdfast.backend.base import Backend, Capabilities, Staged, Stat
from holdfast.errors import BackendError, NameNotFound

T = TypeVar("T")


class OverBackend:
    """For what is prepared here and sent later: nothing is ever written to `far`."""

    def __init__(self, near: Backend, far: Backend) -> None:
        self.near, self.far = near, far

    @property
    def url(self) -> str:
        return self.far.url

    @property
    def capabilities(self) -> Capabilities:
        return dataclasses.replace(self.far.capabilities, append=False)

    def get(self, name: str) -> bytes:
        return self._either(lambda backend: backend.get(name))

    def get_many(self, names: Sequence[str]) -> list[bytes]:
        here: dict[str, bytes] = {}
        for name in names:
            try:
                here[name] = self.near.get(name)
            except NameNotFound:
                continue
        missing = [name for name in names if name not in here]
        here |= zip(missing, self.far.get_many(missing), strict=True)
        return [here[name] for name in names]

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        return self._either(lambda backend: backend.get_range(name, offset, length))

    def chunks(self, name: str) -> Iterator[bytes]:
        try:
            self.near.stat(name)
        except NameNotFound:
            return self.far.chunks(name)
        return self.near.chunks(name)

    def stat(self, name: str) -> Stat:
        return self._either(lambda backend: backend.stat(name))

    def create(self, name: str, data: bytes) -> None:
        self.near.create(name, data)

    def put(self, name: str, data: bytes) -> None:
        self.near.put(name, data)

    def stage(self) -> Staged:
        return self.near.stage()

    def walk(self, prefix: str) -> Iterator[Stat]:
        found = {stat.name: stat for one in (self.far, self.near) for stat in one.walk(prefix)}
        return iter(sorted(found.values(), key=lambda stat: stat.name))

    def folders(self, prefix: str) -> list[str]:
        return sorted({*self.near.folders(prefix), *self.far.folders(prefix)})

    def names(self, prefix: str) -> list[str]:
        return list({*self.near.names(prefix), *self.far.names(prefix)})

    def token(self, prefix: str) -> None:
        return None  # one of them cannot answer for the other

    def delete(self, name: str) -> None:
        self.near.delete(name)

    def append(self, name: str, header: bytes) -> NoReturn:
        raise BackendError(f"{name}: open spools do not lie here", name=name)

    def _either(self, ask: Callable[[Backend], T]) -> T:
        try:
            return ask(self.near)
        except NameNotFound:
            return ask(self.far)
