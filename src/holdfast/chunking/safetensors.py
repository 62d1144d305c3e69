"""safetensors: the length of the header (u64), a JSON map of the tensors, the tensors."""

from __future__ import annotations

import json
from typing import Any

from holdfast.chunking.contents import Contents, Doubt, Getter, contents, of_tensor
from holdfast.format.tensors import Tensor

MAX_HEADER_BYTES = 16 << 20  # some 150,000 tensors; parsed, ten times as much


def parse(get: Getter, size_bytes: int) -> Contents:
    length = int.from_bytes(get(0, 8), "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, size_bytes - 8):
        raise Doubt("its header has no length that fits")
    header = json.loads(bytes(get(8, length)))
    start = 8 + length
    tensors = [_tensor(name, about, start) for name, about in header.items() if name[:2] != "__"]
    tensors.sort(key=lambda tensor: tensor.start)
    return contents("safetensors", tensors, map(of_tensor, tensors), size_bytes)


def _tensor(name: str, about: dict[str, Any], start: int) -> Tensor:
    begin, end = about["data_offsets"]
    return Tensor(name, about["dtype"], tuple(about["shape"]), start + begin, start + end)
