"""Addresses: how runs and artifacts are named, everywhere.

    sha256:<64 hex>                      these bytes
    RUN:KEY                              the artifact KEY of a run
    ALIAS   ALIAS:KEY                    what an alias names; KEY of the run that it names
    EXPERIMENT:KEY@v3  EXPERIMENT:KEY@latest  a version of KEY over the runs of an experiment
    runs/RUN  aliases/ALIAS  experiments/EXPERIMENT   in front of the ':', where a name could be two things

What is before the first ':' is the scope. No id and no name of an alias has a ':' in it; keys may. Here is
only what the text says; ops/lookup.py finds what is there. See docs/reference/addresses.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from holdfast.digest import Digest
from holdfast.errors import InvalidValue
from holdfast.names import check_alias, check_id, check_key

RUN, ALIAS, EXPERIMENT = KINDS = ("runs", "aliases", "experiments")
LATEST = -1
_VERSION = re.compile(r"@(?:v(0|[1-9][0-9]{0,8})|latest)(?=/|\Z)")


@dataclass(frozen=True, slots=True)
class Address:
    """Either `digest`, or `scope` with or without `key`; `kind` where the address says what the scope is.

    `str()` gives the address back.
    """

    digest: Digest | None = None
    scope: str = ""
    key: str | None = None
    kind: str | None = None

    def __str__(self) -> str:
        front = f"{self.kind}/{self.scope}" if self.kind else self.scope
        if self.digest is not None:
            front = str(self.digest)
        return front if self.key is None else f"{front}:{self.key}"

    @property
    def may_be(self) -> tuple[str, ...]:
        """What the scope may be, as its text allows."""
        if self.kind:
            return (self.kind,)
        return (ALIAS,) if "/" in self.scope else KINDS


def parse(text: str, key: str | None = None) -> Address:
    """The address that `text`, or `text` with a `key` of its own, is. Raises InvalidValue."""
    if not isinstance(text, str) or not text:
        raise InvalidValue(f"{text!r} is no address: {HINT}", value=text)
    if text.startswith("sha256:"):
        if key is not None:
            raise InvalidValue(f"{text} is all of an artifact: leave out {key!r}", value=text)
        return Address(Digest.parse(text))
    scope, colon, rest = text.partition(":")
    if colon and key is not None:
        raise InvalidValue(f"{text!r} has a key, and so has the call: {key!r}", value=text)
    found = _scoped(scope, rest if colon else key)
    if found.key is not None:
        check_key("artifact", found.key)
    return found


HINT = "write RUN:KEY, ALIAS, ALIAS:KEY, EXPERIMENT:KEY@v3 or sha256:<64 hexadecimal digits>"


def _scoped(scope: str, key: str | None) -> Address:
    kind, slash, rest = scope.partition("/")
    if slash and kind in KINDS:
        check = check_alias if kind == ALIAS else check_id
        return Address(scope=check(f"name after {kind}/", rest), key=key, kind=kind)
    if slash:
        return Address(scope=check_alias("alias", scope), key=key)
    return Address(scope=check_id("run, alias or experiment", scope), key=key)


def split_version(key: str) -> tuple[str, int | None, str]:
    """(key, number of the version, path in it): LATEST, or None where the key names none. The last one in
    a key counts; what is behind it is a path in a directory."""
    last = list(_VERSION.finditer(key))[-1:]
    if not last or not last[0].start():
        return key, None, ""
    (found,) = last
    number = LATEST if found[1] is None else int(found[1])
    return key[: found.start()], number, key[found.end() + 1 :]
