"""ZeroRedundancyOptimizer, whose ranks step a part of the parameters each."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, AdamW

from dwf_optim import DWFOptimizer, sparsify
from tests.distributed import common


def zero(model: torch.nn.Module, kind: str, **options: Any) -> ZeroRedundancyOptimizer:
    options = {**common.OPTIONS[kind], **options, "penalty": 1e-3}
    # ZeRO copies keywords into its groups, and a class among them would be in checkpoints.
    ours = partial(DWFOptimizer, base=options.pop("base", SGD))
    return ZeroRedundancyOptimizer(model.parameters(), optimizer_class=ours, **options)


def work(rank: int, folder: Path) -> None:
    for kind in common.OPTIONS:
        model = common.network()
        common.train(DistributedDataParallel(model), zero(model, kind))
        common.save(common.gathered(model), folder, f"{kind}-{rank}")
        resume(rank, folder, kind)
    repeated(rank)
    redraw(rank, folder)
    make_sparse(rank, folder)


def repeated(rank: int) -> None:
    """Let ZeRO repeat the base in every group, as it does with keywords."""
    model = common.network()
    optimizer = ZeroRedundancyOptimizer(
        model.parameters(), DWFOptimizer, base=AdamW, lr=0.01, penalty=1e-3
    )
    common.train(DistributedDataParallel(model), optimizer, 2)
    held = optimizer.optim.state_dict()["state"].values()
    assert all(any("exp_avg" in key for key in state) for state in held)


def resume(rank: int, folder: Path, kind: str) -> None:
    """Go on from a consolidated checkpoint."""
    model = common.network()
    optimizer = zero(model, kind)
    common.train(DistributedDataParallel(model), optimizer, 4)
    optimizer.consolidate_state_dict(to=0)
    if rank == 0:
        common.save([model.state_dict(), optimizer.state_dict()], folder, f"{kind}-checkpoint")
    torch.distributed.barrier()
    weights, state = common.load(folder, f"{kind}-checkpoint")
    model = common.network()
    optimizer = zero(model, kind)
    model.load_state_dict(weights)
    optimizer.load_state_dict(state)
    common.train(DistributedDataParallel(model), optimizer, common.STEPS - 4)
    common.save(common.gathered(model), folder, f"{kind}-resumed-{rank}")


def redraw(rank: int, folder: Path) -> None:
    """Re-drawn weights reach the other ranks with the first step, which may come before any gradient."""
    model = common.network()
    optimizer = zero(model, "sgd", init="dwf")
    optimizer.step()
    common.save(common.gathered(model), folder, f"redrawn-{rank}")


def make_sparse(rank: int, folder: Path) -> None:
    """Zero weights without the optimizer, of which each rank has a part only, and train on."""
    model = common.network()
    optimizer = zero(model, "sgd")
    common.train(DistributedDataParallel(model), optimizer, 3)
    sparsify(model, sparsity=0.5)
    common.save({name: p == 0 for name, p in common.gathered(model).items()}, folder, f"zeros-{rank}")
    common.train(DistributedDataParallel(model), optimizer, 3)
    common.save(common.gathered(model), folder, f"sparse-{rank}")


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    common.spawn(work, tmp_path)

    def of_both(name: str) -> dict[str, torch.Tensor]:
        first, second = (common.load(tmp_path, f"{name}-{rank}") for rank in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first), name
        return first

    for kind in common.OPTIONS:
        common.assert_equal_but_for_rounding(of_both(kind), common.alone(kind))
        straight, resumed = of_both(kind), of_both(f"{kind}-resumed")
        assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    old = common.gathered(common.network())
    assert all(torch.equal(new, old[name]) == (new.ndim < 2) for name, new in of_both("redrawn").items())
    zeros, sparse = of_both("zeros"), of_both("sparse")
    assert sum(int(zero.sum()) for zero in zeros.values()) == (6 * 16 + 16 * 5 + 5 + 1) // 2
    assert all(torch.equal(sparse[name] == 0, zero) for name, zero in zeros.items())
