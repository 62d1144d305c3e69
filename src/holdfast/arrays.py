"""From the bytes of a tensor to a numpy array, whatever its type.

numpy has no bfloat16 and no floats of 8 bits. With the package `ml_dtypes` they come in its types; without
it as unsigned integers of the same width, whose bits they are. `floats` turns either into float32. Packed
types (those of GGUF) come as their bytes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.format.tensors import Tensor, element_bytes

Array = NDArray[Any]

_NUMPY = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "u2", "I16": "i2", "U32": "u4", "I32": "i4",
    "U64": "u8", "I64": "i8", "F16": "f2", "F32": "f4", "F64": "f8", "C64": "c8", "C128": "c16",
}  # fmt: skip
_ML_DTYPES = {
    "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip
TORCH = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32",
    "I32": "int32", "U64": "uint64", "I64": "int64", "F16": "float16", "F32": "float32",
    "F64": "float64", "C32": "complex32", "C64": "complex64", "C128": "complex128",
    "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip
# (bits of the exponent, of the mantissa, bias, whether there is an infinity, whether NaN is minus zero)
_SMALL = {
    "F8_E4M3": (4, 3, 7, False, False), "F8_E5M2": (5, 2, 15, True, False),
    "F8_E4M3FNUZ": (4, 3, 8, False, True), "F8_E5M2FNUZ": (5, 2, 16, False, True),
}  # fmt: skip


def stored_type(dtype: str) -> np.dtype[Any]:
    """How numpy holds the elements as they are stored; bytes for a packed type."""
    name = dtype.removeprefix(">")
    order = ">" if dtype.startswith(">") else "<"
    width = element_bytes(dtype)
    if not width:
        return np.dtype("u1")
    code = _NUMPY.get(name, f"u{width}")
    return np.dtype(code if width == 1 else order + code)


def as_stored(raw: NDArray[np.uint8], tensor: Tensor) -> Array:
    """The bytes `start` to `stop` of a tensor in its shape, with the elements of `stored_type`.

    A packed type has no elements: its bytes come in one row. May share memory with `raw`."""
    kind = stored_type(tensor.dtype)
    if not element_bytes(tensor.dtype):
        return raw
    flat = raw.view(kind)
    if tensor.strides is None or not flat.size:
        return flat.reshape(tensor.shape)
    steps = [stride * kind.itemsize for stride in tensor.strides]
    view: Array = np.lib.stride_tricks.as_strided(flat, tensor.shape, steps, writeable=False)
    return view


def native(stored: Array, dtype: str) -> Array:
    """The array in the order of this machine's bytes, in C order, with the type that its dtype means."""
    plain: Array = np.asarray(stored, stored.dtype.newbyteorder("="), order="C")
    wanted = ml_dtype(dtype)
    return plain if wanted is None else plain.view(wanted)


def ml_dtype(dtype: str) -> Any:
    """The type of `ml_dtypes` for a dtype that numpy has none for; None if it is not installed."""
    name = _ML_DTYPES.get(dtype.removeprefix(">"))
    if name is None:
        return None
    try:
        import ml_dtypes
    except ImportError:
        return None
    return np.dtype(getattr(ml_dtypes, name))


def floats(stored: Array, dtype: str) -> Array:
    """The numbers as float32, exact for every type of at most 2 bytes; float64 and complex ones stay."""
    name = dtype.removeprefix(">")
    plain: Array = np.asarray(stored, stored.dtype.newbyteorder("="), order="C")
    if name == "BF16":
        return (plain.astype(np.uint32) << 16).view(np.float32)
    if name in _SMALL or name == "F8_E8M0":
        table: Array = _table(name)
        return table[plain]
    if name == "C32":
        pairs = plain.reshape(-1).view(np.float16).astype(np.float32)
        return pairs.view(np.complex64).reshape(plain.shape)
    if plain.dtype.kind == "c" or plain.dtype == np.float64:
        return plain
    return plain.astype(
        np.float64 if plain.dtype.itemsize >= 4 and plain.dtype.kind != "f" else np.float32
    )


@cache
def _table(name: str) -> NDArray[np.float32]:
    """The value of each of the 256 floats of a type of 8 bits."""
    codes = np.arange(256)
    if name == "F8_E8M0":
        values: Array = np.exp2(codes - 127.0)
        values[255] = np.nan
        return values.astype(np.float32)
    exponent_bits, mantissa_bits, bias, infinite, nan_is_minus_zero = _SMALL[name]
    exponent = codes >> mantissa_bits & (1 << exponent_bits) - 1
    mantissa = (codes & (1 << mantissa_bits) - 1) / 2.0**mantissa_bits
    scale = np.exp2(np.maximum(exponent, 1) - float(bias))
    values = np.where(codes & 128, -1.0, 1.0) * scale * (mantissa + (exponent > 0))
    if infinite:
        top = exponent == (1 << exponent_bits) - 1
        values[top] = np.where(mantissa[top] > 0, np.nan, np.sign(values[top]) * np.inf)
    elif nan_is_minus_zero:
        values[128] = np.nan
    else:
        values[[127, 255]] = np.nan
    return values.astype(np.float32)


def to_torch(stored: Array, dtype: str) -> Any:
    """The tensor of torch with the same type, shape and bits, in memory of its own."""
    import torch

    name = TORCH.get(dtype.removeprefix(">"), "uint8")
    plain = np.array(stored, stored.dtype.newbyteorder("="), order="C", copy=True)
    raw = torch.from_numpy(plain.reshape(-1).view(np.uint8))
    return raw.view(getattr(torch, name)).reshape(plain.shape)


def from_torch(tensor: Any) -> tuple[str, tuple[int, ...], NDArray[np.uint8]]:
    """(dtype, shape, bytes in C order) of a tensor of torch, on whatever device."""
    import torch

    plain = tensor.detach().cpu().contiguous()
    name = str(plain.dtype).removeprefix("torch.")
    dtype = next(ours for ours, theirs in TORCH.items() if theirs == name)
    return dtype, tuple(plain.shape), plain.reshape(-1).view(torch.uint8).numpy()


def from_numpy(array: Any) -> tuple[str, tuple[int, ...], NDArray[np.uint8]]:
    """(dtype, shape, bytes, little-endian in C order) of an array. Raises TypeError for one of objects."""
    plain = np.asarray(array)
    shape = plain.shape
    by_name = {theirs: ours for ours, theirs in _ML_DTYPES.items()}
    dtype = by_name.get(plain.dtype.name)
    if dtype is None:
        code = plain.dtype.newbyteorder("=").str[1:]
        by_code = {np.dtype(theirs).str[1:]: ours for ours, theirs in _NUMPY.items()}
        if code not in by_code:
            raise TypeError(f"an array of {plain.dtype} is none of numbers")
        dtype = by_code[code]
        plain = plain.astype(plain.dtype.newbyteorder("<"), copy=False)
    return dtype, shape, np.ascontiguousarray(plain).reshape(-1).view(np.uint8)
