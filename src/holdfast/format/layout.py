"""Where everything lies in a store: the only place that knows a path.

Names are relative, use '/', and are the same on every backend. See docs/format/layout.md.
"""

from __future__ import annotations

import re

from holdfast.digest import Digest
from holdfast.errors import Corrupt

STORE = "store.json"
EXPERIMENTS = "experiments/"
RUNS = "runs/"
ALIASES = "aliases/"
SNAPSHOTS = "snapshots/"
SIGNATURES = "signatures/"
HEADS = "heads/"
RUN_HEADS = "heads/runs/"
RANK_HEADS = "heads/ranks/"
EXPERIMENT_HEADS = "heads/experiments/"
ALIAS_HEADS = "heads/aliases/"
BLOBS = "blobs/sha256/"
PACKS = "packs/sha256/"
RECIPES = "recipes/sha256/"
BUNDLE = ".files"  # how the name of a bundle's recipe ends
QUARANTINE = "quarantine/"
LOG = "gc/"  # of the collectors
PROBES = "probe/"
SYNCS = "syncs/"
ABSENT = "absent/"
FULL_EVERY = 16  # generation n holds the full state when n % FULL_EVERY == 0
MAX_GENERATION = 99_999_999
MAX_RANK = 2**31 - 1

_CHAIN = re.compile(
    r"(experiments/[^/]+|runs/[^/]+/manifest|runs/[^/]+/ranks/(0|[1-9][0-9]{0,9})|aliases/.+)/\Z"
)
_NUMBER = re.compile(r"[0-9]{8}\Z")


def blob(digest: Digest) -> str:
    return f"{BLOBS}{digest.hex[:2]}/{digest.hex}"


def pack(digest: Digest) -> str:
    return f"{PACKS}{digest.hex[:2]}/{digest.hex}"


def recipes(digest: Digest) -> str:
    """The prefix of every recipe of one artifact."""
    return f"{RECIPES}{digest.hex[:2]}/{digest.hex}."


def recipe(digest: Digest, nonce: bytes) -> str:
    return recipes(digest) + nonce.hex()


def bundle(tree: Digest, nonce: bytes) -> str:
    """The recipe of the small files of a directory."""
    return recipe(tree, nonce) + BUNDLE


def experiment(experiment_id: str) -> str:
    """The chain of an experiment."""
    return f"{EXPERIMENTS}{experiment_id}/"


def alias(name: str) -> str:
    """The chain of an alias; its name may hold '/'."""
    return f"{ALIASES}{name}/"


def snapshot(name: str) -> str:
    """The chain of a snapshot's name, which may hold '/'."""
    return f"{SNAPSHOTS}{name}/"


def signatures(document: Digest) -> str:
    """Where the signatures of a document lie, each under the public key it was made for, in hex."""
    return f"{SIGNATURES}{document.hex}/"


def is_key(name: str) -> bool:
    """Is it 32 bytes in hex?"""
    return re.fullmatch(r"[0-9a-f]{64}", name) is not None


def run(run_id: str) -> str:
    return f"{RUNS}{run_id}/"


def manifest(run_id: str) -> str:
    """The chain of a run."""
    return f"{RUNS}{run_id}/manifest/"


def ranks(run_id: str) -> str:
    """Where the further writers of a run have their chains."""
    return f"{RUNS}{run_id}/ranks/"


def rank(run_id: str, number: int) -> str:
    """The chain of one further writer of a run, as in distributed training."""
    return f"{ranks(run_id)}{number}/"


def chain(run_id: str, rank_number: int | None) -> str:
    """Where a writer of a run says what it wrote: the main one (None) in the manifest."""
    return manifest(run_id) if rank_number is None else rank(run_id, rank_number)


def rank_number(name: str) -> int | None:
    """The rank that a name under `ranks` stands for, or None when it is no rank."""
    found = re.match(r"(0|[1-9][0-9]{0,9})\Z", name)
    return int(name) if found and int(name) <= MAX_RANK else None


def sync(sync_id: str) -> str:
    """The chain of one sync into this store."""
    return f"{SYNCS}{sync_id}/"


def absent(run_id: str) -> str:
    """The chain that says what of a run was not synced into this store."""
    return f"{ABSENT}{run_id}/"


def segment(run_id: str, digest: Digest) -> str:
    return f"{RUNS}{run_id}/segments/{digest.hex}.seg"


def spools(run_id: str) -> str:
    return f"{RUNS}{run_id}/spool/"


def spool(run_id: str, writer: str, sequence: int) -> str:
    return f"{spools(run_id)}{writer}-{sequence:06d}.spool"


def spool_parts(name: str) -> tuple[str, str, int]:
    """(run_id, writer, sequence) of a spool's name. Raises Corrupt for a foreign name."""
    found = re.match(r"runs/([^/]+)/spool/([0-9a-f]{8})-([0-9]{6,})\.spool\Z", name)
    if not found:
        raise Corrupt(f"{name} is not the name of a spool: move it out of the store", place=name)
    return found[1], found[2], int(found[3])


def quarantined(name: str) -> str:
    """Where a damaged file goes, so that its bytes stay for whoever wants to look at them."""
    return f"{QUARANTINE}{name}"


def run_of(prefix: str) -> str | None:
    """The run whose manifest has this prefix."""
    found = re.match(r"runs/([^/]+)/manifest/\Z", prefix)
    return found[1] if found else None


def is_chain(prefix: str) -> bool:
    """True for the prefix of a chain of an experiment, run, rank or alias: all that a snapshot has."""
    return _CHAIN.match(prefix) is not None


def entry(chain: str, number: int) -> str:
    return f"{chain}{number:08d}"


def entry_number(name: str) -> int | None:
    """The number of a chain entry, or None when the last part of `name` is no number."""
    last = name.rpartition("/")[2]
    return int(last) if _NUMBER.match(last) else None


def has_head(chain: str) -> bool:
    """Is the newest generation of this chain hinted at under heads/?"""
    return not chain.startswith((LOG, SYNCS, ABSENT))


def own_number(chain: str, name: str) -> int | None:
    """The number of an entry of this very chain: `aliases/prod/x/00000000` is none of `aliases/prod/`."""
    return None if "/" in name[len(chain) :] else entry_number(name)


def head(chain: str, number: int) -> str:
    """The hint that `chain` has, or is about to have, an entry `number`."""
    kind, owner, *rest = chain.rstrip("/").split("/")
    if kind == "runs" and rest[0] == "ranks":
        kind, owner = "ranks", f"{owner}@{rest[1]}"
    elif kind != "runs":  # the name of an alias has parts, and never an '@'
        owner = "@".join([owner, *rest])
    return f"{HEADS}{kind}/{owner}@{number:08d}"


def head_parts(name: str) -> tuple[str, str, int] | None:
    """(kind, owner, number) of a head's name; None for anything else under heads/.

    The owner of a head of kind `ranks` is `<run_id>@<rank>`; `@` stands for `/` in that of an alias.
    """
    found = re.match(r"heads/([a-z]+)/([^/]+)@([0-9]{8})\Z", name)
    return (found[1], found[2], int(found[3])) if found else None
