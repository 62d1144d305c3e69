"""How one column of numbers becomes bytes, exactly: a codec id and a payload per block.

    0 raw       the numbers, little-endian
    1 constant  one number, little-endian; all are bit for bit equal to it
    2 ramp      first number and step (two of them, little-endian); integers only
    3 pco       a standalone pcodec file of the numbers
    4 planes    bytes regrouped by their place in the number, then one zstd frame
    5 narrow    pcodec of float32; float64 that are all exactly a float32

Ids are never reused. Every block is decoded and compared before it is returned, so what cannot be
read back is never written. See docs/format/segment.md.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray
from pcodec import ChunkConfig, standalone

from holdfast.errors import Corrupt

RAW, CONSTANT, RAMP, PCO, PLANES, NARROW = range(6)
MAX_COUNT = 65_536  # numbers in a block
_SMALL = 24  # below this many numbers pcodec's own header costs more than it saves

Column = NDArray[Any]


def encode(values: Column) -> tuple[int, bytes]:
    """(codec, payload) of a block of int64, uint64 or float64; at most MAX_COUNT numbers."""
    bits = values.view(np.uint64)
    if (bits == bits[0]).all():
        return CONSTANT, values[:1].tobytes()
    ramp = _encode_ramp(values)
    if ramp is not None:
        return RAMP, ramp
    for codec, payload in _candidates(values):
        if len(payload) < values.nbytes and _same(
            decode(codec, payload, values.size, values.dtype), bits
        ):
            return codec, payload
    return RAW, values.tobytes()


def _same(decoded: Column, bits: Column) -> bool:
    return bool((decoded.view(np.uint64) == bits).all())


def _encode_ramp(values: Column) -> bytes | None:
    if values.dtype.kind == "f":
        return None
    steps = values[1:] - values[:-1]  # wraps, and decoding wraps back
    return values[:1].tobytes() + steps[:1].tobytes() if (steps == steps[0]).all() else None


def _candidates(values: Column) -> Any:
    """(codec, payload) from the one expected to be the smallest to the most general."""
    if values.size < _SMALL:
        yield PLANES, planes(values)
        return
    config = ChunkConfig(compression_level=8)
    if values.dtype.kind == "f":
        with np.errstate(all="ignore"):
            narrow = values.astype(np.float32)
            exact = _same(narrow.astype(np.float64), values.view(np.uint64))
        if exact:
            yield NARROW, standalone.simple_compress(narrow, config)
    yield PCO, standalone.simple_compress(values, config)
    yield PLANES, planes(values)


def planes(values: Column) -> bytes:
    """Codec 4: readable with numpy and zstd alone."""
    grouped = np.ascontiguousarray(values.view(np.uint8).reshape(-1, 8).T)
    return _zstd.compressor.compress(grouped.tobytes())


class _Zstd(threading.local):
    """Making these takes longer than a short column does, and threads must not share them."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=3)
        self.decompressor = zstandard.ZstdDecompressor()


_zstd = _Zstd()


def decode(codec: int, payload: bytes, count: int, dtype: Any, *, place: str = "column") -> Column:
    """`count` numbers of `dtype` (an 8-byte type). Raises Corrupt, naming `place`."""
    if not 1 <= count <= MAX_COUNT:
        raise Corrupt(f"{place} is damaged: a block of {count!r} numbers", place=place)
    out = np.empty(count, dtype)
    decode_into(codec, payload, out, place=place)
    return out


def decode_into(codec: int, payload: bytes, out: Column, *, place: str) -> None:
    """Fill `out`, contiguous and of an 8-byte type. Raises Corrupt, naming `place`."""
    try:
        _DECODERS[codec](payload, out)
    except KeyError:
        raise Corrupt(f"{place} is damaged: codec {codec!r} is not known", place=place) from None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # pcodec is Rust: a panic is not an Exception
        raise Corrupt(
            f"{place} is damaged: a block does not decode ({error})", place=place
        ) from error


def _decode_raw(payload: bytes, out: Column) -> None:
    out[:] = _exactly(np.frombuffer(payload, out.dtype), out.size)


def _decode_constant(payload: bytes, out: Column) -> None:
    out[:] = _exactly(np.frombuffer(payload, out.dtype), 1)[0]


def _decode_ramp(payload: bytes, out: Column) -> None:
    _only_for(out.dtype.kind in "iu")
    first, step = _exactly(np.frombuffer(payload, np.uint64), 2)
    bits = out.view(np.uint64)
    np.multiply(np.arange(out.size, dtype=np.uint64), step, out=bits)
    np.add(bits, first, out=bits)


def _decode_pco(payload: bytes, out: Column) -> None:
    progress = standalone.simple_decompress_into(bytes(payload), out)
    if progress.n_processed != out.size or not progress.finished:
        raise ValueError("it holds another number of values")


def _decode_planes(payload: bytes, out: Column) -> None:
    # zstd allocates what the frame claims to hold, so the claim is checked first.
    if zstandard.frame_content_size(payload) != out.nbytes:
        raise ValueError("it holds another number of values")
    raw = _zstd.decompressor.decompress(payload, allow_extra_data=False)
    grouped = _exactly(np.frombuffer(raw, np.uint8), out.nbytes).reshape(8, -1)
    out[:] = np.ascontiguousarray(grouped.T).view(out.dtype).ravel()


def _decode_narrow(payload: bytes, out: Column) -> None:
    _only_for(out.dtype.kind == "f")
    narrow = np.empty(out.size, np.float32)
    _decode_pco(payload, narrow)
    with np.errstate(all="ignore"):
        out[:] = narrow


def _only_for(fits: bool) -> None:
    if not fits:
        raise ValueError("its codec is not for numbers of this type")


def _exactly(values: Column, count: int) -> Column:
    if values.size != count:
        raise ValueError(f"it holds {values.size} values instead of {count}")
    return values


_DECODERS = {
    RAW: _decode_raw,
    CONSTANT: _decode_constant,
    RAMP: _decode_ramp,
    PCO: _decode_pco,
    PLANES: _decode_planes,
    NARROW: _decode_narrow,
}
