"""Which codec is likely to make a chunk shortest, judged from a sample of a few thousand numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from holdfast.codecs import planes, predict, zstd
from holdfast.codecs.planes import WIDTHS, Numbers
from holdfast.codecs.predict import FLOATS, Float
from holdfast.codecs.zstd import Bytes

RAW, ZSTD, PLANES, DELTA, XOR, CONTEXT, BLEND = range(7)

_SAMPLE = 4096  # numbers
_WORTH = 0.98  # a base must save this much: it makes reading dearer
_STRETCH = 32 << 10  # bytes
_GUESSED = (4, 2, 8)  # widths tried where no dtype is known
_INTEGERS = {"I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8}
_SINGLE = {"I8", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0"}
_PAIRS = {"C32": "F16", "C64": "F32", "C128": "F64"}  # two floats each


@dataclass(frozen=True, slots=True)
class Choice:
    """A codec and what it must be told. `shift`: bits below the exponent that it sorts by, None if it
    does not sort. `rotate`: the sign goes to the low end first."""

    codec: int
    width: int = 1
    bases: tuple[int, ...] = ()
    rotate: bool = False
    shift: int | None = None
    kind: Float | None = None
    share: int = 0


def choices(
    data: Bytes, dtype: str | None, bases: Sequence[Bytes], compact: bool
) -> Iterator[Choice]:
    """What to try, the most promising first."""
    name = _PAIRS.get(dtype or "", dtype or "")
    kind = FLOATS.get(name)
    width = kind.width if kind else _INTEGERS.get(name, 1 if name in _SINGLE else 0)
    if not width:
        yield from _guesses(data)
    elif data.size >= 64:
        yield from _typed(data, width, kind, bases, compact)
    yield Choice(ZSTD)


def _guesses(data: Bytes) -> Iterator[Choice]:
    """Numbers in a file of unknown form, if their planes take less than zstd makes of a stretch."""
    if data.size < 1024:
        return
    sizes = {width: planes.estimate_bits(_sample(data, width)) / width for width in _GUESSED}
    best = min(sizes, key=lambda width: sizes[width])
    middle = max(0, data.size // 2 - _STRETCH // 2)
    stretch = data[middle : middle + _STRETCH]
    if sizes[best] < 0.95 * 8 * len(zstd.compress_text(stretch)) / stretch.size:
        yield Choice(PLANES, best)


def _sample(data: Bytes, width: int) -> Numbers:
    numbers: Numbers = data[: data.size // width * width].view(WIDTHS[width])
    return numbers[:: max(1, numbers.size // _SAMPLE)][:_SAMPLE].copy()


def _typed(
    data: Bytes, width: int, kind: Float | None, bases: Sequence[Bytes], compact: bool
) -> Iterator[Choice]:
    sample = _sample(data, width)
    fit = [place for place, base in enumerate(bases) if base.size == data.size]
    samples = {place: _sample(bases[place], width) for place in fit}
    alone = predict.rotate(sample) if kind else sample
    found = [(_WORTH * planes.estimate_bits(alone), Choice(PLANES, width, rotate=bool(kind)))]
    shift = kind.shift if kind and compact else None
    for place in fit:
        codec = DELTA if shift is None else CONTEXT
        off = planes.estimate_bits(predict.difference(sample, samples[place]))
        found.append((off, Choice(codec, width, (place,), shift=shift)))
        changed = planes.estimate_bits(sample ^ samples[place])
        found.append((changed / _WORTH, Choice(XOR, width, (place,))))
    if kind and len(fit) == 2:
        first, second = samples.values()
        share = predict.share_of(sample, first, second, kind)
        guess = predict.mix(first, second, share, kind)
        off = planes.estimate_bits(predict.difference(sample, guess))
        blend = Choice(BLEND, width, (fit[0], fit[1]), shift=shift, kind=kind, share=share)
        found.append((off / _WORTH, blend))
    yield from (choice for _, choice in sorted(found, key=lambda pair: pair[0])[:2])
