"""Two processes under DistributedDataParallel train the network that one would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dwf_optim import DWFOptimizer
from tests.helpers import mlp, seeded

STEPS = 10
WORLD = 2


def train(model: nn.Module, inputs: Tensor, targets: Tensor, init: str, depth: int) -> None:
    optimizer = DWFOptimizer(
        model.parameters(), lr=0.02, momentum=0.9, penalty=1e-3, init=init, depth=depth, lr_scale=1.0
    )
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()


def data() -> tuple[Tensor, Tensor]:
    generator = seeded(5)
    return (
        torch.randn(8, 6, generator=generator, dtype=torch.float64),
        torch.randn(8, 3, generator=generator, dtype=torch.float64),
    )


def work(rank: int, folder: str, init: str, depth: int) -> None:
    torch.set_num_threads(1)
    # A random stream of its own on every rank, as users have for their data: the draws must not mind.
    torch.manual_seed(rank)
    dist.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=WORLD)
    model = mlp(torch.float64)
    inputs, targets = (tensor.chunk(WORLD)[rank] for tensor in data())
    train(DistributedDataParallel(model), inputs, targets, init, depth)
    torch.save(model.state_dict(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(("init", "depth"), [("preserve", 3), ("dwf", 2)])
def test_two_processes_equal_one(tmp_path: Path, init: str, depth: int) -> None:
    mp.spawn(work, args=(str(tmp_path), init, depth), nprocs=WORLD)
    alone = mlp(torch.float64)
    train(alone, *data(), init, depth)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]
    for name, expected in alone.state_dict().items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        # Means over halves, then their mean: other roundings of float64, carried through ten steps.
        assert (ranks[0][name] - expected).norm() <= 1e-12 * expected.norm(), name
    assert not torch.equal(alone.state_dict()["0.weight"], mlp(torch.float64)[0].weight)
