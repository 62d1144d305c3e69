"""Arrow streams from numpy columns, made by whichever Arrow library is installed.

The C structures of the protocol are left to those libraries: who frees what, and when, at the end of
the interpreter too, is what they are good at (docs/decisions/0011-arrow-by-delegation.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.columnar import Batch, Column, Label
from holdfast.errors import MissingDependency


def stream(batches: Sequence[Batch], requested_schema: object = None) -> object:
    """A PyCapsule that holds an ArrowArrayStream of the batches, of which there is at least one."""
    for name, produce in _PRODUCERS.items():
        try:
            library = import_module(name)
        except ImportError:
            continue
        return produce(library, batches, requested_schema)
    raise MissingDependency(
        "to hand columns over as Arrow, one of pyarrow, arro3-core and nanoarrow must be installed: "
        "pip install 'holdfast[arrow]'",
        missing="arro3-core",
    )


def pyarrow_batches(pa: Any, batches: Sequence[Batch]) -> tuple[Any, list[Any]]:
    """(schema, record batches) of pyarrow, which is `pa`, over the same memory."""
    kinds = {
        "uint64": pa.uint64(),
        "float64": pa.float64(),
        "int32": pa.int32(),
        "time": pa.timestamp("ns", tz="UTC"),
        "text": pa.large_utf8(),
    }
    schema = pa.schema([(column.name, kinds[column.kind]) for column in batches[0]])

    def array(column: Column) -> Any:
        buffers = [b if b is None else pa.py_buffer(b) for b in _buffers(column)]
        return pa.Array.from_buffers(kinds[column.kind], len(column.data), buffers)

    rows = [pa.RecordBatch.from_arrays(list(map(array, b)), schema=schema) for b in batches]
    return schema, rows


def _by_pyarrow(pa: Any, batches: Sequence[Batch], requested: object) -> object:
    schema, rows = pyarrow_batches(pa, batches)
    return pa.RecordBatchReader.from_batches(schema, rows).__arrow_c_stream__(requested)


def _by_arro3(core: Any, batches: Sequence[Batch], requested: object) -> object:
    kinds = {
        "uint64": core.DataType.uint64(),
        "float64": core.DataType.float64(),
        "int32": core.DataType.int32(),
        "time": core.DataType.timestamp("ns", tz="UTC"),
        "text": core.DataType.large_utf8(),
    }
    schema = core.Schema([core.Field(c.name, kinds[c.kind], nullable=True) for c in batches[0]])

    def array(column: Column) -> Any:
        data = column.data
        if isinstance(data, Label):
            return core.Array([data.word] * data.count, type=kinds["text"])
        if column.present is not None:  # it takes no bitmap of ours: these are copied
            pairs = zip(data.tolist(), column.present.tolist(), strict=True)
            return core.Array([v if there else None for v, there in pairs], type=kinds[column.kind])
        plain = core.Array.from_buffer(np.ascontiguousarray(data))
        return plain.cast(kinds["time"]) if column.kind == "time" else plain

    rows = [core.RecordBatch.from_arrays(list(map(array, b)), schema=schema) for b in batches]
    return core.Table.from_batches(rows, schema=schema).__arrow_c_stream__(requested)


def _by_nanoarrow(na: Any, batches: Sequence[Batch], requested: object) -> object:
    kinds = {
        "uint64": na.uint64(),
        "float64": na.float64(),
        "int32": na.int32(),
        "time": na.timestamp("ns", timezone="UTC"),
        "text": na.large_string(),
    }
    schema = na.c_schema(na.struct({column.name: kinds[column.kind] for column in batches[0]}))

    def array(column: Column) -> Any:
        nulls = 0 if column.present is None else int(np.count_nonzero(~column.present))
        size = len(column.data)
        return na.c_array_from_buffers(kinds[column.kind], size, _buffers(column), null_count=nulls)

    def rows(batch: Batch) -> Any:
        children = list(map(array, batch))
        return na.c_array_from_buffers(schema, len(batch[0].data), [None], children=children)

    made = import_module("nanoarrow.c_array_stream").CArrayStream.from_c_arrays(
        list(map(rows, batches)), schema
    )
    # It refuses every requested schema; the protocol allows a producer to ignore one.
    return made.__arrow_c_stream__()


_PRODUCERS: dict[str, Callable[[Any, Sequence[Batch], object], object]] = {
    "pyarrow": _by_pyarrow,
    "arro3.core": _by_arro3,
    "nanoarrow": _by_nanoarrow,
}


def _buffers(column: Column) -> list[NDArray[Any] | None]:
    """The buffers of Arrow's layout: the bitmap of what is there, then the data."""
    if isinstance(column.data, Label):
        word, count = column.data.word.encode(), column.data.count
        offsets = np.arange(count + 1, dtype=np.int64) * len(word)
        return [None, offsets, np.frombuffer(word * count, np.uint8)]
    there = column.present
    bits = None if there is None else np.packbits(there, bitorder="little")
    return [bits, np.ascontiguousarray(column.data)]
