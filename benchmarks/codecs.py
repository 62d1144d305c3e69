"""Codecs alone, in memory, over series of real checkpoints: `python -m benchmarks.codecs FOLDER [s1 …]`,
or `… FOLDER pieces` for s1 with pieces of several sizes.

FOLDER is what `python -m benchmarks.series FOLDER` made. Each file is cut and encoded as it would be stored,
each chunk once; the bases of a version lie at most three deep. Encoding includes decoding again and
comparing; hashing and disks are left out. Speeds are by processor time: of one core, whoever shares it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from benchmarks import measure
from holdfast import codecs
from holdfast.chunking import companions, cutting, look, pieces

Key = tuple[str, int]  # name of the tensor, place in it


@dataclass(slots=True)
class Stored:
    plain: bytes
    payload: bytes
    codec: int
    bases: list[Stored]
    depth: int


@dataclass(slots=True)
class Total:
    logical: int = 0
    stored: int = 0
    encoded: int = 0
    seconds: float = 0.0
    back: float = 0.0
    used: dict[int, int] = field(default_factory=dict)


def family(name: str, number: int, versions: int) -> int | None:
    """As `base_of`, but the four siblings at the end of s3 start from what they were tuned from."""
    return 0 if name == "s3" and number >= versions - 4 else codecs.base_of(number)


def run(folder: Path, name: str, compact: bool) -> Total:
    homes = sorted(path for path in (folder / name).iterdir() if path.is_dir())
    total, known = Total(), {}
    kept: list[dict[Key, Stored]] = []
    for number, home in enumerate(homes):
        base = family(name, number, len(homes))
        before = {} if base is None else kept[base]
        here: dict[Key, Stored] = {}
        for path in sorted(home.iterdir()):
            store(path.read_bytes(), before, here, known, total, compact)
        kept.append(here)
    return total


def store(
    data: bytes,
    before: dict[Key, Stored],
    here: dict[Key, Stored],
    known: dict[bytes, Stored],
    total: Total,
    compact: bool,
) -> None:
    def get(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    found = look(get, len(data))
    follows = companions(found)
    total.logical += len(data)
    for piece, view in pieces(get, len(data), found):
        plain, id_ = view.tobytes(), blake3(view).digest()
        if id_ not in known:
            name = piece.name or ""
            near = [before.get((name, piece.at)), here.get((follows.get(name) or "", piece.at))]
            offered = [s for s in near if s and s.depth <= codecs.MAX_DEPTH - (s is near[0])]
            known[id_] = encode(plain, piece.dtype, offered, total, compact)
        if piece.name is not None:
            here[piece.name, piece.at] = known[id_]


def encode(
    plain: bytes, dtype: str | None, offered: list[Stored], total: Total, compact: bool
) -> Stored:
    bases = [base.plain for base in offered]
    begin = time.process_time()
    made = codecs.encode(plain, dtype=dtype, bases=bases, compact=compact)
    middle = time.process_time()
    codecs.decode(made.codec, made.payload, len(plain), [bases[place] for place in made.bases])
    total.back += time.process_time() - middle
    total.seconds += middle - begin
    total.encoded += len(plain)
    total.stored += len(made.payload) + 32 * (
        4 + len(made.bases)
    )  # what packs and recipes say of it
    total.used[made.codec] = total.used.get(made.codec, 0) + len(plain)
    used = [offered[place] for place in made.bases]
    depth = max((base.depth + 1 for base in used), default=0)
    return Stored(plain, bytes(made.payload), made.codec, used, depth)


NAMES = {
    getattr(codecs, name): name.lower()
    for name in ("RAW", "ZSTD", "PLANES", "DELTA", "XOR", "CONTEXT", "BLEND")
}


def sizes_of_pieces(folder: Path, show: Callable[[str], None]) -> None:
    show("| pieces of s1, KiB | stored / logical | encode and compare MB/s | decode MB/s |")
    show("|---|---|---|---|")
    for size in (256, 512, 1024, 2048):
        cutting.PIECE_BYTES = size << 10
        total = run(folder, "s1", compact=False)
        speeds = [total.encoded / 1e6 / spent for spent in (total.seconds, total.back)]
        show(f"| {size} | {total.stored / total.logical:.4f} | {speeds[0]:.0f} | {speeds[1]:.0f} |")


def all_series(folder: Path, wanted: list[str], show: Callable[[str], None]) -> None:
    show(
        "| series | mode | logical MB | stored / logical | encode, compare MB/s | decode MB/s | codecs |"
    )
    show("|---|---|---|---|---|---|---|")
    for name in wanted:
        for mode in ("fast", "compact"):
            total = run(folder, name, mode == "compact")
            used = ", ".join(
                f"{NAMES[codec]} {share / total.encoded:.0%}"
                for codec, share in sorted(total.used.items(), key=lambda item: -item[1])
            )
            show(
                f"| {name} | {mode} | {total.logical / 1e6:.0f} | {total.stored / total.logical:.3f} "
                f"| {total.encoded / 1e6 / total.seconds:.0f} | {total.encoded / 1e6 / total.back:.0f} "
                f"| {used} |"
            )


def main(arguments: list[str], show: Callable[[str], None] = print) -> None:
    folder, wanted = Path(arguments[0]), arguments[1:]
    show(f"{measure.machine()}\n")
    if wanted == ["pieces"]:
        sizes_of_pieces(folder, show)
    else:
        all_series(folder, wanted or ["s1", "s2", "s3", "s4", "s5"], show)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
