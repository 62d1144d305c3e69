"""Reads a pickle without running it: no name in it is imported, nothing in it is called.

What a pickle would call becomes a `Call`, what it would import a `Global`. The result is made of these and
of plain lists, tuples, maps, numbers and texts.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from holdfast.chunking.contents import Doubt

MAX_STEPS = 2_000_000  # a few seconds, 200 MB; a checkpoint takes some forty for each tensor


@dataclass(frozen=True, slots=True)
class Global:
    """A name that the pickle would import."""

    module: str
    name: str


@dataclass(frozen=True, slots=True)
class Persistent:
    """Something that lies outside the pickle; a tuple that says what."""

    id: Any


@dataclass(slots=True, eq=False)
class Call:
    """What `what(*arguments)` would make, with the items put into it and the state given to it."""

    what: Any
    arguments: tuple[Any, ...]
    items: dict[Any, Any] = field(default_factory=dict)
    state: Any = None


_MARK = object()
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list,
}  # fmt: skip
_VALUES = {
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8", "STRING", "BINSTRING", "SHORT_BINSTRING",
}  # fmt: skip
_NOTHING = {"PROTO", "FRAME"}
_KEYS = (str, int, float, bytes)


class _Machine:
    """The stack and the memo of the pickle machine."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name not in _NOTHING:
            method = getattr(self, f"do_{name.lower()}", None)
            if method is None:
                raise Doubt(f"a pickle with {name}")
            method(argument)

    def since_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise Doubt("a pickle that lacks a mark")
        found = self.stack[place + 1 :]
        del self.stack[place:]
        return found

    def do_mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def do_pop(self, _: Any) -> None:
        self.stack.pop()

    def do_pop_mark(self, _: Any) -> None:
        self.since_mark()

    def do_dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def do_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_binput(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    do_long_binput = do_put = do_binput

    def do_binget(self, place: int) -> None:
        self.stack.append(self.memo[place])

    do_long_binget = do_get = do_binget

    def do_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.since_mark()))

    def do_tuple1(self, _: Any) -> None:
        self._tuple(1)

    def do_tuple2(self, _: Any) -> None:
        self._tuple(2)

    def do_tuple3(self, _: Any) -> None:
        self._tuple(3)

    def _tuple(self, count: int) -> None:
        if len(self.stack) < count:
            raise Doubt("a pickle that takes what is not there")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def do_list(self, _: Any) -> None:
        self.stack.append(self.since_mark())

    do_frozenset = do_list

    def do_dict(self, _: Any) -> None:
        flat = self.since_mark()
        self.stack.append({})
        self._update(flat)

    def do_append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def do_appends(self, _: Any) -> None:
        self._extend(self.since_mark())

    do_additems = do_appends

    def _extend(self, items: list[Any]) -> None:
        into = self.stack[-1]
        if isinstance(into, Call):
            into.items.update({len(into.items) + n: item for n, item in enumerate(items)})
        elif isinstance(into, list):
            into.extend(items)
        else:
            raise Doubt("a pickle that appends to what is no list")

    def do_setitem(self, _: Any) -> None:
        value = self.stack.pop()
        self._update([self.stack.pop(), value])

    def do_setitems(self, _: Any) -> None:
        self._update(self.since_mark())

    def _update(self, flat: list[Any]) -> None:
        into = self.stack[-1]
        items = into.items if isinstance(into, Call) else into
        if not isinstance(items, dict):
            raise Doubt("a pickle that sets items of what is no map")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            if isinstance(key, (*_KEYS, Call)):  # hashing what is made up of others may go deep
                items[key] = value

    def do_global(self, argument: str) -> None:
        self.stack.append(Global(*argument.split(" ", 1)))

    def do_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise Doubt("a pickle that imports what is no name")
        self.stack.append(Global(module, name))

    def do_binpersid(self, _: Any) -> None:
        self.stack.append(Persistent(self.stack.pop()))

    def do_reduce(self, _: Any) -> None:
        arguments, what = self.stack.pop(), self.stack.pop()
        if not isinstance(arguments, tuple):
            raise Doubt("a pickle that calls without arguments")
        self.stack.append(Call(what, arguments))

    do_newobj = do_reduce

    def do_newobj_ex(self, _: Any) -> None:
        self.stack.pop()  # named arguments
        self.do_reduce(None)

    def do_build(self, _: Any) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Call):
            self.stack[-1].state = state


def walk(data: bytes) -> Any:
    """What the pickle describes. Raises Doubt, or what DOUBTS of containers.py lists, if it is not sound."""
    machine = _Machine()
    for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name == "STOP":
            return machine.stack.pop()
        if number > MAX_STEPS:
            break
        machine.step(opcode.name, argument)
    raise Doubt("a pickle without an end, or one that is too long")
