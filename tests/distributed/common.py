"""Two real processes over gloo, and the one-process run that they must equal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from dwf_optim import DWFOptimizer
from tests.helpers import seeded

WORLD = 2
STEPS = 10
OPTIONS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.02, "momentum": 0.9, "depth": 3},
    "adamw": {"base": AdamW, "lr": 0.01, "depth": 2, "weight_decay": 0.0},
}


def spawn(work: Callable[..., None], folder: Path, *args: object, world: int = WORLD) -> None:
    """Run ``work(rank, folder, *args)`` in ``world`` processes."""
    rendezvous = folder / f"rendezvous-{len(list(folder.iterdir()))}"
    mp.spawn(_start, args=(work, str(folder), str(rendezvous), world, args), nprocs=world)


def _start(
    rank: int, work: Callable[..., None], folder: str, rendezvous: str, world: int, args: Any
) -> None:
    torch.set_num_threads(1)
    # A random stream of its own on every rank, as users have for their data: the draws must not mind.
    torch.manual_seed(rank)
    dist.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=world)
    try:
        work(rank, Path(folder), *args)
    finally:
        dist.destroy_process_group()


def network() -> nn.Sequential:
    """Return a float64 network whose weights do not part evenly: of the last, one rank has nothing."""
    widths = [(6, 16), (16, 5), (5, 1)]
    layers = [layer for i, o in widths for layer in (nn.Linear(i, o), nn.Tanh())][:-1]
    model = nn.Sequential(*layers).double()
    generator = seeded(3)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype) * 0.4)
    return model


def build(params: Any, kind: str, **options: Any) -> DWFOptimizer:
    """Return the optimizer of these tests."""
    return DWFOptimizer(params, penalty=1e-3, **{**OPTIONS[kind], **options})


def data() -> tuple[Tensor, Tensor]:
    """Return a batch; every rank takes its share."""
    generator = seeded(5)
    return tuple(torch.randn(8, n, generator=generator, dtype=torch.float64) for n in (6, 1))


def share() -> tuple[Tensor, Tensor]:
    """Return this rank's part of the batch; all of it outside of any group."""
    if not dist.is_initialized():
        return data()
    return tuple(tensor.chunk(dist.get_world_size())[dist.get_rank()] for tensor in data())


def train(model: nn.Module, optimizer: Optimizer, steps: int = STEPS) -> None:
    """Train on this process's share of the batch."""
    dtype = next(model.parameters()).dtype
    inputs, targets = (tensor.to(dtype) for tensor in share())
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()


def gathered(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights, from all ranks."""
    return {name: full(p).clone() for name, p in model.named_parameters()}


def full(tensor: Tensor) -> Tensor:
    """Return all of a tensor, sharded or not."""
    tensor = tensor.detach()
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def alone(kind: str, steps: int = STEPS, **options: Any) -> dict[str, Tensor]:
    """Train in this process."""
    model = network()
    train(model, build(model.parameters(), kind, **options), steps)
    return gathered(model)


def assert_equal_but_for_rounding(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Means over halves, then their mean: other roundings of float64, carried through the steps."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 1e-12 * value.norm(), name


def save(value: object, folder: Path, name: str) -> None:
    """Hand a rank's result to the test."""
    torch.save(value, folder / f"{name}.pt")


def load(folder: Path, name: str) -> Any:
    """Read what a rank has saved."""
    return torch.load(folder / f"{name}.pt", weights_only=True)
