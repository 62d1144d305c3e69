"""Series of checkpoints from real training: `python -m benchmarks.series FOLDER` (needs torch, two minutes).

A small transformer learns the source text of Python's own standard library, seeded, on the CPU, and is
saved as people save models. A series that is there already is left alone.

    s1  fp32 from scratch, AdamW state included, torch .pt: what a resumable training keeps
    s2  the backbone frozen, a new head of 7 % of the weights trained on it, bf16 safetensors
    s3  full fine-tuning at a rate of 2e-5, bf16 safetensors: ten checkpoints, four siblings of the same base
    s4  one model saved again and again: torch, safetensors, a tensor renamed or added, sharded
    s5  fp32 weights and their moving average in one .pt
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import sys
import sysconfig
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, LAYERS, HEADS, WORDS, CONTEXT, BATCH = 256, 4, 4, 2048, 128, 8
SHORT = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64"}
State = dict[str, Tensor]


def tokens(*, seed: int, share: slice) -> Tensor:
    """Part of the standard library as numbers: its most frequent words, the others by their letters."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    texts = [path.read_text(errors="ignore") for path in sorted(folder.glob("*.py"))[share]]
    words = re.findall(r"\w+|\s+|[^\w\s]", "\n".join(texts))
    common = [word for word, _ in Counter(words).most_common(WORDS - 256)]
    number = {word: 256 + place for place, word in enumerate(common)}
    found: list[int] = []
    for word in words:
        found += [number[word]] if word in number else word.encode()[:8]
    return torch.tensor(found)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        size = (*x.shape[:2], HEADS, WIDTH // HEADS)
        q, k, v = (t.view(size).transpose(1, 2) for t in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(x.shape))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.word, self.place = nn.Embedding(WORDS, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS, bias=False)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.blocks(self.word(x) + self.place.weight[: x.shape[1]])
        return self.head(self.norm(seen))


def train(
    model: Model, text: Tensor, steps: int, *, lr: float, seed: int, every: int
) -> Iterator[tuple[int, torch.optim.AdamW]]:
    """Yields (step, optimizer) after each `every` steps. The rate falls linearly to 0, the usual way."""
    draw = torch.Generator().manual_seed(seed)
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(wanted, lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for step in range(1, steps + 1):
        starts = torch.randint(len(text) - CONTEXT - 1, (BATCH,), generator=draw)
        rows = torch.stack([text[at : at + CONTEXT + 1] for at in starts.tolist()])
        loss = functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(wanted, 1.0)
        optimizer.step()
        schedule.step()
        if step % every == 0:
            print(f"  step {step}: loss {loss.item():.3f}", flush=True)
            yield step, optimizer


def safetensors(path: Path, state: State, about: dict[str, str] | None = None) -> None:
    """The format of Hugging Face: length of the header, JSON header, tensors."""
    header: dict[str, Any] = {"__metadata__": about or {"format": "pt"}}
    parts, at = [], 0
    for name, tensor in sorted(state.items(), key=lambda item: (-item[1].itemsize, item[0])):
        raw = tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()
        dtype, shape = SHORT[tensor.dtype], list(tensor.shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(raw)]}
        parts.append(raw)
        at += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def state_of(model: Model, dtype: torch.dtype | None = None) -> State:
    return {
        name: tensor.detach().to(dtype).clone() if dtype else tensor.detach().clone()
        for name, tensor in model.state_dict().items()
    }


def save(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path)


def from_scratch(folder: Path) -> None:
    """s1 and s5 from one training, whose end is the base of the others."""
    torch.manual_seed(1)
    model, text = Model(), tokens(seed=1, share=slice(0, None, 2))
    mean = state_of(model)
    steps = train(model, text, 150, lr=1e-3, seed=1, every=1)
    for step, optimizer in steps:
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                mean[name].lerp_(tensor, 1 - 0.99)
        if step % 30 == 0:
            whole = {"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
            save(folder / f"s1/{step:04d}/checkpoint.pt", whole)
        if step >= 110 and step % 10 == 0:
            both = {"step": step, "model": model.state_dict(), "ema": OrderedDict(mean)}
            save(folder / f"s5/{step:04d}/checkpoint.pt", both)
    save(folder / "base.pt", model.state_dict())


def base(folder: Path) -> Model:
    model = Model()
    model.load_state_dict(torch.load(folder / "base.pt"))
    return model


def frozen_backbone(folder: Path) -> None:
    model, text = base(folder), tokens(seed=2, share=slice(1, None, 4))
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("head")
    model.head = nn.Linear(WIDTH, WORDS // 2, bias=False)
    for step, _ in train(model, text % (WORDS // 2), 50, lr=1e-3, seed=2, every=5):
        safetensors(folder / f"s2/{step:04d}/model.safetensors", state_of(model, torch.bfloat16))


def fine_tuned(folder: Path) -> None:
    safetensors(folder / "s3/00-base/model.safetensors", state_of(base(folder), torch.bfloat16))
    model, text = base(folder), tokens(seed=3, share=slice(1, None, 4))
    for step, _ in train(model, text, 100, lr=2e-5, seed=3, every=10):
        state = state_of(model, torch.bfloat16)
        safetensors(folder / f"s3/01-step-{step:04d}/model.safetensors", state)
    for number in range(4):
        model, text = base(folder), tokens(seed=4, share=slice(3 + 4 * number, None, 16))
        for _ in train(model, text, 20, lr=2e-5, seed=10 + number, every=20):
            state = state_of(model, torch.bfloat16)
            safetensors(folder / f"s3/02-sibling-{number}/model.safetensors", state)


def saved_again(folder: Path) -> None:
    state = state_of(base(folder), torch.bfloat16)
    home = folder / "s4"
    safetensors(home / "0/model.safetensors", state)
    save(home / "1/model.pt", state)
    save(home / "2/model.pt", {"epoch": 3, "state_dict": OrderedDict(state)})
    renamed = {f"model.{name}": tensor for name, tensor in state.items()}
    safetensors(home / "3/model.safetensors", renamed)
    safetensors(home / "4/model.safetensors", state | {"scale": torch.ones(7)})
    safetensors(home / "5/model.safetensors", state, {"format": "pt", "note": "saved again"})
    names = sorted(state)
    for shard in range(2):
        part = {name: state[name] for name in names[shard::2]}
        safetensors(home / f"6/model-{shard + 1:05d}-of-00002.safetensors", part)
    save(home / "7/model.pt", {f"model.{name}": tensor for name, tensor in state.items()})


MAKERS = {"s1": from_scratch, "s2": frozen_backbone, "s3": fine_tuned, "s4": saved_again}


def make(folder: Path) -> None:
    """Make what is missing in `folder`; a series appears under its name when it is whole."""
    torch.set_num_threads(1)  # so that sums are made in the same order on every machine
    torch.use_deterministic_algorithms(True)
    for name, maker in MAKERS.items():
        if (folder / name / "done").exists():
            continue
        shutil.rmtree(folder / name, ignore_errors=True)
        begin = time.perf_counter()
        print(name, flush=True)
        maker(folder)
        (folder / name / "done").touch()
        print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)


def versions(folder: Path, name: str) -> list[list[Path]]:
    """The files of each version of a series, in order."""
    homes = sorted(path for path in (folder / name).iterdir() if path.is_dir())
    return [sorted(path for path in home.iterdir() if path.is_file()) for home in homes]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    make(Path(sys.argv[1]))
