"""Storages under FSDP2: stepped by the kernel or through torch, and saved for one rank or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from dwf_optim import DWFOptimizer
from dwf_optim.step import native
from tests.contract.common import rounding
from tests.distributed import common
from tests.distributed.test_checkpoint import (
    assert_same,
    everything,
    load_distributed,
    save_distributed,
)
from tests.distributed.test_sharded import sharded

BEFORE, AFTER = 4, 3
DTYPES = {"float32": torch.float32, "float64": torch.float64}
# The kernel takes float32, also the parts of sharded weights; all else goes through torch.
RUNS = [
    ("full", "sgd", "float32"),
    ("tied", "sgd", "float32"),
    ("tied", "adamw", "float64"),
    ("ephemeral", "adamw", "float32"),
    ("ephemeral", "sgd", "float64"),
]


def start(storage: str, kind: str, dtype: str) -> tuple[nn.Module, DWFOptimizer]:
    """Return what one of two ranks, or the only process, begins with."""
    alone = not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1
    model = common.network().to(DTYPES[dtype]) if alone else sharded(dtype=DTYPES[dtype])
    options: dict[str, Any] = {"storage": storage, "init": "balanced", "depth": 3}
    return model, common.build(model.parameters(), kind, **options)


def two_ranks(rank: int, folder: Path) -> None:
    stepped: list[int] = []
    step_table = native._step_table

    def counted(batch: native.Batch, *rest: Any) -> None:
        stepped.append(len(batch.table.members))
        step_table(batch, *rest)

    native._step_table = counted  # this process ends with the test
    for run in RUNS:
        name = "-".join(run)
        stepped.clear()
        model, optimizer = start(*run)
        common.train(model, optimizer, BEFORE)
        assert any(stepped) == (run[2] == "float32")
        for p in model.parameters():
            for value in optimizer.state[p].values():
                if value.ndim > 0:
                    assert isinstance(value, DTensor)
                    assert (value.placements, value.shape) == (p.placements, p.shape)
        save_distributed(model, optimizer, folder / name, "nested")
        common.save(everything(model, optimizer), folder, f"{name}-written-{rank}")
        common.train(model, optimizer, AFTER)
        common.save(everything(model, optimizer), folder, f"{name}-straight-{rank}")


def read(rank: int, folder: Path) -> None:
    world = torch.distributed.get_world_size()
    for run in RUNS:
        name = "-".join(run)
        model, optimizer = start(*run)
        load_distributed(model, optimizer, folder / name, "nested")
        common.save(everything(model, optimizer), folder, f"{name}-read-{rank}-of-{world}")
        common.train(model, optimizer, AFTER)
        common.save(everything(model, optimizer), folder, f"{name}-resumed-{rank}-of-{world}")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("storages")
    common.spawn(two_ranks, folder)
    common.spawn(read, folder, world=1)
    common.spawn(read, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("storage", "kind", "dtype"), RUNS)
def test_two_ranks_do_what_one_process_does(results: Path, storage: str, kind: str, dtype: str) -> None:
    model, optimizer = start(storage, kind, dtype)
    common.train(model, optimizer, BEFORE)
    expected = common.gathered(model)
    for rank in range(2):
        found = common.load(results, f"{storage}-{kind}-{dtype}-written-{rank}")
        for name, weight in expected.items():
            bound = rounding(DTYPES[dtype], BEFORE) * weight.norm()
            assert (found[name] - weight).norm() <= bound, name


@pytest.mark.slow
@pytest.mark.parametrize(("storage", "kind", "dtype"), RUNS)
def test_checkpoints_change_no_bit(results: Path, storage: str, kind: str, dtype: str) -> None:
    run = f"{storage}-{kind}-{dtype}"
    written = common.load(results, f"{run}-written-0")
    assert_same(common.load(results, f"{run}-read-0-of-1"), written)
    for rank in range(2):
        assert_same(common.load(results, f"{run}-read-{rank}-of-2"), written)
        straight = common.load(results, f"{run}-straight-{rank}")
        assert_same(common.load(results, f"{run}-resumed-{rank}-of-2"), straight)
