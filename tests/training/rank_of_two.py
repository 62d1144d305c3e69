"""One of two processes that save a checkpoint together: `rank_of_two.py RANK MEETING OUT [FROM]`.

With FROM the checkpoint that lies there is loaded, and must be the model of the seed.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")  # torch's own
os.environ["GLOO_SOCKET_IFNAME"] = "lo"

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
import torch.distributed.checkpoint as dcp  # noqa: E402
from torch.distributed.device_mesh import init_device_mesh  # noqa: E402
from torch.distributed.tensor import Replicate, Shard, distribute_tensor  # noqa: E402


def model(seed: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "rows": torch.randn(301, 400, generator=draw),
        "columns": torch.randn(200, 301, generator=draw).to(torch.bfloat16),
        "everywhere": torch.randn(1000, generator=draw),
    }


def sharded(tensors: dict[str, torch.Tensor], mesh: Any) -> dict[str, Any]:
    places = {"rows": [Shard(0)], "columns": [Shard(1)], "everywhere": [Replicate()]}
    return {name: distribute_tensor(tensors[name], mesh, place) for name, place in places.items()}


def main(rank: int, meeting: str, out: str, source: str = "") -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    if source:
        state = sharded({name: torch.zeros_like(t) for name, t in model(1).items()}, mesh)
        dcp.load({"model": state}, checkpoint_id=source)
        for name, tensor in model(1).items():
            if not torch.equal(state[name].full_tensor(), tensor):
                sys.exit(f"{name} is another tensor")
    else:
        dcp.save({"model": sharded(model(1), mesh)}, checkpoint_id=out)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
