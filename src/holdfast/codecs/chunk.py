"""One chunk in, one payload out, and back. The payloads are defined in docs/format/codecs.md."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from holdfast.codecs import planes, predict, trial, zstd
from holdfast.codecs.planes import WIDTHS, Numbers
from holdfast.codecs.trial import BLEND, CONTEXT, DELTA, PLANES, RAW, XOR, ZSTD, Choice
from holdfast.codecs.zstd import Bytes
from holdfast.errors import Corrupt

MAX_BASES = 2
BASES_OF = {RAW: 0, ZSTD: 0, PLANES: 0, DELTA: 1, XOR: 1, CONTEXT: 1, BLEND: 2}
UNSORTED = 255
_FRONT = struct.Struct("<BB")  # width, then rotate, shift or 0
_BLEND = struct.Struct("<BBBxi")  # width, shift or UNSORTED, number of the type, share

Buffer = Any  # bytes, bytearray, memoryview or a numpy array of bytes; contiguous


@dataclass(frozen=True, slots=True)
class Encoded:
    """`bases` are the places, among the bases that were offered, of those that `decode` must be given."""

    codec: int
    payload: Buffer
    bases: tuple[int, ...] = ()


def encode(
    plain: Buffer, *, dtype: str | None = None, bases: Sequence[Buffer] = (), compact: bool = False
) -> Encoded:
    """The chunk as short as a quick trial finds it, decoded again and compared.

    `dtype` is that of the tensor it is part of (as in format/tensors.py), None if it is part of none.
    `bases` are up to two chunks it may resemble: first the same piece of an earlier version, then what
    it follows (a moving average follows its weights). One of another length is left aside. `compact` spends
    twice the time for some percent. RAW returns `plain` itself."""
    data = np.frombuffer(plain, np.uint8)
    offered = [np.frombuffer(base, np.uint8) for base in bases[:MAX_BASES]]
    for choice in trial.choices(data, dtype, offered, compact):
        used = [offered[place] for place in choice.bases]
        payload = _ENCODERS[choice.codec](data, choice, used)
        if len(payload) >= data.size - data.size // 64:
            continue  # not worth the time it takes to read
        back = _DECODERS[choice.codec](memoryview(payload), data.size, used)
        if np.array_equal(back, data):
            return Encoded(choice.codec, payload, choice.bases)
    return Encoded(RAW, plain)


def decode(
    codec: int,
    payload: Buffer,
    size_bytes: int,
    bases: Sequence[Buffer] = (),
    *,
    place: str = "chunk",
) -> Bytes:
    """The plain bytes of a chunk, as an array that may share memory with `payload`.

    Raises Corrupt, naming `place`, if the payload is not what its codec makes of `size_bytes` bytes; never
    allocates more than a few times that. The caller checks the id."""
    view = memoryview(payload).cast("B")
    used = [np.frombuffer(base, np.uint8) for base in bases]
    try:
        if codec not in _DECODERS:
            raise ValueError(f"codec {codec!r} is not known")
        if len(used) != BASES_OF[codec] or any(base.size != size_bytes for base in used):
            raise ValueError("its bases are not as its codec needs them")
        return _DECODERS[codec](view, size_bytes, used)
    except (ValueError, struct.error) as error:
        raise Corrupt(f"{place} is damaged: {error}", place=place) from error


def _numbers(data: Bytes, width: int) -> Numbers:
    """The whole numbers in `data`, unsigned."""
    numbers: Numbers = data[: data.size // width * width].view(WIDTHS[width])
    return numbers


def _tail(data: Bytes, width: int) -> bytes:
    """What is left behind the last whole number."""
    return data[data.size // width * width :].tobytes()


def _guess(choice: Choice, bases: Sequence[Bytes]) -> Numbers:
    numbers = [_numbers(base, choice.width) for base in bases]
    if choice.kind is None:
        return numbers[0]
    return predict.mix(numbers[0], numbers[1], choice.share, choice.kind)


def _encode_zstd(data: Bytes, choice: Choice, bases: Sequence[Bytes]) -> bytes:
    return zstd.compress_text(data)


def _encode_planes(data: Bytes, choice: Choice, bases: Sequence[Bytes]) -> bytes:
    numbers = _numbers(data, choice.width)
    if choice.rotate:
        numbers = predict.rotate(numbers)
    front = _FRONT.pack(choice.width, choice.rotate)
    return front + planes.encode(numbers) + _tail(data, choice.width)


def _encode_xor(data: Bytes, choice: Choice, bases: Sequence[Bytes]) -> bytes:
    numbers = _numbers(data, choice.width) ^ _guess(choice, bases)
    return _FRONT.pack(choice.width, 0) + planes.encode(numbers) + _tail(data, choice.width)


def _encode_off(data: Bytes, choice: Choice, bases: Sequence[Bytes]) -> bytes:
    """How far off the guess is: delta, context and blend."""
    guess = _guess(choice, bases)
    off = predict.difference(_numbers(data, choice.width), guess)
    front = _FRONT.pack(choice.width, choice.shift or 0)
    if choice.kind is not None:
        shift = UNSORTED if choice.shift is None else choice.shift
        front = _BLEND.pack(choice.width, shift, choice.kind.number, choice.share)
    if choice.shift is None:
        return front + planes.encode(off) + _tail(data, choice.width)
    places = predict.order(guess, choice.shift)
    ends = predict.edges(guess, choice.shift, places)
    return front + planes.encode(off[places], ends) + _tail(data, choice.width)


def _decode_raw(payload: memoryview, size: int, bases: Sequence[Bytes]) -> Bytes:
    if len(payload) != size:
        raise ValueError(f"it holds {len(payload)} bytes instead of {size}")
    return np.frombuffer(payload, np.uint8)


def _decode_zstd(payload: memoryview, size: int, bases: Sequence[Bytes]) -> Bytes:
    return zstd.decompress(payload, size)


def _body(payload: memoryview, width: int, size: int) -> tuple[Numbers, memoryview]:
    """(the numbers in planes, the bytes behind them) of a payload without its front."""
    if width not in WIDTHS or size < width:
        raise ValueError(f"it has numbers of {width} bytes")
    tail = len(payload) - size % width
    return planes.decode(payload[:tail], width, size // width), payload[tail:]


def _joined(numbers: Numbers, tail: memoryview) -> Bytes:
    data = numbers.view(np.uint8)
    return np.concatenate([data, np.frombuffer(tail, np.uint8)]) if len(tail) else data


def _decode_planes(payload: memoryview, size: int, bases: Sequence[Bytes]) -> Bytes:
    width, rotate = _FRONT.unpack_from(payload)
    numbers, tail = _body(payload[_FRONT.size :], width, size)
    if rotate not in (0, 1):
        raise ValueError(f"it is rotated {rotate} bits")
    return _joined(predict.unrotate(numbers) if rotate else numbers, tail)


def _decode_xor(payload: memoryview, size: int, bases: Sequence[Bytes]) -> Bytes:
    width, _ = _FRONT.unpack_from(payload)
    numbers, tail = _body(payload[_FRONT.size :], width, size)
    return _joined(numbers ^ _numbers(bases[0], width), tail)


def _decode_delta(payload: memoryview, size: int, bases: Sequence[Bytes]) -> Bytes:
    width, _ = _FRONT.unpack_from(payload)
    off, tail = _body(payload[_FRONT.size :], width, size)
    return _joined(predict.restore(off, _numbers(bases[0], width)), tail)


def _decode_context(payload: memoryview, size: int, bases: Sequence[Bytes]) -> Bytes:
    width, shift = _FRONT.unpack_from(payload)
    off, tail = _body(payload[_FRONT.size :], width, size)
    guess = _numbers(bases[0], width)
    return _joined(predict.restore(_unsorted(off, guess, shift), guess), tail)


def _unsorted(off: Numbers, guess: Numbers, shift: int) -> Numbers:
    if shift >= 8 * guess.itemsize:
        raise ValueError(f"it is sorted by bits behind {shift}")
    out = np.empty_like(off)
    out[predict.order(guess, shift)] = off
    return out


def _decode_blend(payload: memoryview, size: int, bases: Sequence[Bytes]) -> Bytes:
    width, shift, number, share = _BLEND.unpack_from(payload)
    kind = predict.BY_NUMBER.get(number)
    if kind is None or kind.width != width:
        raise ValueError(f"it mixes numbers of type {number}")
    if abs(share) > predict.MOST_SHARE * predict.SHARE_ONE:
        raise ValueError(f"it mixes {share} parts")
    off, tail = _body(payload[_BLEND.size :], width, size)
    guess = predict.mix(_numbers(bases[0], width), _numbers(bases[1], width), share, kind)
    if shift != UNSORTED:
        off = _unsorted(off, guess, shift)
    return _joined(predict.restore(off, guess), tail)


_ENCODERS: dict[int, Callable[[Bytes, Choice, Sequence[Bytes]], bytes]] = {
    ZSTD: _encode_zstd,
    PLANES: _encode_planes,
    DELTA: _encode_off,
    XOR: _encode_xor,
    CONTEXT: _encode_off,
    BLEND: _encode_off,
}
_DECODERS: dict[int, Callable[[memoryview, int, Sequence[Bytes]], Bytes]] = {
    RAW: _decode_raw,
    ZSTD: _decode_zstd,
    PLANES: _decode_planes,
    DELTA: _decode_delta,
    XOR: _decode_xor,
    CONTEXT: _decode_context,
    BLEND: _decode_blend,
}
