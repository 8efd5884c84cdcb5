"""Two processes under DistributedDataParallel train the network that one would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from tests.distributed import common

RUNS = [("sgd", "preserve"), ("sgd", "dwf"), ("adamw", "preserve")]


def work(rank: int, folder: Path) -> None:
    for kind, init in RUNS:
        model = common.network()
        if rank:
            # Built before wrapping, as launchers do: the wrapper brings rank 0's weights to all.
            for p in model.parameters():
                torch.nn.init.normal_(p, std=0.3)
        optimizer = common.build(model.parameters(), kind, init=init)
        common.train(DistributedDataParallel(model), optimizer)
        common.save(common.gathered(model), folder, f"{kind}-{init}-{rank}")


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    common.spawn(work, tmp_path)
    for kind, init in RUNS:
        first, second = (common.load(tmp_path, f"{kind}-{init}-{rank}") for rank in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first), (kind, init)
        common.assert_equal_but_for_rounding(first, common.alone(kind, init=init))
